package worker

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestAdminSockets: commands find the sockets of nodes that run, but no sockets of nodes that have ended, and no files with the same names.
func TestAdminSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if found := AdminSockets(dir); len(found) != 0 {
		t.Fatalf("without a node: %v", found)
	}
	var paths []string
	var open []*Listener
	for range 2 {
		l, err := listenPrivate(dir, AdminSocket)
		if err != nil {
			t.Fatal(err)
		}
		open, paths = append(open, l), append(paths, l.Path())
		if st, err := os.Stat(l.Path()); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	}
	slices.Sort(paths)
	nodeOnly, err := Listen(dir) // a directory without an admin socket
	if err != nil {
		t.Fatal(err)
	}
	defer nodeOnly.Close()
	dead := filepath.Join(dir, "helve-dead")
	foreign := filepath.Join(dir, "helve-foreign")
	for _, d := range []string{dead, foreign} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(d, AdminSocket), nil, 0o600) //nolint:errcheck // it is looked for below
	}
	os.WriteFile(filepath.Join(dead, markName), []byte(privateMark), 0o600) //nolint:errcheck // as above
	if found := AdminSockets(dir); !slices.Equal(found, paths) {
		t.Errorf("%v, want %v", found, paths)
	}
	os.Chmod(filepath.Dir(paths[0]), 0o722) //nolint:errcheck // as above
	if found := AdminSockets(dir); !slices.Equal(found, paths[1:]) {
		t.Errorf("one that others can write to: %v, want %v", found, paths[1:])
	}
	for _, l := range open {
		l.Close()
	}
	if found := AdminSockets(dir); len(found) != 0 {
		t.Errorf("when the nodes have ended: %v", found)
	}
}

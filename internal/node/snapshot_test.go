package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

func someSnapshot() snapshot {
	return snapshot{
		Version: snapshotVersion, NextID: 9,
		Applications: []snapApplication{{
			Name: "a", Revision: 2, Identity: "x", Graph: spec.Graph{App: "a", Deployments: []spec.Deployment{{Name: "D", Language: "go"}}},
			Configs: map[string]json.RawMessage{"D": json.RawMessage(`{"k":1}`)},
		}},
		Workers: []snapWorker{{
			ID: "a-1", App: "a", Revision: 2, Token: strings.Repeat("ab", 32),
			Process:  worker.Identity{PID: 77, Started: 5, Pipes: [3]string{"/p/out", "/p/err", "/p/told"}},
			Replicas: []snapReplica{{"D#001", "D"}},
		}},
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if s, err := readSnapshot(dir); err != nil || s.Version != 0 {
		t.Errorf("none is there: %+v, %v", s, err)
	}
	for _, next := range []uint64{9, 10} { // the second replaces the first
		want := someSnapshot()
		want.NextID = next
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeSnapshot(dir, b); err != nil {
			t.Fatal(err)
		}
		got, err := readSnapshot(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, snapshotName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestSnapshotIsRefused: what would become a path or a process id is looked at.
func TestSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*snapshot){
		"version": func(s *snapshot) { s.Version++ },
		"token":   func(s *snapshot) { s.Workers[0].Token = "ab" },
		"hex":     func(s *snapshot) { s.Workers[0].Token = strings.Repeat("zz", 32) },
		"pid":     func(s *snapshot) { s.Workers[0].Process.PID = -1 },
		"init":    func(s *snapshot) { s.Workers[0].Process.PID = 1 },
		"id":      func(s *snapshot) { s.Workers[0].ID = "" },
	} {
		s := someSnapshot()
		spoil(&s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseSnapshot(b); err == nil || !strings.Contains(err.Error(), snapshotName) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSnapshot: whatever the file holds, it is refused or is as it would be written.
func FuzzSnapshot(f *testing.F) {
	b, _ := json.Marshal(someSnapshot())
	f.Add(b)
	f.Add([]byte(`{"version":1,"workers":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSnapshot(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseSnapshot(again); err != nil || !cmp.Equal(s.Workers, back.Workers) || s.NextID != back.NextID {
			t.Errorf("%v\n%s", err, cmp.Diff(s, back))
		}
	})
}

// TestIdentity: what a worker was started with counts, and the number of replicas does not.
func TestIdentity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("one"), 0o700); err != nil {
		t.Fatal(err)
	}
	graph := func(o spec.Options) spec.Graph {
		o.Isolation = spec.Process
		return spec.Graph{App: "a", Deployments: []spec.Deployment{{Name: "D", Language: "go", Options: o}}}
	}
	own := Program{Path: path, Args: []string{"run"}}
	base := App{Graph: graph(spec.Options{})}
	same := base.identity(own)
	more := App{Graph: graph(spec.Options{NumReplicas: 7})}
	if more.identity(own) != same {
		t.Error("the number of replicas counts")
	}
	for name, id := range map[string]string{
		"environment": (&App{Graph: graph(spec.Options{Env: map[string]string{"A": "b"}})}).identity(own),
		"arguments":   base.identity(Program{Path: path}),
		"code":        (&App{Graph: base.Graph, Python: Python{Blob: []byte("x")}}).identity(own),
		"program":     (&App{Graph: base.Graph, Program: &Program{Path: path + "2"}}).identity(own),
	} {
		if id == same {
			t.Errorf("%s: does not count", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("two!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if base.identity(own) == same {
		t.Error("another executable at the same path is the same")
	}
}

// TestIdsAheadOfTheSnapshot: what is started after the state was saved has ids that the next node does not give out.
func TestIdsAheadOfTheSnapshot(t *testing.T) {
	t.Parallel()
	n := New(Settings{})
	defer n.Close(t.Context()) //nolint:errcheck // nothing runs
	for _, id := range []uint64{0, 1, idsAhead - 1, idsAhead, 10*idsAhead + 3} {
		n.mu.Lock()
		n.nextID = id
		saved := n.snapshotLocked().NextID
		n.mu.Unlock()
		if saved < id+idsAhead {
			t.Errorf("%d ids were given out, and the next begins at %d", id, saved)
		}
	}
}

// TestStrangers: pipes of workers that the state does not know go, and their ids are not used again.
func TestStrangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"app-7.stdout", "app-7.stderr", "an-other-12.stdout", "known-99.stdout", "known-99.stderr", "x-y.stdout"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"node.sock", "run-1.stdout"} { // the latter is no pipe, so it is not a worker's
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if above := strangers(dir, []snapWorker{{ID: "known-99"}}); above < 13 || above > 99+idsAhead {
		t.Errorf("ids begin at %d", above)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 5 {
		t.Errorf("%v, %v", left, err)
	}
}

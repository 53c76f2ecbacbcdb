package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestForget: complete and incomplete copies of executables are removed, and no file of another name or kind.
func TestForget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"build-0123456789abcdef", "build-0123456789abcdef.77.new", "build-notes.txt", "build-0123456789abcdef.txt", "build-0123456789abcdef.new",
		"build-0123456789ABCDEF", "build-0123456789abcdef0",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "build-00000000000000aa"), 0o700); err != nil {
		t.Fatal(err)
	}
	Forget(dir)
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{
		"build-00000000000000aa", "build-0123456789ABCDEF", "build-0123456789abcdef.new", "build-0123456789abcdef.txt", "build-0123456789abcdef0",
		"build-notes.txt",
	}
	if !slices.Equal(left, want) || err != nil {
		t.Errorf("%q, %v", left, err)
	}
}

package codefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// count is the number of files in a directory.
func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func hold(t *testing.T, f *Files, dir, app, code string) (string, func()) {
	t.Helper()
	path, digest, release, err := f.Hold(dir, app, []byte(code))
	if err != nil || filepath.Base(path) != digest {
		t.Fatalf("got %q, %q, %v", path, digest, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != code {
		t.Fatalf("the file has %q, %v", b, err)
	}
	return path, release
}

func TestHold(t *testing.T) {
	t.Parallel()
	t.Run("the newest code alone stays", func(t *testing.T) {
		t.Parallel()
		var f Files
		dir := t.TempDir()
		var last string
		for i := range 100 {
			path, release := hold(t, &f, dir, "app", string(rune('a'+i)))
			release()
			release()
			last = path
		}
		if n := count(t, dir); n != 1 {
			t.Errorf("%d files", n)
		}
		if _, err := os.Stat(last); err != nil {
			t.Error(err)
		}
		f.Drop("app")
		f.Drop("app")
		if n := count(t, dir); n != 0 {
			t.Errorf("%d files after the end of the application", n)
		}
	})
	t.Run("code that a worker reads stays", func(t *testing.T) {
		t.Parallel()
		var f Files
		dir := t.TempDir()
		first, release := hold(t, &f, dir, "app", "first")
		_, second := hold(t, &f, dir, "app", "second")
		second()
		if _, err := os.Stat(first); err != nil {
			t.Fatal(err)
		}
		release()
		if _, err := os.Stat(first); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		again, done := hold(t, &f, dir, "app", "first") // a replica of the version before starts again
		f.Drop("app")
		if _, err := os.Stat(again); err != nil {
			t.Fatal(err)
		}
		done()
		if n := count(t, dir); n != 0 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("code of two applications", func(t *testing.T) {
		t.Parallel()
		var f Files
		dir := t.TempDir()
		path, release := hold(t, &f, dir, "a", "code")
		release()
		_, release = hold(t, &f, dir, "b", "code")
		release()
		f.Drop("a")
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		f.Drop("b")
		if n := count(t, dir); n != 0 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("a failure is tried again", func(t *testing.T) {
		t.Parallel()
		var f Files
		dir := filepath.Join(t.TempDir(), "later")
		if _, _, _, err := f.Hold(dir, "app", []byte("code")); err == nil {
			t.Fatal("no error without the directory")
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, release := hold(t, &f, dir, "app", "code")
		release()
		f.Drop("app")
		if n := count(t, dir); n != 0 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("many starts at once", func(t *testing.T) {
		t.Parallel()
		var f Files
		dir := t.TempDir()
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				code := string(rune('a' + i%4))
				path, _, release, err := f.Hold(dir, "app", []byte(code))
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := os.ReadFile(path); err != nil || string(b) != code {
					t.Errorf("the file has %q, %v", b, err)
				}
				release()
			})
		}
		wg.Wait()
		if n := count(t, dir); n != 1 {
			t.Errorf("%d files", n)
		}
	})
}

// TestSweep: the files of nodes that were killed go, and files of other names stay.
func TestSweep(t *testing.T) {
	t.Parallel()
	var killed Files
	dir := t.TempDir()
	hold(t, &killed, dir, "a", "1")
	for _, name := range []string{"code-123", "store.db", "0123abcd"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	Sweep(dir)
	if n := count(t, dir); n != 2 {
		t.Errorf("%d files are left, want store.db and 0123abcd", n)
	}
	Sweep(filepath.Join(dir, "none")) // as good as empty
}

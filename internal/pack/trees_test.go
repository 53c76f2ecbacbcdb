package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// blobs are packed files by digest, and the number of times that one was opened.
type blobs struct {
	files  map[string][]byte
	opened atomic.Int32
}

func (b *blobs) open(digest string) (io.ReadCloser, error) {
	b.opened.Add(1)
	if f, ok := b.files[digest]; ok {
		return io.NopCloser(bytes.NewReader(f)), nil
	}
	return nil, fmt.Errorf("no blob %s: %w", digest, fs.ErrNotExist)
}

// keep packs a directory with one file app.py.
func (b *blobs) keep(t *testing.T, text string) (digest string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	put(t, dir, map[string]string{"app.py": text})
	f := packed(t, dir)
	digest = digestOf(f)
	if b.files == nil {
		b.files = map[string][]byte{}
	}
	b.files[digest] = f
	return digest
}

func directory(t *testing.T, trees *Trees, digest, want string) string {
	t.Helper()
	dir, err := trees.Directory(digest)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "shop", "app.py")); err != nil || string(b) != want {
		t.Errorf("app.py has %q, %v", b, err)
	}
	return dir
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	t.Run("once for all who ask", func(t *testing.T) {
		t.Parallel()
		var b blobs
		digest := b.keep(t, "one")
		trees := NewTrees(filepath.Join(t.TempDir(), "code"), b.open)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := trees.Directory(digest); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		directory(t, trees, digest, "one")
		if n := b.opened.Load(); n != 1 {
			t.Errorf("unpacked %d times", n)
		}
	})
	t.Run("another node in the directory", func(t *testing.T) {
		t.Parallel()
		var b blobs
		digest, code := b.keep(t, "one"), filepath.Join(t.TempDir(), "code")
		first := directory(t, NewTrees(code, b.open), digest, "one")
		if second := directory(t, NewTrees(code, b.open), digest, "one"); second != first || b.opened.Load() != 1 {
			t.Errorf("%s, opened %d times", second, b.opened.Load())
		}
	})
	t.Run("a boot of the machine", func(t *testing.T) {
		t.Parallel()
		var b blobs
		digest, code := b.keep(t, "one"), filepath.Join(t.TempDir(), "code")
		dir := directory(t, NewTrees(code, b.open), digest, "one")
		if err := os.Chmod(filepath.Join(dir, "shop", "app.py"), 0o600); err != nil {
			t.Fatal(err)
		}
		put(t, code, map[string]string{bootFile: "another", digest + "/shop/app.py": ""}) // as a crash may leave it
		directory(t, NewTrees(code, b.open), digest, "one")
	})
	t.Run("a failure is not kept", func(t *testing.T) {
		t.Parallel()
		var b blobs
		digest := b.keep(t, "one")
		f := b.files[digest]
		trees := NewTrees(filepath.Join(t.TempDir(), "code"), b.open)
		delete(b.files, digest)
		if _, err := trees.Directory(digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		b.files[digest] = f[:len(f)-1]
		if _, err := trees.Directory(digest); err == nil {
			t.Error("half of a file was unpacked")
		}
		spoiled := bytes.Replace(f, []byte("one"), []byte("two"), 1)
		b.files[digest] = spoiled
		if _, err := trees.Directory(digest); err == nil || !strings.Contains(err.Error(), "its content is another") {
			t.Errorf("got %v", err)
		}
		b.files[digest] = f
		directory(t, trees, digest, "one")
	})
	t.Run("what is no digest", func(t *testing.T) {
		t.Parallel()
		trees := NewTrees(t.TempDir(), new(blobs).open)
		for _, digest := range []string{"", "..", "../" + strings.Repeat("a", 61), strings.Repeat("z", 64), strings.Repeat("a", 62)} {
			if _, err := trees.Directory(digest); err == nil {
				t.Errorf("%q is a digest", digest)
			}
		}
	})
}

// TestCollect: a directory goes when it is not wanted, not young, and not in the environment of a process.
func TestCollect(t *testing.T) {
	t.Parallel()
	var b blobs
	trees := NewTrees(filepath.Join(t.TempDir(), "code"), b.open)
	of := map[string]string{}
	for _, name := range []string{"wanted", "young", "used", "gone"} {
		of[name] = b.keep(t, name+" "+t.TempDir())
		dir, err := trees.Directory(of[name])
		if err != nil {
			t.Fatal(err)
		}
		if name != "young" {
			old := time.Now().Add(-time.Hour)
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	worker := exec.Command("cat")
	worker.Env = []string{"HELVE_SYS_PATH=/code/" + of["used"]}
	stdin, err := worker.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); worker.Wait() }) //nolint:errcheck // it has no more to say
	if err := trees.Collect(func(d string) bool { return d == of["wanted"] }); err != nil {
		t.Fatal(err)
	}
	for name, digest := range of {
		if _, err := os.Stat(filepath.Join(trees.dir, digest)); (err == nil) != (name != "gone") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := NewTrees(filepath.Join(t.TempDir(), "none"), b.open).Collect(func(string) bool { return false }); err != nil {
		t.Error(err)
	}
}

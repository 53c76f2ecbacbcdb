package pack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// put makes files below dir: their contents by their paths. A path that ends with a slash is a directory.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// files are the contents of all files below dir, by their paths; a directory has a slash at its end.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if e.IsDir() {
			found[name+"/"] = ""
			return err
		}
		b, err := os.ReadFile(path)
		found[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func packed(t *testing.T, path string) []byte {
	t.Helper()
	tree, err := Scan(path, Default())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, text := range want {
		if g, ok := got[name]; !ok || g != text {
			t.Errorf("%s has %q (there: %v), want %q", name, g, ok, text)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there", name)
		}
	}
}

// TestRoundTrip: a directory comes back as it was, but for the files that are no code.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "shop")
	code := map[string]string{"app.py": "print()", "lib/": "", "lib/__init__.py": "", "lib/deep/": "", "lib/deep/x.csv": "1,2", "empty/": "", ".env": "A=1", "ü ü.txt": "ü"}
	put(t, from, code)
	put(t, from, map[string]string{
		".git/HEAD": "ref", "lib/__pycache__/x.pyc": "x", "y.pyc": "y", "venv/pyvenv.cfg": "", "venv/lib/z.py": "z", "node_modules/a.js": "a", "target/CACHEDIR.TAG": "", "target/b": "b",
		"state/helve-node": "", "state/store.db": "s",
	})
	outside := t.TempDir()
	put(t, outside, map[string]string{"shared.py": "s", "pkg/one.py": "1"})
	for link, to := range map[string]string{
		"shared.py": filepath.Join(outside, "shared.py"), "pkg": filepath.Join(outside, "pkg"), "nowhere": filepath.Join(outside, "nothing"), "lib/up": from, "self": "self",
	} {
		if err := os.Symlink(to, filepath.Join(from, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(from, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(from, "app.py"), 0o755); err != nil { //nolint:gosec // a script
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := Unpack(bytes.NewReader(packed(t, from)), to, Default()); err != nil {
		t.Fatal(err)
	}
	code["shared.py"], code["pkg/"], code["pkg/one.py"] = "s", "", "1"
	same(t, files(t, filepath.Join(to, "shop")), code)
	for name, want := range map[string]fs.FileMode{"app.py": 0o500, "lib/deep/x.csv": 0o400, "lib": 0o700 | fs.ModeDir} {
		if st, err := os.Stat(filepath.Join(to, "shop", name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, st.Mode(), err, want)
		}
	}
}

// TestFile: a file is a tree of one file.
func TestFile(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	put(t, from, map[string]string{"a.py": "a", "b.whl": "b"})
	if err := Unpack(bytes.NewReader(packed(t, filepath.Join(from, "b.whl"))), to, Default()); err != nil {
		t.Fatal(err)
	}
	same(t, files(t, to), map[string]string{"b.whl": "b"})
}

// TestScanRefuses: a place that is no directory of a program.
func TestScanRefuses(t *testing.T) {
	t.Parallel()
	home, shared, linked := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, home, map[string]string{"app.py": "", ".ssh/key": "secret"})
	if err := os.Chmod(shared, 0o777|fs.ModeSticky); err != nil { //nolint:gosec // as /tmp has it
		t.Fatal(err)
	}
	if err := os.Symlink(home, filepath.Join(linked, "me")); err != nil {
		t.Fatal(err)
	}
	unsuitable := map[string]string{
		os.DevNull: "neither a directory nor a file", "/": "all files of the machine", home: "it is a home directory", shared: "all users have files in it",
		linked: "leads out of it: it is a home directory",
	}
	for path, text := range unsuitable {
		if _, err := Scan(path, Default()); err == nil || !errors.As(err, new(*UnsuitableError)) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: want %q, got %v", path, text, err)
		}
	}
	for path, text := range map[string]string{filepath.Join(home, "none"): "no such file", "lib": "no such file"} {
		if _, err := Scan(path, Default()); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: want %q, got %v", path, text, err)
		}
	}
}

// TestDigest: the bytes depend on the names, the contents and the rights to execute; times, owners and other rights do not count.
func TestDigest(t *testing.T) {
	t.Parallel()
	make := func(files map[string]string) string {
		dir := filepath.Join(t.TempDir(), "shop")
		put(t, dir, files)
		return dir
	}
	base := map[string]string{"a.py": "1", "lib/b.py": "2"}
	first := make(base)
	want := digestOf(packed(t, first))
	second := make(base)
	if err := os.Chmod(filepath.Join(second, "a.py"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := digestOf(packed(t, second)); got != want {
		t.Error("two directories of the same files have different digests")
	}
	if err := os.Chmod(filepath.Join(second, "a.py"), 0o700); err != nil { //nolint:gosec // a script
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"another content": make(map[string]string{"a.py": "2", "lib/b.py": "2"}),
		"another name":    make(map[string]string{"c.py": "1", "lib/b.py": "2"}),
		"one file more":   make(map[string]string{"a.py": "1", "lib/b.py": "2", "lib/c.py": ""}),
		"an executable":   second,
	} {
		if digestOf(packed(t, dir)) == want {
			t.Errorf("%s: the same digest", name)
		}
	}
}

// TestLimits: a directory over a limit is an error that says which one, before its files are read.
func TestLimits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{"a/b/c.py": "123", "d.py": "4567"})
	for text, l := range map[string]Limits{
		"more than 4 files":                   {4, 7, 3},
		"more than 0 MiB":                     {5, 6, 3},
		"more than 2 directories in each oth": {5, 7, 2},
		"":                                    {5, 7, 3},
	} {
		_, err := Scan(dir, l)
		large, _ := errors.AsType[*TooLargeError](err)
		if text == "" && err != nil || text != "" && (large == nil || !strings.Contains(err.Error(), text)) {
			t.Errorf("want %q, got %v", text, err)
		}
	}
	whole := packed(t, dir)
	for _, l := range []Limits{{4, 7, 3}, {5, 6, 3}, {5, 7, 2}} {
		if err := Unpack(bytes.NewReader(whole), t.TempDir(), l); err == nil {
			t.Errorf("unpacked over the limits %v", l)
		}
	}
	if err := Unpack(bytes.NewReader(whole), t.TempDir(), Limits{5, 7, 3}); err != nil {
		t.Error(err)
	}
}

// TestContent: the digest of the content has neither the name nor the place of a directory in it.
func TestContent(t *testing.T) {
	t.Parallel()
	content := func(name string, files map[string]string) string {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, dir, files)
		tree, err := Scan(dir, Default())
		if err != nil {
			t.Fatal(err)
		}
		c, err := tree.Write(io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	v1 := content("v1", map[string]string{"a.py": "1", "b.py": "22"})
	if v2 := content("v2", map[string]string{"a.py": "1", "b.py": "22"}); v2 != v1 {
		t.Errorf("the same files are %s and %s", v1, v2)
	}
	for _, files := range []map[string]string{{"a.py": "1", "b.py": "23"}, {"a.py": "12", "b.py": "2"}, {"a.py": "1", "c.py": "22"}} {
		if other := content("v1", files); other == v1 {
			t.Errorf("%v are the same files", files)
		}
	}
}

// TestChange: a file that gets shorter between scan and write is an error, and a file that grows is packed with its old size.
func TestChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{"log": "12345"})
	want := packed(t, dir)
	tree, err := Scan(dir, Default())
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, map[string]string{"log": "1234567"})
	var b bytes.Buffer
	if _, err := tree.Write(&b); err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("a file that grows: %v", err)
	}
	put(t, dir, map[string]string{"log": "123"})
	if _, err := tree.Write(&b); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("a file that gets shorter: %v", err)
	}
}

// hostile are packed files that no node has written.
func hostile(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func hostiles(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"a way out":          hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "../out", Size: 1}),
		"an absolute path":   hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "/tmp/out", Size: 1}),
		"a way in between":   hostile(t, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/../../out", Size: 1}),
		"itself":             hostile(t, tar.Header{Typeflag: tar.TypeDir, Name: "./"}),
		"a link":             hostile(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: ".."}, tar.Header{Typeflag: tar.TypeReg, Name: "a/out", Size: 1}),
		"a hard link":        hostile(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/passwd"}),
		"a device":           hostile(t, tar.Header{Typeflag: tar.TypeChar, Name: "a"}),
		"a file twice":       hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1}, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 2}),
		"a file in a file":   hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1}, tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Size: 1}),
		"no directory of it": hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Size: 1}),
		"half a file":        hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 5000})[:1024],
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range hostiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			around := t.TempDir()
			dir := filepath.Join(around, "in")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := Unpack(bytes.NewReader(b), dir, Default()); err == nil {
				t.Error("it was unpacked")
			}
			if entries, _ := os.ReadDir(around); len(entries) != 1 {
				t.Errorf("outside there is %v", entries)
			}
		})
	}
}

// FuzzUnpack: no bytes lead out of the directory, and an unpacked directory can be packed and unpacked again.
func FuzzUnpack(f *testing.F) {
	for _, b := range hostiles(f) {
		f.Add(b)
	}
	f.Add(hostile(f, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/b.py", Size: 3, Mode: 0o755}))
	f.Fuzz(func(t *testing.T, b []byte) {
		around := t.TempDir()
		dir, again := filepath.Join(around, "in"), filepath.Join(around, "again")
		for _, d := range []string{dir, again} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		limits := Limits{Files: 50, Bytes: 1 << 20, Depth: 10}
		err := Unpack(bytes.NewReader(b), dir, limits)
		if entries, _ := os.ReadDir(around); len(entries) != 2 {
			t.Fatalf("outside there is %v", entries)
		}
		if err != nil {
			return
		}
		tree, err := Scan(dir, Default())
		if _, ok := errors.AsType[*UnsuitableError](err); ok {
			return
		}
		var once bytes.Buffer
		if err == nil {
			_, err = tree.Write(&once)
		}
		if err == nil {
			err = Unpack(&once, again, Limits{limits.Files + 1, limits.Bytes, limits.Depth + 1})
		}
		if err != nil {
			t.Errorf("unpacked once, and not again: %v", err)
		}
	})
}

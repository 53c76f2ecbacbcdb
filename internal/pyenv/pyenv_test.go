package pyenv

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// interpreter is the Python of the tests.
func interpreter(t *testing.T) string {
	t.Helper()
	python := os.Getenv("HELVE_PYTHON")
	if python == "" {
		python = "python3"
	}
	path, err := exec.LookPath(python)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// archive writes a zip file with these files.
func archive(t *testing.T, path string, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// wheel writes the wheel of a package with one module, whose VERSION is its version, and with a script.
func wheel(t *testing.T, dir, name, version string) string {
	t.Helper()
	info := fmt.Sprintf("%s-%s.dist-info/", name, version)
	return archive(t, filepath.Join(dir, fmt.Sprintf("%s-%s-py3-none-any.whl", name, version)), map[string]string{
		name + ".py":              fmt.Sprintf("VERSION = %q\ndef main(): print(VERSION)\n", version),
		info + "METADATA":         fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version),
		info + "WHEEL":            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "entry_points.txt": fmt.Sprintf("[console_scripts]\n%s-say = %s:main\n", name, name),
		info + "RECORD":           fmt.Sprintf("%s.py,,\n%sMETADATA,,\n%sWHEEL,,\n%sentry_points.txt,,\n%sRECORD,,\n", name, info, info, info, info),
	})
}

// request asks for packages that pip finds in a directory.
func request(t *testing.T, wheels string, packages ...string) Request {
	t.Helper()
	return Request{
		Interpreter: interpreter(t), Packages: packages, Dir: wheels, Check: true,
		Env: append(os.Environ(), "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+wheels, "PIP_CONFIG_FILE="+os.DevNull),
	}
}

func quiet() func() { return func() {} }

func output(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestEnsure: an environment has its packages and the packages of the interpreter, also of a venv; it is made once, however many ask; its
// scripts run.
func TestEnsure(t *testing.T) {
	t.Parallel()
	wheels, cache := t.TempDir(), t.TempDir()
	wheel(t, wheels, "helvetiny", "1.0")
	r := request(t, wheels, "helvetiny")
	// The parent is an environment itself, with an older version of the package and another one.
	wheel(t, wheels, "helveolder", "3.0")
	parent := r
	parent.Packages = []string{"helveolder"}
	driver, err := NewCache(t.TempDir()).Ensure(t.Context(), parent, quiet)
	if err != nil {
		t.Fatal(err)
	}
	r.Interpreter = driver.Interpreter
	var installs atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := NewCache(cache) // as many nodes
			for range 2 {
				env, err := c.Ensure(t.Context(), r, func() func() { installs.Add(1); return func() {} })
				if err != nil {
					t.Error(err)
					return
				}
				if got := output(t, env.Interpreter, "-c", "import helvetiny, helveolder; print(helvetiny.VERSION, helveolder.VERSION)"); got != "1.0 3.0" {
					t.Error(got)
				}
				if len(env.Site) == 0 || !strings.HasPrefix(output(t, env.Interpreter, "-c", "import helvetiny; print(helvetiny.__file__)"), env.Site[0]) {
					t.Errorf("%q", env.Site)
				}
				if got := output(t, filepath.Join(filepath.Dir(env.Interpreter), "helvetiny-say")); got != "1.0" {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
	if n := len(glob(filepath.Join(cache, "pyenv", "*", "bin"))); n != 1 || installs.Load() > 4 {
		t.Errorf("%d environments, %d times one was waited for", n, installs.Load())
	}
}

// TestModulesOfTheWorkingDir: a module in the working_dir is not taken for one of the standard library or of pip, while relative paths of the
// requirements are found there.
func TestModulesOfTheWorkingDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"json", "site", "logging", "venv", "pip", "ensurepip"} {
		if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte("raise SystemExit('the module of the user')"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := request(t, dir, "./"+filepath.Base(wheel(t, dir, "helvetiny", "1.0")))
	if _, err := NewCache(t.TempDir()).Ensure(t.Context(), r, quiet); err != nil {
		t.Error(err)
	}
}

// TestFailure: an error has the last lines of pip, nothing of the environment is left, and the next try begins anew.
func TestFailure(t *testing.T) {
	t.Parallel()
	wheels, cache := t.TempDir(), t.TempDir()
	r := request(t, wheels, "helvemissing==9")
	c := NewCache(cache)
	_, err := c.Ensure(t.Context(), r, quiet)
	e, ok := errors.AsType[*InstallError](err)
	if !ok || !strings.Contains(err.Error(), "No matching distribution found for helvemissing==9") || len(e.Lines) > mostLines {
		t.Error(err)
	}
	if left := glob(filepath.Join(cache, "pyenv", "*[^k]")); len(left) > 0 {
		t.Error(left)
	}
	wheel(t, wheels, "helvemissing", "9")
	if _, err := c.Ensure(t.Context(), r, quiet); err != nil {
		t.Error(err)
	}
}

// TestGivenUp: the end of one replica's start ends the installation that it had begun, and another replica that waits for the same
// environment begins it again.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "reached")
	// The first run of this interpreter waits for ever, and the second is the real one.
	fake := filepath.Join(dir, "python")
	script := fmt.Sprintf("#!/bin/sh\nif mkdir %s/first 2>/dev/null; then echo > %s; exec sleep 1000; fi\nexec %s \"$@\"\n", dir, pipe, interpreter(t))
	if err := os.WriteFile(fake, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, "mkfifo", pipe)
	wheels := t.TempDir()
	wheel(t, wheels, "helvetiny", "1.0")
	r := request(t, wheels, "helvetiny")
	r.Interpreter = fake
	c := NewCache(t.TempDir())
	why := errors.New("not wanted")
	first, giveUp := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() {
		_, err := c.Ensure(first, r, quiet)
		ended <- err
	}()
	if _, err := os.ReadFile(pipe); err != nil { // the build is under way
		t.Fatal(err)
	}
	waits := make(chan struct{}, 2)
	second := make(chan error)
	go func() {
		_, err := c.Ensure(t.Context(), r, func() func() { waits <- struct{}{}; return func() {} })
		second <- err
	}()
	<-waits
	giveUp(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// TestDigest: all that changes an environment changes its digest, and nothing else does.
func TestDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := wheel(t, dir, "mine", "1.0")
	base := Request{Interpreter: interpreter(t), Packages: []string{"a", "b"}, Dir: dir}
	digest := func(change func(r *Request)) string {
		r := base
		change(&r)
		d, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	same := digest(func(*Request) {})
	if digest(func(r *Request) { r.Env, r.Dir = []string{"A=b"}, t.TempDir() }) != same {
		t.Error("the environment, or a directory without meaning, counts")
	}
	for name, change := range map[string]func(r *Request){
		"packages": func(r *Request) { r.Packages = []string{"b", "a"} },
		"options":  func(r *Request) { r.Options = []string{"--pre"} },
		"pip":      func(r *Request) { r.PipVersion = "==24" },
		"check":    func(r *Request) { r.Check = true },
	} {
		if digest(change) == same {
			t.Errorf("%s: does not count", name)
		}
	}
	local := func(r *Request) { r.Packages = []string{"./" + filepath.Base(file)} }
	before := digest(local)
	archive(t, file, map[string]string{"mine.py": "changed"})
	if digest(local) == before {
		t.Error("the content of a file that is named does not count")
	}
	if _, err := (Request{Interpreter: filepath.Join(dir, "python")}).Digest(); err == nil || !strings.Contains(err.Error(), "no Python interpreter") {
		t.Error(err)
	}
}

// TestUnused: an environment goes when it was not used for long, unless a process runs in it.
func TestUnused(t *testing.T) {
	t.Parallel()
	wheels, cache := t.TempDir(), t.TempDir()
	wheel(t, wheels, "helvetiny", "1.0")
	c := NewCache(cache)
	env, err := c.Ensure(t.Context(), request(t, wheels, "helvetiny"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	there := func() bool { _, err := os.Stat(env.Interpreter); return err == nil }
	if c.removeUnused(time.Now()); !there() {
		t.Fatal("it was just used")
	}
	process := exec.Command(env.Interpreter, "-c", "print(input(), flush=True); input()")
	in := startEcho(t, process)
	later := time.Now().Add(keepTime + time.Hour)
	if c.removeUnused(later); !there() {
		t.Error("a process runs in it")
	}
	in.Close()
	process.Wait() //nolint:errcheck // it misses its line
	if c.removeUnused(later); there() {
		t.Error("it is still there")
	}
}

// TestUnpack: an archive is unpacked once for each content, and an archive that leads out of its directory is refused.
func TestUnpack(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), NewCache(t.TempDir())
	path := archive(t, filepath.Join(dir, "a.zip"), map[string]string{"m.py": "X = 1", "p/n.py": "Y = 2"})
	first, err := c.Unpack(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(first, "p", "n.py")); err != nil || string(b) != "Y = 2" {
		t.Error(string(b), err)
	}
	if again, err := c.Unpack(t.Context(), path); err != nil || again != first {
		t.Error(again, err)
	}
	archive(t, path, map[string]string{"m.py": "X = 3"})
	if changed, err := c.Unpack(t.Context(), path); err != nil || changed == first {
		t.Error(changed, err)
	}
	for _, name := range []string{"../out.py", "/abs.py", `a\..\..\b`} {
		if _, err := c.Unpack(t.Context(), archive(t, path, map[string]string{name: ""})); err == nil || !strings.Contains(err.Error(), "leads out") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Unpack(t.Context(), dir); err == nil {
		t.Error("a directory was unpacked")
	}
}

// TestHostileArchives: links, two files of one name, a file in the place of a directory, and too many files are refused, and leave nothing behind.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	link, plain := &zip.FileHeader{Name: "link"}, func(name string) *zip.FileHeader { return &zip.FileHeader{Name: name} }
	link.SetMode(os.ModeSymlink | 0o777)
	device := plain("device")
	device.SetMode(os.ModeDevice | 0o666)
	many := make([]*zip.FileHeader, mostFiles+1)
	for i := range many {
		many[i] = plain("f")
	}
	for name, c := range map[string]struct {
		files []*zip.FileHeader
		want  string
	}{
		"a link":           {[]*zip.FileHeader{link}, "links are not taken"},
		"a device":         {[]*zip.FileHeader{device}, "is no file"},
		"one name twice":   {[]*zip.FileHeader{plain("a.py"), plain("a.py")}, "exists"},
		"another spelling": {[]*zip.FileHeader{plain("a.py"), plain("./a.py")}, "exists"},
		"a file as parent": {[]*zip.FileHeader{plain("a"), plain("a/b.py")}, "not a directory"},
		"an inner dot dot": {[]*zip.FileHeader{plain("a/../../b.py")}, "leads out"},
		"many files":       {many, "more than 200000 files"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, cache := filepath.Join(t.TempDir(), "a.zip"), t.TempDir()
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			w := zip.NewWriter(f)
			for _, h := range c.files {
				if _, err := w.CreateHeader(h); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(w.Close(), f.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := NewCache(cache).Unpack(t.Context(), path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if left, err := filepath.Glob(filepath.Join(cache, "unpacked", "*", "*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestUnpackEnds: a start that is given up does not go on unpacking, and an archive that changes meanwhile is not taken for the one of before.
func TestUnpackEnds(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	c := NewCache(cache)
	path := archive(t, filepath.Join(t.TempDir(), "a.zip"), map[string]string{"m.py": "X = 1"})
	digest, err := FileDigest(path)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("not wanted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := c.Unpack(ctx, path); !errors.Is(err, why) {
		t.Error(err)
	}
	archive(t, path, map[string]string{"m.py": "X = 2"})
	if _, err := c.unpack(t.Context(), path, digest); err == nil || !strings.Contains(err.Error(), "has changed meanwhile") {
		t.Error(err)
	}
	if left := glob(filepath.Join(cache, "unpacked", "*[^k]")); len(left) > 0 {
		t.Error(left)
	}
}

// startEcho starts a process that gives back a line of its input, and waits for that: /proc has neither the command nor the variables of a process that is about to run.
func startEcho(t *testing.T, process *exec.Cmd) io.WriteCloser {
	t.Helper()
	in, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := process.StdoutPipe()
	if err == nil {
		err = process.Start()
	}
	if err == nil {
		_, err = in.Write([]byte("x\n"))
	}
	if err == nil {
		_, err = io.ReadFull(out, make([]byte, 2))
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// TestUnusedArchives: the files of an archive go when they were not used for long, unless a process was started with them.
func TestUnusedArchives(t *testing.T) {
	t.Parallel()
	c := NewCache(t.TempDir())
	dir, err := c.Unpack(t.Context(), archive(t, filepath.Join(t.TempDir(), "a.zip"), map[string]string{"m.py": ""}))
	if err != nil {
		t.Fatal(err)
	}
	there := func() bool { _, err := os.Stat(dir); return err == nil }
	process := exec.Command("cat")
	process.Env = []string{"HELVE_SYS_PATH=[" + strconv.Quote(dir) + "]"}
	in := startEcho(t, process)
	later := time.Now().Add(keepTime + time.Hour)
	if c.removeUnused(later); !there() {
		t.Error("a process has it")
	}
	in.Close()
	process.Wait() //nolint:errcheck // it has come to its end
	if c.removeUnused(time.Now()); !there() {
		t.Error("it was just used")
	}
	left := dir + stray + "1" // by a node that was killed
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	c.removeUnused(later)
	if rest := glob(filepath.Join(filepath.Dir(dir), "*[^k]")); len(rest) > 0 {
		t.Error(rest)
	}
}

// TestLink: a linked module is alone in its directory.
func TestLink(t *testing.T) {
	t.Parallel()
	c := NewCache(t.TempDir())
	module := filepath.Join(t.TempDir(), "mine")
	for range 2 {
		dir, err := c.Link(module)
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "mine" {
			t.Error(entries, err)
		}
	}
}

// TestCacheDir: the first of three variables says where the cache is.
func TestCacheDir(t *testing.T) {
	t.Parallel()
	for want, env := range map[string]map[string]string{
		"/cache":               {"HELVE_CACHE": "/cache", "XDG_CACHE_HOME": "/xdg", "HOME": "/srv/me"},
		"/xdg/helve":           {"XDG_CACHE_HOME": "/xdg", "HOME": "/srv/me"},
		"/srv/me/.cache/helve": {"XDG_CACHE_HOME": "relative", "HOME": "/srv/me"},
		"":                     {},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			got, err := CacheDir(func(name string) string { return env[name] })
			if got != want || (err == nil) != (want != "") {
				t.Error(got, err)
			}
		})
	}
}

// TestLines: the last lines that are not empty, and of a progress bar its last form.
func TestLines(t *testing.T) {
	t.Parallel()
	out := &tail{most: 60}
	fmt.Fprint(out, strings.Repeat("x", 100), "\none\n\n 10%\r 50%\r100%\r\n\xff\n")
	if got := strings.Join(out.lines(3), "|"); got != "one|100%|?" {
		t.Errorf("%q", got)
	}
}

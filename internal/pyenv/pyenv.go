// Package pyenv makes the environments of Python workers that have packages of their own, and unpacks archives of modules. Both are
// kept in a cache of the user, by digest, which all nodes of the user share.
//
// An environment is a venv of the interpreter that the driver runs with. It sees the packages of that interpreter too, also if that is the
// interpreter of another venv, and its own come first. For example, the driver's venv has helve and requests 2.31, and a deployment
// asks for requests==2.32: its workers import helve from the driver's venv and requests 2.32 from their own.
//
// An environment is made once. A node builds it in a directory of another name and renames that at the end, so an
// environment that is there is whole. A file lock keeps others from building the same one. For example, two nodes ask for one
// environment at once: the first installs, the second waits for the lock, and then finds it. A node that is killed meanwhile leaves
// the lock free and a directory that the next builder removes.
package pyenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
)

const (
	// installTime bounds the time from the first command to the last of one environment.
	installTime = 15 * time.Minute
	// keepTime is how long an environment is kept after its last use. Uses are noted once in noteTime.
	keepTime = 30 * 24 * time.Hour
	noteTime = 24 * time.Hour
	// lockPause is the time between two looks at the lock of another node.
	lockPause = 100 * time.Millisecond
	// mostLines and mostOutput bound the output of pip in an error and in memory.
	mostLines  = 15
	mostOutput = 64 << 10
)

// The names of files in an environment. used has the time of the last use, and parentFile makes the driver's packages visible.
const (
	used       = ".helve-used"
	parentFile = "_helve_parent.pth"
)

// Request says which environment is wanted.
type Request struct {
	Interpreter string   // path of the driver's
	Packages    []string // lines of a requirements file
	Options     []string // arguments of pip install
	PipVersion  string   // version of pip, such as "==24.0"; "" for the pip that is there
	Check       bool     // pip check must succeed
	Env         []string // environment of pip, with the user's configuration
	Dir         string   // in which relative paths are found
}

// Cache has the environments and unpacked archives of a user. Its methods may be called from any goroutine.
type Cache struct {
	dir string

	mu     sync.Mutex
	builds map[string]*build // under way, by digest
}

// build is an environment that a goroutine of this process makes.
type build struct {
	done   chan struct{}
	err    error
	gaveUp bool // the replica that asked for it is not wanted any more
}

// NewCache uses a directory, which is made when it is needed.
func NewCache(dir string) *Cache { return &Cache{dir: dir, builds: map[string]*build{}} }

// Lazy is the cache of an environment, which is looked for when it is first needed. Its methods may be called from any goroutine.
type Lazy struct {
	mu    sync.Mutex
	cache *Cache
}

// Get is the cache in the directory of [CacheDir].
func (l *Lazy) Get(getenv func(string) string) (*Cache, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cache == nil {
		dir, err := CacheDir(getenv)
		if err != nil {
			return nil, err
		}
		l.cache = NewCache(dir)
	}
	return l.cache, nil
}

// CacheDir is the directory of the cache by an environment: HELVE_CACHE, else helve in XDG_CACHE_HOME, else .cache/helve in HOME.
func CacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("HELVE_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "helve"), nil
	}
	if dir := getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".cache", "helve"), nil
	}
	return "", errors.New("no directory for environments: set HELVE_CACHE")
}

// Env is an environment that is there.
type Env struct {
	Interpreter string
	// Site are the directories with its packages. They come before those of the driver's interpreter.
	Site []string
}

// InstallError says that an environment could not be made. Lines are the last ones that the command printed.
type InstallError struct {
	What  string
	Cause error
	Lines []string
}

func (e *InstallError) Error() string {
	text := e.What + ": " + e.Cause.Error()
	if len(e.Lines) > 0 {
		text += "\n  " + strings.Join(e.Lines, "\n  ")
	}
	return text
}

func (e *InstallError) Unwrap() error { return e.Cause }

// Digest identifies an environment: the interpreter and its version, the packages, and the way in which pip installs them. A file that a
// line names counts with its content. For example, ./wheels/mine-1.0-py3-none-any.whl that is built again is another environment.
func (r Request) Digest() (string, error) {
	target, err := filepath.EvalSymlinks(r.Interpreter)
	if err != nil {
		return "", fmt.Errorf("no Python interpreter: %w", err)
	}
	st, err := os.Stat(target)
	if err != nil {
		return "", fmt.Errorf("no Python interpreter: %w", err)
	}
	files := map[string]string{}
	for _, word := range r.words() {
		if sum, err := FileDigest(r.path(word)); err == nil {
			files[word] = sum
		}
	}
	b, err := json.Marshal([]any{
		"2", r.Interpreter, target, st.Size(), st.ModTime().UnixNano(), r.Packages, r.Options, r.PipVersion, r.Check, files, r.relativeTo(),
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:32], nil
}

// words are the words of all lines: some may be paths.
func (r Request) words() (all []string) {
	for _, line := range slices.Concat(r.Packages, r.Options) {
		for _, word := range strings.Fields(line) {
			all = append(all, strings.TrimPrefix(word, "file://"))
			if _, value, ok := strings.Cut(word, "="); ok {
				all = append(all, value)
			}
		}
	}
	return all
}

// relativeTo is the directory if a word is a relative path; "" if the directory has no meaning.
func (r Request) relativeTo() string {
	for _, word := range r.words() {
		if _, err := os.Stat(r.path(word)); err == nil && !filepath.IsAbs(word) {
			return r.Dir
		}
	}
	return ""
}

func (r Request) path(word string) string {
	if filepath.IsAbs(word) {
		return word
	}
	return filepath.Join(r.Dir, word)
}

// Ensure gives an environment, which it makes if it is not there. installs is told when packages are being installed, until the function
// that it returns is called. ctx ends when the environment is not wanted any more.
func (c *Cache) Ensure(ctx context.Context, r Request, installs func() (done func())) (Env, error) {
	digest, err := r.Digest()
	if err != nil {
		return Env{}, err
	}
	final := filepath.Join(c.dir, "pyenv", digest)
	for {
		if env, ok := c.find(final); ok {
			return env, nil
		}
		c.mu.Lock()
		b := c.builds[digest]
		if b == nil {
			b = &build{done: make(chan struct{})}
			c.builds[digest] = b
			c.mu.Unlock()
			done := installs()
			b.err = c.make(ctx, r, final)
			done()
			b.gaveUp = b.err != nil && ctx.Err() != nil
			c.mu.Lock()
			delete(c.builds, digest)
			c.mu.Unlock()
			close(b.done)
			if b.err != nil {
				return Env{}, b.err
			}
			continue
		}
		c.mu.Unlock()
		done := installs()
		select {
		case <-b.done:
			done()
			if b.err != nil && !b.gaveUp {
				return Env{}, b.err
			}
		case <-ctx.Done():
			done()
			return Env{}, context.Cause(ctx)
		}
	}
}

// find gives an environment that is there, and notes its use.
func (c *Cache) find(dir string) (Env, bool) {
	mark := filepath.Join(dir, used)
	if !noteUse(mark) {
		return Env{}, false
	}
	site, err := os.ReadFile(mark)
	if err != nil {
		return Env{}, false
	}
	return Env{Interpreter: python(dir), Site: strings.Split(string(site), "\n")}, true
}

func python(dir string) string { return filepath.Join(dir, "bin", "python") }

// make makes the environment, unless another node has made it meanwhile.
func (c *Cache) make(ctx context.Context, r Request, final string) error {
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return fmt.Errorf("the directory of environments (set HELVE_CACHE for another): %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, installTime, fmt.Errorf("it takes longer than %s", installTime))
	defer cancel()
	unlock, err := lock(ctx, final+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(final, used)); err == nil {
		return nil
	}
	removeStrays(final)
	c.removeUnused(time.Now())
	dir, err := os.MkdirTemp(filepath.Dir(final), filepath.Base(final)+stray)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it has another name by now, or is removed by the next builder
	sites, err := r.build(ctx, dir)
	if err != nil {
		return err
	}
	for i, s := range sites {
		sites[i] = final + strings.TrimPrefix(s, dir)
	}
	if err := moveScripts(dir, final); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, used), []byte(strings.Join(sites, "\n")), 0o600); err != nil {
		return err
	}
	os.RemoveAll(final) //nolint:errcheck // an environment without a mark is not whole; Rename says so if it stays
	return os.Rename(dir, final)
}

// isolated keeps an interpreter from taking modules of the current directory, which is the working_dir of a deployment, for those of the
// standard library or of pip. For example, a program has a logging.py of its own. PYTHON... variables have no effect either; pip's own have.
const isolated = "-I"

// askParent prints the directories in which an interpreter finds packages, and askSite the one of a venv. The interpreter of the first is not isolated, because
// it would have no packages of the user then; so the program itself takes the current directory out of the way.
const (
	askParent = `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import json, site, sysconfig
found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
if site.ENABLE_USER_SITE:
    found.append(site.getusersitepackages())
print(json.dumps(list(dict.fromkeys(found))))`
	askSite = `import json, sysconfig
print(json.dumps(list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))))`
)

// build makes the venv in dir and installs the packages. sites are the directories of its packages.
func (r Request) build(ctx context.Context, dir string) (sites []string, err error) {
	parents, err := r.ask(ctx, r.Interpreter, askParent)
	if err != nil {
		return nil, err
	}
	if _, err := r.run(ctx, "the environment cannot be made", r.Interpreter, isolated, "-m", "venv", "--without-pip", dir); err != nil {
		return nil, err
	}
	if sites, err = r.ask(ctx, python(dir), askSite, isolated); err != nil {
		return nil, err
	}
	// addsitedir reads the .pth files of the directory too: a package that is installed in editable form, perhaps helve, is found by one.
	var text strings.Builder
	text.WriteString("import site")
	for _, p := range parents {
		quoted, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		text.WriteString("; site.addsitedir(" + string(quoted) + ")")
	}
	text.WriteString("\n")
	if err := os.WriteFile(filepath.Join(sites[0], parentFile), []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	if err := r.ensurePip(ctx, python(dir)); err != nil {
		return nil, err
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, []byte(strings.Join(r.Packages, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	args := append([]string{isolated, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"}, r.Options...)
	if _, err := r.run(ctx, "pip install has failed", python(dir), append(args, "-r", list)...); err != nil {
		return nil, err
	}
	if r.Check {
		_, err = r.run(ctx, "pip check has failed (pip_check=False leaves it out)", python(dir), isolated, "-m", "pip", "check", "--disable-pip-version-check")
	}
	return sites, err
}

// ensurePip sees that the venv has pip: the pip of the driver's interpreter, else the pip that comes with Python. A wanted version is
// installed by that.
func (r Request) ensurePip(ctx context.Context, python string) error {
	if _, err := r.run(ctx, "no pip", python, isolated, "-c", "import pip"); err != nil {
		if ctx.Err() != nil {
			return err
		}
		if _, err := r.run(ctx, "there is no pip for "+r.Interpreter+": install it there", python, isolated, "-m", "ensurepip", "--default-pip"); err != nil {
			return err
		}
	}
	if r.PipVersion == "" {
		return nil
	}
	_, err := r.run(ctx, "pip "+r.PipVersion+" cannot be installed", python, isolated, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "pip"+r.PipVersion)
	return err
}

func (r Request) ask(ctx context.Context, python, program string, flags ...string) (found []string, err error) {
	out, err := r.run(ctx, "the interpreter "+python+" cannot be used", python, append(flags, "-c", program)...)
	if err == nil { // the last line: a sitecustomize may print too
		out = bytes.TrimSpace(out)
		err = json.Unmarshal(out[bytes.LastIndexByte(out, '\n')+1:], &found)
	}
	if err == nil && len(found) == 0 {
		err = errors.New("the interpreter " + python + " names no directory of packages")
	}
	return found, err
}

// run runs a command to its end and gives its output. Its process group is killed when ctx ends, and it is killed with the node.
func (r Request) run(ctx context.Context, failure, path string, args ...string) ([]byte, error) {
	runtime.LockOSThread() // a command is killed when the thread that started it ends
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = r.Dir, slices.DeleteFunc(slices.Clone(r.Env), func(e string) bool { return strings.HasPrefix(e, "PYTHONPATH=") || strings.HasPrefix(e, "PYTHONHOME=") })
	cmd.SysProcAttr = kernel.Child(syscall.SIGKILL)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, all := &bytes.Buffer{}, &tail{most: mostOutput}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, all), all
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, &InstallError{failure, err, all.lines(mostLines)}
}

// tail keeps the end of the text that is written to it, by any goroutine: a command's two streams have one each.
type tail struct {
	mu   sync.Mutex
	most int
	b    []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if extra := len(t.b) - t.most; extra > 0 {
		t.b = append(t.b[:0], t.b[extra:]...)
	}
	return len(p), nil
}

// lines are the last lines that are not empty. Of a line that a progress bar has written over, its last form counts.
func (t *tail) lines(most int) (last []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range strings.Split(strings.ToValidUTF8(string(t.b), "?"), "\n") {
		line = strings.TrimRight(line, "\r ")
		line = line[strings.LastIndexByte(line, '\r')+1:]
		if strings.TrimSpace(line) != "" {
			last = append(last, line)
		}
	}
	return last[max(len(last)-most, 0):]
}

// moveScripts lets the scripts of an environment name the interpreter where it will be.
func moveScripts(dir, final string) error {
	bin := filepath.Join(dir, "bin")
	entries, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(bin, e.Name())
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(text[:min(len(text), 4096)], []byte(dir)) {
			continue
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(dir), []byte(final)), 0o700); err != nil { //nolint:gosec // a script
			return err
		}
	}
	return nil
}

// stray is in the name of a directory that is being made. It is left by a node that was killed.
const stray = ".new-"

// removeStrays removes the directories that were to become final. The lock of final is held.
func removeStrays(final string) {
	for _, dir := range glob(final + stray + "*") {
		os.RemoveAll(dir) //nolint:errcheck // it stays for the next builder
	}
}

// noteUse says whether a file or directory is there, and notes its use by its time.
func noteUse(path string) bool {
	st, err := os.Stat(path)
	if err != nil {
		return false
	}
	if time.Since(st.ModTime()) > noteTime {
		now := time.Now()
		os.Chtimes(path, now, now) //nolint:errcheck // the use is noted another time
	}
	return true
}

// removeUnused removes the environments and unpacked archives of this cache that were not used for long and that no process was started with, and
// what nodes that were killed have left.
func (c *Cache) removeUnused(now time.Time) {
	remove := func(dir, mark string) {
		if st, err := os.Stat(mark); err != nil || now.Sub(st.ModTime()) < keepTime || inUse(dir) {
			return
		}
		final, _, _ := strings.Cut(filepath.Base(dir), stray)
		final = filepath.Join(filepath.Dir(dir), final)
		unlock, err := lock(nil, final+".lock") //nolint:staticcheck // nil does not wait
		if err != nil {
			return
		}
		defer unlock()
		if dir == final {
			dir += stray + "old"
			os.RemoveAll(dir)                 //nolint:errcheck // Rename fails then
			if os.Rename(final, dir) != nil { // from now on it is not there
				return
			}
		}
		os.RemoveAll(dir) //nolint:errcheck // the rest goes another time
	}
	for _, dir := range slices.Concat(glob(filepath.Join(c.dir, "pyenv", "*")), glob(filepath.Join(c.dir, "unpacked", "*"))) {
		switch mark := filepath.Join(dir, used); {
		case filepath.Ext(dir) == ".lock":
		case filepath.Base(filepath.Dir(dir)) == "unpacked", strings.Contains(filepath.Base(dir), stray):
			remove(dir, dir)
		default:
			remove(dir, mark)
		}
	}
}

// inUse says whether a process was started with the interpreter of an environment, or with a directory in its variables, as workers have it in theirs.
func inUse(dir string) bool {
	for _, process := range glob("/proc/[0-9]*") {
		if b, err := os.ReadFile(filepath.Join(process, "cmdline")); err == nil && strings.HasPrefix(string(b), dir+"/") {
			return true
		}
		if b, err := os.ReadFile(filepath.Join(process, "environ")); err == nil && bytes.Contains(b, []byte(filepath.Base(dir))) { // JSON may escape the directory
			return true
		}
	}
	return false
}

// glob is [filepath.Glob] for patterns that are well-formed.
func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

// lock takes a file's lock, and waits for it until ctx ends; with nil it does not wait.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || ctx == nil {
			f.Close()
			return nil, fmt.Errorf("%s cannot be locked: %w", path, err)
		}
		pause := time.NewTimer(lockPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// FileDigest is the digest of a file's content. A directory is an error.
func FileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", errors.Join(err, &fs.PathError{Op: "read", Path: path, Err: errors.New("is no file")})
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Describe names the packages for a message: "2 packages (numpy, requests==2.32)", and of many the first three.
func Describe(packages []string) string {
	n := strconv.Itoa(len(packages)) + " packages ("
	if len(packages) == 1 {
		n = "1 package ("
	}
	shown := packages[:min(len(packages), 3)]
	text := n + strings.Join(shown, ", ")
	if len(shown) < len(packages) {
		text += ", ..."
	}
	return text + ")"
}

package worker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
)

// The test executable is also the children that it starts.
func TestMain(m *testing.M) {
	ReportCrashes()
	switch os.Getenv("WORKER_TEST") {
	case "":
		os.Exit(m.Run())
	case "token":
		fd, _ := strconv.Atoi(os.Getenv("HELVE_TOKEN_FD"))
		b, _ := io.ReadAll(os.NewFile(uintptr(fd), "token"))
		wd, _ := os.Getwd()
		fmt.Println(hex.EncodeToString(b), os.Getenv("EXTRA"), wd, os.Args[1])
	case "outlived":
		startAndWait(os.Getenv("OUTLIVED"))
	case "fail":
		for i := range 60 {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		os.Exit(3)
	case "crash":
		for range 100 {
			go func() { select {} }()
		}
		panic("here")
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("hanging")
		<-time.After(time.Hour) // without cgo, select {} of the only goroutine is a deadlock, which ends the process
	case "wait":
		fmt.Println("waiting")
		<-time.After(time.Hour)
	case "grandchild": // leaves a child behind that holds the output open
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WORKER_TEST=wait")
		cmd.Stdout = os.Stdout
		cmd.Start()
		fmt.Println("pid", cmd.Process.Pid)
	case "middle": // a node that is killed
		s := NewSpawner()
		p, err := s.Start(command("wait", func(_ string, line []byte) { fmt.Println(string(line)) }))
		if err != nil {
			panic(err)
		}
		fmt.Println("leaf", p.PID())
		select {}
	case "family": // starts a child, and one that leaves the process group
		for _, leaves := range []bool{false, true} {
			cmd := exec.Command("/bin/sleep", "1000")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: leaves}
			if err := cmd.Start(); err != nil {
				panic(err)
			}
			fmt.Println("leaf", cmd.Process.Pid)
		}
		select {}
	case "guarded": // a node that is killed, with a guard
		s := NewSpawner()
		if err := s.Guard(); err != nil {
			panic(err)
		}
		if _, err := s.Start(command("family", func(_ string, line []byte) { fmt.Println(string(line)) })); err != nil {
			panic(err)
		}
		select {}
	case "beside": // a node that is killed, with a process beside its workers
		var f Families
		variable, _ := f.Add(func(err error) { panic(err) })
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WORKER_TEST=family", variable)
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = kernel.Child(syscall.SIGKILL)
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		select {}
	case "reaper": // starts a process that ends well when its orphan is reaped
		ReapOrphans()
		out, err := exec.Command("/bin/sh", "-c", orphan).CombinedOutput()
		fmt.Println(string(out), err)
	case "limits":
		var files syscall.Rlimit
		syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
		fmt.Println(files.Cur, files.Max)
	case "eat":
		var all [][]byte
		for range 64 {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		fmt.Println("ate")
		runtime.KeepAlive(all)
	case "escape": // its child leaves the process group
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WORKER_TEST=wait")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Start()
		fmt.Println(cmd.Process.Pid)
	case "long":
		fmt.Println(strings.Repeat("x", 3*lineMax))
		fmt.Println("after")
	}
}

func command(mode string, output func(string, []byte)) Command {
	c := Command{Path: os.Args[0], Args: []string{"-arg"}, Env: append(os.Environ(), "WORKER_TEST="+mode, "EXTRA=e"), Output: output}
	rand.Read(c.Token[:])
	return c
}

// lines collects output and signals when a line has come.
type lines struct {
	mu   sync.Mutex
	all  []string
	come chan string
}

func newLines() *lines { return &lines{come: make(chan string, 1000)} }

func (l *lines) add(_ string, line []byte) {
	l.mu.Lock()
	l.all = append(l.all, string(line))
	l.mu.Unlock()
	l.come <- string(line)
}

func start(t *testing.T, mode string, out *lines) *Process {
	t.Helper()
	s := NewSpawner()
	c := command(mode, nil)
	if out != nil {
		c.Output = out.add
	}
	p, err := s.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); <-p.Done(); s.Close() })
	return p
}

func TestTokenEnvironmentAndDirectory(t *testing.T) {
	t.Parallel()
	s := NewSpawner()
	defer s.Close()
	out := newLines()
	c := command("token", out.add)
	c.Dir = t.TempDir()
	p, err := s.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	want := fmt.Sprintf("%x e %s -arg", c.Token, c.Dir)
	if got := strings.Join(out.all, "\n"); got != want || p.Exit().Code != 0 {
		t.Errorf("%s, want %s (%s)", got, want, p.Exit().Reason())
	}
	if err := syscall.Kill(p.PID(), 0); err == nil {
		t.Error("the process was not reaped")
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	s := NewSpawner()
	defer s.Close()
	if _, err := s.Start(Command{Path: "/nonexistent/program"}); err == nil || !strings.Contains(err.Error(), "/nonexistent/program") {
		t.Errorf("%v", err)
	}
}

func TestExitReasons(t *testing.T) {
	t.Parallel()
	p := start(t, "fail", nil)
	<-p.Done()
	r := p.Exit().Reason()
	if p.Exit().Code != 3 || !strings.HasPrefix(r, "exit status 3: line 10\n") || !strings.HasSuffix(r, "line 59") {
		t.Errorf("%q", r)
	}
	out := newLines()
	p = start(t, "wait", out)
	<-out.come
	p.Kill()
	<-p.Done()
	if p.Exit().Signal != syscall.SIGKILL || !strings.Contains(p.Exit().Reason(), "SIGKILL") {
		t.Errorf("%+v", p.Exit())
	}
	p.Kill() // kill a process that has ended
}

func TestStopEscalates(t *testing.T) {
	t.Parallel()
	s := NewSpawner()
	defer s.Close()
	// The kernel ends it at SIGTERM. The runtime of Go handles the signal first, and on a busy machine not before SIGKILL comes.
	p, err := s.Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(t.Context(), time.Millisecond)
	if p.Exit().Signal != syscall.SIGTERM {
		t.Errorf("%+v, want SIGTERM", p.Exit())
	}
	out := newLines()
	p = start(t, "hang", out)
	<-out.come
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the end of ctx shortens the waits
	p.Stop(ctx, time.Hour)
	if p.Exit().Signal != syscall.SIGKILL {
		t.Errorf("%+v, want SIGKILL", p.Exit())
	}
}

// TestWhatIsMissingIsNamed: the error of a failed start names the missing file.
func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	s := NewSpawner()
	defer s.Close()
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/nonexistent/python\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Command{
		"its directory " + dir + "/gone (working_dir)": {Path: "/bin/true", Dir: dir + "/gone"},
		"its directory " + script + " (working_dir)":   {Path: "/bin/true", Dir: script},
		script + " is there, but what runs it":         {Path: script},
		"fork/exec " + dir + "/gone: no such file":     {Path: dir + "/gone", Dir: dir},
	} {
		if _, err := s.Start(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestLongLinesAreCut(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := start(t, "long", out)
	<-p.Done()
	if len(out.all) != 2 || len(out.all[0]) != lineMax || out.all[1] != "after" {
		t.Errorf("%d lines", len(out.all))
	}
}

// alive reports whether a process runs. A zombie does not run.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

func ends(t *testing.T, pid int) {
	t.Helper()
	for alive(pid) {
		if t.Context().Err() != nil {
			t.Fatalf("process %d lives on", pid)
		}
	}
}

func TestGrandchildrenEndWithTheProcess(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := start(t, "grandchild", out)
	var pid int
	for pid == 0 {
		fmt.Sscanf(<-out.come, "pid %d", &pid)
	}
	<-p.Done()
	ends(t, pid)
}

// orphan leaves a child behind, and waits until it is not even a zombie.
const orphan = `pid=$(sh -c 'sh -c "exit 3" >/dev/null & echo $!'); while [ -d /proc/$pid ]; do :; done; echo reaped`

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WORKER_TEST=reaper")
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "reaped") || err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// leaves waits for a process with children, one of which has left its process group, and returns their ids.
func leaves(t *testing.T, lines func() string) (pids []int) {
	t.Helper()
	for len(pids) < 2 && t.Context().Err() == nil {
		var pid int
		if n, _ := fmt.Sscanf(lines(), "leaf %d", &pid); n == 1 {
			pids = append(pids, pid)
			t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
		}
	}
	return pids
}

// TestTheFamilyEndsWithItsWorker: the descendants of a worker end with it, also outside of its process group, and
// without a cgroup.
func TestTheFamilyEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := start(t, "family", out)
	pids := leaves(t, func() string { return <-out.come })
	p.Kill()
	<-p.Done()
	for _, pid := range pids {
		ends(t, pid)
	}
}

// TestTheFamilyEndsWithAKilledNode: a killed node cannot end the descendants of its workers, and of other processes that it has started, so its guards do.
func TestTheFamilyEndsWithAKilledNode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"guarded", "beside"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WORKER_TEST="+mode)
		r, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(r)
		pids := leaves(t, func() string { in.Scan(); return in.Text() })
		cmd.Process.Kill()
		cmd.Wait()
		for _, pid := range pids {
			ends(t, pid)
		}
	}
}

// TestFamilies: the descendants of a process that is no worker end when that process has ended, and at the latest with the node.
func TestFamilies(t *testing.T) {
	t.Parallel()
	var f Families
	start := func() (end func(), kill func(), pids []int) {
		variable, end := f.Add(func(err error) { t.Error(err) })
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WORKER_TEST=family", variable)
		r, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(r)
		pids = leaves(t, func() string { in.Scan(); return in.Text() })
		return end, func() { cmd.Process.Kill(); cmd.Wait() }, pids
	}
	end, kill, first := start()
	_, killOther, second := start()
	kill()
	end()
	for _, pid := range first {
		ends(t, pid)
	}
	if err := syscall.Kill(second[0], 0); err != nil {
		t.Errorf("the family of another process: %v", err)
	}
	f.Close()
	killOther()
	for _, pid := range second {
		ends(t, pid)
	}
	f.Close()
	f.Add(func(err error) { t.Error(err) }) // of a node that closes: the process does not start
}

// TestKilledParent: a node that is killed takes its workers along.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WORKER_TEST=middle")
	r, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var leaf int
	waiting := false
	for in := bufio.NewScanner(r); (leaf == 0 || !waiting) && in.Scan(); {
		fmt.Sscanf(in.Text(), "leaf %d", &leaf)
		waiting = waiting || in.Text() == "waiting"
	}
	if leaf == 0 || !alive(leaf) {
		t.Fatalf("leaf %d", leaf)
	}
	cmd.Process.Kill()
	cmd.Wait()
	ends(t, leaf)
}

func TestSocket(t *testing.T) {
	t.Parallel()
	l, err := Listen(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSuffix(l.Path(), "/node.sock")
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	go func() {
		c, err := net.Dial("unix", l.Path())
		if err == nil {
			c.Close()
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("accepted after the close")
	}
	long := t.TempDir() + "/" + strings.Repeat("d", 100)
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(long); err == nil || !strings.Contains(err.Error(), RuntimeDirEnv) {
		t.Errorf("a long path: %v", err)
	}
	if left, _ := os.ReadDir(long); len(left) > 0 {
		t.Error("a directory was left behind")
	}
	if _, err := Listen("/nonexistent"); err == nil || !strings.Contains(err.Error(), RuntimeDirEnv) {
		t.Errorf("%v", err)
	}
}

// TestSweep: the next node removes the directories of killed nodes and no others. It keeps the directory of a node
// that lives or has just begun, and any directory without a mark.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	at := func(name string) string { return filepath.Join(dir, "helve-"+name) }
	files := map[string]map[string]string{
		at("dead"):    {markName: privateMark, "blob": "x"},
		at("young"):   {markName: privateMark},
		at("project"): {"main.go": "x"},
		at("state"):   {markName: stateMark, "node.snap": "{}"},
		at("newer"):   {markName: "helve private directory, format 2\n"},
	}
	for d, names := range files {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range names {
			if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(d, socketName), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false) // as when the process is killed
		l.Close()
	}
	if err := os.Symlink(at("project"), at("link")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, d := range []string{at("dead"), at("project"), at("state"), at("newer"), filepath.Dir(live.Path())} {
		if err := os.Chtimes(d, old, old); err != nil {
			t.Fatal(err)
		}
	}
	next, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	for _, d := range []string{at("dead"), at("young"), at("project"), at("state"), at("newer"), at("link"), filepath.Dir(live.Path())} {
		if _, err := os.Stat(d); (err == nil) != (d != at("dead")) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// TestForeignDirectoriesAreRefused: a node takes a directory for its state if it is new, empty or marked, belongs to
// its user, and is not writable for other users. It changes nothing in other directories, not even their modes.
func TestForeignDirectoriesAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode  os.FileMode
		files map[string]string
		want  string // "" if it is taken
	}{
		"empty":               {0o755, nil, ""},
		"a new file system":   {0o700, map[string]string{"lost+found/": ""}, ""},
		"marked":              {0o750, map[string]string{markName: stateMark, "node.snap": "{}", "notes": "x"}, ""},
		"half a mark":         {0o700, map[string]string{markName: ""}, ""},
		"a project":           {0o755, map[string]string{"build-notes.txt": "my notes", "run-1.stdout": "x", "build-out/": ""}, "build-notes.txt"},
		"a socket's name":     {0o700, map[string]string{socketName: "no socket"}, socketName},
		"written by others":   {0o1777, nil, "chmod go-w"},
		"written by a group":  {0o770, map[string]string{markName: stateMark}, "chmod go-w"},
		"another version":     {0o700, map[string]string{markName: "helve state directory, format 2\n"}, "another version"},
		"a private directory": {0o700, map[string]string{markName: privateMark}, "not the mark"},
		"a file of the name":  {0o700, map[string]string{markName: "x"}, "not the mark"},
		"half a mark of more": {0o700, map[string]string{markName: "", "x": ""}, "not a node's (x)"},
		"a mark elsewhere":    {0o700, map[string]string{markName + "@": "/dev/null"}, markName},
		"a directory as mark": {0o700, map[string]string{markName + "/": ""}, markName},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range c.files {
			path := filepath.Join(dir, strings.TrimRight(file, "/@"))
			var err error
			switch file[len(file)-1] {
			case '/':
				err = os.Mkdir(path, 0o755)
			case '@':
				err = os.Symlink(text, path)
			default:
				err = os.WriteFile(path, []byte(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Chmod(dir, uint32(c.mode)); err != nil {
			t.Fatal(err)
		}
		l, err := ListenAt(dir)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir)) {
			t.Errorf("%s: %v", name, err)
		}
		if l != nil {
			l.Close()
			if l, err = ListenAt(dir); err != nil {
				t.Errorf("%s, again: %v", name, err)
			} else {
				l.Close()
			}
		}
		var st syscall.Stat_t
		if err := syscall.Stat(dir, &st); err != nil || int(st.Mode)&0o7777 != int(c.mode) {
			t.Errorf("%s: mode %o, %v", name, st.Mode, err)
		}
		for file, text := range c.files {
			if b, err := os.ReadFile(filepath.Join(dir, file)); file != markName && !strings.ContainsAny(file, "/@") && (err != nil || string(b) != text) {
				t.Errorf("%s: %s: %q, %v", name, file, b, err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenAt(file); err == nil {
		t.Error("a file was taken")
	}
}

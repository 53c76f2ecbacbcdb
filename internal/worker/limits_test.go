package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func startLimited(t *testing.T, mode string, l Limits, out *lines) *Process {
	t.Helper()
	s := NewSpawner()
	c := command(mode, out.add)
	c.Crash = true
	c.ID, c.Limits = "test", l
	p, err := s.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); <-p.Done(); s.Close() })
	return p
}

// TestOpenFiles: Go raises the soft limit to the hard one as a program starts, so both must be there before.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := startLimited(t, "limits", Limits{OpenFiles: 77}, out)
	<-p.Done()
	if got := strings.Join(out.all, "\n"); got != "77 77" || p.Exit().Code != 0 {
		t.Errorf("%q (%s)", got, p.Exit().Reason())
	}
}

// TestOpenFilesWithoutTracing sets the limit of a running child, as where tracing is forbidden.
func TestOpenFilesWithoutTracing(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := start(t, "wait", out)
	<-out.come
	if err := prlimit(p.PID(), []rlimit{{syscall.RLIMIT_NOFILE, 77}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.PID()))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(b)), " "), "Max open files 77 77") {
		t.Errorf("%s, %v", b, err)
	}
}

// TestMemory holds with a cgroup and with RLIMIT_DATA.
func TestMemory(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := startLimited(t, "eat", Limits{MemoryBytes: 512 << 20, CPUs: 1}, out)
	<-p.Done()
	e, how := p.Exit(), p.Enforcement()
	if !e.OutOfMemory || !strings.HasPrefix(e.Reason(), "out of memory (limit 512 MiB): ") || slices.Contains(out.all, "ate") {
		t.Errorf("%+v, %q", how, e.Reason())
	}
	switch {
	case how == Enforcement{Memory: "cgroup", CPUs: "cgroup"}:
		if _, err := os.Stat(p.group.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the cgroup is left: %v", err)
		}
	case how.Memory == "RLIMIT_DATA" && how.CPUs == "" && how.Why != nil:
	default:
		t.Errorf("%+v", how)
	}
}

func TestEnoughMemory(t *testing.T) {
	t.Parallel()
	p := startLimited(t, "eat", Limits{MemoryBytes: 4 << 30}, newLines())
	<-p.Done()
	if e := p.Exit(); e.OutOfMemory || e.Code != 0 {
		t.Errorf("%s", e.Reason())
	}
}

func TestNotOutOfMemory(t *testing.T) {
	t.Parallel()
	out := newLines()
	p := startLimited(t, "wait", Limits{MemoryBytes: 1 << 30}, out)
	<-out.come
	syscall.Kill(p.PID(), syscall.SIGKILL)
	<-p.Done()
	if e := p.Exit(); e.OutOfMemory || e.Killed || !strings.HasPrefix(e.Summary(), "killed by SIGKILL, ") /* a test beside it may end for lack of memory */ || e.At.IsZero() {
		t.Errorf("%+v", e)
	}
	p = start(t, "wait", out)
	<-out.come
	p.Kill()
	<-p.Done()
	if e := p.Exit(); !e.Killed || e.Summary() != "killed by its node (SIGKILL)" {
		t.Errorf("%+v", e)
	}
}

// TestCrash: the reason of a crash is not lost behind the stacks of all goroutines.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := NewSpawner()
	defer s.Close()
	c := command("crash", nil)
	c.Crash = true
	c.Env = append(c.Env, "GOTRACEBACK=all")
	p, err := s.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	e := p.Exit()
	if e.Code != 2 || len(e.Lines) != keptMax || e.Lines[0] != "panic: here" || !strings.Contains(e.Lines[2], "TestMain(") {
		t.Errorf("%d lines: %s", len(e.Lines), e.Reason())
	}
}

// TestPrintedTextIsNoCrash: a line that only looks like the report of a crash takes no place of the last lines. A
// line about memory, printed long before the end, is not taken for the reason of the end.
func TestPrintedTextIsNoCrash(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		p := &Process{crashed: crash, enforcement: Enforcement{Memory: "RLIMIT_DATA"}, exit: Exit{Code: 1}}
		for i := range 60 {
			p.keep(fmt.Appendf(nil, "line %d", i))
			if i == 5 {
				p.keep([]byte("panic: out of memory, says a client"))
			}
		}
		first := "line 10"
		if crash {
			first = "line 0"
		}
		if got := p.lines(); len(got) != keptMax || got[0] != first || got[keptMax-1] != "line 59" {
			t.Errorf("%v: %d lines: %q", crash, len(got), got)
		}
		if p.outOfMemory() != crash {
			t.Errorf("%v: out of memory: %v", crash, !crash)
		}
	}
	p := &Process{}
	p.keep([]byte(strings.Repeat("x", lineMax) + "\x1b[2J"))
	if got := p.lines()[0]; len(got) != lineKept+3 {
		t.Errorf("%d bytes of a line are kept", len(got))
	}
}

// tree lays out a fake cgroup file system: plain files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestWhereCgroupsAreMade(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, self string
		files      map[string]string
		want       string // the parent; "" for an error
		control    string // the content of the root's cgroup.subtree_control afterwards
	}{
		{"controllers are there", "/", map[string]string{"cgroup.procs": "1\n2\n", "cgroup.subtree_control": "cpu memory pids\n"}, ".", "cpu memory pids\n"},
		{"controllers can be had", "/", map[string]string{"cgroup.procs": "1\n", "cgroup.controllers": "cpu memory\n", "cgroup.subtree_control": ""}, ".", "+cpu +memory"},
		{"beside ours", "/node", map[string]string{"node/cgroup.procs": "1\n", "cgroup.procs": "", "cgroup.subtree_control": "memory cpu\n"}, ".", "memory cpu\n"},
		{"no memory controller", "/", map[string]string{"cgroup.procs": "1\n", "cgroup.controllers": "cpu\n", "cgroup.subtree_control": "cpu\n"}, "", "cpu\n"},
		{"nothing there", "/", nil, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, tt.files)
			g := groups{mount: root, self: tt.self}
			c, err := g.make("app-1", Limits{MemoryBytes: 1 << 30, CPUs: 1.5})
			if (err == nil) != (tt.want != "") {
				t.Fatal(err)
			}
			if b, _ := os.ReadFile(filepath.Join(root, "cgroup.subtree_control")); string(b) != tt.control {
				t.Errorf("subtree_control %q", b)
			}
			if err != nil {
				return
			}
			c.started()
			if filepath.Dir(c.path) != filepath.Join(root, tt.want) || !strings.HasPrefix(filepath.Base(c.path), groupOwner(os.Getpid())+"app-1-") {
				t.Error(c.path)
			}
			for file, want := range map[string]string{"memory.max": "1073741824", "memory.oom.group": "1", "cpu.max": "150000 100000"} {
				if b, _ := os.ReadFile(filepath.Join(c.path, file)); string(b) != want {
					t.Errorf("%s: %q", file, b)
				}
			}
			if n := c.oomKills(); n != 0 {
				t.Error(n)
			}
			c.set("memory.events", "low 0\noom 3\noom_kill 2\n")
			if n := c.oomKills(); n != 2 {
				t.Error(n)
			}
		})
	}
}

func TestStaleCgroups(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"cgroup.procs": "", "cgroup.subtree_control": "memory"})
	const gone = groupPrefix + "99999999.5-"
	old, young := filepath.Join(root, gone+"a-1-77"), filepath.Join(root, gone+"a-2-77")
	own, other := filepath.Join(root, groupOwner(os.Getpid())+"a-1-77"), filepath.Join(root, "helve-a-1")
	for _, dir := range []string{old, young, own, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * staleAfter)
	for _, dir := range []string{old, own, other} {
		if err := os.Chtimes(dir, past, past); err != nil {
			t.Fatal(err)
		}
	}
	g := groups{mount: root, self: "/"}
	if _, err := g.make("a", Limits{MemoryBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one is there: %v", err)
	}
	for _, dir := range []string{young, own, other} { // of a node that may have just begun, of a node that lives, of no node
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestMountOf(t *testing.T) {
	t.Parallel()
	got := mountOf([]byte("22 1 0:21 / /proc rw - proc proc rw\n" +
		"40 31 0:38 /kubepods /elsewhere rw,relatime - cgroup2 cgroup2 rw\n" +
		"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw\n"))
	if got != "/sys/fs/cgroup/unified" {
		t.Error(got)
	}
}

// TestNobodyLeavesACgroup: a process that has left the worker's process group ends with the worker if there is a
// cgroup, and the cgroup is removed. The cgroup of this test has no limits, so it needs no controllers. If none can
// be made, the reason is given.
func TestNobodyLeavesACgroup(t *testing.T) {
	t.Parallel()
	var g groups
	in, err := g.make("test", Limits{})
	if err != nil {
		if in != nil || err.Error() == "" {
			t.Errorf("%v, %v", in, err)
		}
		return
	}
	s := NewSpawner()
	defer s.Close()
	out := newLines()
	p, err := s.start(command("escape", out.add), in)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(<-out.come)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(context.Background(), time.Minute)
	if p.group != nil { // nil if the child could not be put into it
		if err := syscall.Kill(pid, 0); err == nil {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
				t.Errorf("process %d lives: %s", pid, b)
			}
		}
		if _, err := os.Stat(in.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the cgroup is left: %v", err)
		}
	} else {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

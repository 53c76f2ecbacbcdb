package takeover_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// binaries are the stock binary, the examples and testdata/program, compiled once for a test and its subtests.
func binaries(t *testing.T) (at func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	fixture.GoBuild(t, "-o", dir, "./cmd/helve", "./examples/hello", "./examples/iris")
	buildProgram(t, filepath.Join(dir, "program"), "1")
	return func(name string) string { return filepath.Join(dir, name) }
}

// interrupt ends a command in order, and holds that its children are gone.
func (n *testNode) interrupt() {
	n.t.Helper()
	pids := fixture.Children(n.t, n.cmd.Process.Pid)
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		n.t.Fatal(err)
	}
	n.said.Ended()
	if s := n.cmd.ProcessState; !s.Success() {
		n.t.Errorf("%s\n%s", s, n.said.Text())
	}
	for _, pid := range pids {
		fixture.AwaitExit(n.t, pid)
	}
}

// underWay makes a request that runs until the end of the pipe is closed, and returns when its method runs.
func underWay(t *testing.T, n *testNode) (pipe io.WriteCloser, answered chan string) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	answered = make(chan string, 1)
	go func() {
		got, err := asked(n.url, "pipe:"+path)
		answered <- fmt.Sprint(got, err)
	}()
	w, err := os.OpenFile(path, os.O_WRONLY, 0) // when the method reads it
	if err != nil {
		t.Fatal(err)
	}
	return w, answered
}

// drains sends SIGTERM and returns when the command says that it drains.
func (n *testNode) drains(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for status := 0; status != http.StatusServiceUnavailable && t.Context().Err() == nil; {
		r, err := http.Get(n.url + "/-/healthz")
		if err != nil {
			t.Fatalf("while it drains: %v\n%s", err, n.said.Text())
		}
		r.Body.Close()
		status = r.StatusCode
	}
}

// drainWithDelay ends a command that has --drain-delay: the listener closes after the delay, while the request under way runs on; when that is answered the
// command ends without an error. [secondSignal] has a request in the delay, which is too short for one here.
func drainWithDelay(t *testing.T, n *testNode) {
	pipe, answered := underWay(t, n)
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			break
		}
		conn.Close()
		select {
		case got := <-answered:
			t.Fatalf("the request ended before the listener: %s", got)
		case <-time.After(20 * time.Millisecond): // between two looks
		}
	}
	fmt.Fprint(pipe, "done")
	pipe.Close()
	if got := <-answered; got != "1: done<nil>" {
		t.Errorf("%s\n%s", got, n.said.Text())
	}
	n.said.Ended()
	if s := n.cmd.ProcessState; !s.Success() {
		t.Errorf("%s\n%s", s, n.said.Text())
	}
}

// secondSignal cuts off a command in its delay, with the request under way. Before, health says no, and requests are served.
func secondSignal(t *testing.T, n *testNode) {
	pipe, answered := underWay(t, n)
	defer pipe.Close()
	n.drains(t)
	if got, err := asked(n.url, "new"); err != nil {
		t.Errorf("a request in the delay: %q, %v\n%s", got, err, n.said.Text())
	}
	<-time.After(1100 * time.Millisecond) // signals within a second are one wish
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; strings.HasSuffix(got, "<nil>") {
		t.Errorf("%s\n%s", got, n.said.Text())
	}
	n.said.Ended()
	if s := n.cmd.ProcessState; s.Success() || s.ExitCode() < 0 || !strings.Contains(n.said.Text(), "a second signal") {
		t.Errorf("%s\n%s", s, n.said.Text())
	}
}

// signalsToAll ends a command and all its children as systemd does, which signals every process of a service, while a request is under
// way: the request is answered.
func signalsToAll(t *testing.T, n *testNode) {
	w, answered := underWay(t, n)
	pids := append(fixture.Children(t, n.cmd.Process.Pid), n.cmd.Process.Pid)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT} {
		for _, pid := range pids {
			if err := syscall.Kill(pid, s); err != nil {
				t.Errorf("%d: %v", pid, err)
			}
		}
	}
	for drains := false; !drains && t.Context().Err() == nil; {
		r, err := http.Get(n.url + "/-/healthz")
		if err != nil { // the listener is closed already
			break
		}
		r.Body.Close()
		drains = r.StatusCode == http.StatusServiceUnavailable
	}
	fmt.Fprint(w, "done")
	w.Close()
	if got := <-answered; got != "1: done<nil>" {
		t.Errorf("%s\n%s", got, n.said.Text())
	}
	n.said.Ended()
	if s := n.cmd.ProcessState; !s.Success() {
		t.Errorf("%s\n%s", s, n.said.Text())
	}
}

// noReader runs a command whose output has no reader any more: the command serves, drains and ends all the same.
func noReader(t *testing.T, path string) {
	n := &testNode{t: t, cmd: exec.Command(path, "run", "--isolation", "process", "--verbose", "--http", "127.0.0.1:0")}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.cmd.Stdout, n.cmd.Stderr = w, w
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { n.cmd.Process.Kill() })
	lines := bufio.NewScanner(r)
	for n.url == "" && lines.Scan() {
		if i := strings.Index(lines.Text(), "http://"); i >= 0 && strings.Contains(lines.Text(), "serves on") {
			n.url = lines.Text()[i:]
		}
	}
	r.Close()
	for range 3 {
		if got, err := asked(n.url, "world"); got != "Hello world!" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, pid := range fixture.Children(t, n.cmd.Process.Pid) { // the command writes its last line, without a reader
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for got := ""; got != "Hello world!" && t.Context().Err() == nil; {
		got, _ = asked(n.url, "world")
	}
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestCommands runs applications as users do: by themselves, in workers, and as builds under the stock binary.
func TestCommands(t *testing.T) {
	t.Parallel()
	at := binaries(t)
	const flower, vote = `{"sepal_length":6.1,"sepal_width":2.8,"petal_length":4.7,"petal_width":1.2}`, `"species":"versicolor"`
	anywhere := []string{"--http", "127.0.0.1:0"}
	for name, c := range map[string]struct {
		command []string
		body    string
		want    string
		workers bool
	}{
		"hello":               {[]string{"hello", "run"}, "world", "Hello world!", false},
		"hello, no command":   {[]string{"hello"}, "world", "Hello world!", false},
		"hello in a worker":   {[]string{"hello", "run", "--isolation", "process"}, "world", "Hello world!", true},
		"hello as a build":    {[]string{"helve", "run", "exec:" + at("hello")}, "world", "Hello world!", true},
		"hello, named":        {[]string{"helve", "run", "exec:" + at("hello") + "#hello"}, "world", "Hello world!", true},
		"hello under another": {[]string{"iris", "run", "exec:" + at("hello")}, "world", "Hello world!", true},
		"iris":                {[]string{"iris", "run"}, flower, vote, false},
		"iris in a worker":    {[]string{"iris", "run", "--isolation", "process"}, flower, vote, true},
		"iris as a build":     {[]string{"helve", "run", "exec:" + at("iris")}, flower, vote, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startCommand(t, at(c.command[0]), append(c.command[1:], anywhere...)...)
			if got, err := asked(n.url, c.body); err != nil || !strings.Contains(strings.ReplaceAll(got, " ", ""), strings.ReplaceAll(c.want, " ", "")) {
				t.Errorf("%q, %v", got, err)
			}
			if pids := fixture.Children(t, n.cmd.Process.Pid); len(pids) > 0 != c.workers {
				t.Errorf("children %v", pids)
			}
			n.interrupt()
		})
	}
	t.Run("signals to all processes", func(t *testing.T) {
		t.Parallel()
		signalsToAll(t, startCommand(t, at("helve"), append([]string{"run", "exec:" + at("program") + "#program"}, anywhere...)...))
	})
	delayed := func(delay string) *testNode {
		return startCommand(t, at("helve"), append([]string{"run", "exec:" + at("program") + "#program", "--drain-delay", delay}, anywhere...)...)
	}
	t.Run("a drain with a delay", func(t *testing.T) {
		t.Parallel()
		drainWithDelay(t, delayed("2s"))
	})
	t.Run("a second signal", func(t *testing.T) {
		t.Parallel()
		secondSignal(t, delayed("1h"))
	})
	t.Run("SIGHUP", func(t *testing.T) { // SIGHUP has no other meaning for this command than the end of the terminal
		t.Parallel()
		n := startCommand(t, at("hello"), append([]string{"run"}, anywhere...)...)
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		n.said.Ended()
		if s := n.cmd.ProcessState; !s.Success() {
			t.Errorf("%s\n%s", s, n.said.Text())
		}
	})
	t.Run("no reader", func(t *testing.T) {
		t.Parallel()
		noReader(t, at("hello"))
	})
	t.Run("that fail", func(t *testing.T) {
		t.Parallel()
		commandsThatFail(t, at)
	})
	t.Run("arguments", func(t *testing.T) {
		t.Parallel()
		n := startCommand(t, at("helve"), append(append([]string{"run"}, anywhere...), "exec:"+at("program")+"#program", "--", "-version=given", "-x")...)
		if got, err := asked(n.url, "x"); got != "given: x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		n.interrupt()
	})
	t.Run("without HTTP", func(t *testing.T) {
		t.Parallel()
		n := &testNode{t: t, cmd: exec.Command(at("helve"), "run", "exec:"+at("hello"), "--http", "")}
		n.said, _ = fixture.Launch(t, n.cmd)
		n.said.Line(t, "hello runs, without HTTP")
		n.interrupt()
	})
	t.Run("change", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "program")
		buildProgram(t, path, "1")
		n := startCommand(t, at("helve"), append([]string{"run", "exec:" + path + "#program"}, anywhere...)...)
		f := startTraffic(t, 4, func() (string, error) { return asked(n.url, "x") })
		f.reach("1", 20)
		change := func(version, says string) {
			t.Helper()
			buildProgram(t, path, version)
			if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			n.said.Line(t, says)
		}
		change("broken", "the application was not changed")
		f.reach("1", 20)
		if said := n.said.Text(); !strings.Contains(said, "broken on purpose") || !strings.Contains(said, "stays at revision 1") {
			t.Error(said)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		n.said.Line(t, "there is no executable")
		f.reach("1", 20)
		change("2", "program has changed to the executable that is there now")
		f.reach("2", 20)
		f.end()
		if got, err := asked(n.url, "x"); got != "2: x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		n.interrupt()
	})
}

// commandsThatFail end with a status and a line that names the mistake and a remedy.
func commandsThatFail(t *testing.T, at func(string) string) {
	dir := t.TempDir()
	script, far := filepath.Join(dir, "script"), filepath.Join(dir, "far")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	buildSpeaking(t, far, "far", "3-4")
	long := filepath.Join(dir, strings.Repeat("long", 30))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		command []string
		env     string
		status  int
		says    string
	}{
		"no application":       {[]string{"helve", "run"}, "", 2, "this binary contains no application"},
		"no command":           {[]string{"helve", "serve"}, "", 2, `no command "serve"`},
		"missing":              {[]string{"helve", "run", "exec:" + dir + "/none#x"}, "", 1, "there is no executable " + dir + "/none"},
		"no path":              {[]string{"helve", "run", "exec:"}, "", 1, "path of the executable is missing: exec:PATH#APPLICATION"},
		"directory":            {[]string{"helve", "run", "exec:" + dir}, "", 1, "is a directory: give the executable"},
		"mode":                 {[]string{"helve", "run", "exec:" + plain}, "", 1, "is not executable: chmod +x it"},
		"script":               {[]string{"helve", "run", "exec:" + script}, "", 1, "is not a Helve build: it was not made by Go"},
		"no application in it": {[]string{"helve", "run", "exec:" + at("helve")}, "", 1, "contains no application"},
		"wrong name":           {[]string{"helve", "run", "exec:" + at("hello") + "#iris"}, "", 1, `no application "iris" in this executable, it contains ["hello"]`},
		"which":                {[]string{"helve", "run", "exec:" + at("program")}, "", 1, "which application?"},
		"arguments of nobody":  {[]string{"hello", "run", "--", "-x"}, "", 2, "arguments after -- are for the executable"},
		"two":                  {[]string{"helve", "run", "exec:a", "exec:b"}, "", 2, "run takes one application"},
		"silent":               {[]string{"helve", "run", "exec:" + at("program") + "#program", "--", "-silent"}, "", 1, "must call cli.Main or helve.WorkerMain first"},
		"versions":             {[]string{"helve", "run", "exec:" + far + "#program"}, "", 1, "speaks protocol 3 to 4, this node speaks protocol 1 to 2: use builds of one version"},
		"token":                {[]string{"helve", "run", "exec:" + at("program") + "#program", "--", "-forget-token"}, "", 1, "did not prove that it knows this worker's token"},
		"socket path":          {[]string{"helve", "run", "exec:" + at("hello")}, "HELVE_RUNTIME_DIR=" + long, 1, "set HELVE_RUNTIME_DIR to a shorter directory"},
		"socket path, workers": {[]string{"hello", "run", "--isolation", "process"}, "HELVE_RUNTIME_DIR=" + long, 1, "set HELVE_RUNTIME_DIR to a shorter directory"},
		"state path":           {[]string{"hello", "run", "--isolation", "process", "--state-dir", long}, "", 1, "take a shorter directory"},
		"grace alone":          {[]string{"hello", "run", "--worker-grace", "1s"}, "", 2, "--worker-grace: needs --state-dir"},
		"body":                 {[]string{"hello", "run", "--max-body", "5"}, "", 2, "--max-body: must be"},
		"arena":                {[]string{"hello", "run", "--arena-size", "much"}, "", 2, `must be a number of bytes, or one with KiB, MiB or GiB, is "much"; -1 is none`},
		"small arena":          {[]string{"hello", "run", "--arena-size", "1KiB"}, "", 2, "--arena-size: must be at least"},
		"a path":               {[]string{"helve", "run", at("hello")}, "", 2, "as exec:" + at("hello")},
		"build in the node":    {[]string{"helve", "run", "exec:" + at("hello"), "--isolation", "node"}, "", 2, "--isolation node: an application of another executable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(at(c.command[0]), c.command[1:]...)
			if len(c.command) > 1 && c.command[1] == "run" {
				cmd.Args = append([]string{cmd.Args[0], "run", "--http", "127.0.0.1:0"}, cmd.Args[2:]...)
			}
			cmd.Env = os.Environ()
			if c.env != "" {
				cmd.Env = append(cmd.Env, c.env)
			}
			out := fixture.NewOutput()
			cmd.Stdout, cmd.Stderr = out, out
			err := cmd.Run()
			if status := cmd.ProcessState.ExitCode(); status != c.status {
				t.Errorf("status %d, want %d: %v\n%s", status, c.status, err, out.Text())
			}
			last := out.Text()
			if i := strings.LastIndex(last, "error: "); i >= 0 {
				last = last[i:]
			}
			if !strings.Contains(last, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, out.Text())
			}
			if bytes.Contains([]byte(last), []byte("goroutine ")) {
				t.Errorf("a stack of ours:\n%s", last)
			}
		})
	}
}

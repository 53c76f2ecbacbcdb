package keeper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/worker"
)

// The test executable is also `helve start` and the nodes of these tests.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("KEEPER_TEST") == "":
		os.Exit(m.Run())
	case len(os.Args) > 2 && os.Args[1] == "node":
		if err := testNode(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, testStart())
		os.Exit(1)
	}
}

// testStart becomes a keeper, as `helve start` does.
func testStart() error {
	dir := os.Getenv("KEEPER_TEST")
	mark, err := worker.Claim(dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	commands, err := ListenCommands(dir)
	if err != nil {
		return err
	}
	c, err := commands.File()
	if err != nil {
		return err
	}
	watchdog, _ := time.ParseDuration(os.Getenv("KEEPER_WATCHDOG")) //nolint:errcheck // 0 is none
	s := State{
		Config:    Config{Version: "v1", Name: os.Args[0], Env: os.Environ(), Dir: dir, Watchdog: watchdog},
		Listeners: []Listener{{Kind: HTTP, Address: l.Addr().String(), FD: int(f.Fd())}},
		Mark:      int(mark.Fd()), Socket: int(c.Fd()), Family: "keepertest" + strconv.Itoa(os.Getpid()), Since: time.Now(),
	}
	err = s.Exec("/proc/self/exe")
	runtime.KeepAlive([]any{l, f, commands, c, mark})
	return err
}

// testNode is a node that answers lines on its socket: see [request].
func testNode() error {
	k, err := Connect(nodeFD, "v1")
	if err != nil {
		return err
	}
	switch mode := os.Getenv("KEEPER_NODE"); {
	case mode == "fails":
		return errors.New("the store is damaged")
	case mode == "crashes" && k.Welcome().Starts > 1:
		if err := k.Ready(nil, ""); err != nil {
			return err
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for s := range signals {
			k.Signal(s.(syscall.Signal))
		}
	}()
	l := k.Listeners(HTTP)[0]
	if err := k.Ready([]string{"http://" + l.Addr().String()}, ""); err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, _ := bufio.NewReader(c).ReadString('\n')
				fmt.Fprintln(c, answerOf(k, strings.Fields(line)))
			}()
		}
	}()
	<-k.Drain.Done()
	fmt.Println("drained:", context.Cause(k.Drain))
	l.Close()
	_, err = net.Dial("tcp", l.Addr().String())
	fmt.Println("refused:", errors.Is(err, syscall.ECONNREFUSED))
	return nil
}

func answerOf(k *Client, words []string) any {
	switch {
	case len(words) == 1 && words[0] == "pid":
		return os.Getpid()
	case len(words) == 2 && words[0] == "run": // a worker that runs a line of a shell
		started, err := k.Start(worker.Launch{ID: "w", Path: "/bin/sh", Args: []string{"-c", strings.ReplaceAll(words[1], "_", " ")}, Env: []string{"PATH=/bin:/usr/bin"}},
			[]*os.File{os.Stdout, os.Stderr})
		if err != nil {
			return err
		}
		return started.PID
	case len(words) == 2 && words[0] == "wait":
		pid, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		s, ok := k.Wait(pid)
		return fmt.Sprint(s.Code, int(s.Signal), ok)
	case len(words) == 1 && words[0] == "missing":
		_, err := k.Start(worker.Launch{ID: "w", Path: "/no/such/program", Env: []string{}}, []*os.File{nil, nil})
		return errors.Is(err, syscall.ENOENT)
	case len(words) == 1 && words[0] == "stop":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	return "what?"
}

// keeperProcess is a keeper that a test has started.
type keeperProcess struct {
	t       *testing.T
	dir     string
	address string
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the keeper and all processes with its output have ended

	mu  sync.Mutex
	out bytes.Buffer
}

func startKeeper(t *testing.T, env ...string) *keeperProcess {
	t.Helper()
	k := launchKeeper(t, env...)
	k.await("a node that serves", func(s Status) bool {
		for _, n := range s.Nodes {
			if n.Ready != nil && len(n.URLs) > 0 {
				k.address = strings.TrimPrefix(n.URLs[0], "http://")
				return true
			}
		}
		return false
	})
	return k
}

func launchKeeper(t *testing.T, env ...string) *keeperProcess {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	k := &keeperProcess{t: t, dir: filepath.Join(dir, "state"), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	k.cmd = exec.Command(os.Args[0])
	k.cmd.Env = append(append(os.Environ(), "KEEPER_TEST="+k.dir), env...)
	k.cmd.Stdout, k.cmd.Stderr = w, w
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(k.ended)
		io.Copy(k, r) //nolint:errcheck // the end counts
	}()
	t.Cleanup(func() {
		k.cmd.Process.Kill()
		k.cmd.Wait() //nolint:errcheck // it was killed
		<-k.ended
		if t.Failed() {
			t.Logf("the output of the keeper:\n%s", k.output())
		}
	})
	return k
}

func (k *keeperProcess) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.out.Write(b)
}

func (k *keeperProcess) output() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.out.String()
}

// await waits until the status of the keeper is as the test needs it.
func (k *keeperProcess) await(what string, ok func(Status) bool) Status {
	k.t.Helper()
	for {
		s, err := StatusOf(k.t.Context(), k.dir)
		if err == nil && ok(s) {
			return s
		}
		select {
		case <-k.ended:
			k.t.Fatalf("the keeper has ended before there was %s:\n%s", what, k.output())
		case <-k.t.Context().Done():
			k.t.Fatalf("no %s: %+v, %v", what, s, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// awaitOutput waits until the keeper and its processes have printed a text. A process prints it before its status says the same, but the test reads
// the two by different ways: it may have the status first.
func (k *keeperProcess) awaitOutput(text string) {
	k.t.Helper()
	for !strings.Contains(k.output(), text) {
		select {
		case <-k.ended: // all of the output is there
			if out := k.output(); !strings.Contains(out, text) {
				k.t.Fatalf("the keeper has ended, and %q is not in its output:\n%s", text, out)
			}
		case <-k.t.Context().Done():
			k.t.Fatalf("%q is not in the output:\n%s", text, k.output())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// request asks the node that serves. It fails the test if the connection is refused or ends without an answer.
func (k *keeperProcess) request(line string) string {
	k.t.Helper()
	c, err := net.Dial("tcp", k.address)
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, line)
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		k.t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(answer)
}

func (k *keeperProcess) number(line string) int {
	k.t.Helper()
	n, err := strconv.Atoi(k.request(line))
	if err != nil {
		k.t.Fatalf("%s: %v", line, err)
	}
	return n
}

// TestRestart: a node that is killed is started again with the same socket, no connection is refused, and the next node knows the workers of the node
// before: a worker that goes on, and the exit status of a worker that has ended.
func TestRestart(t *testing.T) {
	t.Parallel()
	k := startKeeper(t)
	node := k.number("pid")
	lives := k.number("run exec_sleep_1000")
	ends := k.number("run exit_7")
	if got := k.request("missing"); got != "true" {
		t.Errorf("a program that is not there: %s", got)
	}
	syscall.Kill(node, syscall.SIGKILL)
	next := k.number("pid") // waits in the queue of the socket
	if next == node {
		t.Error("the node was not killed")
	}
	if got := k.request(fmt.Sprint("wait ", ends)); got != "7 0 true" {
		t.Errorf("the worker that has ended: %s", got)
	}
	syscall.Kill(lives, syscall.SIGTERM)
	if got := k.request(fmt.Sprint("wait ", lives)); got != "-1 15 true" {
		t.Errorf("the worker that went on: %s", got)
	}
	if got := k.request("wait 1"); got != "0 0 false" {
		t.Errorf("a process that is no child: %s", got)
	}
	s, err := StatusOf(t.Context(), k.dir)
	if err != nil || s.Starts != 2 || !strings.Contains(s.LastEnd, "SIGKILL") || s.Workers != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestKilledKeeper: a keeper that is killed takes the node and the workers with it.
func TestKilledKeeper(t *testing.T) {
	t.Parallel()
	k := startKeeper(t)
	k.number("run exec_sleep_1000")
	k.number("run exec_sleep_1000") // both have the output of the keeper
	k.cmd.Process.Kill()
	<-k.ended
}

// TestOrphans: the keeper reaps a process whose parent has ended.
func TestOrphans(t *testing.T) {
	t.Parallel()
	k := startKeeper(t)
	file := filepath.Join(k.dir, "orphan")
	w := k.number("run sh_-c_\"echo_\\$\\$_>" + file + ".new;mv_" + file + ".new_" + file + "\"&")
	if got := k.request(fmt.Sprint("wait ", w)); got != "0 0 true" {
		t.Fatal(got)
	}
	var pid int
	for pid == 0 {
		b, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		<-time.After(time.Millisecond)
	}
	for syscall.Kill(pid, 0) == nil {
		<-time.After(time.Millisecond)
	}
}

// TestExec: the program of a keeper is replaced. The node serves on, requests that it has under way get their answers, and its workers are children of
// the next program: that has their exit statuses, starts another node, and takes all with it when it is killed.
func TestExec(t *testing.T) {
	t.Parallel()
	k := startKeeper(t)
	node := k.number("pid")
	fifo := filepath.Join(k.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	waits := k.number("run read_line<" + fifo + ";exit_9")
	k.number("run exec_sleep_1000")
	waited := make(chan string, 1)
	go func() { waited <- k.request(fmt.Sprint("wait ", waits)) }()
	exec := func() {
		t.Helper()
		c, err := Dial(k.dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, _, err := c.Ask(t.Context(), DoExec, Upgrade{}); !errors.Is(err, errGone) {
			t.Fatal(err)
		}
	}
	c, err := Dial(k.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Ask(t.Context(), DoExec, Upgrade{Path: "/no/such/program"}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a program that is not there: %v", err)
	}
	for range 2 {
		exec()
		if got := k.number("pid"); got != node {
			t.Fatalf("node %d serves, before %d", got, node)
		}
		k.number("run exit_0") // the next program starts workers
	}
	if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got := <-waited; got != "9 0 true" {
		t.Errorf("the request that was under way: %s", got)
	}
	syscall.Kill(node, syscall.SIGKILL)
	if got := k.number("pid"); got == node {
		t.Error("the node was not killed")
	}
	exec()
	k.await("the next program", func(s Status) bool { return s.Starts == 2 && s.Workers == 1 && len(s.Nodes) == 1 && s.Nodes[0].Current })
	k.cmd.Process.Kill()
	<-k.ended
}

// TestDrains: each way to ask for the end has the node drain once. Clients are refused when the node has closed its sockets, and the keeper ends with
// the node and leaves no socket.
func TestDrains(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		ask  func(k *keeperProcess, node int)
	}{
		{"SIGTERM to the keeper", func(k *keeperProcess, _ int) { k.cmd.Process.Signal(syscall.SIGTERM) }},
		{"SIGTERM to the node", func(_ *keeperProcess, node int) { syscall.Kill(node, syscall.SIGTERM) }},
		{"SIGTERM to both", func(k *keeperProcess, node int) {
			syscall.Kill(node, syscall.SIGTERM)
			k.cmd.Process.Signal(syscall.SIGTERM)
		}},
		{"the command", func(k *keeperProcess, _ int) {
			c, err := Dial(k.dir, nil)
			if err != nil {
				k.t.Fatal(err)
			}
			if _, _, err := c.Ask(k.t.Context(), DoStop, nil); err != nil {
				k.t.Error(err)
			}
			<-c.Ended()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := startKeeper(t)
			k.number("run exec_sleep_1000")
			c.ask(k, k.number("pid"))
			<-k.ended
			if err := k.cmd.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
			if got := strings.Count(k.output(), "drained:"); got != 1 {
				t.Errorf("drained %d times", got)
			}
			if !strings.Contains(k.output(), "refused: true") {
				t.Error("the keeper holds the socket open while the node drains")
			}
			for _, name := range []string{socketName, pidName} {
				if _, err := os.Stat(filepath.Join(k.dir, name)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left: %v", name, err)
				}
			}
		})
	}
}

// TestNoExecWhileDraining: a keeper that drains does not become another program, which would start a node again after the drain.
func TestNoExecWhileDraining(t *testing.T) {
	t.Parallel()
	k := startKeeper(t)
	node := k.number("pid")
	if err := syscall.Kill(node, syscall.SIGSTOP); err != nil { // the drain begins with SIGCONT
		t.Fatal(err)
	}
	c, err := Dial(k.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Ask(t.Context(), DoStop, nil); err != nil {
		t.Fatal(err)
	}
	k.await("a drain", func(s Status) bool { return s.Draining != "" })
	if _, _, err := c.Ask(t.Context(), DoExec, Upgrade{}); err == nil || !strings.Contains(err.Error(), "draining") {
		t.Fatalf("a keeper that drains was replaced: %v", err)
	}
	if err := syscall.Kill(node, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-k.ended
	if err := k.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestFirstStartFails: the message of a node that cannot start is the message of the keeper, which ends with its status.
func TestFirstStartFails(t *testing.T) {
	t.Parallel()
	k := launchKeeper(t, "KEEPER_NODE=fails")
	<-k.ended
	var exit *exec.ExitError
	if err := k.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(k.output(), "the store is damaged") != 1 {
		t.Errorf("%v:\n%s", err, k.output())
	}
}

// TestCrashLoop: a node that ends again and again waits for its next start, and the keeper says so. A drain does not wait for that start.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	k := startKeeper(t, "KEEPER_NODE=crashes")
	syscall.Kill(k.number("pid"), syscall.SIGKILL)
	s := k.await("a pause", func(s Status) bool { return s.Next != nil && s.Starts > freeCrashes+4 })
	if !strings.Contains(s.LastEnd, "SIGKILL") {
		t.Errorf("%+v", s)
	}
	k.awaitOutput("again and again")
	k.cmd.Process.Signal(syscall.SIGTERM)
	<-k.ended
}

// TestStuckNode: a node that does not answer is ended with the stacks of its goroutines, and started again.
func TestStuckNode(t *testing.T) {
	t.Parallel()
	k := startKeeper(t, "KEEPER_WATCHDOG=10s") // a busy machine keeps a node that is well from answering for seconds
	node := k.number("pid")
	syscall.Kill(node, syscall.SIGSTOP)
	k.await("another node", func(s Status) bool { return len(s.Nodes) == 1 && s.Nodes[0].PID != node && s.Nodes[0].Ready != nil })
	for _, text := range []string{"does not answer", "SIGQUIT: quit", "goroutine "} {
		k.awaitOutput(text)
	}
}

// TestOneKeeper: a second keeper in the directory is refused.
func TestOneKeeper(t *testing.T) {
	t.Parallel()
	k := startKeeper(t)
	second := exec.Command(os.Args[0])
	second.Env = append(os.Environ(), "KEEPER_TEST="+k.dir)
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("another node uses it, with the keeper of pid %d", k.cmd.Process.Pid)) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestKeeperCrash: a keeper that crashes, or that the watchdog of systemd ends, has the status of a signal. Status 2 is wrong usage, after which
// systemd does not start it again.
func TestKeeperCrash(t *testing.T) {
	t.Parallel()
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil { // no file with its memory
		t.Fatal(err)
	}
	k := startKeeper(t)
	k.cmd.Process.Signal(syscall.SIGABRT)
	<-k.ended
	k.cmd.Wait() //nolint:errcheck // the state says more
	if s, ok := k.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() {
		t.Errorf("%s", k.cmd.ProcessState)
	}
}

// TestServiceManager: systemd is told when the node serves and when it drains, and hears that the keeper lives.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "notify.sock")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The socket is read from the start, as systemd does: it has room for a few datagrams, and the keeper drops one that has no room for 100 ms. Those with
	// WATCHDOG=1 are rare, or they would take the room of another when the reader is held up.
	got := make(chan string, 1<<16)
	go func() {
		defer close(got)
		for b := make([]byte, 4096); ; {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			got <- string(b[:n])
		}
	}()
	k := startKeeper(t, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=2000000")
	until := func(texts ...string) {
		t.Helper()
		var all []string
		for of := range got {
			all = append(all, of)
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(of, text) }) {
				return
			}
		}
		t.Fatalf("no datagram has %q: %q", texts, all)
	}
	until("READY=1", fmt.Sprint("MAINPID=", k.cmd.Process.Pid))
	until("WATCHDOG=1")
	k.cmd.Process.Signal(syscall.SIGTERM)
	until("STOPPING=1")
	<-k.ended
}

// TestStateIsRead: a state travels whole.
func TestStateIsRead(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(State{Config: Config{Dir: "/d", Watchdog: time.Second}, Children: []*child{{PID: 7, Kind: kindWorker, Status: &worker.Status{Code: 3}}}})
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil || s.Config.Watchdog != time.Second || s.Children[0].PID != 7 || s.Children[0].Status.Code != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

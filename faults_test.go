package helve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// TestKilledWorker kills a worker with SIGKILL while 16 clients call. Every execution appends its id to a file, so that
// the file says what ran: no id may be there twice, every answered call must be there, and only calls that had been
// started may fail. The replacement must serve, with the clients waiting in the queue meanwhile.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		killedWorker(t, helvetest.Start(t, helve.Config{Isolation: helve.Process}, buildGo), "go")
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		killedWorker(t, helvetest.Start(t, helve.Config{}, buildPython), "python")
	})
}

// Sender passes entries on from one worker to another, which the node relays.
type Sender struct{ record helve.Method[Entry, string] }

func (s *Sender) Send(ctx context.Context, e Entry) (string, error) {
	if _, err := (&Subject{}).Record(ctx, Entry{File: e.File + ".sent", ID: e.ID}); err != nil {
		return "", err
	}
	return s.record.Call(ctx, e)
}

func buildSender() (*helve.App, error) {
	app := helve.NewApp("sender")
	record := helve.MethodOf(helve.Python[Service](app, "Subject", "testdata.subject:Subject", helve.Args{}, options()), Service.Record)
	o := options()
	o.Isolation, o.Uses = helve.Process, []helve.Target{record}
	sender := helve.Deploy(app, "Sender", func(context.Context) (*Sender, error) { return &Sender{record}, nil }, o)
	app.Ingress(helve.MethodOf(sender, (*Sender).Send))
	return app, nil
}

// TestKilledOnTheWay kills workers at both ends of relayed calls, and calls with bodies that travel beside their frames.
// HELVE_TEST_SEED runs a seed again.
func TestKilledOnTheWay(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("HELVE_TEST_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("HELVE_TEST_SEED=%d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	sys := helvetest.Start(t, helve.Config{}, buildSender)
	h, err := helve.HandleOf[*Sender](sys, "sender", "Sender")
	if err != nil {
		t.Fatal(err)
	}
	send := helve.MethodOf(h, (*Sender).Send)
	file := filepath.Join(t.TempDir(), "ran")
	pad := bytes.Repeat([]byte("x"), 3<<19)
	const clients, kills, after = 10, 5, 60
	var next, answered atomic.Int64
	var mu sync.Mutex
	var ok, lost []string
	call := func(size int) {
		id := strconv.FormatInt(next.Add(1), 10)
		got, err := send.Call(t.Context(), Entry{file, id, 1, pad[:size]})
		mu.Lock()
		defer mu.Unlock()
		if err == nil && got == id {
			ok = append(ok, id)
		} else if lost = append(lost, id); helve.ReasonOf(err) != helve.ReplicaDied {
			t.Errorf("call %s: %q, %v", id, got, err)
		}
		answered.Add(1)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		sizes := rand.New(rand.NewPCG(draw.Uint64(), 0))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				size := 0
				if sizes.IntN(4) == 0 { // large ones between small ones
					size = 300_000 + sizes.IntN(len(pad)-300_000)
				}
				call(size)
			}
		})
	}
	reach := func(n int64) {
		for answered.Load() < n && t.Context().Err() == nil {
			call(0)
		}
	}
	most := 0
	for range kills {
		reach(answered.Load() + after + draw.Int64N(after))
		victim, takes := "Subject", ongoing+1
		if draw.IntN(2) == 0 { // all its replicas share a worker
			victim, takes = "Sender", replicas*ongoing+1
		}
		if err := syscall.Kill(aPID(t, sys, "sender", victim), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		most += takes
	}
	reach(answered.Load() + after)
	close(stop)
	wg.Wait()
	for _, f := range []string{file + ".sent", file} {
		ran := map[string]bool{}
		for _, id := range lines(f) {
			if ran[id] {
				t.Errorf("call %s ran twice, says %s", id, filepath.Base(f))
			}
			ran[id] = true
		}
		for _, id := range ok {
			if !ran[id] {
				t.Errorf("call %s was answered and never ran, says %s", id, filepath.Base(f))
			}
		}
	}
	t.Logf("%d answered, %d lost in %d kills", len(ok), len(lost), kills)
	if len(lost) > most {
		t.Errorf("%d calls were lost; only those that had been started may be, at most %d", len(lost), most)
	}
}

func killedWorker(t *testing.T, s *helve.System, app string) {
	h, err := helve.HandleOf[Service](s, app, "Subject")
	if err != nil {
		t.Fatal(err)
	}
	record := helve.MethodOf(h, Service.Record)
	file := filepath.Join(t.TempDir(), "ran")
	const clients, kills, after = 16, 3, 400
	var next, answered atomic.Int64
	var mu sync.Mutex
	var ok, lost []string
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := strconv.FormatInt(next.Add(1), 10)
				got, err := record.Call(t.Context(), Entry{file, id, 1, nil})
				mu.Lock()
				if err == nil && got == id {
					ok = append(ok, id)
				} else if lost = append(lost, id); helve.ReasonOf(err) != helve.ReplicaDied {
					t.Errorf("call %s: %q, %v", id, got, err)
				}
				mu.Unlock()
				answered.Add(1)
			}
		})
	}
	reach := func(n int64) {
		for answered.Load() < n && t.Context().Err() == nil {
			if _, err := record.Call(t.Context(), Entry{file, "probe" + strconv.FormatInt(next.Add(1), 10), 0, nil}); err != nil && helve.ReasonOf(err) != helve.ReplicaDied {
				t.Errorf("probe: %v", err)
			}
		}
	}
	for range kills {
		reach(answered.Load() + after)
		pid := aPID(t, s, app, "Subject")
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	reach(answered.Load() + after) // the replacement serves
	close(stop)
	wg.Wait()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ran := strings.Fields(string(data))
	slices.Sort(ran)
	for i := 1; i < len(ran); i++ {
		if ran[i] == ran[i-1] {
			t.Errorf("call %s ran twice", ran[i])
		}
	}
	for _, id := range ok {
		if _, there := slices.BinarySearch(ran, id); !there {
			t.Errorf("call %s was answered and never ran", id)
		}
	}
	t.Logf("%d answered, %d lost in %d kills", len(ok), len(lost), kills)
	if most := kills * (replicas*ongoing + 1); len(lost) > most {
		t.Errorf("%d calls were lost in %d kills; only those that had been started may be, at most %d", len(lost), kills, most)
	}
}

// aPID is the process of a running worker.
func aPID(t *testing.T, s *helve.System, app, deployment string) int {
	for t.Context().Err() == nil {
		for _, r := range s.Status().Applications[app].Deployments[deployment].Replicas {
			if r.PID != 0 && r.State == "RUNNING" {
				return r.PID
			}
		}
	}
	return 0
}

// program is a built binary of this repository.
func program(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// output collects what a process prints, and waits for text in it.
type output struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
	end  bool
}

func newOutput() *output {
	o := &output{}
	o.cond = sync.NewCond(&o.mu)
	return o
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.cond.Broadcast()
	return o.buf.Write(b)
}

// ended waits for the end of the process.
func (o *output) ended() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.end {
		o.cond.Wait()
	}
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// line waits for a line that contains text.
func (o *output) line(t *testing.T, text string) string {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for l := range strings.Lines(o.buf.String()) {
			if strings.Contains(l, text) && strings.HasSuffix(l, "\n") {
				return strings.TrimSpace(l)
			}
		}
		if o.end {
			t.Fatalf("the process ended without %q:\n%s", text, o.buf.String())
		}
		o.cond.Wait()
	}
}

// launch starts a command and ends its whole output with it. alive is a pipe that every process that inherited it holds
// open: it ends when the last of them is gone.
func launch(t *testing.T, cmd *exec.Cmd) (out *output, alive io.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out = newOutput()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	done := make(chan struct{})
	go func() {
		cmd.Wait() //nolint:errcheck // the tests look at ProcessState
		out.mu.Lock()
		out.end = true
		out.mu.Unlock()
		out.cond.Broadcast()
		close(done)
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-done; r.Close() })
	return out, r
}

func children(t *testing.T, pid int) []int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		if d, err := os.ReadFile(f); err == nil {
			data = append(append(data, ' '), d...)
		}
	}
	for _, f := range strings.Fields(string(data)) {
		n, _ := strconv.Atoi(f)
		if !slices.Contains(pids, n) {
			pids = append(pids, n)
		}
	}
	return pids
}

// gone waits for the end of a process by its pidfd, which reads as ended whoever its parent is.
func gone(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	for t.Context().Err() == nil {
		if err := p.Signal(syscall.Signal(0)); err != nil {
			return
		}
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
	}
	t.Errorf("process %d lives on", pid)
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	r, err := http.Post(url, "", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestHelloProgram drives the example from outside, in both isolations: what a client sees is the same.
func TestHelloProgram(t *testing.T) {
	t.Parallel()
	hello := program(t, "./examples/hello")
	for _, isolation := range []string{"node", "process"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(hello, "run", "--http", "127.0.0.1:0", "--isolation", isolation)
			out, _ := launch(t, cmd)
			line := out.line(t, "http://")
			url := line[strings.Index(line, "http://"):]
			for _, body := range []string{`"world"`, "world"} {
				if got := post(t, url, body); got != "Hello world!" {
					t.Errorf("%s: %q", body, got)
				}
			}
			pids := children(t, cmd.Process.Pid)
			if (len(pids) > 0) != (isolation == "process") {
				t.Errorf("children %v with --isolation %s", pids, isolation)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				gone(t, pid)
			}
		})
	}
	for name, test := range map[string]struct {
		args []string
		text string
	}{
		"isolation": {[]string{"run", "--isolation", "thread"}, `--isolation "thread": must be node or process`},
		"address":   {[]string{"run", "--http", "nowhere"}, "--http nowhere"},
		"name":      {[]string{"run", "goodbye"}, `no application "goodbye" in this binary, it contains hello`},
		"flag":      {[]string{"--htpp", "x"}, "--htpp"},
		"command":   {[]string{"sreve"}, "sreve"},
	} {
		t.Run("wrong "+name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(hello, test.args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.text) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestNoOrphans kills a node, and a driver, with SIGKILL: their children end.
func TestNoOrphans(t *testing.T) {
	t.Parallel()
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command(program(t, "./examples/hello"), "run", "--http", "127.0.0.1:0", "--isolation", "process")
		out, _ := launch(t, cmd)
		out.line(t, "http://")
		pids := children(t, cmd.Process.Pid)
		if len(pids) != 1 {
			t.Fatalf("children %v, want one worker", pids)
		}
		cmd.Process.Kill()
		gone(t, pids[0])
	})
	t.Run("driver", func(t *testing.T) {
		t.Parallel()
		script := filepath.Join(t.TempDir(), "script.py")
		code := `
from helve import serve
import sys

@serve.deployment
class Up:
    async def __call__(self, s: str) -> str:
        return s.upper()

serve.start(http_options={"port": None})
h = serve.run(Up.options(num_replicas=2).bind())
print("answer", h.remote("ready").result(), flush=True)
sys.stdin.read()
`
		if err := os.WriteFile(script, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Getenv("HELVE_PYTHON"), script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, _ := launch(t, cmd)
		out.line(t, "answer READY")
		nodes := children(t, cmd.Process.Pid)
		if len(nodes) != 1 {
			t.Fatalf("children %v, want one node", nodes)
		}
		workers := children(t, nodes[0])
		if len(workers) != 2 {
			t.Fatalf("workers %v, want two", workers)
		}
		cmd.Process.Kill()
		for _, pid := range append(workers, nodes...) {
			gone(t, pid)
		}
	})
}

// TestDriverKilledDuringDeploy: a constructor that takes for ever does not keep the node of a driver that is gone.
func TestDriverKilledDuringDeploy(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script.py")
	code := `
from helve import serve
import time

@serve.deployment
class Slow:
    def __init__(self):
        print("constructing", flush=True)
        time.sleep(3600)

serve.start(http_options={"port": None})
serve.run(Slow.bind(), route_prefix=None)
`
	if err := os.WriteFile(script, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Getenv("HELVE_PYTHON"), script)
	out, _ := launch(t, cmd)
	out.line(t, "constructing")
	nodes := children(t, cmd.Process.Pid)
	workers := children(t, nodes[0])
	if len(nodes) != 1 || len(workers) != 1 {
		t.Fatalf("nodes %v, workers %v", nodes, workers)
	}
	cmd.Process.Kill()
	for _, pid := range append(workers, nodes...) {
		gone(t, pid)
	}
}

func buildBlock() (*helve.App, error) {
	app := helve.NewApp("block")
	h := helve.Deploy(app, "Subject", newSubject, helve.Options{})
	app.Ingress(helve.ActionOf(h, (*Subject).Block))
	return app, nil
}

// TestClientGoesAway: the end of an HTTP request ends the context of the method that serves it.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildBlock, func(t *testing.T, s *helve.System) {
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h, err := helve.HandleOf[*Subject](s, "block", "Subject")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			r, err := http.DefaultTransport.RoundTrip(request)
			if err == nil {
				r.Body.Close()
			}
			done <- err
		}()
		if _, err := helve.ActionOf(h, (*Subject).AwaitStarted).Call(t.Context(), helve.None{}); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := helve.ActionOf(h, (*Subject).AwaitCancelled).Call(t.Context(), helve.None{}); err != nil {
			t.Error(err)
		}
	})
}

// TestDrain shows that a close answers what runs.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			s, err := helve.Config{Isolation: isolation}.Run(t.Context(), buildGo)
			if err != nil {
				t.Fatal(err)
			}
			h, err := helve.HandleOf[Service](s, "go", "Subject")
			if err != nil {
				t.Fatal(err)
			}
			var rs []*helve.Response[int]
			for range 20 { // more than there are slots: some are queued
				rs = append(rs, helve.MethodOf(h, Service.Work).Remote(t.Context(), 20))
			}
			if err := s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if _, err := r.Result(t.Context()); err != nil {
					t.Errorf("lost in the drain: %v", err)
				}
			}
			if _, err := helve.MethodOf(h, Service.Echo).Call(t.Context(), "late"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
				t.Errorf("after the close: %v", err)
			}
		})
	}
}

// Crasher does what Go cannot recover.
type Crasher struct{}

func (*Crasher) Crash(_ context.Context, how string) (string, error) {
	how, file, _ := strings.Cut(how, " at ")
	switch how {
	case "exit":
		os.Exit(3)
	case "panic elsewhere":
		done := make(chan struct{})
		go func() { defer close(done); panic("on a goroutine of the method's own") }()
		<-done
		select {}
	case "first":
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			os.Exit(3)
		}
	case "fatal":
		var mu sync.Mutex
		mu.Unlock() // a fatal error, not a panic
	}
	return how, nil
}

func buildCrash() (*helve.App, error) {
	app := helve.NewApp("crash")
	h := helve.Deploy(app, "Crasher", func(context.Context) (*Crasher, error) { return &Crasher{}, nil }, helve.Options{Isolation: helve.Process})
	app.Ingress(helve.MethodOf(h, (*Crasher).Crash))
	return app, nil
}

// TestOnlyTheWorkerGoes: what Go cannot recover costs the worker, whose call is lost, and another takes over.
func TestOnlyTheWorkerGoes(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, buildCrash)
	h, err := helve.HandleOf[*Crasher](sys, "crash", "Crasher")
	if err != nil {
		t.Fatal(err)
	}
	crash := helve.MethodOf(h, (*Crasher).Crash)
	for _, how := range []string{"exit", "panic elsewhere", "fatal"} {
		_, err := crash.Call(t.Context(), how)
		wantReason(t, err, helve.ReplicaDied)
		if got, err := crash.Call(t.Context(), "fine"); got != "fine" || err != nil { // waits for the next worker
			t.Errorf("after %q: %q, %v", how, got, err)
		}
	}
}

// TestIdempotent: a call that may run twice does when its worker dies, and no more often.
func TestIdempotent(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, buildCrash)
	h, err := helve.HandleOf[*Crasher](sys, "crash", "Crasher")
	if err != nil {
		t.Fatal(err)
	}
	crash := helve.MethodOf(h, (*Crasher).Crash)
	first := func(name string) string { return "first at " + filepath.Join(t.TempDir(), name) }
	if got, err := crash.With(helve.Idempotent).Call(t.Context(), first("a")); got != "first" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err = crash.Call(t.Context(), first("c"))
	wantReason(t, err, helve.ReplicaDied)
	_, err = crash.With(helve.Idempotent).Call(t.Context(), "exit")
	wantReason(t, err, helve.ReplicaDied)
}

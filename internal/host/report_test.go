package host

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/output"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

// reporting is a worker with one replica, D#1, and the output that takes its lines. The log shows them.
type reporting struct {
	workers *Workers
	worker  *Worker
	replica *workerReplica
	out     *output.Output
	log     lockedBuffer
	close   func() // closes the workers
}

// newReporting makes a worker whose process ends at once and is not watched. inService says that its replica serves.
func newReporting(t testing.TB, inService bool) *reporting {
	t.Helper()
	x := &reporting{}
	x.workers = NewWorkers(Settings{
		Logger: slog.New(slog.NewTextHandler(&x.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Codec: codec.New(), Node: "local",
		NewSession: func(*Worker, int, bool) Session { return idleSession{} }, Changed: func() {},
	})
	x.close = sync.OnceFunc(func() { x.workers.Close(errors.New("the node has closed")) })
	t.Cleanup(x.close)
	s := worker.NewSpawner()
	proc, err := s.Start(worker.Command{Path: "/bin/true"}) // any process that has a number
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Kill(); <-proc.Done(); s.Close() })
	x.workers.mu.Lock()
	x.worker = x.workers.newWorkerLocked("app-1", x.workers.NewApp("app"))
	x.worker.proc = proc
	x.workers.mu.Unlock()
	x.replica = x.add(t, "D#1")
	x.replica.Serve(inService)
	x.out = x.workers.newOutput(x.worker, "D#1", "D", "D#1")
	return x
}

// add adds a replica to the worker.
func (x *reporting) add(t testing.TB, id string) *workerReplica {
	t.Helper()
	d := &Deployment{App: "app", Name: "D", Options: spec.Options{}.Effective()}
	r, err := x.worker.newReplica(d, Launch{ID: id, Life: t.Context()}, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (x *reporting) unresponsive() *helvetype.Unresponsive { return x.replica.Process().Unresponsive }

func (x *reporting) report(lines ...string) {
	for _, l := range lines {
		x.out.Report([]byte(l))
	}
}

// lockedBuffer is a buffer that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func TestReports(t *testing.T) {
	t.Parallel()
	x := newReporting(t, true)
	x.report(`record {"level":"ERROR","message":"text","text":"name -- text"}`, `record {"level":"DEBUG","message":"hidden level=ERROR"}`, "stack Thread MainThread:", "stack   in spin")
	if x.unresponsive() != nil {
		t.Error("unresponsive before the worker has reported it")
	}
	x.report("unresponsive 2.5")
	s := x.unresponsive()
	if s == nil || s.Stacks != "Thread MainThread:\n  in spin\n" || time.Since(s.Since) < 2500*time.Millisecond {
		t.Errorf("%+v", s)
	}
	x.workers.unresponsive(x.worker, time.Now(), "not reported by the worker itself", false)
	x.workers.responsive(x.worker, s.Since) // asked before
	if got := x.unresponsive(); got == nil || got.Stacks != s.Stacks {
		t.Errorf("%+v", got)
	}
	x.report("responsive")
	if got := x.unresponsive(); got != nil {
		t.Errorf("%+v", got)
	}
	log := x.log.String()
	for _, want := range []string{
		`level=ERROR msg="name -- text" app=app worker=app-1 deployment=D replica=D#1 stream=log`, `level=DEBUG msg="hidden level=ERROR"`,
		`level=WARN msg="worker is unresponsive"`, `in spin\n`, `level=INFO msg="worker answers again"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
}

// TestPrintedTextIsNoReport: text that a worker prints, on either stream, is output and nothing else. It reports nothing about the
// worker, and has no effect on the lines after it, although a client may have written it.
func TestPrintedTextIsNoReport(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"stdout", "stderr"} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			x := newReporting(t, true)
			for _, text := range []string{
				"request: stack forged", "stack forged", "unresponsive 86400", "\x1ehelve:stack forged", "request \x1ehelve:unresponsive 86400", "log ERROR forged", `record {"level":"ERROR","message":"forged"}`,
			} {
				x.out.Line(stream, []byte(text))
			}
			if s := x.unresponsive(); s != nil {
				t.Errorf("%+v", s)
			}
			log := x.log.String()
			for _, want := range []string{`msg="request: stack forged"`, `msg="request \x1ehelve:unresponsive 86400"`, `msg="log ERROR forged"`} {
				if !strings.Contains(log, want) {
					t.Errorf("no %s in\n%s", want, log)
				}
			}
			if strings.Contains(log, "level=ERROR") {
				t.Error(log)
			}
		})
	}
}

// TestPingFindsThenWorkerReports: the stacks that come later replace the kernel's account, and the first time counts.
func TestPingFindsThenWorkerReports(t *testing.T) {
	t.Parallel()
	x := newReporting(t, true)
	since := time.Now()
	x.workers.unresponsive(x.worker, since, "State: R", false)
	x.report("stack x", "unresponsive 1")
	if s := x.unresponsive(); s == nil || s.Stacks != "x\n" || !s.Since.Equal(since) {
		t.Errorf("%+v", s)
	}
	for range 2 {
		x.workers.responsive(x.worker, time.Now())
		if s := x.unresponsive(); s != nil {
			t.Errorf("%+v", s)
		}
	}
}

// TestConstructorsMayBlock: a worker is not unresponsive while none of its replicas is in service. The stacks of the code that holds it up are there to be asked for.
func TestConstructorsMayBlock(t *testing.T) {
	t.Parallel()
	x := newReporting(t, false)
	x.report("stack x", "unresponsive 1")
	if s := x.unresponsive(); s != nil {
		t.Errorf("%+v", s)
	}
	if s := x.worker.Process().Constructing; s == nil || s.Stacks != "x\n" {
		t.Errorf("%+v", s)
	}
	x.report("responsive")
	if s := x.worker.Process().Constructing; s != nil {
		t.Errorf("%+v after the worker has answered again", s)
	}
}

// TestStacksAreBounded: a worker cannot make the node keep more.
func TestStacksAreBounded(t *testing.T) {
	t.Parallel()
	x := newReporting(t, true)
	line := "stack " + strings.Repeat("x", 4<<10)
	for range 1000 {
		x.report(line)
	}
	x.report("unresponsive 1e300")
	s := x.unresponsive()
	if s == nil || len(s.Stacks) > output.StacksMax || !strings.HasSuffix(s.Stacks, "x\n") {
		t.Fatalf("%+v", s)
	}
	if ago := time.Since(s.Since); ago < 0 || ago > 25*time.Hour {
		t.Errorf("since %s", s.Since)
	}
}

// FuzzReport: the node keeps a bounded part of the lines that a worker reports, and takes no time of the future from them.
func FuzzReport(f *testing.F) {
	f.Add("plain\nhalf\nstack Thread\nstack   in f\nunresponsive 2.5\nresponsive")
	f.Add("record {\"level\":\"ERROR\",\"message\":\"text\"}\nrecord {\"time\":1e300,\"attributes\":{\"a\":\"1\"}}\nrecord {}\n\nrecord")
	f.Add("unresponsive NaN\nunresponsive -1e300\nunresponsive +Inf")
	x := newReporting(f, true)
	x.replica.dep.Options.MaxUnresponsive = 300 * time.Hour
	f.Fuzz(func(t *testing.T, text string) {
		x.log.Reset()
		x.workers.mu.Lock()
		if s := x.worker.stuck; s != nil && s.timer != nil {
			s.timer.Stop()
		}
		x.worker.stuck = nil
		x.workers.mu.Unlock()
		x.out = x.workers.newOutput(x.worker, "D#1", "D", "D#1")
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			x.out.Report([]byte(line))
			if s := x.unresponsive(); s != nil && (s.Since.After(time.Now()) || time.Since(s.Since) > 400*24*time.Hour) {
				t.Errorf("%q: unresponsive since %s", line, s.Since)
			} else if s != nil && len(s.Stacks) > output.StacksMax {
				t.Errorf("%d bytes of stacks", len(s.Stacks))
			}
		}
	})
}

func TestExitOf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	got := exitOf("D#1", worker.Exit{Code: -1, Signal: syscall.SIGSEGV, Lines: []string{"x"}, At: now}, "late")
	want := &helvetype.Exit{Replica: "D#1", Reason: "late: ended by SIGSEGV (segmentation fault)", Code: -1, Signal: "SIGSEGV", At: now, Lines: []string{"x"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

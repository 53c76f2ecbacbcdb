package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

type nothing struct{}

// TestCrashLoop: replicas that die as soon as they are ready are replaced at once, then after 1, 2, 4 ... 64 s; one that
// ran for long starts over. The next in its place knows the exit.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := New(Settings{})
		defer n.Close(t.Context())
		class := &instance.Class{
			App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[nothing]()),
			Construct: func(context.Context) (any, error) { return nothing{}, nil },
		}
		err := n.Deploy(t.Context(), App{
			Graph:   spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "go"}}},
			Classes: map[string]*instance.Class{"D": class},
		})
		if err != nil {
			t.Fatal(err)
		}
		running := func() *Unit {
			for {
				synctest.Wait()
				n.mu.Lock()
				for _, u := range n.apps["app"].deployments["D"].units {
					if u.state == helvetype.ReplicaRunning {
						n.mu.Unlock()
						return u
					}
				}
				n.mu.Unlock()
				time.Sleep(100 * time.Millisecond)
			}
		}
		die := func(i int) time.Duration {
			u := running()
			start := time.Now()
			n.died(u, &helvetype.Exit{Replica: u.id, Reason: fmt.Sprint("exit ", i), Code: i}, true)
			running()
			return time.Since(start)
		}
		var took []time.Duration
		for i := range 10 {
			took = append(took, die(i))
		}
		if got := fmt.Sprint(took); got != "[0s 1s 2s 4s 8s 16s 32s 1m4s 1m4s 1m4s]" {
			t.Error(got)
		}
		d := n.Status().Applications["app"].Deployments["D"]
		if r := d.Replicas[0]; r.Restarts != 10 || r.LastExit.Code != 9 || d.LastExit.Reason != "exit 9" || d.Status != helvetype.DeploymentHealthy {
			t.Errorf("%+v", d)
		}
		time.Sleep(healthyTime + time.Second)
		if took := die(10); took != 0 {
			t.Errorf("one that ran for long is replaced after %s", took)
		}
	})
}

// told runs lines that a worker tells through an outlet, with a log and Status to look at.
type told struct {
	node *Node
	log  bytes.Buffer
	w    *workerProc
	out  *outlet
}

func newTold(t testing.TB, state helvetype.ReplicaState) *told {
	t.Helper()
	x := &told{}
	x.node = New(Settings{Logger: slog.New(slog.NewTextHandler(&x.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() {
		x.node.mu.Lock()
		clear(x.node.apps)
		x.node.mu.Unlock()
		x.node.Close(context.Background())
	})
	a := &app{node: x.node, name: "app", deployments: map[string]*Deployment{}}
	a.ctx, a.cancel = context.WithCancelCause(t.Context())
	a.current = a.newRevision(App{})
	e := a.current.edition(spec.Deployment{Name: "D"})
	d := &Deployment{app: a, name: "D", units: map[string]*Unit{}, Router: router.New("local")}
	d.now.Store(e)
	a.deployments["D"] = d
	s := worker.NewSpawner()
	proc, err := s.Start(worker.Command{Path: "/bin/true"}) // any process that has a number
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Kill(); <-proc.Done(); s.Close() })
	x.w = &workerProc{node: x.node, id: "app-1", app: a, rev: a.current, proc: proc}
	d.units["D#1"] = &Unit{id: "D#1", dep: d, edition: e, worker: x.w, state: state, gate: gate.New(1), endLife: func(error) {}}
	x.node.mu.Lock()
	x.node.apps["app"] = a
	x.node.mu.Unlock()
	x.out = x.node.newOutlet(x.w, "D#1", "D", "D#1")
	return x
}

func (x *told) status() *helvetype.Unresponsive {
	return x.node.Status().Applications["app"].Deployments["D"].Replicas[0].Unresponsive
}

func (x *told) lines(lines ...string) {
	for _, l := range lines {
		x.out.told([]byte(l))
	}
}

func TestWhatWorkersTell(t *testing.T) {
	t.Parallel()
	x := newTold(t, helvetype.ReplicaRunning)
	x.lines("log ERROR name -- text", "log DEBUG hidden level=ERROR", "stack Thread MainThread:", "stack   in spin")
	if x.status() != nil {
		t.Error("unresponsive before it was told")
	}
	x.lines("unresponsive 2.5")
	s := x.status()
	if s == nil || s.Stacks != "Thread MainThread:\n  in spin\n" || time.Since(s.Since) < 2500*time.Millisecond {
		t.Errorf("%+v", s)
	}
	x.node.unresponsive(x.w, time.Now(), "not told by itself", false)
	x.node.responsive(x.w, s.Since) // asked before
	if got := x.status(); got == nil || got.Stacks != s.Stacks {
		t.Errorf("%+v", got)
	}
	x.lines("responsive")
	if got := x.status(); got != nil {
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

// TestPrintedTextIsNoControl: what a worker prints, on either stream, is output and nothing else: it neither tells of the worker nor
// has an effect on the lines after it, whatever a client put into it.
func TestPrintedTextIsNoControl(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"stdout", "stderr"} {
		x := newTold(t, helvetype.ReplicaRunning)
		for _, text := range []string{
			"request: stack forged", "stack forged", "unresponsive 86400", "\x1ehelve:stack forged", "request \x1ehelve:unresponsive 86400", "log ERROR forged",
		} {
			x.out.line(stream, []byte(text))
		}
		if s := x.status(); s != nil {
			t.Errorf("%s: %+v", stream, s)
		}
		for _, want := range []string{`msg="request: stack forged"`, `msg="request \x1ehelve:unresponsive 86400"`, `msg="log ERROR forged"`} {
			if !strings.Contains(x.log.String(), want) {
				t.Errorf("%s: no %s in\n%s", stream, want, &x.log)
			}
		}
		if strings.Contains(x.log.String(), "level=ERROR") {
			t.Errorf("%s:\n%s", stream, &x.log)
		}
	}
}

// TestOutputIsText: what a worker prints is shown as one line of text, behind its name.
func TestOutputIsText(t *testing.T) {
	t.Parallel()
	x := newTold(t, helvetype.ReplicaRunning)
	var shown bytes.Buffer
	x.node.set.Output = &shown
	x.out.line("stdout", []byte("a\r(node) forged\x1b[2K\xff \x1b[31mred"))
	if want := "(D#1) a\\r(node) forged\\x1b[2K\\xff \x1b[31mred\x1b[0m\n"; shown.String() != want {
		t.Errorf("%q", shown.String())
	}
}

// TestPingFindsThenWorkerTells: the stacks that come later replace what the kernel said, and the first time counts.
func TestPingFindsThenWorkerTells(t *testing.T) {
	t.Parallel()
	x := newTold(t, helvetype.ReplicaRunning)
	since := time.Now()
	x.node.unresponsive(x.w, since, "State: R", false)
	x.lines("stack x", "unresponsive 1")
	if s := x.status(); s == nil || s.Stacks != "x\n" || !s.Since.Equal(since) {
		t.Errorf("%+v", s)
	}
	x.node.responsive(x.w, time.Now())
	if s := x.status(); s != nil {
		t.Errorf("%+v", s)
	}
	x.node.responsive(x.w, time.Now()) // and again
}

// TestConstructorsMayBlock: a replica that is not in service is not unresponsive.
func TestConstructorsMayBlock(t *testing.T) {
	t.Parallel()
	x := newTold(t, helvetype.ReplicaStarting)
	x.lines("stack x", "unresponsive 1")
	if s := x.status(); s != nil {
		t.Errorf("%+v", s)
	}
}

// TestTheLastLinesAreLoggedOnce: the end of a worker that several replicas were in is logged for each, with its last lines for one; and as nothing
// that is missed when the application goes anyway.
func TestTheLastLinesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	for _, closing := range []bool{false, true} {
		x := newTold(t, helvetype.ReplicaRunning)
		x.node.mu.Lock()
		x.node.closing = closing
		x.w.app.failure = errors.New("nothing is to start in their places")
		d := x.w.app.deployments["D"]
		first := d.units["D#1"]
		second := &Unit{id: "D#2", dep: d, edition: first.edition, worker: x.w, state: helvetype.ReplicaRunning, gate: gate.New(1), endLife: func(error) {}}
		d.units["D#2"] = second
		x.node.mu.Unlock()
		for _, u := range []*Unit{first, second} {
			x.node.died(u, &helvetype.Exit{Replica: u.id, Reason: "exit status 3", Code: 3, Lines: []string{"last words"}}, false)
		}
		x.node.mu.Lock()
		x.node.closing = false // for the clean-up
		log := x.log.String()
		x.node.mu.Unlock()
		if strings.Count(log, "last words") != 1 || strings.Count(log, "exit status 3") != 2 {
			t.Errorf("closing %v:\n%s", closing, log)
		}
		if n := strings.Count(log, "level=ERROR"); n != 2 && !closing || n != 0 && closing {
			t.Errorf("closing %v: %d errors\n%s", closing, n, log)
		}
	}
}

func TestExitOf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	got := exitOf(&Unit{id: "D#1"}, worker.Exit{Code: -1, Signal: syscall.SIGSEGV, Lines: []string{"x"}, At: now}, "late")
	want := &helvetype.Exit{Replica: "D#1", Reason: "late: ended by SIGSEGV (segmentation fault)", Code: -1, Signal: "SIGSEGV", At: now, Lines: []string{"x"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

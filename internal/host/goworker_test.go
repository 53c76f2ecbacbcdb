package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// startApp is an application without workers.
func startApp(t *testing.T) *App {
	t.Helper()
	ws := NewWorkers(Settings{Logger: slog.New(slog.DiscardHandler), Changed: func() {}})
	t.Cleanup(func() { ws.Close(errors.New("the test is over")) })
	return ws.NewApp("app")
}

// TestGoWorkerOfKey: a start finds the worker of its key, unless that worker is being ended.
func TestGoWorkerOfKey(t *testing.T) {
	t.Parallel()
	for name, ending := range map[string]bool{"a worker that runs": false, "a worker that is being ended": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startApp(t)
			there, another := &Worker{stopped: make(chan struct{})}, &Worker{stopped: make(chan struct{})}
			a.goWorkers["key"] = &goWorkerSlot{worker: there}
			there.ending.Store(ending)
			got, err := a.goWorker(t.Context(), "key", func() (*Worker, error) { return another, nil })
			if err != nil || (got == another) != ending {
				t.Errorf("a start got the worker that is there: %t, %v", got == there, err)
			}
			a.ended(there)
			if now := a.goWorkers["key"].worker; ending && now != another {
				t.Errorf("the end of the first worker took the second one along: %v", now)
			}
			a.goWorkers["key"].worker = nil // no process to close
		})
	}
}

// TestGoWorkerKey: a program that is written to later is another program for the hosts of the next revision alone.
func TestGoWorkerKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := func() *GoWorker {
		return &GoWorker{Deployment: &Deployment{App: "app"}, App: startApp(t), Graph: &spec.Graph{App: "app"}, Program: Program{Path: path}}
	}
	write("first")
	before, same := host(), host()
	key := before.Key()
	if same.Key() != key {
		t.Error("two hosts of one program have different keys")
	}
	write("the second")
	if before.Key() != key {
		t.Error("the key of a host changed with the file")
	}
	if host().Key() == key {
		t.Error("a host of the new file has the key of the old one")
	}
}

// TestRunnerOfRevision: of two revisions that run in this process each starts its own code, also the older one after the newer one came.
func TestRunnerOfRevision(t *testing.T) {
	t.Parallel()
	a := startApp(t)
	ran := make(chan string, 1)
	host := func(name string) *GoWorker {
		return &GoWorker{
			Deployment: &Deployment{App: "app", Name: "D"}, App: a, Graph: &spec.Graph{App: "app"},
			Runner: func(context.Context, string, wire.Token, *telemetry.Page, func() (net.Conn, error)) error {
				ran <- name
				return errors.New("no worker")
			},
		}
	}
	first, second := host("first"), host("second")
	for _, h := range []struct {
		host *GoWorker
		name string
	}{{second, "second"}, {first, "first"}} {
		_, err := h.host.Start(t.Context(), Launch{ID: "D#1", Life: t.Context(), In: func(*Worker) {}, Waits: func(string) func() { return func() {} }})
		if _, ended := errors.AsType[*EndedError](err); !ended {
			t.Errorf("%s: %v", h.name, err)
		}
		if got := <-ran; got != h.name {
			t.Errorf("the start of the %s revision ran the code of the %s", h.name, got)
		}
	}
}

// TestWorkerOfFormerProgram: a worker of the node before is not taken over for a host of another program, although it has no replica. For
// example, the node before was killed when the last replica of the former program had just stopped.
func TestWorkerOfFormerProgram(t *testing.T) {
	t.Parallel()
	a := startApp(t)
	ws := a.workers
	h := &GoWorker{Deployment: &Deployment{App: "app"}, App: a, Graph: &spec.Graph{App: "app"}, Program: Program{Path: "/no/such/program"}}
	x := &expected{roster.Worker{ID: "app-1", App: "app", Key: "another", Process: worker.Identity{PID: 1 << 30}}, make(chan struct{})}
	ws.mu.Lock()
	ws.former.expected, ws.former.missing = map[string]*expected{x.ID: x}, 1
	ws.mu.Unlock()
	if w := ws.TakeOver(Takeover{ID: x.ID, Hosts: map[string]Host{"D": h}, GiveUp: t.Context()}); w != nil {
		t.Errorf("it was taken over: %s", w.ID())
	}
	<-x.decided
	if left := ws.Former("app"); len(left) != 0 {
		t.Errorf("it is expected still: %v", left)
	}
}

// TestGoWorkerSettings: the Go runtime of a worker knows the limits of the worker, unless the environment says otherwise.
func TestGoWorkerSettings(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"GOMEMLIMIT=900000000 GOMAXPROCS=3": {"A=1"}, "": {"GOMAXPROCS=1", "GOMEMLIMIT=off"}} {
		o := spec.Options{Isolation: spec.Process, Limits: spec.Limits{Memory: 1e9, CPUs: 2.1}}
		g := &spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "A", Language: "go", Options: o}}}
		d := &Deployment{Name: "A", App: "app", Spec: g.Deployments[0], Options: o.Effective()}
		h := &GoWorker{Deployment: d, App: startApp(t), Graph: g, Program: Program{Env: env}, Shared: []*Deployment{d}}
		var got []string
		for _, v := range h.launchSpec().extra {
			if strings.HasPrefix(v, "GO") {
				got = append(got, v)
			}
		}
		if strings.Join(got, " ") != name {
			t.Errorf("%v: %v", env, got)
		}
	}
}

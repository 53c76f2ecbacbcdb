package node

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

type ended chan call.Result

func (e ended) Complete(_ *call.Batch, r call.Result) { e <- r }

// TestWorkerGoesAway: a worker that says that it takes no more calls gets none, neither ordinary ones nor broadcasts; the
// replicas of others are not concerned.
func TestWorkerGoesAway(t *testing.T) {
	t.Parallel()
	n := New(Settings{})
	defer n.Close(t.Context())
	class := &instance.Class{
		App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[nothing]()),
		Construct: func(context.Context) (any, error) { return nothing{}, nil },
	}
	err := n.Deploy(t.Context(), App{
		Graph:   spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "go", Options: spec.Options{NumReplicas: 2}}}},
		Classes: map[string]*instance.Class{"D": class},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := n.Deployment("app", "D")
	w := &workerProc{node: n, app: d.app, proc: worker.InProcess(func(context.Context) error { return nil })}
	targets, e := d.Targets()
	if e != nil || len(targets) != 2 {
		t.Fatal(targets, e)
	}
	first, second := targets[0].(*Unit), targets[1].(*Unit)
	n.mu.Lock()
	first.worker = w
	n.mu.Unlock()
	s := &session{node: n, worker: w}
	s.Goaway(wire.Goaway{Reason: "leaving"})
	if first.gate.TryAcquire() || !second.gate.TryAcquire() {
		t.Error("the wrong replica takes calls")
	}
	for i, want := range []helvetype.Reason{call.ReplicaUnavailable, call.NoMethod} {
		done := make(ended, 1)
		c := &call.Call{Want: call.Native}
		c.Info.Place = &call.Place{App: "app", Deployment: "D", Method: "None"}
		d.SubmitControl(targets[i], c, done)
		if r := <-done; r.Err == nil || r.Err.Reason != want {
			t.Errorf("replica %d: %+v", i, r.Err)
		}
	}
	n.mu.Lock()
	first.worker = nil
	n.mu.Unlock()
	second.gate.Release(nil)
	(&session{node: n, driver: &driver{n}}).Goaway(wire.Goaway{}) // a driver's means nothing
}

// TestWorkerThatSaysItEndsIsEnded: something holds up the end of a process, and the node does not wait for ever.
func TestWorkerThatSaysItEndsIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := New(Settings{})
		defer n.Close(t.Context())
		w := &workerProc{node: n, app: &app{name: "app"}}
		w.proc = worker.InProcess(func(ctx context.Context) error {
			<-ctx.Done() // until it is killed
			return nil
		})
		(&session{node: n, worker: w}).Goaway(wire.Goaway{Reason: "leaving"})
		<-w.proc.Done()
		if exit := w.proc.Exit(); !exit.Killed {
			t.Errorf("%+v", exit)
		}
	})
}

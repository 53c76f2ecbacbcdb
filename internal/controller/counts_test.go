package controller

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
)

// stubborn has a method that ends when it likes.
type stubborn struct{ end chan struct{} }

func (s *stubborn) Wait(context.Context, call.Empty) error {
	<-s.end
	return context.Canceled
}

// TestCallsThatOutliveTheirReplicaCount: a call that was cut off by the end of a drain is an error when it ends.
func TestCallsThatOutliveTheirReplicaCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		s := &stubborn{make(chan struct{})}
		def := deploy.App{Graph: graphOf(spec.Deployment{Name: "D", Language: "go", Options: spec.Options{
			GracefulShutdownTimeout: time.Second,
		}}), Classes: map[string]*instance.Class{"D": {
			App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[*stubborn]()),
			Construct: func(context.Context) (any, error) { return s, nil },
		}}, Replace: true}
		if err := n.Deploy(t.Context(), def); err != nil {
			t.Fatal(err)
		}
		d := n.Deployment("app", "D")
		c := &call.Call{Want: call.Native}
		c.Info.Place = &call.Place{App: "app", Deployment: "D", Method: "Wait"}
		c.SetOne(call.Slot{Payload: call.Payload{Codec: call.Native, Value: call.Empty{}}})
		w := call.NewWaiter()
		d.Submit(nil, c, w)
		synctest.Wait()
		if err := n.Deploy(t.Context(), def); err != nil { // another replica takes the place of the replica that has the call
			t.Fatal(err)
		}
		byDriver := func() telemetry.CallerCounts {
			return n.Metrics().Applications[0].Deployments[0].Callers[telemetry.Caller{Kind: telemetry.FromDriver}]
		}
		time.Sleep(10 * time.Second)
		if got, want := n.Status().Applications["app"].Deployments["D"].Calls, (helvetype.Calls{Total: 1, Running: 1}); got != want {
			t.Errorf("while it runs: %+v, want %+v", got, want)
		}
		close(s.end)
		synctest.Wait()
		if got := byDriver(); got.Ended != 1 || got.Failed != 1 { // although its replica is gone
			t.Errorf("by its caller: %+v", got)
		}
		if got, want := n.Status().Applications["app"].Deployments["D"].Calls, (helvetype.Calls{Total: 1, Errors: 1}); got != want {
			t.Errorf("when it has ended: %+v, want %+v", got, want)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

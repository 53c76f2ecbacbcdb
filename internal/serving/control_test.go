package serving

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/transport"
)

// silent is a fake transport that counts and never answers.
type silent struct{ started []*call.Call }

func (s *silent) Start(_ *call.Batch, c *call.Call, _ call.Sink) transport.Handle {
	s.started = append(s.started, c)
	return transport.Handle{}
}
func (s *silent) Keeps() bool { return true }

// fakeReplica is a replica in another process.
type fakeReplica struct {
	Base
	transport transport.Transport
}

func (r *fakeReplica) Instance() *instance.Instance   { return nil }
func (r *fakeReplica) Transport() transport.Transport { return r.transport }

// heard is a fake sink that counts.
type heard struct{ n int }

func (h *heard) Complete(*call.Batch, call.Result) { h.n++ }

func TestControlQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, h := &silent{}, &heard{}
		d := New(slog.New(slog.DiscardHandler), "node", "app", "D")
		r := &fakeReplica{transport: s}
		r.Init(t.Context(), "r", "node", 1)
		queue := r.Control()
		var calls []*call.Call
		var submitted []*ControlCall
		for range 4 {
			c := &call.Call{}
			calls = append(calls, c)
			submitted = append(submitted, d.SubmitControl(r, c, h))
		}
		submitted[2].Cancel(nil, context.Canceled) // in the queue
		submitted[0].Complete(nil, call.Result{})
		submitted[1].Cancel(nil, context.Canceled) // out of the queue, and perhaps not begun
		synctest.Wait()
		if n := len(s.started); n == 2 && s.started[1] == calls[1] { // it had begun: its end comes
			submitted[1].Complete(nil, call.Result{})
			synctest.Wait()
		}
		last := s.started[len(s.started)-1]
		if last != calls[3] || h.n != 3 || !queue.Busy() {
			t.Errorf("%d were started, %d answered", len(s.started), h.n)
		}
		submitted = append(submitted, d.SubmitControl(r, &call.Call{}, h))
		queue.Close()
		submitted = append(submitted, d.SubmitControl(r, &call.Call{}, h))
		submitted[5].Cancel(nil, context.Canceled) // it has its answer
		if h.n != 5 {
			t.Errorf("%d answered after the queue was closed", h.n)
		}
		submitted[3].Complete(nil, call.Result{})
		if h.n != 6 || queue.Busy() || len(submitted) != 6 {
			t.Errorf("%d answered", h.n)
		}
	})
}

// TestWaitsForTheControlQueue: the wait of a part of a broadcast leaves a record, also if the part is cancelled in the queue or its replica goes.
func TestWaitsForTheControlQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(slog.New(slog.DiscardHandler), "node", "app", "D")
		d.Trace = trace.New()
		var reasons []string
		d.Trace.Export(func(r *trace.Record) {
			if r.Kind == trace.Wait && r.Origin == controlOrigin && r.Replica == "r" {
				reasons = append(reasons, r.Reason)
			}
		})
		r := &fakeReplica{transport: &silent{}}
		r.Init(t.Context(), "r", "node", 1)
		var all []*ControlCall
		for range 4 {
			c := &call.Call{}
			c.Info.Sampled, c.Info.Place = true, &call.Place{App: "app", Deployment: "D"}
			all = append(all, d.SubmitControl(r, c, &heard{}))
		}
		time.Sleep(time.Second) // of the test's own time
		all[2].Cancel(nil, context.Canceled)
		all[0].Complete(nil, call.Result{})
		synctest.Wait()
		r.Control().Close()
		if got := fmt.Sprint(reasons); got != "[cancelled  replica_unavailable]" {
			t.Errorf("the waits have ended with %s", got)
		}
	})
}

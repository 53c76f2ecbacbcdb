package node

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/transport"
)

// silent is a fake transport that counts and never answers.
type silent struct{ started []*call.Call }

func (s *silent) Start(_ *call.Batch, c *call.Call, _ call.Sink) transport.Handle {
	s.started = append(s.started, c)
	return transport.Handle{}
}
func (s *silent) Keeps() bool { return true }

// heard is a fake sink that counts.
type heard struct{ n int }

func (h *heard) Complete(*call.Batch, call.Result) { h.n++ }

func TestControlLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, h := &silent{}, &heard{}
		u := &Unit{edition: &edition{}, id: "r", transport: s}
		d, r := &Deployment{}, u
		var calls []*call.Call
		var errands []*Errand
		for range 4 {
			c := &call.Call{}
			calls = append(calls, c)
			errands = append(errands, d.SubmitControl(r, c, h))
		}
		errands[2].Cancel(nil, context.Canceled) // in the queue
		errands[0].Complete(nil, call.Result{})
		errands[1].Cancel(nil, context.Canceled) // out of the queue, and perhaps not begun
		synctest.Wait()
		if n := len(s.started); n == 2 && s.started[1] == calls[1] { // it had begun: its end comes
			errands[1].Complete(nil, call.Result{})
			synctest.Wait()
		}
		last := s.started[len(s.started)-1]
		if last != calls[3] || h.n != 3 || !u.lane.busy() {
			t.Errorf("%d were started, %d answered", len(s.started), h.n)
		}
		errands = append(errands, d.SubmitControl(r, &call.Call{}, h))
		u.lane.close()
		errands = append(errands, d.SubmitControl(r, &call.Call{}, h))
		if h.n != 5 {
			t.Errorf("%d answered after the lane was closed", h.n)
		}
		errands[3].Complete(nil, call.Result{})
		if h.n != 6 || u.lane.busy() || len(errands) != 6 {
			t.Errorf("%d answered", h.n)
		}
	})
}

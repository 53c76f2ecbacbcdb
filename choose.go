package helve

import (
	"context"

	"github.com/helve-serve/helve/internal/client"
	"github.com/helve-serve/helve/internal/serving"
)

// SelectionTime is how long a [Selection] keeps its slot.
const SelectionTime = serving.ReserveTime

// Selection is a slot of a replica that was chosen and not used yet. It is given back with Release, by itself when the
// context of its Choose ends, and after [SelectionTime]. Its methods may be called from any goroutine.
type Selection struct{ s *client.Selection }

// Replica is the id of the chosen replica.
func (s *Selection) Replica() string { return s.s.Replica.ID() }

// Node is where it runs.
func (s *Selection) Node() string { return s.s.Replica.Node() }

// Release gives the slot back if it was not used. It may be called any number of times.
func (s *Selection) Release() { s.s.Release() }

// Choose waits for a slot as a call does, with the handle's options, and reserves it: the caller may look at the replica
// before it sends a call there with [Method.Dispatch]. It counts against MaxOngoingRequests until it is used or given
// back, and against MaxQueuedRequests while it waits.
func (m Method[In, Out]) Choose(ctx context.Context) (*Selection, error) {
	b := m.m
	if b == nil || b.Err != nil {
		return nil, public(b.failure())
	}
	s, e := b.Binding.Choose(ctx)
	if e != nil {
		return nil, public(e)
	}
	return &Selection{s}, nil
}

// Dispatch is [Method.Remote] to the chosen replica, with its slot; the method may be another one of the deployment than
// Choose was called on. A selection can be dispatched once. A second dispatch, and a selection of another deployment, is an error
// with reason bad_input. If the selection is over, or its replica has stopped, the reason is replica_unavailable: choose again.
func (m Method[In, Out]) Dispatch(ctx context.Context, s *Selection, in In) *Response[Out] {
	r, ok := m.prepare(ctx)
	if ok {
		r.in = in
		var chosen *client.Selection
		if s != nil {
			chosen = s.s
		}
		r.Remote.Dispatch(chosen)
	}
	return &r.Response
}

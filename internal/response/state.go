package response

import (
	"context"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// State is the state of a call that is under way. It ends once. The zero State is ready for use when Info is set.
type State struct {
	// Info describes the call. Its Replica is written under the mutex: [State.RunAt].
	Info *call.Info

	mu     sync.Mutex
	ended  bool
	done   chan struct{} // made by the first waiter, closed at the end
	then   []func()      // run at the end
	flight call.Canceler
	stop   func() bool // ends the watch over the caller's context

	failure *call.Error // after the end
	cause   error       // of a cancel that ended it
}

// Failure returns the failure of the call after its end; nil if it has a result.
func (s *State) Failure() *call.Error { return s.failure }

// End ends s, once. The function set stores the answer; the mutex is held. It may be nil. End returns false if s had ended before.
func (s *State) End(failure *call.Error, set func()) bool {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return false
	}
	if set != nil {
		set()
	}
	s.failure, s.ended = failure, true
	stop, then := s.stop, s.then
	s.stop, s.flight, s.then = nil, nil, nil
	if s.done != nil {
		close(s.done)
	}
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
	for _, f := range then {
		f()
	}
	return true
}

// Wait waits for the end of s, or of ctx (false).
func (s *State) Wait(ctx context.Context) bool {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return true
	}
	if s.done == nil {
		s.done = make(chan struct{})
	}
	s.mu.Unlock()
	select {
	case <-s.done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// WhenEnded runs f after the end, on the goroutine that ends s, or at once if s has ended.
func (s *State) WhenEnded(f func()) {
	s.mu.Lock()
	if !s.ended {
		s.then = append(s.then, f)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	f()
}

// Carry sets the flight that a cancel of s cancels from now on. If s was cancelled while the flight set out, it is cancelled now.
func (s *State) Carry(flight call.Canceler) {
	s.mu.Lock()
	ended, cause := s.ended, s.cause
	if !ended {
		s.flight = flight
	}
	s.mu.Unlock()
	if ended && cause != nil {
		flight.Cancel(nil, cause)
	}
}

// Waiting reports whether s still waits for its end. It is false once the call was cancelled.
func (s *State) Waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended
}

// Update runs set under the mutex, and returns true, unless s has ended.
func (s *State) Update(set func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		set()
	}
	return !s.ended
}

// RunAt notes the replica that runs the call. It returns false if the call was cancelled before.
func (s *State) RunAt(replica string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Info.Replica = replica
	return !s.ended
}

// Canceler is an answer to come that its caller can cancel: a [State], or a type around a State with more to end.
type Canceler interface{ Cancel(cause error) }

// Watch cancels c, whose State is s, when ctx ends, until s has ended.
func (s *State) Watch(ctx context.Context, c Canceler) {
	if ctx.Done() == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.stop = call.AfterFunc(ctx, func() { c.Cancel(call.Cause(ctx)) })
	}
}

// Cancel ends s for its caller at once, and asks the call to end.
func (s *State) Cancel(cause error) {
	if flight, e := s.Cancelling(cause); s.End(e, nil) && flight != nil {
		flight.Cancel(nil, cause)
	}
}

// Cancelling notes the cause of a cancel for a flight that has not set out yet. It returns the flight that has set out, if any, and the
// failure with which the caller ends s.
func (s *State) Cancelling(cause error) (call.Canceler, *call.Error) {
	s.mu.Lock()
	if s.cause == nil && !s.ended {
		s.cause = cause
	}
	flight := s.flight
	s.mu.Unlock()
	e := call.FromCause(cause)
	if f, ok := flight.(interface{ Explain(*call.Error) *call.Error }); ok {
		e = f.Explain(e) // without the mutex: it asks the node
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return flight, e.At(s.Info)
}

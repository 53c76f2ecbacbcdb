package instance

import (
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// running is the calls that an instance executes now, for lists that an operator asks for. A call takes the place that its random id names,
// if that place is free or the next one is: an attempt costs one compare-and-swap, and no lock. A call that finds both taken runs without a place, and
// is only counted. For example, of 8 calls in 64 places about one in 60 has none.
//
// A Call or a Stream.Call that runs on its caller's goroutine takes no place: a place costs it a sixth of its time, and its caller, which is in the list
// if it is a call itself, cannot do anything else meanwhile.
type running struct {
	places [runningPlaces]atomic.Pointer[call.Info]
	since  [runningPlaces]atomic.Int64
}

const runningPlaces = 64

// enter gives the place of the call, -1 for none.
func (r *running) enter(i *call.Info, now int64) int {
	for k := range 2 {
		at := int((i.Call + uint64(k)) % runningPlaces)
		if r.places[at].Load() == nil && r.places[at].CompareAndSwap(nil, i) {
			r.since[at].Store(now)
			return at
		}
	}
	return -1
}

func (r *running) leave(at int) { r.places[at].Store(nil) }

// RunningCall is a copy of what an instance knows of a call that it executes.
type RunningCall struct {
	Info  call.Info
	Since int64 // by [call.Now]
}

// Running lists the calls that the instance executes, as far as they have places.
func (i *Instance) Running() (calls []RunningCall) {
	for at := range i.running.places {
		since := i.running.since[at].Load()
		if info := i.running.places[at].Load(); info != nil {
			calls = append(calls, RunningCall{*info, since})
		}
	}
	return calls
}

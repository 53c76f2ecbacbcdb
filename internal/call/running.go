package call

import "sync/atomic"

// Running is the set of the calls that a replica executes now, for lists that an operator asks for. A call takes the place that its random id
// names, if that place is free or the next one is: an attempt costs one compare-and-swap, and no lock. A call that finds both taken runs without a
// place, and is only counted. For example, of 8 calls in 64 places about one in 60 has none. The zero Running is ready.
//
// A Call or a Stream.Call that runs on its caller's goroutine takes no place: a place costs it a sixth of its time, and its caller, which is in the list
// if it is a call itself, cannot do anything else meanwhile.
type Running struct {
	places [runningPlaces]atomic.Pointer[Info]
	since  [runningPlaces]atomic.Int64
}

const runningPlaces = 64

// Enter gives the place of the call, -1 for none. now is the time by [Now].
func (r *Running) Enter(i *Info, now int64) (place int) {
	for k := range 2 {
		at := int((i.Call + uint64(k)) % runningPlaces)
		if r.places[at].Load() == nil && r.places[at].CompareAndSwap(nil, i) {
			r.since[at].Store(now)
			return at
		}
	}
	return -1
}

// Leave gives a place back; -1 is none.
func (r *Running) Leave(place int) {
	if place >= 0 {
		r.places[place].Store(nil)
	}
}

// RunningCall is a copy of the parts of a running call that do not change until its end, nor if it runs again elsewhere.
type RunningCall struct {
	Request      ID
	Call, Parent uint64
	Place        *Place
	Since        int64 // by [Now]
}

// List copies the calls that have places.
func (r *Running) List() (calls []RunningCall) {
	for at := range r.places {
		since := r.since[at].Load()
		if i := r.places[at].Load(); i != nil {
			calls = append(calls, RunningCall{i.Request, i.Call, i.Parent, i.Place, since})
		}
	}
	return calls
}

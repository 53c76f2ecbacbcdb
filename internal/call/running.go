package call

import (
	"math/rand/v2"
	"sync/atomic"
)

// Running is the set of the calls that a replica executes now, for lists that an operator asks for. A call takes the place that its random id
// names, if that place is free or the next one is: an attempt costs one compare-and-swap, and no lock. A call that finds both taken looks in the
// next table, which is made when it is needed for the first time and is twice as large. For example, of 8 calls in 64 places about one in 60 goes
// to the second table, and 1,000 calls are in four or five tables. The zero Running is ready.
//
// A list under a mutex for the calls that find no place was the alternative: with more calls than places it is a lock for every call.
//
// A Call or a Stream.Call that runs on its caller's goroutine takes no place: a place costs it a sixth of its time, and its caller, which is in the list
// if it is a call itself, cannot do anything else meanwhile.
type Running struct {
	first [runningPlaces]RunningPlace
	more  atomic.Pointer[runningTable]
}

// RunningPlace is the place of a call in a [Running].
type RunningPlace struct {
	info   atomic.Pointer[Info]
	since  atomic.Int64 // by [Now]; the lowest bit is set for a call that streams
	unread atomic.Pointer[Unread]
}

// runningTable has the places of the calls that found none in the table before.
type runningTable struct {
	places []RunningPlace
	more   atomic.Pointer[runningTable]
}

const (
	runningPlaces    = 64
	runningPlacesMax = 1 << 16 // of one table
)

// Enter gives the place of the call, which goes back with [RunningPlace.Leave]. now is the time by [Now]; streams says that the call may last long
// and do nothing, as a stream or a connection; unread of such a call is its [Call.Unread].
func (r *Running) Enter(i *Info, now int64, streams bool, unread *Unread) *RunningPlace {
	now &^= 1
	if streams {
		now |= 1
	}
	p := r.enter(i, now)
	if unread != nil {
		p.unread.Store(unread)
	}
	return p
}

func (r *Running) enter(i *Info, now int64) *RunningPlace {
	if p := enter(r.first[:], i.Call, i, now); p != nil {
		return p
	}
	next := &r.more
	for size := 2 * runningPlaces; ; size = min(2*size, runningPlacesMax) {
		t := next.Load()
		if t == nil {
			t = &runningTable{places: make([]RunningPlace, size)}
			if !next.CompareAndSwap(nil, t) {
				t = next.Load()
			}
		}
		// A random number: callers that give all their calls one id, which collide in the first table, would otherwise have a table for every two calls.
		if p := enter(t.places, rand.Uint64(), i, now); p != nil {
			return p
		}
		next = &t.more
	}
}

// enter takes the place that at names, or the next one; nil if both are taken. The number of places is a power of two.
func enter(places []RunningPlace, at uint64, i *Info, now int64) *RunningPlace {
	for k := range uint64(2) {
		p := &places[(at+k)%uint64(len(places))]
		if p.info.Load() == nil && p.info.CompareAndSwap(nil, i) {
			p.since.Store(now)
			return p
		}
	}
	return nil
}

// Leave gives the place back; nil is no place.
func (p *RunningPlace) Leave() {
	if p != nil {
		if p.unread.Load() != nil { // it would keep the stream in memory
			p.unread.Store(nil)
		}
		p.info.Store(nil)
	}
}

// RunningCall is a copy of the parts of a running call that do not change until its end, nor if it runs again elsewhere.
type RunningCall struct {
	Request      ID
	Trace        [16]byte
	Call, Parent uint64
	Place        *Place
	Since        int64 // by [Now]
	Streams      bool  // a stream or a connection
	Unread       int64 // since when it waits for its reader, by [Now]; 0 if it does not
}

// List copies the calls.
func (r *Running) List() (calls []RunningCall) {
	calls = list(calls, r.first[:])
	for t := r.more.Load(); t != nil; t = t.more.Load() {
		calls = list(calls, t.places)
	}
	return calls
}

func list(calls []RunningCall, places []RunningPlace) []RunningCall {
	for at := range places {
		since := places[at].since.Load()
		if i := places[at].info.Load(); i != nil {
			calls = append(calls, RunningCall{i.Request, i.TraceID(), i.Call, i.Parent, i.Place, since, since&1 != 0, places[at].unread.Load().Since()})
		}
	}
	return calls
}

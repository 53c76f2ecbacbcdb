package trace

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Recorder has the records of a node. Its methods may be called from any goroutine.
type Recorder struct {
	Sampler

	slow   atomic.Int64 // nanoseconds
	export atomic.Pointer[func(*Record)]
	stall  atomic.Pointer[func(*Record)]
	ring   ring
	stalls stalls
	wake   chan struct{} // there is a request to collect

	mu       sync.Mutex
	choice   choice
	requests requests
	pending  []pending
	seen     uint64 // the collector has looked at the records with lower numbers, for all of pending but the new ones
}

// pending is a kept request whose records are still collected.
type pending struct {
	kept  *Kept
	until int64 // spans of workers come a while after the end of the request
	fresh bool  // the collector has not looked for it yet
}

const (
	// DefaultSlow is the time from which on a request is slow.
	DefaultSlow = time.Second
	// collectEvery is the period of the collector while there is a request to collect.
	collectEvery = 100 * time.Millisecond
	// collectFor is how long after the end of a kept request its records are collected.
	collectFor = 3 * time.Second
	// collectSlack is how much earlier than the begin of a request the end of its first record may be, because the clocks of two processes differ.
	collectSlack = 100 * time.Millisecond
)

// New makes a recorder that samples nothing.
func New() *Recorder {
	r := &Recorder{wake: make(chan struct{}, 1)}
	r.slow.Store(int64(DefaultSlow))
	return r
}

// Decide is [Sampler.Decide]. A nil recorder changes nothing.
func (r *Recorder) Decide(i *call.Info) {
	if r != nil {
		r.Sampler.Decide(i)
	}
}

// SetSlow sets the time from which on a request is slow; 0 for none.
func (r *Recorder) SetSlow(d time.Duration) { r.slow.Store(int64(d)) }

// SlowFrom is the time from which on a request is slow; 0 for none.
func (r *Recorder) SlowFrom() time.Duration { return time.Duration(r.slow.Load()) }

// Export has f told of the records of sampled requests. f must not block, and not keep the record. nil ends that.
func (r *Recorder) Export(f func(*Record)) {
	if f == nil {
		r.export.Store(nil)
		return
	}
	r.export.Store(&f)
}

// OnStall has f told of each stall of an event loop that has ended. f must not block, and not keep the record.
func (r *Recorder) OnStall(f func(*Record)) { r.stall.Store(&f) }

// Record takes a record. The end of a request may have it kept.
func (r *Recorder) Record(rec Record) {
	if rec.Kind == Stall {
		r.stalls.add(&rec)
		if f := r.stall.Load(); f != nil {
			(*f)(&rec)
		}
	}
	r.ring.add(&rec)
	if rec.Sampled {
		if f := r.export.Load(); f != nil {
			(*f)(&rec)
		}
	}
	if endsRequest(&rec) {
		r.end(&rec)
	}
}

// endsRequest says that the record is of a request: HTTP, the first call of a handle outside of methods, or the outermost span of a program outside of methods.
func endsRequest(r *Record) bool {
	switch r.Kind {
	case HTTP:
		return r.Place != nil
	case Call, Stream:
		return r.Depth == 0 && !r.Again && r.Place != nil && r.Place.Prefix == ""
	case Span:
		return ofProgram(r) && r.Depth == 0
	case Wait:
		return r.Depth == 0 && r.Reason != "" && r.Place != nil && r.Place.Prefix == ""
	}
	return false
}

func (r *Recorder) end(root *Record) {
	r.mu.Lock()
	why, ok := r.choice.decide(root, r.SlowFrom())
	if ok {
		k := &Kept{Root: *root, Why: why}
		r.requests.add(k)
		r.pending = append(r.pending, pending{kept: k, until: root.End + int64(collectFor), fresh: true})
	}
	r.mu.Unlock()
	if ok {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// Collect runs the collector until ctx ends.
func (r *Recorder) Collect(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	<-tick.C
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		for left := true; left; {
			tick.Reset(collectEvery)
			select {
			case <-tick.C:
				left = r.collect(call.Unix(call.Now()))
			case <-ctx.Done():
				return
			}
		}
	}
}

// collect moves the records of kept requests from the ring to them. It reports whether some may have more.
func (r *Recorder) collect(now int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == 0 {
		return false
	}
	// A request that was kept since the last time needs the records from its begin on, and the others only the new records.
	fresh, old := map[key][]*Kept{}, map[key][]*Kept{}
	spans := map[[16]byte][]pending{} // of programs, which have the calls of their trace: these are requests of their own
	first := now
	for _, p := range r.pending {
		id := keyOf(p.kept.Root.Request)
		if p.fresh {
			first = min(first, p.kept.Root.Begin-int64(collectSlack))
		}
		if p.kept.Root.Kind == Span {
			spans[p.kept.Root.TraceID()] = append(spans[p.kept.Root.TraceID()], p)
		} else if p.fresh {
			fresh[id] = append(fresh[id], p.kept)
		} else {
			old[id] = append(old[id], p.kept)
		}
	}
	end, at := r.ring.written(), uint64(0)
	at = end
	r.ring.back(end, 0, func(rec *Record) bool {
		at--
		isNew := at >= r.seen
		if !isNew && (len(fresh) == 0 || rec.End < first) {
			return false
		}
		if len(spans) > 0 {
			for _, p := range spans[rec.TraceID()] {
				if (p.fresh || isNew) && rec.ID != p.kept.Root.ID {
					r.noteLocked(p.kept, rec)
				}
			}
		}
		if endsRequest(rec) {
			return true
		}
		id := keyOf(rec.Request)
		for _, k := range fresh[id] {
			r.noteLocked(k, rec)
		}
		if isNew {
			for _, k := range old[id] {
				r.noteLocked(k, rec)
			}
		}
		return true
	})
	r.seen = end
	left := r.pending[:0]
	for _, p := range r.pending {
		if p.fresh = false; now < p.until && p.kept.at != nil {
			left = append(left, p)
		}
	}
	clear(r.pending[len(left):])
	r.pending = left
	return len(left) > 0
}

// noteLocked adds a record that belongs to the request. An id that a client uses again names several requests: their times tell their records apart.
func (r *Recorder) noteLocked(k *Kept, rec *Record) {
	if rec.End >= k.Root.Begin-int64(collectSlack) {
		r.requests.note(k, rec)
	}
}

// Find is the newest kept request of an id. Of a request that is not kept it has the records that are still in the ring, and kept is false; ok is false if there is
// none.
func (r *Recorder) Find(id call.ID) (k Kept, kept, ok bool) {
	r.collect(call.Unix(call.Now()))
	r.mu.Lock()
	if found := r.requests.byID[keyOf(id)]; found != nil {
		k = copyOf(found)
		r.mu.Unlock()
		return k, true, true
	}
	r.mu.Unlock()
	want := keyOf(id)
	r.ring.back(r.ring.written(), 0, func(rec *Record) bool {
		switch {
		case keyOf(rec.Request) != want:
		case endsRequest(rec) && !ok:
			k.Root, ok = *rec, true
		case len(k.Records) < maxRecords:
			k.Records = append(k.Records, *rec)
		default:
			k.Missed++
		}
		return true
	})
	return k, false, ok || len(k.Records) > 0
}

func copyOf(k *Kept) Kept {
	c := *k
	c.at, c.Records = nil, append([]Record(nil), k.Records...)
	return c
}

// Roots visits the records of the kept requests of a reason, the newest first, until visit returns false. The recorder is locked meanwhile.
func (r *Recorder) Roots(why Why, visit func(root *Record) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.requests.lists[why].Back(); e != nil; e = e.Prev() {
		if !visit(&e.Value.(*Kept).Root) { //nolint:forcetypeassert // nothing else is there
			return
		}
	}
}

// Dropped is the number of failed and of slow requests that were not kept, because there were too many.
func (r *Recorder) Dropped() (failed, slow uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.choice.dropped[Failed], r.choice.dropped[Slow]
}

// Package telemetry holds the numbers and the history of a node: counters and latencies of calls, and events, which are the
// transitions of applications, deployments and replicas. Status, metrics, the command line and the autoscaler read them. It
// imports the standard library and helvetype only.
//
// An event is a transition and never a call. For example, a replica whose process is killed gives two events: the replica
// went from RUNNING to its end, and the deployment, because of that, from HEALTHY to UNHEALTHY; the second event names the
// first as its cause. Events wait for no reader: the newest are in a ring in memory, and a reader that is too slow is told how many
// events have left the ring before it came to read them.
package telemetry

import (
	"cmp"
	"container/list"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// The bounds of memory. An event has at most about messageMax bytes of text beside its inputs, so the whole is some 20 MiB at worst, and
// some 2 MiB with messages of usual length.
const (
	ringSize    = 4096
	historySize = 20   // transitions that an object keeps
	objectsMax  = 1024 // objects that have a history; the object that has changed least recently goes first
	messageMax  = 4 << 10
	countsMax   = 4096 // kinds of events that are counted: applications that are deployed under ever new names must not fill the memory
	inputsMax   = 16
)

// Events keeps the newest events. Its methods may be called from any goroutine. The zero Events is not ready: see [NewEvents].
type Events struct {
	now  func() time.Time
	file func(helvetype.Event) // does not block; nil for none

	mu      sync.Mutex
	ring    []helvetype.Event // the event with the id i is at (i-1) modulo the size
	last    uint64            // id of the newest event
	objects map[helvetype.Object]*list.Element
	recent  list.List                  // of *history, the object that has changed last first
	counts  map[TransitionCount]uint64 // by the fields but Number
	changed chan struct{}              // closed with the next event; nil while no reader waits
}

// history is the newest transitions of an object, the oldest first.
type history struct {
	object helvetype.Object
	events []helvetype.Event
}

// NewEvents makes an empty record. file gets every event, in order, with a lock held: it must not block; nil for none.
func NewEvents(file func(helvetype.Event)) *Events {
	return &Events{now: time.Now, file: file, objects: map[helvetype.Object]*list.Element{}, counts: map[TransitionCount]uint64{}}
}

// Resume goes on with the events of the node before, the oldest first: their ids go on. file gets every event from now on, as the function of
// [NewEvents] does. It must be called before the first event.
func (e *Events) Resume(before []helvetype.Event, file func(helvetype.Event)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.file; first == nil {
		e.file = file
	} else {
		e.file = func(ev helvetype.Event) { first(ev); file(ev) }
	}
	if len(before) == 0 {
		return
	}
	e.last = before[len(before)-1].ID
	e.ring = make([]helvetype.Event, min(e.last, ringSize)) // an event that was lost leaves its place empty
	for _, ev := range before {
		ev.Severity = cmp.Or(ev.Severity, Severity(ev)) // a node of an older version has written none
		e.rememberLocked(ev)
		if e.last-ev.ID < ringSize {
			e.ring[(ev.ID-1)%ringSize] = ev
		}
	}
}

// Emit adds an event, gives it an id and, if it has none, the time and the severity, and returns the id. It never waits for a reader.
func (e *Events) Emit(ev helvetype.Event) uint64 {
	ev.Message = cut(ev.Message, messageMax)
	ev.Inputs = cutInputs(ev.Inputs)
	ev.Severity = cmp.Or(ev.Severity, Severity(ev))
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Time.IsZero() {
		ev.Time = e.now()
	}
	e.last++
	ev.ID = e.last
	if len(e.ring) < ringSize {
		e.ring = append(e.ring, ev)
	} else {
		e.ring[(ev.ID-1)%ringSize] = ev
	}
	e.rememberLocked(ev)
	e.countLocked(ev)
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
	if e.file != nil {
		e.file(ev)
	}
	return ev.ID
}

// cut shortens a text to at most limit bytes, without an incomplete character at its end.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const dots = "..."
	return strings.ToValidUTF8(s[:limit-len(dots)], "") + dots
}

func cutInputs(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(in), inputsMax))
	for _, k := range slices.Sorted(maps.Keys(in)) {
		if len(out) == inputsMax {
			break
		}
		out[cut(k, 64)] = cut(in[k], 256)
	}
	return out
}

// rememberLocked adds an event to the history of its object.
func (e *Events) rememberLocked(ev helvetype.Event) {
	el := e.objects[ev.Object]
	if el == nil {
		if len(e.objects) == objectsMax {
			oldest := e.recent.Back()
			delete(e.objects, oldest.Value.(*history).object)
			e.recent.Remove(oldest)
		}
		el = e.recent.PushFront(&history{object: ev.Object})
		e.objects[ev.Object] = el
	}
	h := el.Value.(*history)
	if len(h.events) == historySize {
		h.events = slices.Delete(h.events, 0, 1)
	}
	if n := len(h.events); n == cap(h.events) { // append would make room for 32 where 20 are kept
		h.events = slices.Grow(h.events, min(n+1, historySize-n))
	}
	h.events = append(h.events, ev)
	e.recent.MoveToFront(el)
}

// countLocked counts an event. Above the bound the events of all further applications are counted together.
func (e *Events) countLocked(ev helvetype.Event) {
	k := TransitionCount{Kind: ev.Object.Kind, Reason: ev.Reason, Application: ev.Object.App, Deployment: ev.Object.Deployment}
	if _, known := e.counts[k]; !known && len(e.counts) >= countsMax {
		k.Application, k.Deployment = Other, ""
	}
	e.counts[k]++
}

// Transitions is how often there was an event of each kind, since this process has started.
func (e *Events) Transitions() []TransitionCount {
	e.mu.Lock()
	all := make([]TransitionCount, 0, len(e.counts))
	for k, n := range e.counts {
		k.Number = n
		all = append(all, k)
	}
	e.mu.Unlock()
	slices.SortFunc(all, func(a, b TransitionCount) int {
		return cmp.Or(cmp.Compare(a.Application, b.Application), cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// Last is the id of the newest event, 0 if there is none yet.
func (e *Events) Last() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// History is the newest transitions of an object, at most 20, the oldest first. An object of which the ring has events no more may have them here.
func (e *Events) History(o helvetype.Object) []helvetype.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	if el := e.objects[o]; el != nil {
		return slices.Clone(el.Value.(*history).events)
	}
	return nil
}

// Replicas is the events of the replicas of a deployment that are in the ring, the oldest first.
func (e *Events) Replicas(app, deployment string) (events []helvetype.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := e.last - min(e.last, ringSize) + 1; id <= e.last; id++ {
		if o := &e.ring[(id-1)%ringSize].Object; o.Kind == helvetype.KindReplica && o.App == app && o.Deployment == deployment {
			events = append(events, e.ring[(id-1)%ringSize])
		}
	}
	return events
}

// Find is the event with the id: from the ring, or from the history of an object. false: it is not kept any more.
func (e *Events) Find(id uint64) (helvetype.Event, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id == 0 || id > e.last {
		return helvetype.Event{}, false
	}
	if ev := e.ring[(id-1)%ringSize]; ev.ID == id {
		return ev, true
	}
	for _, el := range e.objects {
		events := el.Value.(*history).events
		if i, ok := slices.BinarySearchFunc(events, id, func(ev helvetype.Event, id uint64) int { return cmp.Compare(ev.ID, id) }); ok {
			return events[i], true
		}
	}
	return helvetype.Event{}, false
}

// Since is up to limit events with ids above after, the oldest first, and how many before them have left the ring. For example, with
// events 5 to 4100 in the ring, Since(2, 10) gives the events 5 to 14 and 2 that were missed. An id that is above the newest, which a
// reader has from the node before this one, is read as 0.
func (e *Events) Since(after uint64, limit int) (events []helvetype.Event, missed uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sinceLocked(after, limit)
}

func (e *Events) sinceLocked(after uint64, limit int) (events []helvetype.Event, missed uint64) {
	if after > e.last {
		after = 0
	}
	oldest := e.last - uint64(len(e.ring)) // one below the oldest in the ring
	if after < oldest {
		missed, after = oldest-after, oldest
	}
	for id := after + 1; id <= e.last && len(events) < limit; id++ {
		if ev := e.ring[(id-1)%ringSize]; ev.ID == id {
			events = append(events, ev)
		} else { // of the node before, which had not written it
			missed++
		}
	}
	return events, missed
}

// Next is Since that waits until there is an event, or ctx has ended.
func (e *Events) Next(ctx context.Context, after uint64, limit int) (events []helvetype.Event, missed uint64, err error) {
	for {
		e.mu.Lock()
		events, missed = e.sinceLocked(after, limit)
		if len(events) > 0 {
			e.mu.Unlock()
			return events, missed, nil
		}
		if e.changed == nil {
			e.changed = make(chan struct{})
		}
		changed := e.changed
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

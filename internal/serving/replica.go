package serving

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/transport"
)

// Replica is one replica as the data plane knows it: the router's view, and a way to its code. An implementation embeds
// [Base]. It is immutable from the moment that it is given to a router.
type Replica interface {
	router.Replica
	// Instance is the instance whose methods callers in this process run themselves; nil if calls go through Transport.
	Instance() *instance.Instance
	// Transport starts calls there.
	Transport() transport.Transport
	// Done ends when the replica has had its time to drain: streams and handlers of clients that still run end with it.
	Done() context.Context

	base() *Base
}

// replicaOf is the one place where a replica of the router becomes one of the data plane. Every replica that a router of
// this package is given is one.
func replicaOf(r router.Replica) Replica { return r.(Replica) } //nolint:forcetypeassert // see above

// Local says whether the replica's code runs in this process.
func Local(r Replica) bool {
	switch r.Transport().(type) {
	case *transport.Local, *transport.Encoded:
		return true
	}
	return false
}

// Base is the part that all kinds of replicas have in common. Its methods may be called from any goroutine.
type Base struct {
	// What the autoscaler reads of each replica ten times a second is on one cache line.
	id, node string
	gate     *gate.Gate
	counted  *telemetry.Calls // that an instance in this process counts itself; nil for a replica in another process
	lent     func() uint64    // the number of calls that have begun under lent slots; nil for a replica that lends no slots
	idle     func() int       // the number of slots that are lent and run no call; nil for a replica that lends no slots

	done    context.Context
	end     context.CancelCauseFunc
	control ControlQueue
	models  atomic.Pointer[[]string]
	stats   atomic.Pointer[Stats]
	closed  atomic.Bool // its instance is being closed, or is gone

	calls   telemetry.Calls // that were sent to another process; an instance in this process counts its own
	running call.Running    // likewise
	use     telemetry.Utilization

	// failed is told of calls that have failed for reasons of the system; nil where that does not matter.
	failed func(text string)

	// lend is told of a call from a worker that found a slot at once; nil for a replica that lends no slots.
	lend func(caller *Caller)
}

// Init makes a zero Base a replica with slots for limit calls at a time. Its time ends with ctx at the latest.
func (b *Base) Init(ctx context.Context, id, node string, limit int) {
	b.id, b.node, b.gate = id, node, gate.New(limit)
	b.done, b.end = context.WithCancelCause(ctx)
}

// LendWith has f told of each call from a worker that found a slot of the replica at once. It is called before the replica is
// given to a router.
func (b *Base) LendWith(f func(caller *Caller)) { b.lend = f }

// FailWith has f told of each call at the replica that has failed for a reason of the system, on the goroutine of the call. It is called
// before the replica is given to a router.
func (b *Base) FailWith(f func(text string)) { b.failed = f }

// Faulted notes a call at the replica that has failed for a reason of the system, in a process that found that out.
func (b *Base) Faulted(text string) {
	if b.failed != nil {
		b.failed(text)
	}
}

// IdleWith has f give the number of slots that are lent and run no call. It is called before the replica is given to a router.
func (b *Base) IdleWith(f func() int) { b.idle = f }

// CountsWith has f give the number of calls that have begun under lent slots. It is called as IdleWith is.
func (b *Base) CountsWith(f func() uint64) { b.lent = f }

// CountedBy says that an instance in this process counts its calls. It is called as IdleWith is.
func (b *Base) CountedBy(i *instance.Instance) { b.counted = i.Calls() }

// Flow is the load of a replica: the calls that hold a slot, and the number of calls that have begun so far. It costs three cache lines: a node may have 10,000 replicas.
func Flow(of router.Replica) (running int, started uint64) {
	b := replicaOf(of).base()
	if b.counted != nil {
		return b.Running(), b.counted.Started()
	}
	if started = b.calls.Started(); b.lent != nil {
		started += b.lent()
	}
	return b.Running(), started
}

// Uses is what the end of a replica would disturb: the calls that it executes, the streams and connections among them, and the models that it has loaded.
func Uses(of router.Replica) (calls, streams int, models []string) {
	r := replicaOf(of)
	for _, c := range runningAt(r) {
		if c.Streams {
			streams++
		}
	}
	return r.base().Running(), streams, r.base().Models()
}

// Running is the number of calls that hold a slot. For example, of 5 slots that are taken 2 are lent to a worker that runs one call under
// them: 4 calls run.
func (b *Base) Running() int {
	n := b.gate.Load()
	if b.idle != nil {
		n = max(n-b.idle(), 0)
	}
	return n
}

// ID is the replica's id, unique on its node.
func (b *Base) ID() string { return b.id }

// Node is where the replica runs.
func (b *Base) Node() string { return b.node }

// Gate is the admission of the replica, as the router sees it.
func (b *Base) Gate() router.Gate { return b.gate }

// Slots is the admission of the replica.
func (b *Base) Slots() *gate.Gate { return b.gate }

// Done is [Replica.Done].
func (b *Base) Done() context.Context { return b.done }

// End ends the replica's time, with a cause.
func (b *Base) End(cause error) { b.end(cause) }

// Control is the queue of the calls that take no slot.
func (b *Base) Control() *ControlQueue { return &b.control }

// Closing notes that the instance is being closed: a slot that was reserved before is of no use any more.
func (b *Base) Closing() { b.closed.Store(true) }

// Closed says whether the replica's instance is being closed or is gone.
func (b *Base) Closed() bool { return b.closed.Load() }

func (b *Base) base() *Base { return b }

// BaseOf is the common part of a replica.
func BaseOf(r router.Replica) *Base { return replicaOf(r).base() }

// Stats are the last answer of a replica for routing policies.
type Stats struct {
	Values map[string]any
	At     time.Time
}

// Stats are the replica's last answer; nil if there was none yet.
func (b *Base) Stats() *Stats { return b.stats.Load() }

// SetStats replaces the replica's last answer.
func (b *Base) SetStats(values map[string]any, at time.Time) { b.stats.Store(&Stats{values, at}) }

// Utilization is how much of its slots the replica has used lately, in percent; busy is the time of its calls so far.
func (b *Base) Utilization(busy time.Duration) float64 {
	return b.use.Percent(time.Now(), busy, b.gate.Max())
}

// Models are the ids of the models that the replica has or is loading. The slice is shared and must not be changed.
func (b *Base) Models() []string {
	if ids := b.models.Load(); ids != nil {
		return *ids
	}
	return nil
}

// SetModels replaces the ids of the models. The caller tells the router as well.
func (b *Base) SetModels(ids []string) { b.models.Store(&ids) }

// attempt is a call that was sent to a replica in another process. The zero attempt is one in this process, where the instance counts.
type attempt struct {
	at    int64 // by call.Now
	place *call.RunningPlace
}

// begin counts a call that is about to be sent to the replica.
func (b *Base) begin(r Replica, c *call.Call) attempt {
	if Local(r) {
		return attempt{}
	}
	b.calls.Begin()
	now := call.Now()
	return attempt{now, b.running.Enter(&c.Info, now, c.Items != nil, c.Unread)}
}

// count counts the end of an attempt, and returns its time by call.Now; 0 for an attempt in this process.
func (b *Base) count(r Replica, a attempt, result call.Result) (ended int64) {
	if Local(r) {
		return 0
	}
	a.place.Leave()
	ended = call.Now()
	if result.NotStarted {
		b.calls.Undo()
		return ended
	}
	if took := time.Duration(ended - a.at); result.Err != nil && result.Err.Reason == helvetype.ReasonCancelled {
		b.calls.Cancel(took)
	} else {
		b.calls.End(took, result.Err != nil)
	}
	return ended
}

// Calls are the calls that were sent to the replica in another process.
func (b *Base) Calls() *telemetry.Calls { return &b.calls }

// AddCallers adds the calls that the replica itself counts by their callers: none, but for a replica in this process. The deployment counts those to other processes.
func (b *Base) AddCallers(map[telemetry.Caller]telemetry.CallerCounts) {}

// Busy says whether calls run at the replica or wait in its control queue.
func (b *Base) Busy() bool { return b.gate.Load() > 0 || b.control.Busy() }

// Refuse takes the replica out of service: it gets no call any more, and the calls that run may end.
func (b *Base) Refuse() {
	b.gate.Close()
	b.control.Close()
}

// sortByID puts replicas in the order of their ids, so that turns keep their order.
func sortByID(rs []router.Replica) {
	slices.SortFunc(rs, func(a, b router.Replica) int {
		switch {
		case a.ID() < b.ID():
			return -1
		case a.ID() > b.ID():
			return 1
		}
		return 0
	})
}

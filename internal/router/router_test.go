package router

import (
	"fmt"
	"slices"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
)

// bench is a router with the calls that were submitted to it, in the order of delivery.
type bench struct {
	*subqueue
	t     *testing.T
	order []string
}

func newBench(t *testing.T, replicas ...Replica) *bench {
	t.Helper()
	x := &bench{subqueue: newSubqueue(newAdmission()), t: t}
	x.Update(nil, replicas)
	return x
}

// job is one call.
type job struct {
	ticket   Ticket
	x        *bench
	name     string
	replica  Replica
	failed   *call.Error
	assigned func(j *job, r Replica) // nil keeps the slot
}

func (j *job) Assigned(_ *call.Batch, r Replica) {
	if j.replica != nil || j.failed != nil {
		j.x.t.Errorf("%s was told twice", j.name)
	}
	j.replica = r
	j.x.order = append(j.x.order, j.name)
	if j.assigned != nil {
		j.assigned(j, r)
	}
}

func (j *job) Failed(_ *call.Batch, cause *call.Error) {
	if j.replica != nil || j.failed != nil {
		j.x.t.Errorf("%s was told twice", j.name)
	}
	j.failed = cause
}

func (x *bench) submit(origin, name string) *job {
	j := &job{x: x, name: name}
	x.Submit(nil, &j.ticket, origin, j)
	return j
}

// release gives the slot back; requeue does so too, and queues the call again.
func (j *job) release() {
	r := j.replica
	j.replica = nil
	r.Gate().Release(nil)
}

func (j *job) requeue(origin string) {
	j.release()
	j.x.Requeue(nil, &j.ticket, origin, j)
}

func (x *bench) want(names ...string) {
	x.t.Helper()
	if !slices.Equal(x.order, names) {
		x.t.Errorf("told %v, want %v", x.order, names)
	}
	x.order = nil
}

// member is a replica.
type member struct {
	id, node string
	gate     Gate
}

func (m *member) ID() string   { return m.id }
func (m *member) Node() string { return m.node }
func (m *member) Gate() Gate   { return m.gate }

func replica(id string, slots int) Replica { return &member{id, "", gate.New(slots)} }

// occupied is a replica whose slots are all taken.
func occupied(id string, slots int) Replica {
	r := replica(id, slots)
	for range slots {
		r.Gate().TryAcquire()
	}
	return r
}

func TestTryAcquire(t *testing.T) {
	t.Parallel()
	t.Run("no replica", func(t *testing.T) {
		t.Parallel()
		if r := newSubqueue(newAdmission()).TryAcquire(); r != nil {
			t.Errorf("got %v", r.ID())
		}
	})
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		a := replica("a", 2)
		x := newBench(t, a)
		for i, want := range []Replica{a, a, nil} {
			if got := x.TryAcquire(); got != want {
				t.Errorf("acquire %d: %v", i, got)
			}
		}
	})
	t.Run("the less loaded", func(t *testing.T) {
		t.Parallel()
		a, b := replica("a", 100), replica("b", 100)
		x := newBench(t, a, b)
		for range 50 {
			a.Gate().TryAcquire()
		}
		for range 50 {
			if x.TryAcquire() != b {
				t.Fatal("took the more loaded of two")
			}
		}
		for range 100 { // even from here on: never more than one apart
			x.TryAcquire()
			if d := a.Gate().Load() - b.Gate().Load(); d < -1 || d > 1 {
				t.Fatalf("loads are %d apart", d)
			}
		}
		if x.TryAcquire() != nil {
			t.Error("got a slot of full replicas")
		}
	})
	t.Run("the other", func(t *testing.T) {
		t.Parallel()
		a, b := occupied("a", 1), replica("b", 3)
		b.Gate().TryAcquire()
		b.Gate().TryAcquire() // more loaded than a, but not full
		if got := newBench(t, a, b).TryAcquire(); got != b {
			t.Errorf("got %v", got)
		}
	})
	t.Run("all of many", func(t *testing.T) {
		t.Parallel()
		var set []Replica
		for i := range 20 {
			set = append(set, replica(fmt.Sprint(i), 1<<20))
		}
		x := newBench(t, set...)
		for range 2000 {
			x.TryAcquire()
		}
		for _, r := range set { // two choices keep loads within a few of the mean of 100
			if l := r.Gate().Load(); l < 90 || l > 110 {
				t.Errorf("replica %s has load %d", r.ID(), l)
			}
		}
	})
	t.Run("behind the queue", func(t *testing.T) {
		t.Parallel()
		x := newBench(t)
		x.submit("o", "first")
		a := replica("a", 1)
		x.mu.Lock() // a set with a free slot that the queue has not seen yet
		x.set.Store(&[]Replica{a})
		x.mu.Unlock()
		if x.TryAcquire() != nil {
			t.Error("overtook a queued call")
		}
	})
}

func TestSubmitAtOnce(t *testing.T) {
	t.Parallel()
	x := newBench(t, replica("a", 1))
	j := x.submit("o", "1")
	if j.replica == nil || x.Queued() != 0 {
		t.Error("a free slot was not assigned within Submit")
	}
	if x.Cancel(&j.ticket) {
		t.Error("cancelled an assigned call")
	}
	j.release()
	if x.Replicas()[0].Gate().Load() != 0 {
		t.Error("the slot did not come back")
	}
}

// TestSubmitFindsTheOneFreeSlot: two draws miss the free slot of one of many replicas, and Submit finds it.
func TestSubmitFindsTheOneFreeSlot(t *testing.T) {
	t.Parallel()
	for at := range 50 {
		var set []Replica
		for i := range 50 {
			set = append(set, occupied(fmt.Sprint(i), 1))
		}
		set[at].Gate().Release(nil)
		x := newBench(t, set...)
		if j := x.submit("o", "1"); j.replica != set[at] {
			t.Fatalf("free slot %d was not found", at)
		}
		if x.unregistered != 50 {
			t.Errorf("registered at %d gates for a call that found a slot", 50-x.unregistered)
		}
	}
}

func TestFIFO(t *testing.T) {
	t.Parallel()
	a := occupied("a", 2)
	x := newBench(t, a)
	for i := range 6 {
		x.submit("o", fmt.Sprint(i))
	}
	if x.Queued() != 6 {
		t.Errorf("%d queued", x.Queued())
	}
	for range 6 {
		a.Gate().Release(nil)
	}
	x.want("0", "1", "2", "3", "4", "5")
	if x.Queued() != 0 || a.Gate().Load() != 2 {
		t.Errorf("%d queued, load %d", x.Queued(), a.Gate().Load())
	}
	a.Gate().Release(nil)
	a.Gate().Release(nil)
	if a.Gate().Load() != 0 || x.TryAcquire() != a {
		t.Error("slots that nobody waits for are not free")
	}
}

func TestOriginsInTurn(t *testing.T) {
	t.Parallel()
	a := occupied("a", 1)
	x := newBench(t, a)
	for i := range 1000 {
		x.submit("flood", fmt.Sprint("f", i))
	}
	for _, origin := range []string{"p", "q"} {
		for i := range 3 {
			x.submit(origin, fmt.Sprint(origin, i))
		}
	}
	for range 10 {
		a.Gate().Release(nil)
	}
	x.want("f0", "p0", "q0", "f1", "p1", "q1", "f2", "p2", "q2", "f3")
	x.submit("late", "l0") // waits for one call of each other origin at most
	a.Gate().Release(nil)
	a.Gate().Release(nil)
	x.want("f4", "l0")
}

// TestFloodFairness has one origin that submits twenty calls whenever the others submit one. While both have queued
// calls, neither is served twice in a row.
func TestFloodFairness(t *testing.T) {
	t.Parallel()
	a := occupied("a", 4)
	x := newBench(t, a)
	for i := range 50 {
		for range 20 {
			x.submit("flood", "flood")
		}
		x.submit("polite", fmt.Sprint("polite", i))
		a.Gate().Release(nil)
		a.Gate().Release(nil)
		if len(x.order) != 2 || (x.order[0] == "flood") == (x.order[1] == "flood") {
			t.Fatalf("round %d: two slots went to %v", i, x.order)
		}
		x.order = nil
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	a := occupied("a", 1)
	x := newBench(t, a)
	var jobs []*job
	for i := range 5 {
		jobs = append(jobs, x.submit("o", fmt.Sprint(i)))
	}
	other := x.submit("p", "p")
	for _, i := range []int{0, 2, 4} { // first, middle, last
		if !x.Cancel(&jobs[i].ticket) || x.Cancel(&jobs[i].ticket) {
			t.Errorf("call %d was not cancelled once", i)
		}
	}
	if !x.Cancel(&other.ticket) || x.Queued() != 2 { // the only call of its origin
		t.Errorf("%d queued", x.Queued())
	}
	for range 3 {
		a.Gate().Release(nil)
	}
	x.want("1", "3")
	if x.Cancel(&jobs[1].ticket) || x.Cancel(new(Ticket)) {
		t.Error("cancelled a call that is not queued")
	}
	if a.Gate().Load() != 0 {
		t.Errorf("load %d", a.Gate().Load())
	}
}

func TestCancelOfAllLeavesSlotsFree(t *testing.T) {
	t.Parallel()
	a := occupied("a", 1)
	x := newBench(t, a)
	j := x.submit("o", "1")
	x.Cancel(&j.ticket)
	a.Gate().Release(nil) // granted to the router, which has no call for it
	if a.Gate().Load() != 0 || x.TryAcquire() != a {
		t.Error("the slot is lost")
	}
	j = x.submit("o", "2") // waits, registered anew
	a.Gate().Release(nil)
	if j.replica != a {
		t.Error("lost wake-up")
	}
}

func TestRequeueAtOriginalPlace(t *testing.T) {
	t.Parallel()
	x := newBench(t, replica("a", 4))
	var jobs []*job
	for i := range 4 {
		jobs = append(jobs, x.submit("o", fmt.Sprint(i)))
	}
	for i := range 4 {
		jobs = append(jobs, x.submit("o", fmt.Sprint(4+i)))
	}
	x.Update(nil, nil)
	x.want("0", "1", "2", "3")
	for _, i := range []int{2, 0, 3, 1} {
		jobs[i].requeue("o")
	}
	unknown := &job{x: x, name: "before"} // took its slot with TryAcquire
	x.Requeue(nil, &unknown.ticket, "o", unknown)
	x.Update(nil, []Replica{replica("b", 9)})
	x.want("before", "0", "1", "2", "3", "4", "5", "6", "7")
}

func TestRequeueWithinAssigned(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	bad := map[Replica]bool{}
	var set []Replica
	for i := range 40 {
		r := replica(fmt.Sprint(i), 1)
		set = append(set, r)
		bad[r] = i != 39
	}
	j := &job{x: x, name: "j"}
	j.assigned = func(j *job, r Replica) {
		if bad[r] {
			r.Gate().(*gate.Gate).Close()
			j.requeue("o")
		}
	}
	x.Submit(nil, &j.ticket, "o", j)
	x.Update(nil, set)
	if j.replica != set[39] {
		t.Errorf("assigned to %v", j.replica)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	for i := range 5 {
		x.submit("o", fmt.Sprint(i))
	}
	a, b := replica("a", 1), replica("b", 2)
	x.Update(nil, []Replica{a, b})
	x.want("0", "1", "2")
	if got := x.Replicas(); !slices.Equal(got, []Replica{a, b}) {
		t.Errorf("replicas %v", got)
	}
	x.Update(nil, []Replica{b})
	a.Gate().Release(nil)
	x.want()
	if a.Gate().Load() != 0 || !a.Gate().TryAcquire() {
		t.Error("the router still waits at a removed replica")
	}
	a.Gate().Release(nil)
	b.Gate().Release(nil)
	x.want("3")
	x.Update(nil, []Replica{a, b}) // back again
	x.want("4")
	if x.Queued() != 0 {
		t.Errorf("%d queued", x.Queued())
	}
}

func TestUpdateCountsAReplicaOnce(t *testing.T) {
	t.Parallel()
	a := occupied("a", 1)
	x := newBench(t)
	x.submit("o", "1")
	for range 3 {
		x.Update(nil, []Replica{a, a})
		x.Update(nil, []Replica{a, a, a})
	}
	if len(x.Replicas()) != 1 {
		t.Errorf("%d replicas", len(x.Replicas()))
	}
	x.check(t)
	a.Gate().Release(nil)
	a.Gate().Release(nil)
	x.want("1")
	if a.Gate().Load() != 0 {
		t.Errorf("load %d", a.Gate().Load())
	}
}

// stepGate lets a test run code between a gate's decision to grant and the grant.
type stepGate struct {
	*gate.Gate
	between func()
}

func (g *stepGate) Wait(w interface{ Granted(b *call.Batch) }) bool {
	return g.Gate.Wait(&stepped{g, w})
}

func (g *stepGate) Unwait(interface{ Granted(b *call.Batch) }) bool { return false }

type stepped struct {
	g *stepGate
	w interface{ Granted(b *call.Batch) }
}

func (s *stepped) Granted(b *call.Batch) {
	if f := s.g.between; f != nil {
		s.g.between = nil
		f()
	}
	s.w.Granted(b)
}

func TestGrantUnderWay(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*bench, *stepGate, Replica, *job) {
		t.Helper()
		g := &stepGate{Gate: gate.New(1)}
		g.TryAcquire()
		a := &member{"a", "", g}
		x := newBench(t, a)
		return x, g, a, x.submit("o", "1")
	}
	t.Run("removed meanwhile", func(t *testing.T) {
		t.Parallel()
		x, g, _, _ := setup(t)
		g.between = func() { x.Update(nil, nil) }
		g.Release(nil)
		x.want()
		if g.Load() != 0 || x.Queued() != 1 {
			t.Errorf("load %d, %d queued", g.Load(), x.Queued())
		}
	})
	t.Run("removed and added meanwhile", func(t *testing.T) {
		t.Parallel()
		x, g, a, j := setup(t)
		g.between = func() {
			x.Update(nil, nil)
			x.Update(nil, []Replica{a})
		}
		g.Release(nil)
		x.want("1")
		j.release()
		if g.Load() != 0 {
			t.Errorf("load %d", g.Load())
		}
	})
	t.Run("cancelled meanwhile", func(t *testing.T) {
		t.Parallel()
		x, g, a, j := setup(t)
		g.between = func() {
			if !x.Cancel(&j.ticket) {
				t.Error("a call that no slot has reached could not be cancelled")
			}
		}
		g.Release(nil)
		x.want()
		if g.Load() != 0 || x.TryAcquire() != a {
			t.Error("the slot is lost")
		}
	})
	t.Run("another slot meanwhile", func(t *testing.T) {
		t.Parallel()
		g := &stepGate{Gate: gate.New(2)}
		g.TryAcquire()
		g.TryAcquire()
		x := newBench(t, &member{"a", "", g})
		x.submit("o", "1")
		x.submit("o", "2")
		x.submit("o", "3")
		g.between = func() { g.Release(nil) } // no router is registered: the slot becomes free
		g.Release(nil)
		x.want("1", "2")
		g.Release(nil)
		x.want("3")
	})
}

// hookGate runs a function before it admits.
type hookGate struct {
	*gate.Gate
	before func()
}

func (g *hookGate) TryAcquire() bool {
	if f := g.before; f != nil {
		g.before = nil
		f()
	}
	return g.Gate.TryAcquire()
}

func TestTryAcquireDuringUpdate(t *testing.T) {
	t.Parallel()
	g, b := &hookGate{Gate: gate.New(1)}, replica("b", 1)
	a := &member{"a", "", g}
	x := newBench(t, a)
	g.before = func() { x.Update(nil, []Replica{b}) }
	if got := x.TryAcquire(); got != b || g.Load() != 0 {
		t.Errorf("got %v, the removed replica has load %d", got, g.Load())
	}
	x.Update(nil, []Replica{a})
	g.before = func() { x.Update(nil, []Replica{a, b}) }
	if got := x.TryAcquire(); got != a || g.Load() != 1 {
		t.Errorf("a replica that stayed was not taken: %v", got)
	}
}

func TestUpdateUnregisters(t *testing.T) {
	t.Parallel()
	a := occupied("a", 1)
	x := newBench(t, a)
	x.submit("o", "1")
	w := x.waiters[0]
	x.Update(nil, nil)
	if a.Gate().Unwait(w) {
		t.Error("the router still waits at a replica that was removed")
	}
}

// TestTwoRoutersShareAGate: slots go to the two routers in turn, however many calls each has queued.
func TestTwoRoutersShareAGate(t *testing.T) {
	t.Parallel()
	a := occupied("a", 1)
	x := newBench(t, a)
	y := &bench{subqueue: newSubqueue(newAdmission()), t: t}
	y.Update(nil, []Replica{&member{"a", "", a.Gate()}})
	for i := range 100 {
		x.submit("o", fmt.Sprint(i))
	}
	y.submit("o", "y0")
	y.submit("o", "y1")
	for range 5 {
		a.Gate().Release(nil)
	}
	x.want("0", "1", "2")
	y.want("y0", "y1")
}

// TestCallsThatEndAtOnce would need a stack of a hundred thousand calls if a grant were delivered within a delivery.
func TestCallsThatEndAtOnce(t *testing.T) {
	t.Parallel()
	const calls = 100_000
	a := occupied("a", 1)
	x := newBench(t, a)
	depth, deepest := 0, 0
	for i := range calls {
		j := &job{x: x, name: fmt.Sprint(i)}
		j.assigned = func(j *job, _ Replica) {
			depth++
			deepest = max(deepest, depth)
			j.release()
			depth--
		}
		x.Submit(nil, &j.ticket, "o", j)
	}
	a.Gate().Release(nil)
	if len(x.order) != calls || x.Queued() != 0 || a.Gate().Load() != 0 {
		t.Fatalf("%d of %d told, %d queued, load %d", len(x.order), calls, x.Queued(), a.Gate().Load())
	}
	for i, name := range x.order {
		if name != fmt.Sprint(i) {
			t.Fatalf("call %s came as number %d", name, i)
		}
	}
	if deepest > maxDelivering {
		t.Errorf("%d deliveries deep", deepest)
	}
}

// TestDeliveryOrder: a call that gets the slot of a delivered call goes behind the calls that were assigned before.
func TestDeliveryOrder(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	for i := range 5 {
		j := &job{x: x, name: fmt.Sprint(i)}
		if i == 0 {
			j.assigned = func(j *job, _ Replica) { j.release() }
		}
		x.Submit(nil, &j.ticket, "o", j)
	}
	x.Update(nil, []Replica{replica("a", 3)})
	x.want("0", "1", "2", "3")
}

func TestTicketInUse(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	j := x.submit("o", "1")
	defer func() {
		if recover() == nil {
			t.Error("a queued ticket was queued again")
		}
	}()
	x.Requeue(nil, &j.ticket, "o", j)
}

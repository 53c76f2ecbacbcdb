package router

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

func replicas(n, slots int) []Replica {
	var rs []Replica
	for i := range n {
		rs = append(rs, replica(fmt.Sprintf("r%d", i), slots))
	}
	return rs
}

func session(id string) *call.Info { return &call.Info{Affinity: &call.Affinity{Session: id}} }
func withModel(id string) *call.Info {
	return &call.Info{Affinity: &call.Affinity{Model: id}}
}

func TestConsistentHash(t *testing.T) {
	t.Parallel()
	owners := func(n int) (map[string]string, *ConsistentHash, []Replica) {
		p, set := NewConsistentHash(DefaultVirtualNodes, DefaultFallbacks), replicas(n, 1)
		m := map[string]string{}
		for i := range 2000 {
			key := fmt.Sprint("session-", i)
			ranks, only := p.Rank(session(key), set, nil)
			if again, _ := p.Rank(session(key), set, nil); !only || !slices.Equal(ranks, again) || len(ranks) != min(3, n) {
				t.Fatalf("%s: %v, then %v, only: %v", key, ranks, again, only)
			}
			if u := slices.Compact(slices.Sorted(slices.Values(ranks))); len(u) != len(ranks) {
				t.Fatalf("%s: %v has a replica twice", key, ranks)
			}
			m[key] = set[ranks[0]].ID()
		}
		return m, p, set
	}
	four, _, _ := owners(4)
	five, p, set := owners(5)
	shares, moved := map[string]int{}, 0
	for key, owner := range five {
		shares[owner]++
		if four[key] != owner {
			moved++
			if owner != "r4" {
				t.Errorf("%s moved from %s to %s when r4 came", key, four[key], owner)
			}
		}
	}
	for id, n := range shares {
		if n < 200 || n > 800 {
			t.Errorf("%s has %d of 2,000 sessions", id, n)
		}
	}
	if moved == 0 || moved > 800 {
		t.Errorf("%d of 2,000 sessions moved", moved)
	}
	if ranks, only := p.Rank(&call.Info{}, set, nil); len(ranks) != 0 || only {
		t.Error("a call without a session is restricted")
	}
	if ranks, only := p.Rank(session("x"), nil, nil); len(ranks) != 0 || !only {
		t.Error("without replicas a session waits for its own")
	}
	// The ends of the hash space: a key beyond the last point belongs to the first.
	r := &ring{points: []point{{0, 0}, {math.MaxUint64 - 1, 1}}}
	for _, h := range []uint64{0, 1, math.MaxUint64 - 1, math.MaxUint64} {
		at, _ := slices.BinarySearchFunc(r.points, h, func(p point, h uint64) int {
			if p.hash < h {
				return -1
			}
			return 1
		})
		if at < 0 || at > len(r.points) {
			t.Errorf("%d is at %d", h, at)
		}
	}
	if h := hash([]byte("a")); h == hash([]byte("b")) || h != 0x2c0bdbf481420f8 { // the same in every process
		t.Errorf("hash %#x", h)
	}
}

func TestRoundRobin(t *testing.T) {
	t.Parallel()
	p, set := NewRoundRobin(), replicas(3, 1)
	last := -1
	for range 30 {
		ranks, only := p.Rank(withModel("m"), set, nil)
		if only || len(ranks) != 3 || last >= 0 && ranks[0] != (last+1)%3 || ranks[1] != (ranks[0]+1)%3 {
			t.Fatalf("%v after %d", ranks, last)
		}
		last = ranks[0]
	}
	// Load does not change the order, as long as there is a slot.
	r, loaded := New("here"), replicas(3, 100)
	r.SetPolicy(NewRoundRobin())
	r.Update(nil, loaded)
	for range 90 {
		loaded[1].Gate().TryAcquire()
	}
	at := slices.Index(loaded, r.TryAcquire(&call.Info{}))
	for i := range 12 {
		if got := r.TryAcquire(&call.Info{}); got != loaded[(at+1+i)%3] {
			t.Fatalf("call %d went to %s", i, got.ID())
		}
	}
	before := p.cursor.Load()
	if ranks, _ := p.Rank(&call.Info{}, nil, nil); len(ranks) != 0 || p.cursor.Load() != before {
		t.Error("the cursor moved without replicas")
	}
}

func TestModelAffinity(t *testing.T) {
	t.Parallel()
	r, set := New("here"), replicas(3, 1)
	r.Update(nil, set)
	where := func(id string) string {
		got := r.TryAcquire(withModel(id))
		if got == nil {
			return "nowhere"
		}
		got.Gate().Release(nil)
		return got.ID()
	}
	r.SetModels(set[0], []string{"a", "b"})
	r.SetModels(set[1], []string{"a"})
	if got := where("b"); got != "r0" {
		t.Errorf("the holder of b: %v", got)
	}
	if r := r.models.withFewest(set); r != set[2] {
		t.Errorf("the fewest models: %v", r.ID())
	}
	for range 20 {
		if got := where("a"); got == "r2" {
			t.Errorf("a holder of a: %v", got)
		}
	}
	// The first call for a new model decides where the next go, before anything is loaded. They do not go elsewhere.
	if got := r.TryAcquire(withModel("new")); got != set[2] {
		t.Errorf("a new model goes to the fewest: %v", got)
	}
	if lastSpill := r.TryAcquire(withModel("new")); lastSpill != nil {
		t.Errorf("a call went to %s while another loads its model", lastSpill.ID())
	}
	set[2].Gate().Release(nil)
	if got := where("new"); got != "r2" {
		t.Errorf("the second call for a new model: %v", got)
	}
	r.SetModels(set[2], []string{"new"})
	r.SetModels(set[2], nil) // unloaded
	if got := where("b"); got != "r0" {
		t.Errorf("%v", got)
	}
	set[2].Gate().TryAcquire()
	if got := where("another"); got == "r2" || got == "nowhere" { // r2 has the fewest
		t.Errorf("a new model while the replica with the fewest is full: %v", got)
	}
	r.Update(nil, set[1:])
	if len(r.models.has) != 1 || len(r.models.holders) != 1+len(r.models.expected) {
		t.Errorf("models of a replica that is gone: %+v", &r.models)
	}
	for i := range 3 * maxExpected {
		r.models.expect(fmt.Sprint(i), set[1])
	}
	r.models.expect("1", set[2])
	if m := &r.models; len(m.expected) != maxExpected || len(m.order) != maxExpected || len(m.holders) != maxExpected+1 {
		t.Errorf("%d expected, %d holders", len(m.expected), len(m.holders))
	}
	r.Update(nil, nil)
	if m := &r.models; len(m.expected) != 0 || len(m.expects) != 0 || len(m.order) != 0 || len(m.holders) != 0 {
		t.Errorf("models of replicas that are gone: %+v", m)
	}
}

func TestPreferLocal(t *testing.T) {
	t.Parallel()
	r, set := New("here"), replicas(4, 1)
	set[1].(*member).node, set[2].(*member).node, set[3].(*member).node = "here", "here", "there"
	r.Update(nil, set)
	local := &call.Info{Affinity: &call.Affinity{Local: true}}
	var got []string
	for range 4 {
		j := &job{x: &bench{t: t}}
		r.Submit(nil, &j.ticket, "o", local, j)
		got = append(got, j.replica.ID())
	}
	slices.Sort(got[:2])
	slices.Sort(got[2:])
	if !slices.Equal(got, []string{"r1", "r2", "r0", "r3"}) {
		t.Errorf("local first, then the others: %v", got)
	}
	r.SetModels(set[0], []string{"m"})
	set[0].Gate().Release(nil)
	if got := r.TryAcquire(&call.Info{Affinity: &call.Affinity{Local: true, Model: "m"}}); got != set[0] {
		t.Errorf("with a model the node does not count: %v", got)
	}
}

func TestLimitPerOrigin(t *testing.T) {
	t.Parallel()
	r := New("here")
	r.Update(nil, []Replica{occupied("a", 1)})
	r.SetLimit(2)
	x := &bench{t: t}
	submit := func(origin string) *job {
		j := &job{x: x}
		r.Submit(nil, &j.ticket, origin, &call.Info{}, j)
		return j
	}
	first := submit("o")
	submit("o")
	for range 3 {
		if j := submit("o"); j.failed == nil || j.failed.Reason != helvetype.ReasonBackpressure || !strings.HasPrefix(j.failed.Message, "Request dropped due to backpressure") {
			t.Errorf("%+v", j.failed)
		}
	}
	if submit("another").failed != nil {
		t.Error("origins share a limit")
	}
	r.Cancel(&first.ticket)
	if submit("o").failed != nil || submit("o").failed == nil {
		t.Error("a place that became free admits one")
	}
	r.SetLimit(1)
	if submit("o").failed == nil || r.Queued() != 3 {
		t.Errorf("%d wait after the limit was lowered", r.Queued())
	}
	r.SetLimit(-1)
	for range 100 {
		if submit("o").failed != nil {
			t.Fatal("no limit")
		}
	}
}

// subset restricts calls with a session "a b" to the replicas a and b, if they are in the set.
type subset struct{}

func (subset) Rank(c *call.Info, set []Replica, ranks []int) ([]int, bool) {
	if c.Affinity == nil || c.Affinity.Session == "" {
		return ranks, false
	}
	for i, r := range set {
		if slices.Contains(strings.Fields(c.Affinity.Session), r.ID()) {
			ranks = append(ranks, i)
		}
	}
	return ranks, true
}

// routed is one call of the model-based test.
type routed struct {
	ticket  Ticket
	w       *routedWorld
	info    *call.Info
	origin  string
	order   int
	at      Replica
	waiting bool
	fails   *call.Error // the error that it has to get
}

type routedWorld struct {
	t      *testing.T
	seed   uint64
	r      *Router
	policy bool
	set    []Replica
	limit  int
	closed *call.Error

	mu    sync.Mutex // a timer of the router may deliver a call
	calls []*routed
}

func (w *routedWorld) fatal(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s", w.seed, fmt.Sprintf(format, args...))
}

// like is the same for calls that are served in turn.
func (c *routed) like() string {
	if c.w.policy {
		return c.info.Affinity.Session
	}
	return c.info.Affinity.Model
}

// allowed are the replicas of which c must have a slot if they have one.
func (c *routed) allowed() []Replica {
	set := c.w.set
	if c.w.policy {
		ranks, only := subset{}.Rank(c.info, set, nil)
		if !only || len(ranks) == 0 && len(set) > 0 {
			return set
		}
		var out []Replica
		for _, i := range ranks {
			out = append(out, set[i])
		}
		return out
	}
	if has := c.w.r.models.replicasOf(c.like()); c.like() != "" && len(has) > 0 {
		return has
	}
	return set
}

// next fails the test if c overtakes a call.
func (c *routed) next() {
	if !c.waiting {
		c.w.fatal("a call that does not wait was told")
	}
	c.waiting = false
	for _, other := range c.w.calls {
		if other.waiting && other.origin == c.origin && other.order < c.order && other.like() == c.like() {
			c.w.fatal("call %d overtook %d of its origin", c.order, other.order)
		}
	}
}

func (c *routed) Assigned(_ *call.Batch, r Replica) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.next()
	c.at = r
	if !slices.Contains(c.w.set, r) || c.w.policy && !slices.Contains(c.allowed(), r) {
		c.w.fatal("a call for %q went to %s", c.like(), r.ID())
	}
}

func (c *routed) Failed(_ *call.Batch, cause *call.Error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.fails == nil && c.w.closed == nil || c.w.closed != nil && cause != c.w.closed || c.w.closed == nil && cause.Reason != helvetype.ReasonBackpressure {
		c.w.fatal("call %d failed: %v", c.order, cause)
	}
	if c.w.closed != nil {
		c.next()
	} else {
		for _, rep := range c.allowed() {
			if rep.Gate().TryAcquire() {
				c.w.fatal("call %d was refused, and %s has a slot", c.order, rep.ID())
			}
		}
	}
	c.waiting = false
}

// waits counts the waiting calls of one origin, or of all.
func (w *routedWorld) waits(origin string) (n int) {
	for _, c := range w.calls {
		if c.waiting && (origin == "" || c.origin == origin) {
			n++
		}
	}
	return n
}

// TestRestrictedCallsAgainstAModel does anything in any order with calls that are restricted to some replicas, by a
// policy or by their model. The specification: a call goes to an allowed replica, in turn. No call waits while an
// allowed replica has a free slot. The waiting calls of one origin are within the limit. Every waiting call fails
// when the router is closed.
func TestRestrictedCallsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			w := &routedWorld{t: t, seed: seed, r: New("here"), policy: seed%2 == 0, limit: -1}
			w.run(rand.New(rand.NewPCG(seed, 6)))
		})
	}
}

func (w *routedWorld) run(rng *rand.Rand) {
	all, r := replicas(4, 1+rng.IntN(2)), w.r
	if w.policy {
		r.SetPolicy(subset{})
	}
	update := func() {
		w.mu.Lock()
		w.set = nil
		for _, rep := range all {
			if rng.IntN(4) > 0 {
				w.set = append(w.set, rep)
			}
		}
		w.mu.Unlock()
		r.Update(nil, w.set)
	}
	update()
	running := func() *routed {
		for range 8 {
			if len(w.calls) > 0 {
				if c := w.calls[rng.IntN(len(w.calls))]; c.at != nil {
					return c
				}
			}
		}
		return nil
	}
	for step := range 200 {
		switch op := rng.IntN(24); {
		default:
			s := ""
			for range rng.IntN(3) {
				s += fmt.Sprintf("r%d ", rng.IntN(4))
			}
			c := &routed{w: w, info: session(s), origin: fmt.Sprint(rng.IntN(2)), order: step, waiting: true}
			if !w.policy {
				c.info = withModel([]string{"", "", "m", "n", "o"}[rng.IntN(5)])
			}
			if n := w.waits(c.origin); w.limit >= 0 && n >= w.limit {
				c.fails = call.NewError(helvetype.ReasonBackpressure, "")
			}
			w.mu.Lock()
			w.calls = append(w.calls, c)
			w.mu.Unlock()
			r.Submit(nil, &c.ticket, c.origin, c.info, c)
			if c.waiting && c.fails != nil {
				w.fatal("%d calls of an origin wait, which is too many", w.waits(c.origin))
			}
		case op < 7:
			if c := running(); c != nil {
				rep := c.at
				c.at = nil
				rep.Gate().Release(nil)
			}
		case op < 9:
			if c := w.calls; len(c) > 0 {
				if c := c[rng.IntN(len(c))]; c.waiting {
					c.waiting = false
					if !r.Cancel(&c.ticket) {
						w.fatal("a call that waits could not be cancelled")
					}
				}
			}
		case op < 11:
			update()
		case op < 13:
			if c := running(); c != nil && slices.Contains(w.set, c.at) {
				rep := c.at
				c.at = nil
				rep.Gate().Release(nil)
				c.waiting = true
				r.Requeue(nil, &c.ticket, c.origin, c.info, c)
			}
		case op < 14:
			w.limit = rng.IntN(12) - 2
			r.SetLimit(w.limit)
		case op < 17:
			r.SetModels(all[rng.IntN(4)], []string{"m", "n", "o"}[rng.IntN(2):rng.IntN(2)+2])
		case op < 18:
			time.Sleep(time.Duration(rng.IntN(3)) * matchingTime / 2)
		case op < 19 && rng.IntN(8) == 0 && w.closed == nil:
			w.closed = call.NewError(helvetype.ReasonDeploymentUnavailable, "gone")
			r.Close(w.closed)
			if n := w.waits(""); n > 0 {
				w.fatal("%d calls wait at a router that is closed", n)
			}
		}
		synctest.Wait()
		w.check(step)
	}
	for _, c := range w.calls {
		if c.waiting {
			c.waiting = false
			r.Cancel(&c.ticket)
		}
	}
	if n := len(r.admission.byOrigin); n != 0 {
		w.fatal("%d origins are counted and nothing waits", n)
	}
	time.Sleep(3 * matchingTick)
	synctest.Wait()
	if n := len(r.byModel); n != 0 {
		w.fatal("%d subqueues of models are left", n)
	}
}

func (w *routedWorld) check(step int) {
	for _, c := range w.calls {
		if !c.waiting {
			continue
		}
		for _, rep := range c.allowed() {
			if rep.Gate().TryAcquire() {
				w.fatal("step %d: a call for %q waits, and %s has a slot", step, c.like(), rep.ID())
			}
		}
		late := func() bool {
			w.r.mu.Lock()
			defer w.r.mu.Unlock()
			l, now := w.r.byModel[c.like()], call.Now()
			return c.waiting && now-c.ticket.since > int64(matchingTime+matchingTick) &&
				(l == nil || l.spill == nil && now-l.lastSpill > int64(matchingTime+matchingTick))
		}
		if !w.policy && c.like() != "" && late() {
			time.Sleep(matchingTick) // a call before it may have left just now
			synctest.Wait()
			if late() {
				w.fatal("step %d: a call has waited for its model for %v, and none tries elsewhere", step, time.Duration(call.Now()-c.ticket.since))
			}
		}
	}
	if n := w.waits(""); w.r.Queued() != n {
		w.fatal("step %d: %d calls wait, the router counts %d", step, n, w.r.Queued())
	}
}

// racing is one call of the stress test.
type racing struct {
	ticket Ticket
	end    chan Replica // capacity 1; nil if the call was cancelled
}

func (c *racing) Assigned(_ *call.Batch, r Replica)       { c.end <- r }
func (c *racing) Failed(_ *call.Batch, cause *call.Error) { panic(cause) }

// TestRestrictedCallsUnderUpdates: every call ends once and every slot comes back, with any calls and updates at the
// same time.
func TestRestrictedCallsUnderUpdates(t *testing.T) {
	t.Parallel()
	for _, models := range []bool{false, true} {
		t.Run(fmt.Sprint("models=", models), func(t *testing.T) {
			t.Parallel()
			underUpdates(t, models)
		})
	}
}

func underUpdates(t *testing.T, models bool) {
	t.Helper()
	all := replicas(4, 2)
	r := New("here")
	if !models {
		r.SetPolicy(subset{})
	}
	r.Update(nil, all)
	stop, updated := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(updated)
		rng := rand.New(rand.NewPCG(1, 7))
		for {
			select {
			case <-stop:
				r.Update(nil, all) // all waiting calls can be served now
				return
			default:
				r.Update(nil, all[rng.IntN(4):])
				r.SetModels(all[rng.IntN(4)], []string{"m", "n", "o"}[rng.IntN(2):rng.IntN(2)+2])
			}
		}
	}()
	var callers sync.WaitGroup
	for k := range 8 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(k), 8))
			for i := range 2000 {
				info := session(fmt.Sprintf("r%d r%d", rng.IntN(4), rng.IntN(4)))
				if models {
					info = withModel([]string{"m", "n", "o", "p"}[rng.IntN(4)])
				}
				if rng.IntN(3) == 0 {
					info = session("")
				}
				c := &racing{end: make(chan Replica, 1)}
				r.Submit(nil, &c.ticket, fmt.Sprint(i%3), info, c)
				if rng.IntN(4) == 0 && r.Cancel(&c.ticket) {
					continue
				}
				rep := <-c.end
				rep.Gate().Release(nil)
			}
		})
	}
	callers.Wait()
	close(stop)
	<-updated
	for _, rep := range all {
		if n := rep.Gate().Load(); n != 0 {
			t.Errorf("%s has %d slots taken", rep.ID(), n)
		}
	}
	if r.Queued() != 0 || len(r.admission.byOrigin) != 0 {
		t.Errorf("%d wait, %v", r.Queued(), r.admission.byOrigin)
	}
}

// TestRetireDoesNotDeliver: a call that is delivered while the set changes may use the router.
func TestRetireDoesNotDeliver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New("here")
		r.SetPolicy(NewConsistentHash(10, 0))
		a := replica("a", 2)
		r.Update(nil, []Replica{a})
		s := session("s")
		r.TryAcquire(s)
		r.TryAcquire(s)
		updated := make(chan struct{})
		var t1, t2, t3 Ticket
		r.Submit(nil, &t1, "o", s, told(func() {
			go a.Gate().Release(nil) // assigns the second while the first is being delivered
			synctest.Wait()
			go func() { r.Update(nil, nil); close(updated) }()
			synctest.Wait()
		}))
		r.Submit(nil, &t2, "o", s, told(func() { r.Submit(nil, &t3, "o", s, told(func() {})) }))
		go a.Gate().Release(nil)
		<-updated
		if !r.Cancel(&t3) || r.Queued() != 0 {
			t.Errorf("%d wait", r.Queued())
		}
	})
}

// told is a call that runs a function when it has a slot.
type told func()

func (f told) Assigned(*call.Batch, Replica)   { f() }
func (f told) Failed(*call.Batch, *call.Error) {}

func TestClose(t *testing.T) {
	t.Parallel()
	r := New("here")
	r.SetPolicy(subset{})
	a := occupied("a", 1)
	r.Update(nil, []Replica{a})
	x, cause := &bench{t: t}, call.NewError(helvetype.ReasonDeploymentUnavailable, "gone")
	jobs := []*job{{x: x}, {x: x}}
	r.Submit(nil, &jobs[0].ticket, "o", session("a"), jobs[0])
	r.Submit(nil, &jobs[1].ticket, "o", session(""), jobs[1])
	r.Close(cause)
	late := &job{x: x}
	r.Submit(nil, &late.ticket, "o", session("a"), late)
	for _, j := range append(jobs, late) {
		if j.failed != cause || r.Cancel(&j.ticket) {
			t.Errorf("%+v", j.failed)
		}
	}
	a.Gate().Release(nil)
	if r.TryAcquire(session("a")) != a || r.Queued() != 0 {
		t.Error("a slot that is free")
	}
}

// ranking calls a function in the middle of a ranking.
type ranking struct{ hook func() }

func (p *ranking) Rank(_ *call.Info, set []Replica, ranks []int) ([]int, bool) {
	if f := p.hook; f != nil {
		p.hook = nil
		f()
	}
	for i := range set {
		ranks = append(ranks, i)
	}
	return ranks, true
}

// TestCloseDuringUpdate: a call that Update moves while the router is closed fails too.
func TestCloseDuringUpdate(t *testing.T) {
	t.Parallel()
	r, p, x := New("here"), &ranking{}, &bench{t: t}
	r.SetPolicy(p)
	r.Update(nil, []Replica{occupied("a", 1)})
	j, gone := &job{x: x}, &job{x: x}
	r.Submit(nil, &j.ticket, "o", session("s"), j)
	r.Submit(nil, &gone.ticket, "o", session("s"), gone)
	cause := call.NewError(helvetype.ReasonDeploymentUnavailable, "gone")
	p.hook = func() {
		r.Close(cause)
		if !r.Cancel(&gone.ticket) {
			t.Error("not cancelled")
		}
	}
	r.Update(nil, nil)
	if j.failed != cause || gone.failed != nil || r.Queued() != 0 || len(r.admission.byOrigin) != 0 {
		t.Errorf("%v, %v, %d wait, %v", j.failed, gone.failed, r.Queued(), r.admission.byOrigin)
	}
}

// asking counts how often a policy is asked.
type asking struct {
	ConsistentHash
	times int
}

func (p *asking) Rank(c *call.Info, set []Replica, ranks []int) ([]int, bool) {
	p.times++
	return p.ConsistentHash.Rank(c, set, ranks)
}

// TestWaitingCostsNothing: a call that waits for its replicas is ranked when it comes and never again, and no work is
// done until a slot is free.
func TestWaitingCostsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, p, x := New("here"), &asking{ConsistentHash: *NewConsistentHash(10, 0)}, &bench{t: t}
		r.SetPolicy(p)
		a := occupied("a", 1)
		r.Update(nil, []Replica{a})
		const calls = 100
		for i := range calls {
			j := &job{x: x, name: fmt.Sprint(i)}
			r.Submit(nil, &j.ticket, "o", session("s"), j)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if p.times != calls || r.Queued() != calls {
			t.Errorf("%d calls, ranked %d times, %d wait", calls, p.times, r.Queued())
		}
		for i := range calls {
			a.Gate().Release(nil)
			x.want(fmt.Sprint(i))
		}
		if p.times != calls {
			t.Errorf("ranked %d times", p.times)
		}
	})
}

// TestModelsOfReplicasToCome: models that are set before a replica is in the set stay until it has left the set.
func TestModelsOfReplicasToCome(t *testing.T) {
	t.Parallel()
	r, all := New("here"), replicas(3, 1)
	for i, id := range []string{"a", "b", "c"} {
		r.SetModels(all[i], []string{id})
	}
	for n := range all { // one after the other becomes ready
		r.Update(nil, all[:n+1])
	}
	for i, id := range []string{"a", "b", "c"} {
		if got := r.TryAcquire(withModel(id)); got != all[i] {
			t.Errorf("the holder of %s: %v", id, got)
		} else {
			got.Gate().Release(nil)
		}
	}
	r.Update(nil, all[:1])
	r.SetModels(all[1], []string{"late"})
	r.SetModels(all[1], nil)
	if len(r.models.has) != 1 || len(r.models.holders) != 1 {
		t.Errorf("of replicas that have left: %v", r.models.has)
	}
}

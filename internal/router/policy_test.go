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

	"github.com/helve-serve/helve/internal/call"
)

func replicas(n, slots int) []*Replica {
	var rs []*Replica
	for i := range n {
		rs = append(rs, replica(fmt.Sprintf("r%d", i), slots))
	}
	return rs
}

func session(id string) *call.Info { return &call.Info{Affinity: &call.Affinity{Session: id}} }
func withModel(id string) *call.Info {
	return &call.Info{Affinity: &call.Affinity{Model: id}}
}

func ids(set []*Replica, ranks []int) (out []string) {
	for _, i := range ranks {
		out = append(out, set[i].ID)
	}
	return out
}

func TestConsistentHash(t *testing.T) {
	t.Parallel()
	owners := func(n int) (map[string]string, *ConsistentHash, []*Replica) {
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
			m[key] = set[ranks[0]].ID
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
	before := p.cursor.Load()
	if ranks, _ := p.Rank(&call.Info{}, nil, nil); len(ranks) != 0 || p.cursor.Load() != before {
		t.Error("the cursor moved without replicas")
	}
}

func TestModelAffinity(t *testing.T) {
	t.Parallel()
	r, set := New("here"), replicas(3, 1)
	r.Update(nil, set)
	rank := func(id string) []string {
		ranks, only := r.rank(withModel(id), set, nil)
		if only {
			t.Error("a model restricts")
		}
		return ids(set, ranks)
	}
	r.SetModels(set[0], []string{"a", "b"})
	r.SetModels(set[1], []string{"a"})
	if got := rank("b"); !slices.Equal(got, []string{"r0"}) {
		t.Errorf("the holder of b: %v", got)
	}
	if got := rank("new"); !slices.Equal(got, []string{"r2"}) {
		t.Errorf("a new model goes to the fewest: %v", got)
	}
	if got := rank("a"); len(got) != 2 || slices.Contains(got, "r2") {
		t.Errorf("the holders of a: %v", got)
	}
	// The first call for a new model decides where the next go, before anything is loaded.
	got := r.TryAcquire(withModel("new"))
	if got != set[2] || !slices.Equal(rank("new"), []string{"r2"}) {
		t.Errorf("%v, then %v", got, rank("new"))
	}
	if spilled := r.TryAcquire(withModel("new")); spilled == nil || spilled == set[2] {
		t.Errorf("a full holder did not spill over: %v", spilled)
	}
	r.SetModels(set[2], []string{"new"})
	r.SetModels(set[2], nil) // unloaded
	if got := rank("b"); !slices.Equal(got, []string{"r0"}) {
		t.Errorf("%v", got)
	}
	r.Update(nil, set[1:])
	if len(r.models.has) != 1 || len(r.models.holders) != 1 || len(r.models.expected) != 0 || len(r.models.expects) != 0 {
		t.Errorf("models of a replica that is gone: %+v", &r.models)
	}
	for i := range 3 * maxExpected {
		r.models.expect(fmt.Sprint(i), set[1])
	}
	if len(r.models.expected) != maxExpected || len(r.models.order) != maxExpected || r.models.expects[set[1]] != maxExpected {
		t.Errorf("%d expected", len(r.models.expected))
	}
}

func TestPreferLocal(t *testing.T) {
	t.Parallel()
	r, set := New("here"), replicas(4, 1)
	set[1].Node, set[2].Node, set[3].Node = "here", "here", "there"
	r.Update(nil, set)
	local := &call.Info{Affinity: &call.Affinity{Local: true}}
	var got []string
	for range 4 {
		j := &job{x: &bench{t: t}}
		r.Submit(nil, &j.ticket, "o", local, j)
		got = append(got, j.replica.ID)
	}
	slices.Sort(got[:2])
	slices.Sort(got[2:])
	if !slices.Equal(got, []string{"r1", "r2", "r0", "r3"}) {
		t.Errorf("local first, then the others: %v", got)
	}
	r.SetModels(set[0], []string{"m"})
	if ranks, _ := r.rank(&call.Info{Affinity: &call.Affinity{Local: true, Model: "m"}}, set, nil); !slices.Equal(ids(set, ranks), []string{"r0"}) {
		t.Errorf("with a model the node does not count: %v", ids(set, ranks))
	}
}

func TestLimitPerOrigin(t *testing.T) {
	t.Parallel()
	r := New("here")
	r.Update(nil, []*Replica{occupied("a", 1)})
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
		if j := submit("o"); j.failed == nil || j.failed.Reason != call.Backpressure || !strings.HasPrefix(j.failed.Message, "Request dropped due to backpressure") {
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

// subset restricts calls with a session "a b" to the replicas a and b, as far as they are there.
type subset struct{}

func (subset) Rank(c *call.Info, set []*Replica, ranks []int) ([]int, bool) {
	if c.Affinity == nil || c.Affinity.Session == "" {
		return ranks, false
	}
	for i, r := range set {
		if slices.Contains(strings.Fields(c.Affinity.Session), r.ID) {
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
	at      *Replica
	waiting bool
}

type routedWorld struct {
	t     *testing.T
	seed  uint64
	set   []*Replica
	calls []*routed
}

func (c *routed) allowed(set []*Replica) (out []*Replica) {
	ranks, only := subset{}.Rank(c.info, set, nil)
	if !only || len(ranks) == 0 && len(set) > 0 {
		return set
	}
	for _, i := range ranks {
		out = append(out, set[i])
	}
	return out
}

func (c *routed) Assigned(_ *call.Batch, r *Replica) {
	if !c.waiting {
		c.w.t.Fatalf("seed %d: a call that does not wait was assigned", c.w.seed)
	}
	c.waiting, c.at = false, r
	if !slices.Contains(c.allowed(c.w.set), r) {
		c.w.t.Fatalf("seed %d: a call for %q went to %s", c.w.seed, c.info.Affinity.Session, r.ID)
	}
	for _, other := range c.w.calls {
		if other.waiting && other.origin == c.origin && other.order < c.order && other.info.Affinity.Session == c.info.Affinity.Session {
			c.w.t.Fatalf("seed %d: call %d overtook %d of its origin", c.w.seed, c.order, other.order)
		}
	}
}

func (c *routed) Failed(*call.Batch, *call.Error) { c.w.t.Fatalf("seed %d: failed", c.w.seed) }

// TestRestrictedCallsAgainstAModel does anything in any order with calls that may go to some replicas only. The model: a
// call goes where it may, in turn, and none waits while a replica that it may go to has a slot.
func TestRestrictedCallsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 6))
		all := replicas(4, 1+rng.IntN(2))
		w := &routedWorld{t: t, seed: seed}
		r := New("here")
		r.SetPolicy(subset{})
		update := func() {
			w.set = nil
			for _, rep := range all {
				if rng.IntN(4) > 0 {
					w.set = append(w.set, rep)
				}
			}
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
			switch rng.IntN(10) {
			default:
				s := ""
				for range rng.IntN(3) {
					s += fmt.Sprintf("r%d ", rng.IntN(4))
				}
				c := &routed{w: w, info: session(s), origin: fmt.Sprint(rng.IntN(2)), order: step, waiting: true}
				w.calls = append(w.calls, c)
				r.Submit(nil, &c.ticket, c.origin, c.info, c)
			case 0, 1, 2:
				if c := running(); c != nil {
					rep := c.at
					c.at = nil
					rep.Gate.Release(nil)
				}
			case 3:
				if c := w.calls; len(c) > 0 {
					if c := c[rng.IntN(len(c))]; c.waiting {
						c.waiting = false
						if !r.Cancel(&c.ticket) {
							t.Fatalf("seed %d: a call that waits could not be cancelled", seed)
						}
					}
				}
			case 4:
				update()
			case 5:
				if c := running(); c != nil && slices.Contains(w.set, c.at) {
					rep := c.at
					c.at = nil
					rep.Gate.Release(nil)
					c.waiting = true
					r.Requeue(nil, &c.ticket, c.origin, c.info, c)
				}
			}
			waiting := 0
			for _, c := range w.calls {
				if !c.waiting {
					continue
				}
				waiting++
				for _, rep := range c.allowed(w.set) {
					if rep.Gate.TryAcquire() {
						t.Fatalf("seed %d step %d: a call for %q waits, and %s has a slot", seed, step, c.info.Affinity.Session, rep.ID)
					}
				}
			}
			if r.Queued() != waiting {
				t.Fatalf("seed %d step %d: %d calls wait, the router counts %d", seed, step, waiting, r.Queued())
			}
		}
		for _, c := range w.calls {
			if c.waiting {
				c.waiting = false
				r.Cancel(&c.ticket)
			}
		}
		if n := len(r.shared.byOrigin); n != 0 {
			t.Errorf("seed %d: %d origins are counted and nothing waits", seed, n)
		}
	}
}

// racing is one call of the stress test.
type racing struct {
	ticket Ticket
	end    chan *Replica // of one; nil: cancelled
}

func (c *racing) Assigned(_ *call.Batch, r *Replica)      { c.end <- r }
func (c *racing) Failed(_ *call.Batch, cause *call.Error) { panic(cause) }

// TestRestrictedCallsUnderUpdates: whatever runs at the same time, every call ends once and every slot comes back.
func TestRestrictedCallsUnderUpdates(t *testing.T) {
	t.Parallel()
	all := replicas(4, 2)
	r := New("here")
	r.SetPolicy(subset{})
	r.Update(nil, all)
	stop, updated := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(updated)
		rng := rand.New(rand.NewPCG(1, 7))
		for {
			select {
			case <-stop:
				r.Update(nil, all) // everything that waits can be served now
				return
			default:
				r.Update(nil, all[rng.IntN(4):])
			}
		}
	}()
	var callers sync.WaitGroup
	for k := range 8 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(k), 8))
			for i := range 2000 {
				s := fmt.Sprintf("r%d r%d", rng.IntN(4), rng.IntN(4))
				if rng.IntN(3) == 0 {
					s = ""
				}
				c := &racing{end: make(chan *Replica, 1)}
				r.Submit(nil, &c.ticket, fmt.Sprint(i%3), session(s), c)
				if rng.IntN(4) == 0 && r.Cancel(&c.ticket) {
					continue
				}
				rep := <-c.end
				rep.Gate.Release(nil)
			}
		})
	}
	callers.Wait()
	close(stop)
	<-updated
	for _, rep := range all {
		if n := rep.Gate.Load(); n != 0 {
			t.Errorf("%s has %d slots taken", rep.ID, n)
		}
	}
	if r.Queued() != 0 || len(r.shared.byOrigin) != 0 {
		t.Errorf("%d wait, %v", r.Queued(), r.shared.byOrigin)
	}
}

// TestRetireDoesNotDeliver: a call that is told of its slot while the set changes may use the router.
func TestRetireDoesNotDeliver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New("here")
		r.SetPolicy(NewConsistentHash(10, 0))
		a := replica("a", 2)
		r.Update(nil, []*Replica{a})
		s := session("s")
		r.TryAcquire(s)
		r.TryAcquire(s)
		updated := make(chan struct{})
		var t1, t2, t3 Ticket
		r.Submit(nil, &t1, "o", s, told(func() {
			go a.Gate.Release(nil) // assigns the second while the first is being told
			synctest.Wait()
			go func() { r.Update(nil, nil); close(updated) }()
			synctest.Wait()
		}))
		r.Submit(nil, &t2, "o", s, told(func() { r.Submit(nil, &t3, "o", s, told(func() {})) }))
		go a.Gate.Release(nil)
		<-updated
		if !r.Cancel(&t3) || r.Queued() != 0 {
			t.Errorf("%d wait", r.Queued())
		}
	})
}

// told does something when it has a slot.
type told func()

func (f told) Assigned(*call.Batch, *Replica)  { f() }
func (f told) Failed(*call.Batch, *call.Error) {}

func TestClose(t *testing.T) {
	t.Parallel()
	r := New("here")
	r.SetPolicy(subset{})
	a := occupied("a", 1)
	r.Update(nil, []*Replica{a})
	x, cause := &bench{t: t}, call.NewError(call.DeploymentUnavailable, "gone")
	jobs := []*job{{x: x}, {x: x}}
	r.Submit(nil, &jobs[0].ticket, "o", session("a"), jobs[0])
	r.Submit(nil, &jobs[1].ticket, "o", session(""), jobs[1])
	r.Close(cause)
	late := &job{x: x}
	r.Submit(nil, &late.ticket, "o", session("a"), late)
	for _, j := range append(jobs, late) {
		if j.failed != cause {
			t.Errorf("%+v", j.failed)
		}
	}
	a.Gate.Release(nil)
	if r.TryAcquire(session("a")) != a || r.Queued() != 0 {
		t.Error("a slot that is free")
	}
}

// TestModelsOfReplicasToCome: what is told of a replica before it is in the set lasts until it has left the set.
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
		if got := ids(all, first(r.rank(withModel(id), all, nil))); !slices.Equal(got, []string{all[i].ID}) {
			t.Errorf("the holder of %s: %v", id, got)
		}
	}
	r.Update(nil, all[:1])
	r.SetModels(all[1], []string{"late"})
	r.SetModels(all[1], nil)
	if len(r.models.has) != 1 || len(r.models.holders) != 1 {
		t.Errorf("of replicas that have left: %v", r.models.has)
	}
}

func first(ranks []int, _ bool) []int { return ranks }

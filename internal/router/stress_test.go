package router

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
)

// stress is the shared state of the goroutines of one run.
type stress struct {
	t       *testing.T
	inside  map[*gate.Gate]*atomic.Int64
	retired map[*gate.Gate]*atomic.Bool // seen idle after it was removed
	served  atomic.Int64
}

// use is the work of a call that has a slot.
func (s *stress) use(r Replica) {
	g := r.Gate().(*gate.Gate)
	if n := s.inside[g].Add(1); n > int64(g.Max()) {
		s.t.Errorf("%d calls in %d slots", n, g.Max())
	}
	if s.retired[g].Load() {
		s.t.Error("a call was assigned to a replica that had been removed and idle")
	}
	runtime.Gosched()
	s.inside[g].Add(-1)
	s.served.Add(1)
}

type stressCall struct {
	ticket Ticket
	s      *stress
	brief  bool // ends while it is being delivered
	told   atomic.Int64
	got    chan Replica
}

func (c *stressCall) Assigned(b *call.Batch, r Replica) {
	c.told.Add(1)
	if c.brief {
		c.s.use(r)
		r.Gate().Release(b)
		r = nil
	}
	c.got <- r
}

func (c *stressCall) Failed(*call.Batch, *call.Error) { c.s.t.Error("failed") }

// one is one call from start to end: it is delivered exactly once per submission that was not cancelled.
func (s *stress) one(x *subqueue, rng *rand.Rand) {
	if rng.IntN(2) == 0 {
		if r := x.TryAcquire(); r != nil {
			s.use(r)
			r.Gate().Release(nil)
			return
		}
	}
	c := &stressCall{s: s, brief: rng.IntN(4) == 0, got: make(chan Replica, 2)}
	origin := string(rune('a' + rng.IntN(3)))
	x.Submit(nil, &c.ticket, origin, c)
	attempts := int64(1)
	for {
		if rng.IntN(4) == 0 && x.Cancel(&c.ticket) {
			attempts--
			break
		}
		r := <-c.got
		if r == nil { // brief
			break
		}
		s.use(r)
		r.Gate().Release(nil)
		if rng.IntN(4) > 0 {
			break
		}
		attempts++
		x.Requeue(nil, &c.ticket, origin, c)
	}
	if n := c.told.Load(); n != attempts {
		s.t.Errorf("told %d times in %d attempts", n, attempts)
	}
}

// TestStress has many goroutines call through two routers that share gates, with and without changes of the set. A lost
// wake-up leaves them all asleep, which the bubble reports.
func TestStress(t *testing.T) {
	t.Parallel()
	for _, updates := range []int{0, 300} {
		for _, replicas := range []int{1, 2, 12} {
			for seed := range uint64(3) {
				t.Run(fmt.Sprintf("updates=%d/replicas=%d/%d", updates, replicas, seed), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { runStress(t, updates, replicas, seed) })
				})
			}
		}
	}
}

func runStress(t *testing.T, updates, replicas int, seed uint64) {
	t.Helper()
	const callers, calls = 16, 150
	s := &stress{t: t, inside: map[*gate.Gate]*atomic.Int64{}, retired: map[*gate.Gate]*atomic.Bool{}}
	routers := []*subqueue{newSubqueue(newAdmission()), newSubqueue(newAdmission())}
	var gates []*gate.Gate
	entries := make([][]Replica, len(routers))
	for i := range replicas + updates/10 { // those beyond the first come and go for good
		g := gate.New(1 + i%3)
		s.inside[g], s.retired[g] = new(atomic.Int64), new(atomic.Bool)
		gates = append(gates, g)
		for k := range routers {
			entries[k] = append(entries[k], &member{fmt.Sprint(i), "", g})
		}
	}
	for k, x := range routers {
		x.Update(nil, entries[k][:replicas])
	}
	var wg sync.WaitGroup
	for k := range callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(k)))
			for range calls {
				s.one(routers[rng.IntN(len(routers))], rng)
			}
		})
	}
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(seed, callers))
		for u := range updates {
			guest := replicas + u/10
			for k, x := range routers {
				var set []Replica
				for i := range replicas {
					if rng.IntN(2) == 0 {
						set = append(set, entries[k][i])
					}
				}
				if u%10 < 9 {
					set = append(set, entries[k][guest])
				}
				x.Update(nil, set)
			}
			if u%10 == 9 && gates[guest].Load() == 0 {
				s.retired[gates[guest]].Store(true)
			}
			if u%20 == 19 {
				gates[guest].Close()
			}
			runtime.Gosched()
		}
		if updates > 0 {
			for k, x := range routers {
				x.Update(nil, entries[k][:replicas])
			}
		}
	})
	wg.Wait()
	for _, g := range gates {
		if g.Load() != 0 {
			t.Errorf("load %d at the end", g.Load())
		}
	}
	for _, x := range routers {
		if x.Queued() != 0 {
			t.Errorf("%d queued at the end", x.Queued())
		}
		x.check(t)
	}
	if s.served.Load() == 0 {
		t.Error("nothing was served")
	}
}

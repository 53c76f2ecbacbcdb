package gate

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// farRouter is the router's side of a Remote, with a latency each way, as a test needs it: calls always wait.
type farRouter struct {
	latency time.Duration
	remote  *Remote
	service func() time.Duration

	mu       sync.Mutex
	seen     uint64 // grants that have come
	backlog  int    // calls that wait here, for which no grant has come
	done     int
	late     int
	messages int
	running  int
	stopped  bool
}

// after is time.AfterFunc, except that now is a goroutine: under the race detector a timer of a bubble that is due when it is made
// can crash the runtime (Go 1.26.8).
func after(d time.Duration, f func()) {
	if d <= 0 {
		go f()
		return
	}
	time.AfterFunc(d, f)
}

// Grant arrives after the latency; the call for it sets out at once.
func (f *farRouter) Grant(_ *call.Batch, id uint64, _ time.Duration) {
	f.mu.Lock()
	f.messages++
	f.mu.Unlock()
	after(f.latency, func() {
		f.mu.Lock()
		stopped := f.stopped
		f.messages++
		f.seen++
		upto := uint64(0)
		if !stopped {
			f.backlog--
			upto = f.seen + uint64(f.backlog)
		}
		f.mu.Unlock()
		after(f.latency, func() {
			if stopped {
				f.remote.Return(nil, id)
				f.remote.Want(nil, upto)
				return
			}
			f.arrive(id, upto)
		})
	})
}

// want says that n calls wait.
func (f *farRouter) want(n uint64) {
	f.mu.Lock()
	upto := f.seen + n
	f.mu.Unlock()
	f.remote.Want(nil, upto)
}

func (f *farRouter) arrive(id, upto uint64) {
	if !f.remote.Arrive(id) {
		f.mu.Lock()
		f.late++
		f.backlog++
		f.mu.Unlock()
		f.remote.Want(nil, upto+1)
		return
	}
	f.remote.Want(nil, upto)
	f.mu.Lock()
	f.running++
	f.mu.Unlock()
	time.AfterFunc(f.service(), func() {
		f.mu.Lock()
		f.running--
		f.done++
		f.backlog++ // a new call comes for each that ends
		f.mu.Unlock()
		f.remote.Done(nil)
	})
}

func (f *farRouter) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
}

// run has routers share a gate for a minute of fake time, each with more calls than it ever gets slots.
func run(t *testing.T, seed uint64, slots int, latencies []time.Duration) (routers []*farRouter) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var mu sync.Mutex
		service := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))
		}
		g := New(slots)
		for _, l := range latencies {
			f := &farRouter{latency: l, service: service, backlog: 1000}
			f.remote = g.Remote(f)
			routers = append(routers, f)
			after(l, func() { f.remote.Want(nil, 1000) })
		}
		for range 60 {
			time.Sleep(time.Second)
			if n := g.Load(); n > slots {
				t.Errorf("%d slots of %d are taken", n, slots)
			}
		}
		for _, f := range routers {
			f.stop()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if g.Load() != 0 {
			t.Errorf("%d slots are lost", g.Load())
		}
	})
	return routers
}

// TestRoutersShareAGate: routers near and far get the same share, in time for their leases.
func TestRoutersShareAGate(t *testing.T) {
	t.Parallel()
	const slots = 8
	perCall := map[int]float64{}
	local := run(t, 1, slots, []time.Duration{0})[0].done
	for _, n := range []int{2, 4, 8} {
		for seed := range uint64(3) {
			latencies := make([]time.Duration, n)
			for i := range latencies {
				latencies[i] = 50 * time.Millisecond * time.Duration(i) / time.Duration(n-1)
			}
			routers := run(t, seed, slots, latencies)
			total, messages, late := 0, 0, 0
			for _, f := range routers {
				total, messages, late = total+f.done, messages+f.messages, late+f.late
			}
			share := float64(total) / float64(n)
			for _, f := range routers {
				if float64(f.done) < 0.8*share || float64(f.done) > 1.2*share {
					t.Errorf("seed %d, %d routers: the one %v away got %d calls, its share is %.0f", seed, n, f.latency, f.done, share)
				}
			}
			if late*100 > total {
				t.Errorf("seed %d, %d routers: %d of %d calls came too late", seed, n, late, total)
			}
			perCall[n] = float64(messages) / float64(total)
			t.Logf("seed %d, %d routers at 0 to 50 ms: %d calls, %.2f messages a call, %.0f %% of what one router beside the gate gets",
				seed, n, total, perCall[n], 100*float64(total)/float64(local))
		}
	}
	if perCall[8] > 1.1*perCall[2] {
		t.Errorf("messages a call grow with routers: %v", perCall)
	}
}

func TestLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		lease := func() *Lease {
			t.Helper()
			if !g.TryAcquire() {
				t.Fatal("the gate is full")
			}
			return g.Lease(time.Second)
		}
		l := lease()
		if !l.Use() || l.Use() || l.Renew(1) || g.Load() != 1 {
			t.Error("a used lease")
		}
		l.Release(nil)
		time.Sleep(2 * time.Second)
		if g.Load() != 1 {
			t.Error("a used slot came back by itself")
		}
		g.Release(nil)
		l = lease()
		l.Release(nil)
		l.Release(nil)
		if l.Use() || g.Load() != 0 {
			t.Error("a released lease")
		}
		l = lease()
		time.Sleep(900 * time.Millisecond)
		if !l.Renew(time.Second) {
			t.Error("not renewed")
		}
		time.Sleep(900 * time.Millisecond)
		if g.Load() != 1 {
			t.Error("a renewed lease has ended")
		}
		time.Sleep(200 * time.Millisecond)
		if l.Use() || l.Renew(time.Second) || g.Load() != 0 {
			t.Error("an expired lease")
		}
	})
}

// TestGrantsAgainstAModel does anything in any order; the model is a count of slots.
func TestGrantsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			slots := 1 + rng.IntN(4)
			g := New(slots)
			routers := make([]*ledger, 3)
			for i := range routers {
				routers[i] = &ledger{}
				routers[i].remote = g.Remote(routers[i])
			}
			local := 0
			for step := range 300 {
				f := routers[rng.IntN(len(routers))]
				switch rng.IntN(8) {
				case 0:
					f.want(rng.IntN(4))
				case 1, 2:
					if id, ok := f.pop(rng); ok {
						if f.remote.Arrive(id) {
							f.running++
						}
						f.want(rng.IntN(3))
					}
				case 3:
					if id, ok := f.pop(rng); ok {
						f.remote.Return(nil, id)
						f.want(rng.IntN(2))
					}
				case 4:
					if f.running > 0 {
						f.running--
						f.remote.Done(nil)
					}
				case 5:
					if g.TryAcquire() {
						local++
					}
				case 6:
					if local > 0 {
						local--
						g.Release(nil)
					}
				case 7:
					time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
					synctest.Wait()
				}
				held := local
				for _, f := range routers {
					f.remote.mu.Lock()
					held += f.running + len(f.remote.leases)
					f.remote.mu.Unlock()
				}
				if held != g.Load() || held > slots {
					t.Fatalf("seed %d step %d: %d slots are held, the gate counts %d of %d", seed, step, held, g.Load(), slots)
				}
			}
			for _, f := range routers {
				f.remote.Lost(nil)
				for ; f.running > 0; f.running-- {
					f.remote.Done(nil)
				}
			}
			for ; local > 0; local-- {
				g.Release(nil)
			}
			if g.Load() != 0 {
				t.Errorf("seed %d: %d slots are lost", seed, g.Load())
			}
		})
	}
}

// ledger is a Courier that keeps what it is given.
type ledger struct {
	remote  *Remote
	grants  []uint64
	seen    uint64
	running int
}

func (l *ledger) want(n int) { l.remote.Want(nil, l.seen+uint64(n)) }

func (l *ledger) Grant(_ *call.Batch, id uint64, ttl time.Duration) {
	if ttl < leaseMin || ttl > leaseMax {
		panic(fmt.Sprint("a lease of ", ttl))
	}
	l.grants = append(l.grants, id)
	l.seen++
}

func (l *ledger) pop(rng *rand.Rand) (uint64, bool) {
	if len(l.grants) == 0 {
		return 0, false
	}
	i := rng.IntN(len(l.grants))
	id := l.grants[i]
	l.grants = append(l.grants[:i], l.grants[i+1:]...)
	return id, true
}

func BenchmarkLease(b *testing.B) {
	g := New(1)
	for b.Loop() {
		g.TryAcquire()
		g.Lease(time.Second).Release(nil)
	}
}

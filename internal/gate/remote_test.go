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

// farRouter is the router's side of a Remote, with a latency each way, as a test needs it: calls always wait. With latency
// 0 and near it is a lane of the gate's own process instead. What crosses between the two is counted where it does: by
// the courier, and by send.
type farRouter struct {
	latency time.Duration
	near    bool
	burst   int // so many calls come together, every second; 0: one for each that ends
	gate    *Gate
	remote  *Remote
	service func() time.Duration

	mu       sync.Mutex
	backlog  int // calls that wait here, for which no grant has come
	came     int
	seen     uint64 // grants that have come
	done     int
	late     int
	returned int
	messages int
	running  int
	stopped  bool
}

// begin has n calls come, the first of which the gate is told of.
func (f *farRouter) begin(n int) {
	f.mu.Lock()
	first := f.backlog == 0
	f.backlog += n
	f.came += n
	upto := f.seen + uint64(f.backlog)
	f.mu.Unlock()
	switch {
	case !first || n == 0:
	case f.near:
		f.wait()
	default:
		f.send(func() { f.remote.Want(nil, upto) })
	}
}

// send carries a message to the gate.
func (f *farRouter) send(arrives func()) {
	f.mu.Lock()
	f.messages++
	f.mu.Unlock()
	after(f.latency, arrives)
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

// Grant is the courier: it carries a grant to the router. The call for it sets out at once.
func (f *farRouter) Grant(_ *call.Batch, id uint64, _ time.Duration) {
	f.mu.Lock()
	f.messages++
	f.mu.Unlock()
	after(f.latency, func() {
		f.mu.Lock()
		f.seen++
		none := f.stopped || f.backlog == 0
		if none {
			f.returned++
		} else {
			f.backlog--
		}
		upto := f.seen
		if !f.stopped {
			upto += uint64(f.backlog)
		}
		f.mu.Unlock()
		f.send(func() {
			if none {
				f.remote.Return(nil, id)
				f.remote.Want(nil, upto)
			} else {
				f.arrive(id, upto)
			}
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
	f.execute(func() { f.remote.Done(nil) })
}

func (f *farRouter) execute(end func()) {
	f.mu.Lock()
	f.running++
	f.mu.Unlock()
	time.AfterFunc(f.service(), func() {
		f.mu.Lock()
		f.running--
		f.done++
		again := f.burst == 0 && !f.stopped
		f.mu.Unlock()
		if again {
			f.begin(1) // a new call comes for each that ends
		}
		end()
	})
}

// Granted is what a lane does with a slot.
func (f *farRouter) Granted(b *call.Batch) {
	f.mu.Lock()
	got := f.backlog > 0 && !f.stopped
	if got {
		f.backlog--
	}
	f.mu.Unlock()
	if !got {
		f.gate.Release(b)
		return
	}
	f.execute(func() { f.gate.Release(nil) })
	f.wait()
}

func (f *farRouter) wait() {
	for {
		f.mu.Lock()
		wants := f.backlog > 0 && !f.stopped
		f.mu.Unlock()
		if !wants || !f.gate.Wait(f) {
			return
		}
		f.mu.Lock()
		f.backlog--
		f.mu.Unlock()
		f.execute(func() { f.gate.Release(nil) })
	}
}

func (f *farRouter) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
}

// always is the calls of a router that has more than it ever gets slots.
const always = 1000

// run has routers share a gate for a minute of fake time.
func run(t *testing.T, seed uint64, slots int, routers ...*farRouter) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var mu sync.Mutex
		service := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))
		}
		g := New(slots)
		for _, f := range routers {
			f.gate, f.service = g, service
			if !f.near {
				f.remote = g.Remote(f)
			}
			if f.burst == 0 {
				f.begin(always)
			}
		}
		for range 60 {
			for _, f := range routers {
				if f.burst > 0 {
					f.begin(f.burst)
				}
			}
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
}

// away are n routers 0 to 50 ms away.
func away(n int) []*farRouter {
	var routers []*farRouter
	for i := range n {
		routers = append(routers, &farRouter{latency: 50 * time.Millisecond * time.Duration(i) / time.Duration(max(n-1, 1))})
	}
	return routers
}

// sum is what routers have done together.
func sum(routers []*farRouter) (done, messages, late int) {
	for _, f := range routers {
		done, messages, late = done+f.done, messages+f.messages, late+f.late
	}
	return done, messages, late
}

// wantShares fails the test if one of routers has not had its share, give or take a fifth.
func wantShares(t *testing.T, what string, routers []*farRouter) {
	t.Helper()
	total, _, _ := sum(routers)
	share := float64(total) / float64(len(routers))
	for _, f := range routers {
		if float64(f.done) < 0.8*share || float64(f.done) > 1.2*share {
			t.Errorf("%s: the one %v away (near: %v) got %d calls, its share is %.0f", what, f.latency, f.near, f.done, share)
		}
	}
}

// TestRoutersShareAGate: routers near and far get the same share, in time for their leases.
func TestRoutersShareAGate(t *testing.T) {
	t.Parallel()
	const slots = 8
	perCall := map[int]float64{}
	beside := &farRouter{near: true}
	run(t, 1, slots, beside)
	for _, n := range []int{2, 4, 8} {
		for seed := range uint64(3) {
			routers := away(n)
			run(t, seed, slots, routers...)
			what := fmt.Sprintf("seed %d, %d routers at 0 to 50 ms", seed, n)
			wantShares(t, what, routers)
			total, messages, late := sum(routers)
			if late*100 > total {
				t.Errorf("%s: %d of %d calls came too late", what, late, total)
			}
			perCall[n] = float64(messages) / float64(total)
			t.Logf("%s: %d calls, %.2f messages a call, %.0f %% of what a lane beside the gate gets",
				what, total, perCall[n], 100*float64(total)/float64(beside.done))
		}
	}
	if perCall[8] > 1.1*perCall[2] || perCall[8] > 2.1 {
		t.Errorf("messages a call: %v", perCall)
	}
}

// TestRoutersOfAllKindsShareAGate: beside routers that always have calls there are a lane of the gate's own process, routers
// with bursts that are less than a share, and one that has no calls. The first share what is left; bursts are served before
// the next comes, with few messages beside two a call; who wants nothing sends and gets nothing.
func TestRoutersOfAllKindsShareAGate(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		const slots, burst = 8, 10
		busy := append(away(4), &farRouter{near: true})
		bursty := []*farRouter{{burst: burst}, {burst: burst, latency: 10 * time.Millisecond}, {burst: burst, latency: 30 * time.Millisecond}}
		idle := &farRouter{burst: -1, latency: 20 * time.Millisecond}
		run(t, seed, slots, append(append([]*farRouter{idle}, busy...), bursty...)...)
		what := fmt.Sprint("seed ", seed)
		wantShares(t, what, busy)
		for _, f := range bursty {
			if f.came-f.done > burst {
				t.Errorf("%s: of %d calls in bursts %d were served", what, f.came, f.done)
			}
			if perCall := float64(f.messages) / float64(f.done); perCall > 2.6 {
				t.Errorf("%s: %.2f messages a call in bursts, %d grants returned", what, perCall, f.returned)
			}
		}
		if idle.messages != 0 {
			t.Errorf("%s: %d messages with a router without calls", what, idle.messages)
		}
		total, messages, late := sum(append(busy, bursty...))
		t.Logf("%s: %d calls, %d of them in bursts, %d messages, %d late", what, total, 3*bursty[0].done, messages, late)
		if late*100 > total {
			t.Errorf("%s: %d of %d calls came too late", what, late, total)
		}
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

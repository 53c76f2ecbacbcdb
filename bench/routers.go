package main

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
)

const (
	farSlots   = 8
	farService = 20 * time.Millisecond
)

// farRouter is a router of another process, some way from a gate, that always has calls.
type farRouter struct {
	latency time.Duration
	remote  *gate.Remote
	done    *atomic.Int64
	over    *atomic.Bool
}

// Grant carries a grant to the router, whose call then sets out.
func (f *farRouter) Grant(_ *call.Batch, id uint64, _ time.Duration) {
	time.AfterFunc(2*f.latency, func() {
		if f.over.Load() {
			f.remote.Return(nil, id)
			return
		}
		if f.remote.Arrive(id) {
			time.AfterFunc(serviceTime(), func() { f.done.Add(1); f.remote.Done(nil) })
		}
	})
}

func serviceTime() time.Duration { return time.Duration(rand.ExpFloat64() * float64(farService)) }

// farRouters measures what routers 0 to 50 ms away get from a gate, against callers beside it. A slot is empty from its grant
// until the call for it arrives, so the cost is a round trip a call: less where methods take longer.
func (b *bench) farRouters(n int) func() (result, error) {
	return func() (result, error) {
		away := func() (sample, error) {
			g, done, over := gate.New(farSlots), new(atomic.Int64), new(atomic.Bool)
			start := time.Now()
			for i := range n {
				f := &farRouter{latency: 50 * time.Millisecond * time.Duration(i) / time.Duration(n-1), done: done, over: over}
				f.remote = g.Remote(f)
				f.remote.Want(nil, 1<<62)
			}
			time.Sleep(b.length)
			over.Store(true)
			return sample{v: float64(done.Load()) / time.Since(start).Seconds()}, nil
		}
		beside := func() (sample, error) {
			g, done, over := gate.New(farSlots), new(atomic.Int64), new(atomic.Bool)
			start := time.Now()
			var next func()
			next = func() {
				time.AfterFunc(serviceTime(), func() {
					done.Add(1)
					g.Release(nil)
					if !over.Load() && g.TryAcquire() {
						next()
					}
				})
			}
			for g.TryAcquire() {
				next()
			}
			time.Sleep(b.length)
			over.Store(true)
			return sample{v: float64(done.Load()) / time.Since(start).Seconds()}, nil
		}
		return b.row(perSecond, away, beside)
	}
}

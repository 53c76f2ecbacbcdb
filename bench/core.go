package main

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/stat"
)

// Core is a deployment with the methods that the rows of this file call.
type Core struct{ hold <-chan struct{} }

func (*Core) Echo(_ context.Context, n int) (int, error) { return n, nil }

// Hold waits until the row lets go.
func (c *Core) Hold(context.Context, int) (int, error) { <-c.hold; return 0, nil }

// Work takes a while without using a processor, as a call to an accelerator does.
func (*Core) Work(ctx context.Context, us int) (int, error) {
	t := time.NewTimer(time.Duration(us) * time.Microsecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return us, ctx.Err()
}

// Count yields 0 to n-1.
func (*Core) Count(_ context.Context, n int) iter.Seq2[int, error] { return countTo(n) }

func countTo(n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// core starts a Core with options until f returns.
func core(ctx context.Context, o helve.Options, hold <-chan struct{}, f func(helve.Handle[*Core]) error) error {
	return coreSystem(ctx, o, hold, func(_ *helve.System, h helve.Handle[*Core]) error { return f(h) })
}

// coreSystem is core with the system.
func coreSystem(ctx context.Context, o helve.Options, hold <-chan struct{}, f func(*helve.System, helve.Handle[*Core]) error) error {
	var h helve.Handle[*Core]
	sys, err := helve.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("core")
		h = helve.Deploy(app, "Core", func(context.Context) (*Core, error) { return &Core{hold}, nil }, o)
		app.Ingress(helve.MethodOf(h, (*Core).Echo))
		return app, nil
	})
	if err != nil {
		return err
	}
	defer sys.Close(context.WithoutCancel(ctx))
	return f(sys, h)
}

// perItem ranges over sequences of n items for a while, and gives nanoseconds an item.
func (b *bench) perItem(n int, make func() iter.Seq2[int, error]) (sample, error) {
	start, total := time.Now(), 0
	for time.Since(start) < b.length/2 {
		for _, err := range make() {
			if err != nil {
				return sample{}, err
			}
			total++
		}
	}
	return sample{v: float64(time.Since(start)) / float64(total)}, nil
}

func coreRows(b *bench) []measurement {
	rows := []measurement{
		{name: "Stream.Call, an item / the bare iterator", bar: 4, measure: b.streamCall},
		{name: "Stream.Remote, an item / buffered channel", bar: 1, measure: b.streamRemote},
		{name: "a queued Remote, bytes / goroutine that waits", measure: b.queuedBytes(remotes)},
		{name: "a queued Call, bytes / goroutine that waits", measure: b.queuedBytes(calls)},
		{name: "a queued stream, bytes / goroutine that waits", measure: b.queuedBytes(streams)},
		{name: "draining 100,000 calls, each / goroutine", measure: b.queuedDrain},
		{name: "goodput at 3x overload / capacity", bar: 0.95, atLeast: true, measure: b.overload(false)},
		{name: "p99 at 3x overload / full queue and service", bar: 1.5, measure: b.overload(true)},
	}
	for _, p := range pickings() {
		for _, n := range []int{1000, 10000} {
			name := fmt.Sprintf("%s at %d,000 replicas / at 10", p.name, n/1000)
			rows = append(rows, measurement{name: name, bar: 1.5, measure: b.picks(n, p)})
		}
	}
	return rows
}

func (b *bench) streamCall() (r result, err error) {
	const n = 10_000
	err = core(b.ctx, helve.Options{}, nil, func(h helve.Handle[*Core]) error {
		s := helve.StreamOf(h, (*Core).Count)
		r, err = b.row(nanoseconds,
			func() (sample, error) { return b.perItem(n, func() iter.Seq2[int, error] { return s.Call(b.ctx, n) }) },
			func() (sample, error) { return b.perItem(n, func() iter.Seq2[int, error] { return countTo(n) }) })
		return err
	})
	return r, err
}

func (b *bench) streamRemote() (r result, err error) {
	const n = 10_000
	err = core(b.ctx, helve.Options{}, nil, func(h helve.Handle[*Core]) error {
		s := helve.StreamOf(h, (*Core).Count)
		r, err = b.row(nanoseconds,
			func() (sample, error) {
				return b.perItem(n, func() iter.Seq2[int, error] { return s.Remote(b.ctx, n).All() })
			},
			func() (sample, error) {
				return b.perItem(n, func() iter.Seq2[int, error] {
					c := make(chan int, 64)
					go func() {
						defer close(c)
						for v := range countTo(n) {
							c <- v
						}
					}()
					return func(yield func(int, error) bool) {
						for v := range c {
							yield(v, nil)
						}
					}
				})
			})
		return err
	})
	return r, err
}

// picking is a way in which a replica is picked for a call.
type picking struct {
	name    string
	options helve.Options
	with    []helve.CallOption
	remote  bool
}

func pickings() []picking {
	return []picking{
		{name: "Call"},
		{name: "Remote", remote: true},
		{name: "Call with a model", with: []helve.CallOption{helve.ModelID("m")}},
		{name: "Call with a session", with: []helve.CallOption{helve.SessionID("s")}},
		{name: "Call, round robin", options: helve.Options{Routing: helve.RoundRobin{}}},
	}
}

// picks compares calls to many replicas with calls to ten. The heap of both systems exists all the time.
func (b *bench) picks(n int, p picking) func() (result, error) {
	return func() (r result, err error) {
		time1 := func(h helve.Handle[*Core]) func() (sample, error) {
			echo := helve.MethodOf(h, (*Core).Echo).With(p.with...)
			one := func() (int, error) { return echo.Call(b.ctx, 1) }
			if p.remote {
				one = func() (int, error) { return echo.Remote(b.ctx, 1).Result(b.ctx) }
			}
			return func() (sample, error) {
				if _, err := one(); err != nil { // the router's work for a new set, such as a hash ring, is not a pick
					return sample{}, err
				}
				start, k := time.Now(), 0
				for time.Since(start) < b.length/2 {
					for range 1000 {
						if _, err := one(); err != nil {
							return sample{}, err
						}
					}
					k += 1000
				}
				return sample{v: float64(time.Since(start)) / float64(k)}, nil
			}
		}
		replicas := func(n int) helve.Options {
			o := p.options
			o.NumReplicas = &n
			return o
		}
		err = core(b.ctx, replicas(n), nil, func(many helve.Handle[*Core]) error {
			return core(b.ctx, replicas(10), nil, func(ten helve.Handle[*Core]) error {
				r, err = b.row(nanoseconds, time1(many), time1(ten))
				return err
			})
		})
		return r, err
	}
}

const queued = 100_000

func heapBytes() float64 {
	runtime.GC()
	runtime.GC() // the first frees the stacks of goroutines that have ended, for the second to give back
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// queueing begins calls that wait, and returns a function that waits for their end.
type queueing func(ctx context.Context, h helve.Handle[*Core]) (wait func() error)

func remotes(ctx context.Context, h helve.Handle[*Core]) func() error {
	echo := helve.MethodOf(h, (*Core).Echo)
	rs := make([]*helve.Response[int], queued)
	for i := range rs {
		rs[i] = echo.Remote(ctx, i)
	}
	return func() error {
		_, err := helve.All(ctx, rs...)
		return err
	}
}

// calls have a goroutine each, as their callers do.
func calls(ctx context.Context, h helve.Handle[*Core]) func() error {
	echo := helve.MethodOf(h, (*Core).Echo)
	failed := make(chan error, queued)
	for i := range queued {
		go func() {
			_, err := echo.Call(ctx, i)
			failed <- err
		}()
	}
	return func() error {
		for range queued {
			if err := <-failed; err != nil {
				return err
			}
		}
		return nil
	}
}

func streams(ctx context.Context, h helve.Handle[*Core]) func() error {
	count := helve.StreamOf(h, (*Core).Count)
	rs := make([]*helve.ResponseStream[int], queued)
	for i := range rs {
		rs[i] = count.Remote(ctx, 1)
	}
	return func() error {
		for _, r := range rs {
			for _, err := range r.All() {
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// queue lets 100,000 calls wait for one slot, and measures between that and their end.
func (b *bench) queue(begin queueing, measure func(before float64, release func() error) (sample, error)) func() (sample, error) {
	return func() (s sample, err error) {
		hold := make(chan struct{})
		err = coreSystem(b.ctx, helve.Options{MaxOngoingRequests: new(1)}, hold, func(sys *helve.System, h helve.Handle[*Core]) error {
			first := helve.MethodOf(h, (*Core).Hold).Remote(b.ctx, 0)
			before := heapBytes()
			wait := begin(b.ctx, h)
			for sys.Status().Applications["core"].Deployments["Core"].Calls.Queued < queued { // calls on goroutines may still be on their way
				if b.ctx.Err() != nil {
					return b.ctx.Err()
				}
				runtime.Gosched()
			}
			s, err = measure(before, func() error {
				close(hold)
				if _, err := first.Result(b.ctx); err != nil {
					return err
				}
				return wait()
			})
			return err
		})
		return s, err
	}
}

// wait is queue with a goroutine for each call, which waits at a channel.
func (b *bench) wait(measure func(before float64, release func() error) (sample, error)) func() (sample, error) {
	return func() (sample, error) {
		slot, answers := make(chan struct{}, 1), make([]chan int, queued)
		var ready sync.WaitGroup
		before := heapBytes()
		for i := range answers {
			c := make(chan int, 1)
			answers[i] = c
			ready.Add(1)
			go func() {
				ready.Done()
				<-slot
				c <- i
				slot <- struct{}{}
			}()
		}
		ready.Wait()
		return measure(before, func() error {
			slot <- struct{}{}
			for _, c := range answers {
				<-c
			}
			return nil
		})
	}
}

func (b *bench) queuedBytes(begin queueing) func() (result, error) {
	grown := func(before float64, release func() error) (sample, error) {
		v := (heapBytes() - before) / queued
		return sample{v: v}, release()
	}
	bytes := func(s sample) string { return fmt.Sprintf("%.0f B", s.v) }
	return func() (result, error) { return b.row(bytes, b.queue(begin, grown), b.wait(grown)) }
}

func (b *bench) queuedDrain() (result, error) {
	drain := func(_ float64, release func() error) (sample, error) {
		start := time.Now()
		err := release()
		return sample{v: float64(time.Since(start)) / queued}, err
	}
	both := func(s sample) string { return fmt.Sprintf("%s, %.0f ms in all", nanoseconds(s), s.v*queued/1e6) }
	return b.row(both, b.queue(remotes, drain), b.wait(drain))
}

// overload offers three times the capacity of four replicas with five slots and 5 ms a call, with 20 calls allowed to
// wait.
func (b *bench) overload(latency bool) func() (result, error) {
	const (
		replicas, slots, limit = 4, 5, 20
		service                = 5 * time.Millisecond
	)
	return func() (r result, err error) {
		o := helve.Options{NumReplicas: new(replicas), MaxOngoingRequests: new(slots), MaxQueuedRequests: new(limit)}
		err = core(b.ctx, o, nil, func(h helve.Handle[*Core]) error {
			work := helve.MethodOf(h, (*Core).Work)
			call := func(ctx context.Context) error { _, err := work.Call(ctx, int(service.Microseconds())); return err }
			capacity, err := b.closedLoop(replicas*slots+limit/2, call)
			if err != nil {
				return err
			}
			offered, err := b.openLoop(3*capacity.v, call)
			if err != nil {
				return err
			}
			if latency {
				full := float64(limit)/capacity.v*1e9 + float64(service)
				r = result{latencyText(sample{v: offered.p50, p99: offered.p99}), fmt.Sprintf("%.1f us", full/1e3), offered.p99 / full}
				return nil
			}
			again, err := b.closedLoop(replicas*slots+limit/2, call)
			if err != nil {
				return err
			}
			reference := sample{v: stat.Median([]float64{capacity.v, again.v})}
			r = result{perSecond(sample{v: offered.goodput}), perSecond(reference), offered.goodput / reference.v}
			return nil
		})
		return r, err
	}
}

// outcome has the numbers of an open loop about its accepted calls.
type outcome struct{ goodput, p50, p99 float64 }

// openLoop begins calls at a rate, without waiting for their ends. Calls that are refused for want of a place do not
// count.
func (b *bench) openLoop(rate float64, f caller) (outcome, error) {
	const tick = time.Millisecond
	var wg sync.WaitGroup
	var mu sync.Mutex
	var took []float64
	var failed atomic.Pointer[error]
	start := time.Now()
	made := 0
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for time.Since(start) < b.length {
		<-ticker.C
		for due := int(rate * time.Since(start).Seconds()); made < due; made++ {
			wg.Go(func() {
				t := time.Now()
				switch err := f(b.ctx); {
				case err == nil:
					mu.Lock()
					took = append(took, float64(time.Since(t)))
					mu.Unlock()
				case helve.ReasonOf(err) != helve.Backpressure:
					failed.Store(&err)
				}
			})
		}
	}
	length := time.Since(start)
	wg.Wait()
	if err := failed.Load(); err != nil {
		return outcome{}, *err
	}
	slices.Sort(took)
	return outcome{float64(len(took)) / length.Seconds(), stat.Median(took), stat.Quantile(took, 0.99)}, nil
}

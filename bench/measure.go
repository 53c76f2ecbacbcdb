package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
)

// settings say how long to measure.
type settings struct {
	rounds int
	length time.Duration // of one measurement
	spin   time.Duration // length of one measurement of the machine's speed
}

// bench is the common state of the rows of a group.
type bench struct {
	settings
	ctx     context.Context // of the whole run
	cleanup []func()
}

// onEnd adds a function that runs after the last row of the group; the last added runs first.
func (b *bench) onEnd(f func()) { b.cleanup = append(b.cleanup, f) }

func (b *bench) end() {
	for _, f := range slices.Backward(b.cleanup) {
		f()
	}
}

// sample is one measurement of one side.
type sample struct {
	v    float64 // the numerator or denominator of the ratio
	p99  float64 // nanoseconds, of a latency
	rate float64 // per second, where a latency is v
	cpu  float64 // nanoseconds of processor time a call, of all processes
}

// both measures two things in turns, so that a disturbance of the machine meets both, and returns the medians.
func (s settings) both(ours, reference func() (sample, error)) (o, r sample, err error) {
	var os, rs []sample
	for range s.rounds {
		for _, side := range []struct {
			f   func() (sample, error)
			out *[]sample
		}{{ours, &os}, {reference, &rs}} {
			v, err := side.f()
			if err != nil {
				return o, r, err
			}
			*side.out = append(*side.out, v)
		}
	}
	return medians(os), medians(rs), nil
}

// row measures both sides in turns and prints each by text.
func (s settings) row(text func(sample) string, ours, reference func() (sample, error)) (result, error) {
	o, r, err := s.both(ours, reference)
	return result{text(o), text(r), o.v / r.v}, err
}

func medians(all []sample) sample {
	of := func(f func(sample) float64) float64 {
		var v []float64
		for _, s := range all {
			v = append(v, f(s))
		}
		return stat.Median(v)
	}
	return sample{
		of(func(s sample) float64 { return s.v }), of(func(s sample) float64 { return s.p99 }),
		of(func(s sample) float64 { return s.rate }), of(func(s sample) float64 { return s.cpu }),
	}
}

// once measures both sides when the first of the rows that share the numbers asks for them.
func (s settings) once(ours, reference func() (sample, error)) *shared {
	h := &shared{}
	h.take = sync.OnceValue(func() (err error) { h.ours, h.reference, err = s.both(ours, reference); return err })
	return h
}

// shared has numbers that several rows print a part of.
type shared struct {
	take            func() error
	ours, reference sample
}

// row prints what is picked of the numbers.
func (h *shared) row(text func(sample) string, pick func(sample) sample) func() (result, error) {
	return func() (result, error) {
		err := h.take()
		o, r := pick(h.ours), pick(h.reference)
		return result{text(o), text(r), o.v / r.v}, err
	}
}

// Parts of a latency that rows print.

func p50(s sample) sample  { return s }
func p99(s sample) sample  { return sample{v: s.p99} }
func rate(s sample) sample { return sample{v: s.rate} }
func cpu(s sample) sample  { return sample{v: s.cpu} }

// closedLoop runs n callers for a while and gives calls per second. Each caller has a context of its own, with a
// deadline, as a request in a server has.
func (b *bench) closedLoop(n int, f caller) (sample, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	total := 0
	start := time.Now()
	end := start.Add(b.length)
	for range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
			defer cancel()
			k := 0
			var err error
			for err == nil && time.Now().Before(end) {
				if err = f(ctx); err == nil {
					k++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total += k
			first = cmp.Or(first, err)
		})
	}
	wg.Wait()
	return sample{v: float64(total) / time.Since(start).Seconds()}, first
}

// latency measures calls one after the other.
func (b *bench) latency(f caller) (sample, error) {
	return b.repeated(func(ctx context.Context) (float64, error) {
		t := time.Now()
		err := f(ctx)
		return float64(time.Since(t)), err
	})
}

// repeated takes a time, in nanoseconds, again and again.
func (b *bench) repeated(f func(context.Context) (float64, error)) (sample, error) {
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	var all []float64
	for end := time.Now().Add(b.length / 2); len(all) == 0 || time.Now().Before(end); {
		v, err := f(ctx)
		if err != nil {
			return sample{}, err
		}
		all = append(all, v)
	}
	return sample{v: stat.Median(all), p99: stat.Quantile(all, 0.99)}, nil
}

// timedLoop is a closed loop of n callers in which every call is timed. This process and its descendants do the work
// of the calls; the side that is not measured is idle meanwhile.
func (b *bench) timedLoop(n int, length time.Duration, f caller) (sample, error) {
	before, err := proc.TreeCPU(os.Getpid())
	if err != nil {
		return sample{}, err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	var all []float64
	start := time.Now()
	for range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
			defer cancel()
			var took []float64
			var err error
			for t := start; err == nil && t.Sub(start) < length; {
				err = f(ctx)
				now := time.Now()
				took = append(took, float64(now.Sub(t)))
				t = now
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			first = cmp.Or(first, err)
		})
	}
	wg.Wait()
	if first != nil {
		return sample{}, first
	}
	seconds := time.Since(start).Seconds()
	after, err := proc.TreeCPU(os.Getpid())
	calls := float64(len(all))
	return sample{stat.Median(all), stat.Quantile(all, 0.99), calls / seconds, float64(after-before) / calls}, err
}

// The texts of samples.

func perSecond(s sample) string {
	switch {
	case s.v >= 1e6:
		return fmt.Sprintf("%.2fM/s", s.v/1e6)
	case s.v < 1e3:
		return fmt.Sprintf("%.0f/s", s.v)
	}
	return fmt.Sprintf("%.1fk/s", s.v/1e3)
}

// latencyText is p50 and p99.
func latencyText(s sample) string {
	if s.p99 >= 1e7 {
		return fmt.Sprintf("%.2f / %.1f ms", s.v/1e6, s.p99/1e6)
	}
	return fmt.Sprintf("%.1f / %.0f us", s.v/1e3, s.p99/1e3)
}

func nanoseconds(s sample) string  { return fmt.Sprintf("%.0f ns", s.v) }
func microseconds(s sample) string { return fmt.Sprintf("%.1f us", s.v/1e3) }
func times(s sample) string        { return fmt.Sprintf("%.2fx", s.v) }

const (
	ten     = "0123456789"
	payload = ten + ten + ten + ten + ten + ten + ten + ten + ten + ten // 100 bytes
)

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// settings say how long to measure.
type settings struct {
	rounds int
	length time.Duration // of one measurement
}

// bench is what the rows of a group share.
type bench struct {
	settings
	ctx     context.Context // of the whole run
	cleanup []func()
}

// onEnd adds what is done after the last row of the group; the last added is done first.
func (b *bench) onEnd(f func()) { b.cleanup = append(b.cleanup, f) }

func (b *bench) end() {
	for _, f := range slices.Backward(b.cleanup) {
		f()
	}
}

// sample is one measurement of one side.
type sample struct {
	v   float64 // what the ratio is of
	p99 float64 // nanoseconds, of a latency
}

// both measures two things in turns, so that what the machine does meanwhile meets both, and gives the medians.
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
	var v, p []float64
	for _, s := range all {
		v, p = append(v, s.v), append(p, s.p99)
	}
	return sample{median(v), median(p)}
}

func median[T cmp.Ordered](v []T) T { return quantile(v, 0.5) }

// quantile is the value below which a share q lies; the zero value if there is none.
func quantile[T cmp.Ordered](v []T, q float64) (t T) {
	if len(v) == 0 {
		return t
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(float64(len(v))*q), len(v)-1)]
}

// cpuScaling is how much more a pure-CPU loop gets done on two cores than on one: what the machine gives right now.
func cpuScaling() float64 {
	one := spin(1)
	return spin(2) / one
}

func spin(n int) float64 {
	var wg sync.WaitGroup
	counts := make([]uint64, n*16) // a cache line for each
	end := time.Now().Add(100 * time.Millisecond)
	for i := range n {
		wg.Go(func() {
			x, k := uint64(i+1), uint64(0)
			for time.Now().Before(end) {
				for range 1000 {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				k++
			}
			counts[i*16] = k + x&1 // so that the loop has a use
		})
	}
	wg.Wait()
	total := uint64(0)
	for _, c := range counts {
		total += c
	}
	return float64(total)
}

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
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	var all []float64
	for end := time.Now().Add(b.length / 2); time.Now().Before(end); {
		t := time.Now()
		if err := f(ctx); err != nil {
			return sample{}, err
		}
		all = append(all, float64(time.Since(t)))
	}
	return sample{median(all), quantile(all, 0.99)}, nil
}

// The texts of samples.

func perSecond(s sample) string {
	if s.v >= 1e6 {
		return fmt.Sprintf("%.2fM/s", s.v/1e6)
	}
	return fmt.Sprintf("%.1fk/s", s.v/1e3)
}

// latencyText is p50 and p99.
func latencyText(s sample) string { return fmt.Sprintf("%.1f / %.0f us", s.v/1e3, s.p99/1e3) }

func nanoseconds(s sample) string  { return fmt.Sprintf("%.0f ns", s.v) }
func microseconds(s sample) string { return fmt.Sprintf("%.1f us", s.v/1e3) }
func times(s sample) string        { return fmt.Sprintf("%.2fx", s.v) }

const (
	ten     = "0123456789"
	payload = ten + ten + ten + ten + ten + ten + ten + ten + ten + ten // 100 bytes
)

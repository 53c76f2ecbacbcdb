package telemetry

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestBuckets: a latency is in the first bucket whose bound is not below it.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]int{
		-1: 0, 0: 0, time.Millisecond: 0, time.Millisecond + 1: 1, 2 * time.Millisecond: 1, 2*time.Millisecond + 1: 2, 5 * time.Millisecond: 2,
		500 * time.Millisecond: 10, time.Second: 11, 10 * time.Minute: 18, 10*time.Minute + 1: 19, 24 * time.Hour: 19,
	} {
		if got := bucket(took); got != want {
			t.Errorf("%s: bucket %d, want %d", took, got, want)
		}
	}
	if b := Bounds(); len(b) != Buckets-1 || b[0] != 1 || b[18] != 600_000 {
		t.Errorf("%v", b)
	}
}

// TestCallsAgainstAModel: after random executions on several goroutines the numbers equal a plain sum, and while they run no
// number falls and no more have ended than begun.
func TestCallsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			const workers, each = 4, 2000
			var c Calls
			var sums [workers]Counts
			var running sync.WaitGroup
			for w := range workers {
				running.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(w)))
					for range each {
						c.Begin()
						sums[w].Started++
						switch rnd.IntN(10) {
						case 0:
							c.Undo()
							sums[w].Started--
							continue
						case 1:
							continue // the call died with its process
						case 2:
							c.Late()
							sums[w].Late++
						}
						took, failed := time.Duration(rnd.Int64N(int64(2*time.Second))), rnd.IntN(4) == 0
						c.End(took, failed)
						sums[w].Busy += took
						sums[w].Buckets[bucket(took)]++
						if failed {
							sums[w].Failed++
						}
					}
				})
			}
			over := make(chan struct{})
			go func() { running.Wait(); close(over) }()
			var before Counts
			for reading := true; reading; {
				select {
				case <-over:
					reading = false
				default:
				}
				now := c.Counts()
				if now.Ended() > now.Started || now.Ended() < before.Ended() || now.Failed < before.Failed || now.Busy < before.Busy {
					t.Fatalf("%+v after %+v", now, before)
				}
				before = now
			}
			var want Counts
			for _, s := range sums {
				want.Add(s)
			}
			got := c.Counts()
			want.Peaks = got.Peaks // see TestPeaks
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			got.Settle()
			if lost := want.Started - want.Ended(); got.Failed != want.Failed+lost {
				t.Errorf("%d failed, want %d and %d that were lost", got.Failed, want.Failed, lost)
			}
		})
	}
}

// TestSucceeded: a failure is no success, and the end by a caller is none.
func TestSucceeded(t *testing.T) {
	t.Parallel()
	var c Calls
	for range 5 {
		c.Begin()
	}
	c.End(time.Millisecond, false)
	c.End(time.Millisecond, true)
	c.Cancel(time.Second)
	c.Cancel(time.Second)
	if k := c.Counts(); k.Ended() != 4 || k.Succeeded() != 1 {
		t.Errorf("%d ended, %d succeeded: %+v", k.Ended(), k.Succeeded(), k)
	}
}

// TestQuantile: within a bucket times are evenly spread, a call above all bounds counts as the last one, and no quantile is above the longest call.
func TestQuantile(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		buckets map[int]uint64 // up to 1 ms, 2, 5, 10, 20, 50, 100 ms; 19 has those above all
		of      float64
		longest time.Duration
		want    float64
	}{
		{map[int]uint64{0: 100}, 0.99, 0, 0.99}, {map[int]uint64{0: 98, 1: 2}, 0.99, 0, 1.5}, {map[int]uint64{19: 4}, 0.99, 0, 600000}, {map[int]uint64{0: 1}, 0.99, 0, 0.99},
		{map[int]uint64{0: 98, 6: 2}, 0.99, 62 * ms, 62}, {map[int]uint64{0: 98, 6: 2}, 0.99, 99 * ms, 75}, {map[int]uint64{0: 98, 6: 2}, 0.99, 5 * ms, 75},
		{map[int]uint64{3: 10, 4: 10}, 0.5, 0, 10}, {map[int]uint64{3: 10, 4: 10}, 0.25, 0, 7.5}, {nil, 0.99, 0, math.NaN()},
	} {
		var k Counts
		for i, n := range c.buckets {
			k.Buckets[i] = n
		}
		if got := k.Quantile(c.of, c.longest); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%v: %g, want %g", c.buckets, got, c.want)
		}
	}
}

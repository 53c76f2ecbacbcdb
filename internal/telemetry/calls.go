package telemetry

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Buckets is the largest number of latency buckets, with the one for calls that took longer than all bounds.
const Buckets = 20

// BucketsVariable is the environment variable with other upper ends of the latency buckets, in milliseconds with commas between them; the variable of the
// reference has the same meaning if it is not set. They are read once, when the process starts: the workers of a node have its environment, and
// count in the same buckets. For example, HELVE_REQUEST_LATENCY_BUCKETS_MS=0.5,1,5,50 gives five buckets.
const (
	BucketsVariable          = "HELVE_REQUEST_LATENCY_BUCKETS_MS"
	referenceBucketsVariable = "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS"
)

// bounds are the upper ends of the latency buckets, and boundsError says why those of the environment are not used. A call that took longer than the last is in
// one more bucket.
var bounds, boundsError = boundsOf(cmp.Or(os.Getenv(BucketsVariable), os.Getenv(referenceBucketsVariable))) //nolint:gochecknoglobals // constant once the process runs

// usualBounds are the upper ends of the buckets of the reference.
func usualBounds() []time.Duration {
	usual := make([]time.Duration, 0, Buckets-1)
	for _, ms := range [...]int64{1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000, 60000, 120000, 300000, 600000} {
		usual = append(usual, time.Duration(ms)*time.Millisecond)
	}
	return usual
}

// boundsOf reads the upper ends of the buckets from a text; "", or a text with a mistake, gives the reference's, from 1 ms to 10 minutes.
func boundsOf(text string) ([]time.Duration, error) {
	usual := usualBounds()
	if text == "" {
		return usual, nil
	}
	var out []time.Duration
	for part := range strings.SplitSeq(text, ",") {
		ms, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		at := time.Duration(ms * float64(time.Millisecond))
		switch {
		case err != nil:
			return usual, fmt.Errorf("%s: %q is no number of milliseconds", BucketsVariable, part)
		case at <= 0 || ms > float64(time.Hour*24/time.Millisecond) || len(out) > 0 && at <= out[len(out)-1]:
			return usual, fmt.Errorf("%s: the numbers are above 0, at most a day, and each is larger than the one before: %q is not", BucketsVariable, part)
		case len(out) == Buckets-1:
			return usual, fmt.Errorf("%s: at most %d numbers", BucketsVariable, Buckets-1)
		}
		out = append(out, at)
	}
	return out, nil
}

// Bounds are the upper ends of the latency buckets in milliseconds, without the infinite one. There may be fewer than [Buckets]-1.
func Bounds() []float64 { return milliseconds(bounds) }

func milliseconds(of []time.Duration) []float64 {
	out := make([]float64, len(of))
	for i, b := range of {
		out[i] = float64(b) / float64(time.Millisecond)
	}
	return out
}

// BoundsError says why the upper ends of buckets of the environment are not used; nil if they are, or if there are none.
func BoundsError() error { return boundsError }

// Calls counts the executions of the methods of one replica. Every execution is a Begin and an End. It is written to by every call, with
// three atomic additions: callers of one replica meet at its gate all the same, and a counter per processor cost more than it saved
// there. The zero Calls is ready; it may lie in memory that processes share (see [Page]), so it holds counters and nothing else.
type Calls struct {
	started atomic.Uint64
	busy    atomic.Int64 // nanoseconds
	buckets [Buckets]atomic.Uint64
	failed  atomic.Uint64
	late    atomic.Uint64
	owner   atomic.Uint64 // of a slot of a [Page]: the digest of its replica's id, 0 for a free slot. It stays in this place, where workers of other builds have it

	cancelled atomic.Uint64
	peaks     [peakSlots]atomic.Uint64 // see [Peaks]
}

// Begin counts an execution that begins.
func (c *Calls) Begin() { c.started.Add(1) }

// End counts the end of an execution that took the time.
func (c *Calls) End(took time.Duration, failed bool) {
	if failed {
		c.failed.Add(1)
	}
	c.end(took)
}

// Cancel counts the end of an execution that its caller has ended: it is no failure. For example, the reader of a stream has closed it after the first items.
func (c *Calls) Cancel(took time.Duration) {
	c.cancelled.Add(1)
	c.end(took)
}

func (c *Calls) end(took time.Duration) {
	c.busy.Add(int64(took))
	i := bucket(took)
	if i > 0 { // no one asks for the longest of the shortest calls
		c.peak(took, time.Now())
	}
	c.buckets[i].Add(1)
}

// Undo takes a Begin back: the call has not begun after all.
func (c *Calls) Undo() { c.started.Add(^uint64(0)) }

// Resume sets the numbers of a replica that another node counted before this one. Their latencies are not known.
func (c *Calls) Resume(started, failed uint64) {
	c.started.Store(started)
	c.failed.Store(failed)
}

// Late counts a call that kept its caller waiting after the end of the caller's context.
func (c *Calls) Late() { c.late.Add(1) }

// bucket is the place of a latency among the buckets. Most calls take less than a millisecond.
func bucket(took time.Duration) int {
	for i, b := range bounds {
		if took <= b {
			return i
		}
	}
	return len(bounds)
}

// Counts is a copy of the numbers of a [Calls], or a sum of several. Each number is right by itself; of a call that ends meanwhile one may have
// it already, and another not.
type Counts struct {
	Started   uint64
	Failed    uint64 // without Cancelled
	Cancelled uint64 // that their callers have ended
	Late      uint64
	Busy      time.Duration
	Buckets   [Buckets]uint64 // ended calls by latency
	Peaks     Peaks
}

// Started is the number of executions that have begun.
func (c *Calls) Started() uint64 { return c.started.Load() }

// Counts reads the counters.
func (c *Calls) Counts() Counts {
	k := Counts{Failed: c.failed.Load(), Cancelled: c.cancelled.Load(), Late: c.late.Load(), Busy: time.Duration(c.busy.Load())}
	for i := range c.peaks {
		k.Peaks[i] = c.peaks[i].Load()
	}
	for i := range c.buckets {
		k.Buckets[i] = c.buckets[i].Load()
	}
	k.Started = c.started.Load() // last: there are at least as many as have ended
	return k
}

// Ended is the number of calls that have ended.
func (k Counts) Ended() (n uint64) {
	for _, b := range k.Buckets {
		n += b
	}
	return n
}

// Succeeded is the number of executions that have ended well. One that its caller has ended is not among them: for example, a request that passes its time at a replica that
// hangs says nothing good of the replica.
func (k Counts) Succeeded() uint64 { return k.Ended() - min(k.Failed+k.Cancelled, k.Ended()) }

// Quantile is the time in milliseconds under which a part of the calls have ended, such as 0.99 of them, as Prometheus estimates it: within a bucket times are taken as evenly spread. For example, of
// 100 calls 90 took up to 50 ms and 10 took between 50 and 100 ms: the 99th is the ninth of these ten, 95 ms. A call above all bounds counts as the last bound. It is never more than longest, the
// time of the longest call, as far as that is known (not 0): the bucket from 10 s to 60 s may have calls of 12 s only. It is NaN without calls.
func (k Counts) Quantile(of float64, longest time.Duration) float64 {
	rank, below, from := of*float64(k.Ended()), 0.0, 0.0
	if rank == 0 {
		return math.NaN()
	}
	most := float64(longest) / float64(time.Millisecond)
	for i, b := range bounds {
		n, bound := float64(k.Buckets[i]), float64(b)/float64(time.Millisecond)
		if below+n >= rank && n > 0 {
			at := from + (bound-from)*(rank-below)/n
			if most >= from && most > 0 { // else the call of this bucket was counted elsewhere
				at = min(at, most)
			}
			return at
		}
		below, from = below+n, bound
	}
	return from
}

// Since are the calls between an earlier count and this one. Failures above the number of calls that have ended are those of replicas that were taken over, and are left out.
func (k *Counts) Since(before *Counts) (c Counts) {
	grown := func(now, was uint64) uint64 { return now - min(was, now) }
	for i := range c.Buckets {
		c.Buckets[i] = grown(k.Buckets[i], before.Buckets[i])
	}
	c.Started, c.Failed = grown(k.Started, before.Started), min(grown(k.Failed, before.Failed), c.Ended())
	c.Cancelled, c.Late, c.Busy, c.Peaks = grown(k.Cancelled, before.Cancelled), grown(k.Late, before.Late), k.Busy-before.Busy, k.Peaks
	return c
}

// Add adds the numbers of other calls.
func (k *Counts) Add(o Counts) {
	k.Started, k.Failed, k.Cancelled, k.Late, k.Busy = k.Started+o.Started, k.Failed+o.Failed, k.Cancelled+o.Cancelled, k.Late+o.Late, k.Busy+o.Busy
	k.Peaks.raise(o.Peaks)
	for i := range k.Buckets {
		k.Buckets[i] += o.Buckets[i]
	}
}

// Raise makes of two counts of one replica the later one: no number ever falls.
func (k *Counts) Raise(o Counts) {
	k.Started, k.Failed, k.Cancelled = max(k.Started, o.Started), max(k.Failed, o.Failed), max(k.Cancelled, o.Cancelled)
	k.Late, k.Busy = max(k.Late, o.Late), max(k.Busy, o.Busy)
	k.Peaks.raise(o.Peaks)
	for i := range k.Buckets {
		k.Buckets[i] = max(k.Buckets[i], o.Buckets[i])
	}
}

// Settle counts the calls that have begun and not ended as failed, for a replica whose process is gone. For example, of 10 calls that began 7
// have ended, 1 of them with an error: after Settle 4 have failed. Their latency is not known, and in no bucket.
func (k *Counts) Settle() {
	if ended := k.Ended(); k.Started > ended {
		k.Failed += k.Started - ended
	}
}

package telemetry

import "time"

const (
	peakTime  = 30 * time.Second // of one slot of [Peaks]
	peakSlots = 3                // the last 60 to 90 s
)

// Peaks are the longest calls of the last minute or so, which no bucket tells: a bucket from 10 s to 60 s has a call of 12 s and one of 59 s. Each half minute since 1970 has its slot, in
// turns, with the number of the half minute in the upper 32 bits and the longest time of its calls, in microseconds, in the lower ones. So the later half minute is the larger
// number, and of one half minute the longer call is: the larger of two numbers of a slot is the one that counts.
type Peaks [peakSlots]uint64

// peak notes the time of a call that has ended. Nearly always it is one load.
func (c *Calls) peak(took time.Duration, now time.Time) {
	half := uint64(now.Unix()) / uint64(peakTime/time.Second)
	at, is := &c.peaks[half%peakSlots], half<<32|uint64(min(max(took.Microseconds(), 0), 1<<32-1))
	for {
		was := at.Load()
		if was >= is || at.CompareAndSwap(was, is) {
			return
		}
	}
}

func (p *Peaks) raise(o Peaks) {
	for i := range p {
		p[i] = max(p[i], o[i])
	}
}

// Since is the time of the longest call that has ended since a time, or shortly before it; 0 where none is known, such as for calls below the first bound of the buckets.
func (p Peaks) Since(since time.Time) (longest time.Duration) {
	first := uint64(since.Unix()) / uint64(peakTime/time.Second)
	for _, slot := range p {
		if slot>>32 >= first {
			longest = max(longest, time.Duration(slot&(1<<32-1))*time.Microsecond)
		}
	}
	return longest
}

package trace

import (
	"encoding/binary"
	"math"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Sampler decides for a request without a caller that has decided whether its spans are exported. The zero Sampler samples nothing. Its methods may be
// called from any goroutine.
//
// The decision depends on the trace id alone: the last 56 bits of it are compared with the ratio, as W3C's trace context of level 2 has it. So every process
// with the same ratio decides the same of one trace. For example, with a ratio of 0.01 a trace is sampled whose last 56 bits are in the upper hundredth.
type Sampler struct {
	bound atomic.Uint64 // traces whose last 56 bits are below 1<<56 minus this are not sampled; 0 samples nothing
}

const all56 = 1 << 56

// SetRatio sets the part of the requests that are sampled, from 0 to 1.
func (s *Sampler) SetRatio(ratio float64) {
	switch {
	case !(ratio > 0): // also NaN
		s.bound.Store(0)
	case ratio >= 1:
		s.bound.Store(all56)
	default:
		s.bound.Store(uint64(math.Ceil(ratio * all56)))
	}
}

// Ratio is the part of the requests that are sampled.
func (s *Sampler) Ratio() float64 { return float64(s.bound.Load()) / all56 }

// Decide sets Sampled in a call that begins a request, by its trace id.
func (s *Sampler) Decide(i *call.Info) {
	if s.bound.Load() == 0 { // most nodes: the digest of a client's own id is not made
		return
	}
	i.Sampled = s.Samples(i.TraceID())
}

// Samples says whether a trace is sampled.
func (s *Sampler) Samples(trace [16]byte) bool {
	return binary.BigEndian.Uint64(trace[8:])&(all56-1) >= all56-s.bound.Load()
}

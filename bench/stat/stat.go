// Package stat has the numbers that every row of the benchmarks needs: medians, bars with their verdicts, and the present state of the machine.
package stat

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/helve-serve/helve/bench/proc"
)

// Median is the value in the middle; the zero value if there is none.
func Median[T cmp.Ordered](v []T) T { return Quantile(v, 0.5) }

// Quantile is the value below which a share q lies; the zero value if there is none.
func Quantile[T cmp.Ordered](v []T, q float64) (t T) {
	if len(v) == 0 {
		return t
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(float64(len(v))*q), len(v)-1)]
}

// Scaling is the throughput of a pure-CPU loop on two cores over that on one. Each loop runs for the given time.
func Scaling(spin time.Duration) float64 {
	one := proc.Spin(1, spin)
	return proc.Spin(2, spin) / one
}

// Busy says whether a scaling shows that the machine had no cores to give.
func Busy(scaling float64) bool { return scaling < 1.6 }

// Bar is the bound of a ratio. The zero value is no bar.
type Bar struct {
	Value   float64
	AtLeast bool // the ratio must be at least the value; otherwise at most
	Exact   bool // a count or a size, which a busy machine does not excuse
}

func (b Bar) String() string {
	switch {
	case b.Value == 0:
		return "-"
	case b.AtLeast:
		return fmt.Sprintf(">=%.3g", b.Value)
	}
	return fmt.Sprintf("<=%.3g", b.Value)
}

// Verdict is the word for a ratio: ok, short, busy, or info without a bar. A ratio that is no number is short.
func (b Bar) Verdict(ratio float64, busy bool) string {
	switch {
	case b.Value == 0:
		return "info"
	case b.AtLeast && ratio >= b.Value, !b.AtLeast && ratio <= b.Value:
		return "ok"
	case busy && !b.Exact:
		return "busy"
	}
	return "short"
}

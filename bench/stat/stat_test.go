package stat_test

import (
	"math"
	"testing"

	"github.com/helve-serve/helve/bench/stat"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bar   stat.Bar
		ratio float64
		busy  bool
		want  string
	}{
		{"no bar", stat.Bar{}, 7, true, "info"},
		{"at most, met", stat.Bar{Value: 1}, 1, true, "ok"},
		{"at most, missed", stat.Bar{Value: 1}, 1.01, false, "short"},
		{"at most, missed on a busy machine", stat.Bar{Value: 1}, 1.01, true, "busy"},
		{"at least, met", stat.Bar{Value: 3, AtLeast: true}, 3, false, "ok"},
		{"at least, missed", stat.Bar{Value: 3, AtLeast: true}, 2.99, false, "short"},
		{"at least, missed on a busy machine", stat.Bar{Value: 3, AtLeast: true}, 2.99, true, "busy"},
		{"a size is not excused", stat.Bar{Value: 1, Exact: true}, 2, true, "short"},
		{"no number", stat.Bar{Value: 1}, math.NaN(), false, "short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.bar.Verdict(c.ratio, c.busy); got != c.want {
				t.Errorf("verdict %q, want %q", got, c.want)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	v := []int{5, 1, 4, 2, 3}
	for q, want := range map[float64]int{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := stat.Quantile(v, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if v[0] != 5 {
		t.Error("quantile sorted its argument")
	}
	if got := stat.Median([]float64{}); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
}

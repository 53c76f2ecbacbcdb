package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/autoscale"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	var m Metrics
	m.Put("a", start, map[string]float64{"x": 100})
	m.Put("a", start.Add(10*time.Second), map[string]float64{"x": 4, "y": 7})
	m.Put("a", start.Add(20*time.Second), map[string]float64{"x": 1})
	m.Put("b", start.Add(20*time.Second), map[string]float64{"x": 3})
	m.Put("gone", start, map[string]float64{"x": 3})
	now := start.Add(40 * time.Second)
	for by, want := range map[autoscale.Aggregation]float64{autoscale.Mean: 2, autoscale.Max: 4, autoscale.Min: 1} {
		got, raw := m.View(now, 30*time.Second, by, []string{"a", "b"})
		if diff := cmp.Diff(map[string]map[string]float64{"x": {"a": want, "b": 3}, "y": {"a": 7}}, got); diff != "" {
			t.Error(by, diff)
		}
		if diff := cmp.Diff([]Sample{{1010, 4}, {1020, 1}}, raw["x"]["a"]); diff != "" {
			t.Error(diff)
		}
	}
	if got, _ := m.View(now, time.Second, autoscale.Mean, []string{"a"}); got["x"]["a"] != 1 || len(got["x"]) != 1 {
		t.Error(got)
	}
	m.Forget("a")
	if got, _ := m.View(now, 30*time.Second, autoscale.Mean, []string{"a", "b"}); got["x"]["b"] != 3 || len(got["x"]) != 1 {
		t.Error(got)
	}
}

// TestMetricsAreFinite: means and sums of the largest numbers are numbers of JSON.
func TestMetricsAreFinite(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, number := range []float64{math.MaxFloat64, -math.MaxFloat64} {
		var m Metrics
		m.Put("a", now, map[string]float64{"x": number})
		m.Put("a", now.Add(10*time.Second), map[string]float64{"x": number})
		m.Put("b", now, map[string]float64{"x": number})
		got, raw := m.View(now.Add(20*time.Second), time.Hour, autoscale.Mean, []string{"a", "b"})
		if _, err := json.Marshal([]any{got, raw, got["x"]["a"] + got["x"]["b"]}); err != nil {
			t.Error(err)
		}
	}
}

// TestMetricsAreBounded: names and samples do not grow without end.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	var m Metrics
	now := time.Unix(1000, 0)
	for i := range 3 * namesMax {
		m.Put("a", now.Add(time.Duration(i)*time.Second), map[string]float64{fmt.Sprint(i): 1, "x": float64(i)})
	}
	_, raw := m.View(now.Add(time.Hour), 24*time.Hour, autoscale.Mean, []string{"a"})
	if len(raw) != namesMax || len(raw["x"]["a"]) != samplesMax || raw["x"]["a"][samplesMax-1][1] != 3*namesMax-1 {
		t.Error(len(raw), raw["x"]["a"])
	}
}

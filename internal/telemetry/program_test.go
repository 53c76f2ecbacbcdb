package telemetry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestProgram: what a replica in Go defines comes to the node once a second, and to the next node as a whole.
func TestProgram(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := NewUserMetrics(func(why string) { t.Error(why) })
		p, source, sent := NewProgram("app", "D", "D#1"), u.Source(), 0
		report := func(number uint64, metrics []byte) {
			sent++
			if err := source.Report(number, metrics); err != nil {
				t.Error(err)
			}
		}
		hits := p.Metric(Counter, "hits", "Of the cache.", nil, []string{"model"})
		hits.Add(1, []string{"a"}) // before there is a node
		p.ReportTo(report)
		for range 100 {
			hits.Add(2, []string{"a"})
			p.Metric(Counter, "hits", "", nil, nil).Add(-1, []string{"a"})
		}
		p.Metric(Histogram, "took", "", []float64{1, 10}, nil).Observe(5, nil)
		p.Metric(Gauge, "size", "", nil, nil).Set(3, nil)
		time.Sleep(programPeriod + time.Millisecond)
		synctest.Wait()
		if sent != 1 {
			t.Errorf("%d reports", sent)
		}
		want := []UserFamily{
			{Name: "hits_total", Kind: Counter, Help: "Of the cache.", Series: []UserSample{{Keys: []string{"model", "application", "deployment", "replica"}, Values: []string{"a", "app", "D", "D#1"}, Value: 201}}},
			{Name: "size", Kind: Gauge, Series: []UserSample{{Keys: []string{"application", "deployment", "replica"}, Values: []string{"app", "D", "D#1"}, Value: 3}}},
			{Name: "took", Kind: Histogram, Series: []UserSample{{Keys: []string{"application", "deployment", "replica"}, Values: []string{"app", "D", "D#1"}, Bounds: []float64{1, 10}, Buckets: []uint64{0, 1, 0}, Sum: 5}}},
		}
		if diff := cmp.Diff(want, u.Families()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Minute)
		if sent != 1 {
			t.Errorf("%d reports without a change", sent)
		}
		u = NewUserMetrics(func(why string) { t.Error(why) }) // of the next node
		source = u.Source()
		p.ReportTo(report)
		p.Flush()
		if diff := cmp.Diff(want, u.Families()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Minute) // the timer of ReportTo finds nothing to send
		if sent != 2 {
			t.Errorf("%d reports", sent)
		}
	})
}

// TestProgramHasABound: series above the bound are not kept, and a metric of no Program counts nothing.
func TestProgramHasABound(t *testing.T) {
	t.Parallel()
	p := NewProgram("a", "d", "r")
	m := p.Metric(Counter, "c", "", nil, []string{"x"})
	for i := range programSeries + 10 {
		m.Add(1, []string{string(rune(i + 1))})
	}
	if p.series != programSeries || len(m.series) != programSeries {
		t.Errorf("%d series", p.series)
	}
	var none *Program
	none.Metric(Counter, "c", "", nil, nil).Add(1, nil)
}

func BenchmarkProgram(b *testing.B) {
	m := NewProgram("a", "d", "r").Metric(Counter, "c", "", nil, []string{"x"})
	for b.Loop() {
		m.Add(1, []string{"small"})
	}
}

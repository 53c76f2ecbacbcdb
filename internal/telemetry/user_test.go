package telemetry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shown are the families as lines: kind name{tags} value.
func shown(u *UserMetrics) (lines []string) {
	for _, f := range u.Families() {
		for _, s := range f.Series {
			var tags []string
			for i, k := range s.Keys {
				tags = append(tags, k+"="+s.Values[i])
			}
			line := fmt.Sprintf("%s %s{%s} %g", f.Kind, f.Name, strings.Join(tags, ","), s.Value)
			if f.Kind == Histogram {
				line = fmt.Sprintf("%s %s{%s} %v %v %g", f.Kind, f.Name, strings.Join(tags, ","), s.Bounds, s.Buckets, s.Sum)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func metric(name, kind, replica string, value float64) string {
	return fmt.Sprintf(`{"name":%q,"kind":%q,"keys":["replica"],"series":[{"values":[%q],"value":%g}]}`, name, kind, replica, value)
}

func report(t *testing.T, s *UserSource, number uint64, metrics ...string) {
	t.Helper()
	if err := s.Report(number, []byte("["+strings.Join(metrics, ",")+"]")); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, u *UserMetrics, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, shown(u)); diff != "" {
		t.Error(diff)
	}
}

func noRefusals(t *testing.T) *UserMetrics {
	return NewUserMetrics(func(why string) { t.Errorf("refused: %s", why) })
}

func TestUserMetricsOfReplicasThatEnd(t *testing.T) {
	t.Parallel()
	u := noRefusals(t)
	a, b := u.Source(), u.Source()
	histogram := func(first int) string {
		return fmt.Sprintf(`{"name":"h","kind":"histogram","keys":["replica"],"bounds":[1,10],"series":[{"values":["D#%d"],"buckets":[%d,2,0],"sum":21.5}]}`, first, first)
	}
	report(t, a, 1, metric("calls", Counter, "D#1", 5), metric("size", Gauge, "D#1", 1), histogram(1))
	report(t, b, 1, metric("calls", Counter, "D#2", 7), metric("size", Gauge, "D#2", 2), histogram(2))
	same(t, u, "counter calls_total{replica=D#1} 5", "counter calls_total{replica=D#2} 7",
		"histogram h{replica=D#1} [1 10] [1 2 0] 21.5", "histogram h{replica=D#2} [1 10] [2 2 0] 21.5",
		"gauge size{replica=D#1} 1", "gauge size{replica=D#2} 2")
	a.Close()
	same(t, u, "counter calls_total{replica=} 5", "counter calls_total{replica=D#2} 7",
		"histogram h{replica=} [1 10] [1 2 0] 21.5", "histogram h{replica=D#2} [1 10] [2 2 0] 21.5", "gauge size{replica=D#2} 2")
	b.Close()
	// Reports that were on their way when the connection ended have the numbers since the start of the process, of which 7 are counted.
	late := `{"name":"h","kind":"histogram","keys":["replica"],"bounds":[1,10],"series":[{"values":["D#2"],"buckets":[4,2,0],"sum":23.5}]}`
	report(t, b, 3, metric("calls", Counter, "D#2", 9), late)
	report(t, b, 2, metric("calls", Counter, "D#2", 8)) // an older one
	same(t, u, "counter calls_total{replica=} 14", "histogram h{replica=} [1 10] [5 4 0] 45")
	if u.series != 2 {
		t.Errorf("%d series are counted", u.series)
	}
}

func TestUserMetricsOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	u := noRefusals(t)
	a, b := u.Source(), u.Source()
	report(t, a, 1, metric("calls_total", Counter, "", 5), metric("size", Gauge, "", 1))
	report(t, b, 1, metric("calls", Counter, "", 7), metric("size", Gauge, "", 2))
	same(t, u, "counter calls_total{replica=} 12", "gauge size{replica=} 2")
	report(t, a, 3, metric("size", Gauge, "", 3))
	report(t, a, 2, metric("size", Gauge, "", 4)) // an older report
	same(t, u, "counter calls_total{replica=} 12", "gauge size{replica=} 3")
	a.Close()
	same(t, u, "counter calls_total{replica=} 12", "gauge size{replica=} 2")
}

func TestUserMetricsThatAreRefused(t *testing.T) {
	t.Parallel()
	series := `"series":[{"values":[]}]`
	for name, test := range map[string]struct{ metric, why string }{
		"name":               {`{"name":"a b","kind":"gauge",` + series + `}`, "letters"},
		"digit":              {`{"name":"1a","kind":"gauge",` + series + `}`, "letters"},
		"no name":            {`{"name":"","kind":"gauge",` + series + `}`, "letters"},
		"long name":          {`{"name":"` + strings.Repeat("a", userName+1) + `","kind":"gauge",` + series + `}`, "letters"},
		"kind":               {`{"name":"a","kind":"summary",` + series + `}`, "kind"},
		"key":                {`{"name":"a","kind":"gauge","keys":["a-b"],"series":[{"values":["x"]}]}`, "key"},
		"reserved key":       {`{"name":"a","kind":"gauge","keys":["__a"],"series":[{"values":["x"]}]}`, "key"},
		"key of buckets":     {`{"name":"a","kind":"histogram","bounds":[1],"keys":["le"],"series":[{"values":["x"],"buckets":[1,2]}]}`, "key"},
		"key twice":          {`{"name":"a","kind":"gauge","keys":["a","a"],"series":[{"values":["x","y"]}]}`, "twice"},
		"values":             {`{"name":"a","kind":"gauge","keys":["a"],"series":[{"values":[]}]}`, "number of tags"},
		"long value":         {`{"name":"a","kind":"gauge","keys":["a"],"series":[{"values":["` + strings.Repeat("x", userName+1) + `"]}]}`, "bytes"},
		"no boundaries":      {`{"name":"a","kind":"histogram",` + series + `}`, "boundaries"},
		"boundaries":         {`{"name":"a","kind":"histogram","bounds":[2,1],"series":[{"values":[],"buckets":[1,1,1]}]}`, "grow"},
		"boundaries of none": {`{"name":"a","kind":"gauge","bounds":[2],` + series + `}`, "boundaries"},
		"buckets":            {`{"name":"a","kind":"histogram","bounds":[2],"series":[{"values":[],"buckets":[1]}]}`, "buckets"},
		"negative":           {`{"name":"a","kind":"counter","series":[{"values":[],"value":-1}]}`, "negative"},
		"not a number":       {`{"name":"a","kind":"counter","series":[{"values":[],"value":"NaN"}]}`, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var whys []string
			u := NewUserMetrics(func(why string) { whys = append(whys, why) })
			s := u.Source()
			report(t, s, 1, test.metric, test.metric, `{"name":"good","kind":"gauge","series":[{"values":[],"value":"Infinity"}]}`)
			if len(whys) != 1 || !strings.Contains(whys[0], test.why) {
				t.Errorf("%q, want one with %q", whys, test.why)
			}
			same(t, u, "gauge good{} +Inf")
			s.Close()
			if len(u.families)+len(u.texts)+u.series+u.bytes != 0 {
				t.Errorf("%d families, %d names, %d series, %d bytes are left", len(u.families), len(u.texts), u.series, u.bytes)
			}
		})
	}
}

func TestUserMetricsWithTheNamesOfOthers(t *testing.T) {
	t.Parallel()
	var whys []string
	u := NewUserMetrics(func(why string) { whys = append(whys, why) })
	a, b := u.Source(), u.Source()
	report(t, a, 1, metric("x", Counter, "", 1), `{"name":"h","kind":"histogram","bounds":[1],"series":[{"values":[],"buckets":[1,0]}]}`)
	report(t, b, 1, metric("x_total", Gauge, "", 1), metric("h_sum", Gauge, "", 1), metric("x", Gauge, "", 3))
	if len(whys) != 1 || !strings.Contains(whys[0], "the counter x_total has this name") {
		t.Errorf("%q", whys)
	}
	same(t, u, "histogram h{} [1] [1 0] 0", "gauge x{replica=} 3", "counter x_total{replica=} 1")
}

// TestRefusalsAreToldOutsideOfTheLock: the log of a refusal may be a user's code, which reads the metrics.
func TestRefusalsAreToldOutsideOfTheLock(t *testing.T) {
	t.Parallel()
	var u *UserMetrics
	told := 0
	u = NewUserMetrics(func(string) {
		told++
		if !u.mu.TryLock() {
			t.Error("the metrics are locked")
			return
		}
		u.mu.Unlock()
	})
	s := u.Source()
	report(t, s, 1, metric("a b", Gauge, "", 1), metric("c", Counter, "", -1))
	report(t, s, 2, metric("a b", Gauge, "", 1))
	if told != 1 {
		t.Errorf("%d refusals were told, want the first of a process", told)
	}
}

func TestUserMetricsAreBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limits userLimits
		why    string
		series int
	}{
		"of a process": {userLimits{source: 3, node: 100, bytes: 1 << 20}, "more than 3 series of metrics in one process", 6},
		"of a node":    {userLimits{source: 8, node: 10, bytes: 1 << 20}, "more than 10 series of metrics in the node", 10},
		"bytes":        {userLimits{source: 8, node: 100, bytes: 50}, "more than 50 bytes", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var whys []string
			u := NewUserMetrics(func(why string) { whys = append(whys, why) })
			u.limits = test.limits
			for i := range 2 {
				s := u.Source()
				for j := range uint64(8) {
					report(t, s, j, fmt.Sprintf(`{"name":"x","kind":"counter","keys":["client"],"series":[{"values":["%d %d"],"value":1}]}`, i, j))
				}
				s.Close() // the counters stay
			}
			if n := len(u.Families()[0].Series); n != test.series || u.series != test.series || u.bytes > test.limits.bytes {
				t.Errorf("%d series, %d are counted, %d bytes", n, u.series, u.bytes)
			}
			if len(whys) == 0 || len(whys) > 2 || !strings.Contains(whys[0], test.why) {
				t.Errorf("%q", whys)
			}
		})
	}
}

func FuzzUserReport(f *testing.F) {
	f.Add([]byte("[" + metric("a", Counter, "D#1", 2) + "]"))
	f.Add([]byte(`[{"name":"h","kind":"histogram","keys":["a","b"],"bounds":[0.5,1],"series":[{"values":["x",""],"buckets":[1,2,3],"sum":"NaN"}]}]`))
	f.Add([]byte(`[{"name":"h","kind":"gauge","series":[{"values":null,"value":"-Infinity"}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := NewUserMetrics(func(string) {})
		a, b := u.Source(), u.Source()
		err := a.Report(1, data)
		if (b.Report(1, data) == nil) != (err == nil) {
			t.Fatal("one report has two outcomes")
		}
		if err != nil && !json.Valid(data) && len(u.Families()) > 0 {
			t.Fatal("a report that is no JSON was kept")
		}
		before := u.Families()
		a.Close()
		b.Close()
		for _, f := range before {
			if f.Kind == Gauge || len(f.Series) == 0 {
				continue
			}
			if !isName(f.Name, true) {
				t.Fatalf("the name %q", f.Name)
			}
		}
		if u.series < 0 || u.bytes < 0 || len(u.Families()) > len(before) {
			t.Fatalf("%d series, %d bytes", u.series, u.bytes)
		}
	})
}

// TestLoopDelays: each replica that runs has the delays of its event loop.
func TestLoopDelays(t *testing.T) {
	t.Parallel()
	u := NewUserMetrics(func(why string) { t.Error(why) })
	if all := u.LoopDelays(); len(all) != 0 {
		t.Errorf("without reports: %v", all)
	}
	report := func(replica string, sum int) *UserSource {
		s := u.Source()
		if err := s.Report(1, fmt.Appendf(nil, `[{"name": "serve_event_loop_scheduling_latency_ms", "kind": "histogram", "keys": ["component", "replica"], "bounds": [1, 10], "series": [
			{"values": ["replica", %q], "buckets": [2, 1, 1], "sum": %d}]}]`, replica, sum)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	report("D#1", 44)
	report("D#2", 2).Close()
	if all := u.LoopDelays(); len(all) != 1 || all["D#1"] != (LoopDelays{Sum: 44, Number: 4}) {
		t.Errorf("%v", all)
	}
	s := Snapshot{Applications: []Application{{Deployments: []Deployment{{Replicas: []Replica{{ID: "D#0"}, {ID: "D#1"}}}}}}}
	s.AddLoops(u.LoopDelays())
	if r := s.Applications[0].Deployments[0].Replicas; r[0].Loop.Number != 0 || r[1].Loop.Number != 4 {
		t.Errorf("%+v", r)
	}
}

package series

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
)

// TestNumber: whole numbers up to 2,048 are exact, others are right to four digits or so, and a number that cannot be kept is the nearest one.
func TestNumber(t *testing.T) {
	t.Parallel()
	for i := range 2049 {
		if got := pack(float64(i)).value(); got != float64(i) {
			t.Errorf("%d: %g", i, got)
		}
	}
	for v := 0.0003; v < 1e13; v *= 1.37 {
		if got := pack(v).value(); math.Abs(got-v) > v*0.001 {
			t.Errorf("%g: %g", v, got)
		}
	}
	for v, want := range map[float64]float64{0.2: 0.2, 12.5: 12.5, 33.3: 33.31, 123.44: 123.4, 1e-9: 0, math.Inf(1): largest.value(), 1e300: largest.value()} {
		if got := pack(v).value(); got != want {
			t.Errorf("%g: %g, want %g", v, got, want)
		}
	}
	for _, v := range []float64{math.NaN(), -1} {
		if got := pack(v).value(); !math.IsNaN(got) {
			t.Errorf("%g: %g", v, got)
		}
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// read gives a column of the whole hour; -1 is a number that is not known.
func read(t *testing.T, r *Recorder, of Name, at time.Duration, column string) (all []float64) {
	t.Helper()
	s, ok := r.Read(of, noon, at, Hour)
	if !ok {
		t.Fatalf("%v is not known", of)
	}
	for _, v := range s.Columns[column] {
		if v == nil {
			all = append(all, -1)
		} else {
			all = append(all, *v)
		}
	}
	return all
}

func same(t *testing.T, what string, got []float64, want ...float64) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

var (
	shop   = Name{App: "shop", Deployment: "Ranker"}                        //nolint:gochecknoglobals // constants
	first  = Name{App: "shop", Deployment: "Ranker", Replica: "Ranker#001"} //nolint:gochecknoglobals // likewise
	second = Name{App: "shop", Deployment: "Ranker", Replica: "Ranker#002"} //nolint:gochecknoglobals // likewise
)

func (n Name) ended(ended, failed uint64, now ...float64) Look {
	return Look{Name: n, Ended: ended, Failed: failed, Now: now}
}

// TestRates: a rate is of the time between two looks. It is unknown for the first look of all, for an object that was away, and after its counts have begun anew; an object that is new has had all its calls since
// the look before.
func TestRates(t *testing.T) {
	t.Parallel()
	r := New(Budget)
	r.Record(5*time.Second, []Look{first.ended(1000, 10, 3)})
	r.Record(10*time.Second, []Look{first.ended(1050, 15, 4), second.ended(20, 90, 1)}) // 70 failures of second are of a worker that was taken over
	r.Record(15*time.Second, []Look{first.ended(7, 0, 5), second.ended(30, 95, 1)})     // first counts anew
	r.Record(20*time.Second, []Look{first.ended(17, 0, math.NaN())})
	r.Record(25*time.Second, []Look{second.ended(40, 95, 1)}) // second was away
	const at = 26 * time.Second
	same(t, "rate", read(t, r, first, at, helvetype.ColumnRate), -1, 10, -1, 2, -1)
	same(t, "error_rate", read(t, r, first, at, helvetype.ColumnErrorRate), -1, 1, -1, 0, -1)
	same(t, "running", read(t, r, first, at, helvetype.ColumnRunning), 3, 4, 5, -1, -1)
	same(t, "memory", read(t, r, first, at, helvetype.ColumnMemory), -1, -1, -1, -1, -1)
	same(t, "rate of the second", read(t, r, second, at, helvetype.ColumnRate), -1, 4, 2, -1, -1)
	same(t, "errors of the second", read(t, r, second, at, helvetype.ColumnErrorRate), -1, 4, 1, -1, -1)
	if _, ok := r.Read(shop, noon, at, Hour); ok {
		t.Error("an object that no look had is known")
	}
}

// TestLatencies: the latencies of a step are of its calls alone.
func TestLatencies(t *testing.T) {
	t.Parallel()
	r := New(Budget)
	var c telemetry.Calls
	look := func(at time.Duration) {
		k := c.Counts()
		r.Record(at, []Look{{Name: shop, Ended: k.Ended(), Latency: &k, Now: []float64{2, 3, 4, 5}}})
	}
	calls := func(n int, took time.Duration) {
		for range n {
			c.Begin()
			c.End(took, false)
		}
	}
	calls(100, 10*time.Second)
	look(5 * time.Second)
	calls(100, 40*time.Millisecond) // from 20 to 50 ms
	look(10 * time.Second)
	look(15 * time.Second)
	same(t, "p50", read(t, r, shop, 16*time.Second, helvetype.ColumnP50), -1, 35, -1)
	same(t, "p90", read(t, r, shop, 16*time.Second, helvetype.ColumnP90), -1, 47, -1)
	same(t, "p99", read(t, r, shop, 16*time.Second, helvetype.ColumnP99), -1, 49.69, -1)
	same(t, "wanted", read(t, r, shop, 16*time.Second, helvetype.ColumnWanted), 5, 5, 5)
}

// TestTime: a look that comes late leaves the steps before it unknown; a question may ask for the last part; and the times are those of the clock of the machine at the time of the question.
func TestTime(t *testing.T) {
	t.Parallel()
	r := New(Budget)
	r.Record(5*time.Second, []Look{first.ended(0, 0)})
	r.Record(10*time.Second+time.Millisecond, []Look{first.ended(10, 0)})
	r.Record(29*time.Second, []Look{first.ended(200, 0)}) // 19 s: it stands for the last of them
	r.Record(35*time.Second, []Look{first.ended(260, 0)})
	const at = 36 * time.Second
	same(t, "rate", read(t, r, first, at, helvetype.ColumnRate), -1, 2, -1, -1, -1, 10, 10)
	s, _ := r.Read(first, noon, at, Hour)
	if want := noon.Add(-at); s.Step != 5 || !s.From.Equal(want) {
		t.Errorf("from %v in steps of %g s, want %v", s.From, s.Step, want)
	}
	s, _ = r.Read(first, noon.Add(24*time.Hour), at, 12*time.Second)
	if want := noon.Add(24*time.Hour - 16*time.Second); !s.From.Equal(want) || len(s.Columns[helvetype.ColumnRate]) != 3 {
		t.Errorf("the last 12 s: %d steps from %v, want 3 from %v", len(s.Columns[helvetype.ColumnRate]), s.From, want)
	}
	if s.Units[helvetype.ColumnMemory] != "bytes" || s.Units[helvetype.ColumnRate] != "1/s" || s.Units[helvetype.ColumnRunning] != "" {
		t.Errorf("units: %v", s.Units)
	}
	if s := Empty(first, noon); len(s.Columns) != len(columns[Replica]) || s.Columns[helvetype.ColumnRate] == nil || s.Units[helvetype.ColumnRate] != "1/s" || !s.From.Equal(noon) {
		t.Errorf("of a new object: %+v", s)
	}
	if s, ok := r.Read(first, noon, at, time.Millisecond); !ok || len(s.Columns[helvetype.ColumnRate]) != 0 {
		t.Errorf("the last millisecond has %d steps", len(s.Columns[helvetype.ColumnRate]))
	}
}

// TestHour: rows of more than an hour ago are gone, and so are objects that ended then.
func TestHour(t *testing.T) {
	t.Parallel()
	r := New(Budget)
	at := time.Duration(0)
	for i := range 2 * rows {
		at += Step
		all := []Look{first.ended(uint64(10*i), 0)}
		if i < 10 {
			all = append(all, second.ended(uint64(i), 0))
		}
		r.Record(at, all)
		if _, ok := r.Read(second, noon, at, Hour); ok != (i < rows+blockRows-1) {
			t.Fatalf("look %d: the replica that is gone is known: %v", i, ok)
		}
	}
	all := read(t, r, first, at, helvetype.ColumnRate)
	if len(all) != rows {
		t.Errorf("%d steps, want %d", len(all), rows)
	}
	for i, v := range all {
		if v != 2 {
			t.Fatalf("step %d: %g", i, v)
		}
	}
	if n := len(r.objects[first].blocks); n > rows/blockRows+1 {
		t.Errorf("%d blocks are kept", n)
	}
}

// fill records an hour and a half of a number of deployments with as many replicas, and says what the recorder counts.
func fill(r *Recorder, deployments int, looks int) {
	now := []float64{1, 2, 3, 4}
	k := telemetry.Counts{}
	all := []Look{{Latency: &k, Now: now}, {Name: Name{App: "app"}, Latency: &k, Now: now}}
	for i := range deployments {
		d := Name{App: "app", Deployment: fmt.Sprintf("Deployment%04d", i)}
		all = append(all, Look{Name: d, Latency: &k, Now: now}, Look{Name: Name{d.App, d.Deployment, d.Deployment + "#001"}, Now: now})
	}
	for i := range looks {
		for j := range all {
			all[j].Ended += 7
		}
		r.Record(time.Duration(i+1)*Step, all)
	}
}

// TestMemory: an hour of 1,000 replicas, each of a deployment of its own, takes less than 30 MB, and no more than is counted.
func TestMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	r := New(Budget)
	fill(r, 1000, 3*rows/2)
	took := heap() - before
	if took > 30_000_000 {
		t.Errorf("%d bytes", took)
	}
	if counted := uint64(r.bytes); took > counted+counted/8 || r.bytes > Budget {
		t.Errorf("%d bytes, of which %d are counted", took, counted)
	}
	s, ok := r.Read(Name{"app", "Deployment0999", "Deployment0999#001"}, noon, time.Duration(3*rows/2)*Step, Hour)
	if n := len(s.Columns[helvetype.ColumnRate]); !ok || n != rows || s.Columns[helvetype.ColumnRate][0] == nil {
		t.Errorf("%d steps of %d", n, rows)
	}
	runtime.KeepAlive(r)
}

// TestBudget: with very many objects each has less than an hour, and the memory is bounded also where each has a few minutes only.
func TestBudget(t *testing.T) {
	t.Parallel()
	r := New(1 << 20)
	fill(r, 100, rows)
	s, ok := r.Read(Name{App: "app", Deployment: "Deployment0099"}, noon, time.Duration(rows)*Step, Hour)
	if n := len(s.Columns[helvetype.ColumnRate]); !ok || n < blockRows || n > rows/2 || r.bytes > 1<<20 {
		t.Errorf("%d steps, %d bytes", n, r.bytes)
	}
	r = New(1 << 20)
	for i := range 3 * blockRows { // replicas that end at once
		var all []Look
		for j := range 50 {
			all = append(all, Name{"app", "D", fmt.Sprintf("D#%d", 50*i+j)}.ended(1, 1, 1))
		}
		r.Record(time.Duration(i+1)*Step, all)
		if r.bytes > 1<<20+50*(objectOverhead+blockOverhead+2*blockRows*len(columns[Replica])) {
			t.Fatalf("look %d: %d bytes", i, r.bytes)
		}
	}
}

// BenchmarkRecord is a look at 1,000 replicas, each of a deployment of its own; bytes/hour is the memory of an hour of them.
func BenchmarkRecord(b *testing.B) {
	r := New(Budget)
	b.ReportAllocs()
	fill(r, 1000, b.N)
	b.ReportMetric(float64(r.bytes), "bytes")
}

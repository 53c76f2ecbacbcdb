package simulate

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/autoscale"
)

var update = flag.Bool("update", false, "write the table and the pictures of docs/autoscaling.md")

func config(t *testing.T, raw []byte) autoscale.Config {
	t.Helper()
	c, err := autoscale.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// table runs all shapes, once for all tests.
var table = sync.OnceValue(func() []Row { //nolint:gochecknoglobals // a cache
	shapes := Shapes()
	rows := make([]Row, len(shapes))
	var wg sync.WaitGroup
	for i, s := range shapes {
		wg.Go(func() {
			c, err := autoscale.Parse(s.Config)
			if err != nil {
				panic(err)
			}
			rows[i].Shape = s
			rows[i].Ours, rows[i].Reference = Compare(s.Load(), s.Model, c)
		})
	}
	wg.Wait()
	return rows
})

const (
	docsPage  = "../../../docs/autoscaling.md"
	beginMark = "<!-- table: go test ./internal/autoscale/simulate -update -->\n"
	endMark   = "<!-- end of table -->"
)

// pictured are the shapes of the pictures.
var pictured = map[string][]string{ //nolint:gochecknoglobals // a constant
	"autoscaling-steps": {"step", "load-generator", "flash-crowd", "on-off", "slow-start", "compute"},
	"autoscaling-waves": {"ramp", "sine", "diurnal", "bursts", "functions", "language-model"},
}

// TestTable: the table and the pictures of docs/autoscaling.md come from this code. Other processors round the last digit in another way.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := table()
	if runtime.GOARCH != "amd64" {
		return
	}
	files := map[string][]byte{}
	page, err := os.ReadFile(docsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte(beginMark))
	_, after, end := bytes.Cut(rest, []byte(endMark))
	if !ok || !end {
		t.Fatal("the page has no place for the table")
	}
	files[docsPage] = fmt.Appendf(nil, "%s%s%s%s%s", before, beginMark, Markdown(rows), endMark, after)
	for name, shapes := range pictured {
		var panels []Panel
		for _, shape := range shapes {
			for _, r := range rows {
				if r.Shape.Name == shape {
					panels = append(panels, Panel{shape, r.Ours.Samples, r.Reference.Samples})
				}
			}
		}
		files["../../../docs/pictures/"+name+".svg"] = SVG(name, "Replicas of Helve, of Ray Serve and of the optimum: "+strings.Join(shapes, ", "), panels, 2)
	}
	for name, want := range files {
		if *update {
			if err := os.WriteFile(name, want, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not as the simulation (%v); run go test ./internal/autoscale/simulate -update", name, err)
		}
	}
}

// TestBars: the numbers of each load stay where they should be, on each processor.
func TestBars(t *testing.T) {
	t.Parallel()
	for _, r := range table() {
		o, f := r.Ours.Summary, r.Reference.Summary
		capacity, overshoot := 30.0, 0.3
		switch r.Shape.Name {
		case "slow-start": // a replica starts in 60 s
			capacity = 75
		case "long-streams", "language-model": // calls of a minute are few, and chance makes steps of them
			capacity = 90
		}
		if o.ToCapacity > capacity || o.Overshoot > overshoot || o.WaitP99 > f.WaitP99+0.5 || o.Cost > max(4, f.Cost) {
			t.Errorf("%s: %+v", r.Shape.Name, o)
		}
		if perHour := float64(o.Changes) / float64(len(r.Ours.Samples)) * 3600; perHour > 150 {
			t.Errorf("%s: %.0f changes an hour", r.Shape.Name, perHour)
		}
	}
}

// TestSame: a shape gives the same result each time.
func TestSame(t *testing.T) {
	t.Parallel()
	s := Shapes()[2]
	c := config(t, s.Config)
	if a, b := Run(s.Load(), s.Model, c, Ours(c)), Run(s.Load(), s.Model, c, Ours(c)); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v and %+v", a.Summary, b.Summary)
	}
}

// TestModel: calls wait in the queue and inside replicas as the package says, and every call is executed once.
func TestModel(t *testing.T) {
	t.Parallel()
	load := Load{Length: 10}
	for range 7 {
		load.Calls = append(load.Calls, Call{At: 1, Duration: 1})
	}
	c := config(t, []byte(`{"min_replicas": 1, "max_replicas": 1}`))
	r := Run(load, Model{MaxOngoing: 5, Parallel: 2, Start: 1}, c, Ours(c))
	if r.Summary.Calls != 7 || r.Summary.WaitMax != 3 || r.Summary.WaitP50 != 1 || r.Summary.ReplicaSeconds < 9.9 || r.Summary.ReplicaSeconds > 10.1 {
		t.Errorf("%+v", r.Summary)
	}
	if q := r.Samples[1].Queued; math.Abs(q-2) > 1e-6 {
		t.Errorf("%v calls in the queue in the second second", q)
	}
	if r.Samples[0].Optimum != 1 || r.Samples[1].Calls < 6.9 {
		t.Errorf("%+v", r.Samples[:3])
	}
}

// TestOptimum: the optimum leaves less than a second of work behind, and no smaller number does.
func TestOptimum(t *testing.T) {
	t.Parallel()
	c := config(t, []byte(`{"min_replicas": 0, "max_replicas": 100}`))
	load := Load{Length: 4}
	for range 6 {
		load.Calls = append(load.Calls, Call{At: 1, Duration: 1})
	}
	if got := Optimum(load, c); !reflect.DeepEqual(got, []int{0, 2, 1, 0}) {
		t.Error(got)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	load, err := Read(strings.NewReader("# a step\ntime_s, calls_per_s\n0, 2\n\n60,60\n120,0\n"), 0.2, 1)
	if err != nil || load.Length != 180 || len(load.Calls) < 3500 || len(load.Calls) > 3950 {
		t.Fatalf("%v, %v s, %d calls", err, load.Length, len(load.Calls))
	}
	late := 0
	for i, call := range load.Calls {
		if i > 0 && call.At < load.Calls[i-1].At {
			t.Fatal("calls out of order")
		}
		if call.Duration < 0.1 || call.Duration > 0.3 {
			t.Fatalf("a call of %v s", call.Duration)
		}
		if call.At >= 120 {
			late++
		}
	}
	if late != 0 {
		t.Errorf("%d calls while the rate is 0", late)
	}
	load, err = Read(strings.NewReader("\ufeffduration_s,arrival_s\n1.5,100\n\"2\",100\n1,103.25\n"), 9, 1)
	if want := []Call{{At: 0, Duration: 1.5}, {At: 0, Duration: 2}, {At: 3.25, Duration: 1}}; err != nil || !reflect.DeepEqual(load.Calls, want) || load.Length != 6 {
		t.Errorf("%v: %+v", err, load)
	}
	load, err = Read(strings.NewReader("time_s,callers,duration_s\n0,1,0.2\n60,3,0.2\n120,2,0.2\n180,0,0.2\n"), 9, 1)
	if err != nil || load.Length != 240 || len(load.Callers) != 3 || load.Callers[0].To != 180 || load.Callers[1].To != 180 || load.Callers[2].To != 120 || load.Callers[2].From < 60 || load.Callers[2].From > 61 {
		t.Errorf("%v: %+v", err, load)
	}
	for text, want := range map[string]string{
		"":                                     "line 1: is empty: the first line has the names of the columns, such as time_s,calls_per_s",
		"# nothing\n":                          "line 1: is empty: the first line has the names of the columns, such as time_s,calls_per_s",
		"time_s,calls_per_s\n":                 "line 1: there is no row after the names of the columns",
		"time_s,calls_per_s\n0,\"1\n":          `line 2, column 2: "1 has a quote without the other one`,
		"time_s,calls_per_s\n0,1\"\n":          `line 2, column 2: 1" has a quote without the other one`,
		"time_s,rate\n0,1\n":                   `line 1, column 2: there is no column "rate"; there are time_s and calls_per_s or callers, or arrival_s and duration_s`,
		"time_s\n0\n":                          "line 1: the column calls_per_s or callers is missing",
		"calls_per_s\n0\n":                     "line 1: the column time_s is missing",
		"arrival_s\n0\n":                       "line 1: the column duration_s is missing",
		"time_s,time_s\n":                      "line 1, column 2: the column time_s is there twice",
		"arrival_s,calls_per_s,duration_s\n":   "line 1: arrival_s is for rows that are calls, time_s for rows that are rates or callers: leave one of the two out",
		"time_s,calls_per_s\n0,1\n\n1,x\n":     `line 4, column 2: calls_per_s must be a number of 0 or more, is "x"`,
		"time_s,calls_per_s\n0,-1\n":           `line 2, column 2: calls_per_s must be a number of 0 or more, is "-1"`,
		"time_s,calls_per_s\n0,NaN\n":          `line 2, column 2: calls_per_s must be a number of 0 or more, is "NaN"`,
		"time_s,calls_per_s\n0\n":              "line 2: has 1 fields, and there are 2 columns",
		"time_s,calls_per_s\n9,1\n#\n5,1\n":    "line 4, column 1: time_s is 5, before the row of line 2: times do not fall",
		"time_s,calls_per_s\n9,1\n9,1\n":       "line 3, column 1: time_s is 9, as in line 2: each rate has its own time",
		"time_s,calls_per_s\n0,0\n1e9,1\n":     "line 3: more than 31 days after the first row",
		"time_s,callers,calls_per_s\n":         "line 1: calls_per_s and callers: leave one of the two out",
		"time_s,callers\n0,1.5\n":              `line 2, column 2: callers must be a whole number up to 10000, is "1.5"`,
		"arrival_s,duration_s\n1,0\n":          "line 2, column 2: duration_s must be above 0",
		"time_s,calls_per_s\n0,1\n60,1e6\n":    "line 3: up to here the load has more than 5000000 calls: take a shorter time, or lower rates and targets",
		"time_s,calls_per_s\n0,1e300\n1e6,1\n": "line 2: up to here the load has more than 5000000 calls: take a shorter time, or lower rates and targets",
	} {
		_, err := Read(strings.NewReader(text), 1, 1)
		if _, ok := errors.AsType[*Mistake](err); !ok || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzRead: each text is a load whose calls are in order and within its length, or has a mistake with a place.
func FuzzRead(f *testing.F) {
	f.Add("time_s,calls_per_s,duration_s\n0,2,0.2\n60,60,0.2\n")
	f.Add("arrival_s,duration_s\n1,2\n3,4\n")
	f.Fuzz(func(t *testing.T, text string) {
		load, err := Read(strings.NewReader(text), 0.2, 1)
		if err != nil {
			if m, ok := errors.AsType[*Mistake](err); ok && (m.Line < 1 || m.Column < 0 || strings.Contains(m.Text, "\n")) {
				t.Errorf("%q: %+v", text, m)
			}
			return
		}
		for i, c := range load.Calls {
			if c.At < 0 || c.At > load.Length || c.Duration <= 0 || i > 0 && c.At < load.Calls[i-1].At {
				t.Fatalf("%q: call %d of %v s: %+v", text, i, load.Length, c)
			}
		}
		if len(load.Calls) < 1000 && load.Length < 1000 {
			if n := len(Optimum(load, autoscale.Config{MaxReplicas: 10, Target: 2})); n != int(math.Ceil(load.Length)) {
				t.Errorf("%q: an optimum of %d seconds", text, n)
			}
		}
	})
}

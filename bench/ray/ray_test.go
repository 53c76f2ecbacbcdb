package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/bench/stat"
)

// TestReports: the tables and the picture in the repository are made of the file of results.
func TestReports(t *testing.T) {
	t.Parallel()
	all, err := readFigures(filepath.Base(resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range reports {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			old, err := os.ReadFile(filepath.Join("..", path))
			if err != nil {
				t.Fatal(err)
			}
			want, err := content(all, old)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != string(old) {
				t.Error("it is not what the results make: run make bench-ray ARGS=-report")
			}
		})
	}
}

// TestResultsHaveRows: every row of the file of results is a row that is measured today, and has its usual systems.
func TestResultsHaveRows(t *testing.T) {
	t.Parallel()
	all, err := readFigures(filepath.Base(resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]row{}
	for _, w := range rows() {
		if _, twice := known[w.key()]; twice {
			t.Errorf("two rows are called %s", w.key())
		}
		known[w.key()] = w
	}
	for _, f := range all {
		w, ok := known[f.key()]
		if !ok {
			t.Errorf("no row is called %s", f.key())
		}
		for _, name := range w.systems {
			if len(f.Sides[name]) == 0 {
				t.Errorf("%s has no numbers of %s", f.key(), name)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	order := []row{{group: "g", name: "a"}, {group: "g", name: "b"}, {group: "g", name: "c"}}
	of := func(name, date string) figures { return figures{Group: "g", Row: name, Date: date} }
	old := []figures{of("a", "1"), of("gone", "1"), of("c", "1")}
	for name, c := range map[string]struct {
		add  figures
		want string
	}{
		"a new row has its place": {of("b", "2"), "a1 b2 c1"},
		"a newer row wins":        {of("c", "2"), "a1 c2"},
		"the first":               {of("a", "3"), "a3 c1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, f := range merge(old, c.add, order) {
				got = append(got, f.Row+f.Date)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
			if old[1].Row != "gone" {
				t.Error("merge changed its argument")
			}
		})
	}
}

func TestFiguresOnDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.jsonl")
	if all, err := readFigures(path); err != nil || all != nil {
		t.Fatalf("a file that is not there has %v, %v", all, err)
	}
	want := figures{Group: "g", Row: "a", Sides: map[string]map[string]float64{helveSystem: {rate: 1234.5}}}
	if err := writeFigures(path, []figures{want, want}); err != nil {
		t.Fatal(err)
	}
	all, err := readFigures(path)
	if err != nil || len(all) != 2 || all[1].Sides[helveSystem][rate] != 1234.5 || all[1].key() != "g/a" {
		t.Errorf("%v, %v", all, err)
	}
	if err := os.WriteFile(path, []byte("{}\n{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readFigures(path); err == nil || !strings.Contains(err.Error(), "results.jsonl:2") {
		t.Errorf("error %v, want one with the line", err)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	w := row{group: "g", name: "a", bars: []comparison{
		atLeast(rate, rayBest, 4), atMost(p50, mosecFloor, 1.1), {metric: p50, reference: uvicorn, bar: stat.Bar{Value: 1}, slack: 0.09},
	}}
	f := figures{Cores: 2, Sides: map[string]map[string]float64{
		helveSystem: {rate: 300, p50: 0.2}, rayBest: {rate: 100}, uvicorn: {p50: 0.15},
	}}
	titles := map[string]string{rayBest: "Ray", uvicorn: "uvicorn"}
	for cores, want := range map[float64]string{2: "rate 3 short, p50 0.833 ok", 1.5: "rate 3 busy, p50 0.833 ok"} {
		f.Cores = cores
		var got []string
		for _, v := range verdicts(w, f, titles) { // Mosec was not measured
			got = append(got, v.metric+" "+strings.TrimSuffix(text(cpu, v.ratio), " s")+" "+v.word)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("at %v cores: %v, want %s", cores, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		metric string
		v      float64
		want   string
	}{
		{rate, 581.4, "581/s"}, {rate, 1184, "1.18k/s"}, {rate, 70687, "70.7k/s"}, {rate, 1.2345e6, "1.23M/s"},
		{p50, 0.1951, "0.195 ms"}, {p99, 3.75, "3.75 ms"}, {p99, 82.4, "82.4 ms"}, {p99, 167.2, "167 ms"}, {cpu, 0.0213, "0.0213 s"}, {mb, 160.2, "160 MB"}, {seconds, 6.9, "6.90 s"},
		{processes, 23, "23"}, {failed, 0, "0"},
	} {
		if got := text(c.metric, c.v); got != c.want {
			t.Errorf("%s of %v is %q, want %q", c.metric, c.v, got, c.want)
		}
	}
}

// TestPicture: the picture is XML, also without any number, and has each system that was measured.
func TestPicture(t *testing.T) {
	t.Parallel()
	full := figures{Group: "handle", Row: "1 MB, 1 in flight", Sides: map[string]map[string]float64{helveSystem: {rate: 1000}, rayBest: {rate: 20}}}
	for name, all := range map[string][]figures{"nothing": nil, "two bars": {full}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svg, err := picture(all, nil)
			if err != nil {
				t.Fatal(err)
			}
			d := xml.NewDecoder(strings.NewReader(string(svg)))
			for err == nil {
				_, err = d.Token()
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("it does not parse: %v", err)
			}
			if strings.Contains(string(svg), "1.00k/s</text>") != (len(all) > 0) {
				t.Errorf("bars of %d rows:\n%s", len(all), svg)
			}
		})
	}
}

func TestInsertNeedsMarks(t *testing.T) {
	t.Parallel()
	if _, err := insert(nil, []byte("no marks")); err == nil {
		t.Error("a page without marks was taken")
	}
	got, err := insert(nil, []byte("a\n"+begin+"old\n"+end+"z\n"))
	if err != nil || strings.Contains(string(got), "old") || !strings.HasPrefix(string(got), "a\n") || !strings.HasSuffix(string(got), "z\n") {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFaultMetrics: requests that ended before the fault do not count.
func TestFaultMetrics(t *testing.T) {
	t.Parallel()
	f := &faults{}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, o := range []struct{ begin, end, status int }{
		{0, 9, 500}, {0, 10, 0}, {5, 60, 200}, {20, 30, 503}, {40, 41, 0}, {70, 90, 200}, {0, 9, 200},
	} {
		f.all = append(f.all, outcome{begin: f.start.Add(ms(o.begin - 10)), end: f.start.Add(ms(o.end - 10)), status: o.status})
	}
	got := f.metrics(ms(1500))
	for metric, want := range map[string]float64{refused: 2, failed: 1, slowest: 55, whole: 1.5} {
		if got[metric] != want {
			t.Errorf("%s is %v, want %v", metric, got[metric], want)
		}
	}
}

package profile_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/profile"
)

// answer is that of a Python worker: two threads in handle, one of which has called score.
const answer = `{"kind":"cpu","start":1700000000.5,"seconds":2,"samples":200,"cost_s":0.004,
"functions":[["shop.score","shop.py",3],["shop.Ranker.handle<x>","shop.py",10]],
"stacks":[{"value":1500000000,"count":150,"thread":"MainThread","frames":[0,5,1,12]},{"value":500000000,"count":50,"thread":"pool;1","frames":[1,11]}]}`

func python(t *testing.T) *profile.Profile {
	t.Helper()
	p, err := profile.FromPython([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRoundTrip: a profile that was written is read as it was.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	p := python(t)
	read, err := profile.Decode(p.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, read); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
}

// TestPprof: go tool pprof reads a file that was written, and finds functions, lines and units.
func TestPprof(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "cpu.pb.gz")
	if err := os.WriteFile(file, python(t).Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "pprof", "-top", "-lines", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"Type: cpu", "Duration: 2s", "1500ms 75.00%", "shop.score shop.py:5", "200 samples in 2.0 s"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("go tool pprof shows no %q:\n%s", want, out)
		}
	}
}

// TestRuntime: the profiles of Go's runtime are read, with inlined functions and the value that they show first.
func TestRuntime(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"goroutine", "heap", "block"} {
		var file bytes.Buffer
		if err := pprof.Lookup(name).WriteTo(&file, 0); err != nil {
			t.Fatal(err)
		}
		p, err := profile.Decode(file.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "goroutine" && !strings.Contains(p.Folded(), "profile_test.TestRuntime") {
			t.Errorf("the stacks have no TestRuntime:\n%s", p.Folded())
		}
	}
}

// TestForms: the forms of a profile for people.
func TestForms(t *testing.T) {
	t.Parallel()
	p := python(t)
	if want := "MainThread;shop.Ranker.handle<x>;shop.score 1500000000\npool:1;shop.Ranker.handle<x> 500000000\n"; p.Folded() != want {
		t.Errorf("folded\n%s, want\n%s", p.Folded(), want)
	}
	want := "1.50 s  thread MainThread\n    shop.score  shop.py:5\n    shop.Ranker.handle<x>  shop.py:12\n500.0 ms  thread pool:1\n    shop.Ranker.handle<x>  shop.py:11\n"
	if p.Text() != want {
		t.Errorf("text\n%s, want\n%s", p.Text(), want)
	}
	svg := p.SVG("a & b")
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the drawing is no XML: %v\n%s", err, svg)
		}
	}
	for _, want := range []string{"a &amp; b", "cpu: 2.00 s in 2.0 s", "<title>shop.score (1.50 s, 75.0%)</title>", "handle&lt;x&gt;"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the drawing has no %q:\n%s", want, svg)
		}
	}
}

// TestWithout: waits before a profile are taken off those after it.
func TestWithout(t *testing.T) {
	t.Parallel()
	before, after := python(t), python(t)
	after.Samples[0].Values = []int64{160, 1_600_000_000}
	left := after.Without(before)
	if want := "MainThread;shop.Ranker.handle<x>;shop.score 100000000\n"; left.Folded() != want {
		t.Errorf("%s, want %s", left.Folded(), want)
	}
}

// TestTracebacks: the stacks that a worker tells when its event loop stands.
func TestTracebacks(t *testing.T) {
	t.Parallel()
	p := profile.FromTracebacks("Thread MainThread:\n  File \"/a b/run.py\", line 1, in <module>\n    main()\n  File \"shop.py\", line 5, in score\n    x = 1\nThread pool:\n  File \"q.py\", line 7, in get\n", time.Now())
	want := "thread MainThread\n    score  shop.py:5\n    <module>  /a b/run.py:1\nthread pool\n    get  q.py:7\n"
	if p.Text() != want {
		t.Errorf("%s, want\n%s", p.Text(), want)
	}
	if _, err := profile.Decode(p.Encode()); err != nil {
		t.Error(err)
	}
}

// TestMalformed: bytes that are no profile are an error, wherever they end.
func TestMalformed(t *testing.T) {
	t.Parallel()
	if _, err := profile.Decode([]byte("no gzip")); err == nil {
		t.Error("a text is a profile")
	}
	if _, err := profile.FromPython([]byte(`{"kind":"cpu","functions":[],"stacks":[{"frames":[0,1]}]}`)); err == nil || !strings.Contains(err.Error(), "no function 0") {
		t.Errorf("a function that is not there: %v", err)
	}
	if _, err := profile.FromPython([]byte(`{"functions":[1]}`)); err == nil {
		t.Error("a function that is a number")
	}
}

// TestJoin: equal stacks of profiles with other numbers of functions are one sample, and profiles of another kind are left out.
func TestJoin(t *testing.T) {
	t.Parallel()
	cpu, heap := []profile.Type{{"cpu", "nanoseconds"}}, []profile.Type{{"inuse_space", "bytes"}}
	a, b := profile.Function{Name: "a", File: "f.py", Line: 1}, profile.Function{Name: "b", File: "f.py", Line: 9}
	of := func(types []profile.Type, at time.Time, functions []profile.Function, samples ...profile.Sample) *profile.Profile {
		return &profile.Profile{Types: types, Functions: functions, Samples: samples, Start: at, Duration: time.Second}
	}
	begun := time.Unix(1000, 0)
	joined := profile.Join([]*profile.Profile{
		of(cpu, begun, []profile.Function{a, b}, profile.Sample{Stack: []profile.Frame{{0, 2}, {1, 9}}, Values: []int64{5}}, profile.Sample{Stack: []profile.Frame{{1, 9}}, Values: []int64{1}}),
		of(heap, begun, []profile.Function{a}, profile.Sample{Stack: []profile.Frame{{0, 2}}, Values: []int64{100}}),
		of(cpu, begun.Add(time.Minute), []profile.Function{b, a}, profile.Sample{Stack: []profile.Frame{{1, 2}, {0, 9}}, Values: []int64{7}}, profile.Sample{Stack: []profile.Frame{{1, 3}, {0, 9}}, Values: []int64{2}}),
	})
	if joined.Duration != 2*time.Second || !joined.Start.Equal(begun) || len(joined.Functions) != 2 || len(joined.Samples) != 3 {
		t.Errorf("%+v", joined)
	}
	if got, want := joined.Folded(), "b 1\nb;a 14\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	again, err := profile.Decode(joined.Encode())
	if err != nil || again.Folded() != joined.Folded() || !slices.Equal(again.Comments, []string{"2 profiles of 2s in all"}) {
		t.Errorf("%v, %+v", err, again)
	}
}

package metrics

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/telemetry"
)

// TestDetails: bounds of replicas are left out before those of deployments, and no sooner than the size of the page needs it.
func TestDetails(t *testing.T) {
	t.Parallel()
	const all, half = 19 * 100, 10 * 100
	for _, c := range []struct {
		name             string
		replicas, others int // histograms whose lines have 100 bytes
		rest, small      int
		want             details
	}{
		{"a small node", 100, 100, 0, 0, details{0, 0}},
		{"just all", 200, 100, pageBytes - 300*all - 10, 10, details{0, 0}},
		{"a byte too many", 200, 100, pageBytes - 300*all - 9, 10, details{1, 0}},
		{"just half of the replicas", 200, 100, pageBytes - 200*half - 100*all, 1000, details{1, 0}},
		{"many replicas", 1000, 50, 1e6, 0, details{2, 0}},
		{"many of both", 1000, 500, 1.3e6, 0, details{3, 2}},
		{"no replica", 0, 500, 1e6, 0, details{3, 1}},
		{"more than fit", 100000, 100000, 0, 0, details{3, 3}},
	} {
		s := sizes{rest: c.rest, small: c.small, replicas: map[int]int{19: 100 * c.replicas}, others: map[int]int{19: 100 * c.others}}
		if got := s.fit(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestSizes: the size that is reckoned is that of the page, and a page is below 2 MB if that can be, for names of any length.
func TestSizes(t *testing.T) {
	t.Parallel()
	for range 40 {
		s := telemetry.Snapshot(thousand())
		a := &s.Applications[0]
		all := a.Deployments
		a.Deployments = nil
		a.Name, a.Route = strings.Repeat("a", 1+rand.IntN(20)), "/"+strings.Repeat("r", rand.IntN(10))
		for each, name := 1+rand.IntN(100), strings.Repeat("D", 1+rand.IntN(12)); len(all) > 0; all = all[1:] {
			for of := range slices.Chunk(all[0].Replicas, each) {
				d := all[0]
				d.Name, d.Replicas, d.Calls = fmt.Sprint(name, len(a.Deployments)), nil, telemetry.Counts{}
				lifecycle := telemetry.NewLifecycle()
				lifecycle.Startup.Observe(time.Second)
				lifecycle.Initialization.Observe(time.Second)
				d.Lifecycle = lifecycle.Counts()
				d.Callers = map[telemetry.Caller]telemetry.CallerCounts{{Kind: telemetry.FromHTTP}: {Ended: 1_000_000}, {Kind: telemetry.FromDeployment, App: a.Name, Deployment: name}: {Ended: 1_000_000, Failed: 10, Waited: time.Second}}
				for i, r := range of {
					r.ID, r.Memory = fmt.Sprintf("%s#%03d", d.Name, i), 1<<30
					d.Calls.Add(r.Calls)
					d.Replicas = append(d.Replicas, r)
				}
				a.Deployments = append(a.Deployments, d)
			}
			if rand.IntN(4) == 0 {
				break
			}
		}
		replicas := 0
		for i := range a.Deployments {
			replicas += len(a.Deployments[i].Replicas)
		}
		name := fmt.Sprintf("%d replicas of %d deployments, the application has %d letters, a deployment %d", replicas, len(a.Deployments), len(a.Name), len(a.Deployments[0].Name))
		v := views(&s)
		size := sizesOf(&s, v)
		d := size.fit()
		text := scrape(t, source(s))
		if got, want := len(text), size.of(d); got < want*94/100-20_000 || got > want*106/100+20_000 {
			t.Errorf("%s: the page has %d bytes, %d were reckoned (%v)", name, got, want, d)
		}
		if len(text) > 2e6 && d != (details{detailMax, detailMax}) {
			t.Errorf("%s: the page has %d bytes, and could have fewer (%v)", name, len(text), d)
		}
	}
}

// TestBoundsOfDetails: the bounds of each detail are among those of the one before, fewer, and never none.
func TestBoundsOfDetails(t *testing.T) {
	t.Parallel()
	for bounds := 1; bounds < telemetry.Buckets; bounds++ {
		for d := detail(1); d <= detailMax; d++ {
			fine, coarse := (d - 1).of(bounds), d.of(bounds)
			if n := coarse.lines(bounds); n == 0 || n > fine.lines(bounds) || bounds == 19 && n >= fine.lines(bounds) {
				t.Errorf("%d bounds: %d at detail %d, %d at the one before", bounds, n, d, fine.lines(bounds))
			}
		}
	}
	var usual []float64
	for i, b := range telemetry.Bounds() {
		if detailMax.shows(i) {
			usual = append(usual, b)
		}
	}
	if !slices.Equal(usual, []float64{100, 10000}) {
		t.Errorf("the fewest bounds are %v", usual)
	}
}

// TestLinesOfDetails: a line has the same number however many bounds are shown, and the newest exemplar of the buckets that it stands for.
func TestLinesOfDetails(t *testing.T) {
	t.Parallel()
	lines := func(p *page) map[string]string { // by labels, without exemplars
		out := map[string]string{}
		for line := range strings.Lines(string(p.b)) {
			line, _, _ = strings.Cut(line, " # ")
			if labels, n, ok := strings.Cut(strings.TrimSpace(line), " "); ok && labels != "#" {
				out[labels] = n
			}
		}
		return out
	}
	bounds := telemetry.Bounds()
	buckets := make([]uint64, len(bounds)+1)
	exemplars := make([]telemetry.Exemplar, len(buckets))
	for i := range buckets {
		buckets[i] = rand.Uint64N(3)
		exemplars[i] = telemetry.Exemplar{ID: [16]byte{15: byte(i)}, Took: time.Millisecond, At: time.Unix(int64(100-i), 0)}
	}
	var all map[string]string
	for d := detail(0); d <= detailMax; d++ {
		p := &page{names: map[string]bool{}, open: true}
		p.family("x", histogram, "")
		p.histogram(`a="b"`, bounds, buckets, 1, d, exemplars)
		got := lines(p)
		if d == 0 {
			all = got
		}
		if want := d.lines(len(bounds)) + 3; len(got) != want {
			t.Errorf("detail %d: %d lines, want %d", d, len(got), want)
		}
		for labels, n := range got {
			if all[labels] != n {
				t.Errorf("detail %d: %s is %s, want %s", d, labels, n, all[labels])
			}
		}
		if d == 1 { // the bucket of 5 ms stands for that of 2 ms too, whose exemplar is newer
			if want := fmt.Sprintf(`le="5.0"} %s # {trace_id="%032x"}`, all[`x_bucket{a="b",le="5.0"}`], 1); !strings.Contains(string(p.b), want) {
				t.Errorf("no %s in\n%s", want, p.b)
			}
		}
	}
}

// TestLargePage: a page of 1,000 replicas has less than 2 MB, all replicas have the same bounds, and each deployment has all.
func TestLargePage(t *testing.T) {
	t.Parallel()
	text := scrape(t, thousand())
	if len(text) > 2e6 {
		t.Errorf("the page has %d bytes", len(text))
	}
	bounds := map[string][]string{} // by the labels of a replica
	for _, m := range regexp.MustCompile(`ray_serve_deployment_processing_latency_ms_bucket\{(.*),le="(.*)"\}`).FindAllStringSubmatch(text, -1) {
		bounds[m[1]] = append(bounds[m[1]], m[2])
	}
	if len(bounds) != 1000 {
		t.Errorf("%d replicas have a latency", len(bounds))
	}
	for _, of := range slices.Sorted(maps.Keys(bounds)) {
		if !slices.Equal(bounds[of], []string{"5", "100", "500", "10000", "600000", "+Inf"}) {
			t.Fatalf("%s has the bounds %q", of, bounds[of])
		}
	}
	if n := strings.Count(text, "helve_deployment_processing_latency_ms_bucket{"); n != 10*telemetry.Buckets {
		t.Errorf("the deployments have %d buckets", n)
	}
}

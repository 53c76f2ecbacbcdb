package metrics

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/telemetry"
)

// TestMetricsOfPrograms: metrics that programs define are shown with the prefix, and never in place of the node's own.
func TestMetricsOfPrograms(t *testing.T) {
	t.Parallel()
	u := telemetry.NewUserMetrics(func(why string) { t.Error(why) })
	s, other := u.Source(), u.Source()
	for _, source := range []*telemetry.UserSource{s, other} {
		if err := source.Report(1, []byte(`[
			{"name":"hits","kind":"counter","help":"Of the cache.","keys":["replica"],"series":[{"values":["D#1"],"value":2}]},
			{"name":"size","kind":"gauge","series":[{"values":[],"value":-1.5}]},
			{"name":"took","kind":"histogram","keys":["a"],"bounds":[1,10],"series":[{"values":["\"x\"\n"],"buckets":[1,2,3],"sum":40}]},
			{"name":"serve_application_status","kind":"gauge","series":[{"values":[],"value":1}]},
			{"name":"serve_deployment_processing_latency_ms_sum","kind":"gauge","series":[{"values":[],"value":1}]}
		]`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Report(2, []byte(`[{"name":"hits","kind":"counter","help":"Another text.","keys":["other"],"series":[{"values":["x"],"value":9}]}]`)); err != nil {
		t.Fatal(err)
	}
	of := example()
	of.User = u.Families()
	var got []string
	for line := range strings.Lines(scrape(t, of)) {
		if strings.Contains(line, "ray_") && !strings.Contains(line, "ray_serve_") && !strings.Contains(line, "ray_node_") && !strings.Contains(line, "ray_object") && !strings.Contains(line, "ray_resources") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		"# HELP ray_hits_total Of the cache.",
		"# TYPE ray_hits_total counter",
		`ray_hits_total{other="x"} 9`,
		`ray_hits_total{replica="D#1"} 4`,
		"# HELP ray_size",
		"# TYPE ray_size gauge",
		"ray_size -1.5",
		"# HELP ray_took",
		"# TYPE ray_took histogram",
		`ray_took_bucket{a="\"x\"\n",le="1"} 2`,
		`ray_took_bucket{a="\"x\"\n",le="10"} 6`,
		`ray_took_bucket{a="\"x\"\n",le="+Inf"} 12`,
		`ray_took_sum{a="\"x\"\n"} 80`,
		`ray_took_count{a="\"x\"\n"} 12`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

package autoscale

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, raw string) Config {
	t.Helper()
	c, err := Parse(json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDefaults: a delay that was not set is told apart from a set delay, and every other field has its default.
func TestDefaults(t *testing.T) {
	t.Parallel()
	c := parse(t, `{"max_replicas": 4, "upscale_delay_s": null}`)
	if c.UpscaleDelay != nil || c.DownscaleDelay != nil || c.DownscaleToZeroDelay != nil || c.LookBack != nil || c.InitialReplicas != nil {
		t.Errorf("fields that are not set: %+v", c)
	}
	if c.MinReplicas != 1 || c.MaxReplicas != 4 || c.Initial() != 1 || c.Target != 2 || c.Aggregation != Mean || c.UpFactor != 1 || c.DownFactor != 1 ||
		c.StableWindow != time.Minute || c.PanicWindow != 6*time.Second || c.PanicThreshold != 2 || c.Tolerance != 0.1 || c.MaxUpFactor != 10 || c.MaxDownFactor != 4 ||
		c.UpStepsPerMin != 30 || c.DownStepsPerMin != 2 || c.Policy.Function != "" || c.Policy.Timeout != 10*time.Second {
		t.Errorf("defaults: %+v", c)
	}
	c = parse(t, `{"min_replicas": 0, "max_replicas": 8, "initial_replicas": 3, "target_ongoing_requests": 0.5, "upscale_delay_s": 0, "downscale_delay_s": 1.5,
		"downscale_to_zero_delay_s": 60, "look_back_period_s": 20, "aggregation_function": "max", "smoothing_factor": 0.5, "upscale_smoothing_factor": 0.25,
		"metrics_interval_s": 5, "prometheus_metrics": ["a", "b"], "_serialized_policy_def": "x",
		"policy": {"policy_function": "m:f", "policy_kwargs": {"a": 1}, "timeout_s": 2, "_serialized_policy_def": "abc"}}`)
	if *c.UpscaleDelay != 0 || *c.DownscaleDelay != 1500*time.Millisecond || *c.DownscaleToZeroDelay != time.Minute || *c.LookBack != 20*time.Second || c.Initial() != 3 ||
		c.MinReplicas != 0 || c.Target != 0.5 || c.Aggregation != Max || c.UpFactor != 0.25 || c.DownFactor != 0.5 || c.StableWindow != 20*time.Second ||
		len(c.PrometheusMetrics) != 2 || c.Policy.Function != "m:f" || string(c.Policy.Kwargs) != `{"a": 1}` || c.Policy.Timeout != 2*time.Second || c.Policy.Pickled != "abc" {
		t.Errorf("fields that are set: %+v", c)
	}
	if c = parse(t, `{"policy": {"policy_function": "`+DefaultPolicyFunction+`"}, "upscaling_factor": 3, "upscale_smoothing_factor": 4}`); c.Policy.Function != "" || c.UpFactor != 3 {
		t.Errorf("the default policy and the newer name of a gain: %+v", c)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`7`:                                           "must be an object, is 7",
		`null`:                                        "must be an object, is null",
		`{"min_replicas": -1}`:                        "min_replicas must not be negative, is -1",
		`{"max_replicas": 0}`:                         "max_replicas must be at least 1, is 0",
		`{"max_replicas": 1.5}`:                       "min_replicas, max_replicas and initial_replicas must be integers, max_replicas is 1.5",
		`{"min_replicas": 3, "max_replicas": 2}`:      "max_replicas must be at least min_replicas (3), is 2",
		`{"initial_replicas": 0}`:                     "initial_replicas must be from min_replicas (1) to max_replicas (1), is 0",
		`{"target_ongoing_requests": 0}`:              "target_ongoing_requests must be above 0, is 0",
		`{"target_ongoing_requests": "2"}`:            `target_ongoing_requests must be a number, is "2"`,
		`{"upscale_delay_s": -1}`:                     "upscale_delay_s must not be negative, is -1",
		`{"downscale_delay_s": 1e300}`:                "downscale_delay_s must be at most 2147483647, is 1e300",
		`{"upscale_delay": 3}`:                        "upscale_delay: there is no such field; did you mean upscale_delay_s?",
		`{"aggregation_function": "median"}`:          `aggregation_function must be mean, max or min, is "median"`,
		`{"aggregation_function": 3}`:                 "aggregation_function: must be string, is a JSON number",
		`{"panic_threshold": 0.5}`:                    "panic_threshold must be at least 1, is 0.5",
		`{"prometheus_metrics": [1]}`:                 "prometheus_metrics[0] must be a text, is 1",
		`{"policy": "m:f"}`:                           `policy must be an object with policy_function, policy_kwargs and timeout_s, is "m:f"`,
		`{"policy": {"policy_kwargs": [1]}}`:          "policy.policy_kwargs must be an object, is [1]",
		`{"policy": {"timeout_s": 0}}`:                "policy.timeout_s must be above 0, is 0",
		`{"max_downscale_factor": 1}`:                 "max_downscale_factor must be at least 1.1, is 1",
		`{"stable_window_s": 0.5, "max_replicas": 2}`: "stable_window_s must be at least 1, is 0.5",
	} {
		if _, err := Parse(json.RawMessage(raw)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

// FuzzParse: a config that is accepted has bounds that go together, at each capacity.
func FuzzParse(f *testing.F) {
	f.Add(`{"min_replicas": 0, "max_replicas": 8, "initial_replicas": 3, "policy": {"policy_function": "m:f"}}`, 50.0)
	f.Fuzz(func(t *testing.T, raw string, capacity float64) {
		c, err := Parse(json.RawMessage(raw))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			return
		}
		for _, rising := range []bool{false, true} {
			if least, most := Bounds(c, &capacity, rising); least < 0 || least > most || most > c.MaxReplicas || capacity > 0 && most < 1 {
				t.Errorf("%s at %v %%: %d to %d", raw, capacity, least, most)
			}
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	ten := parse(t, `{"min_replicas": 2, "initial_replicas": 6, "max_replicas": 10}`)
	zero := parse(t, `{"min_replicas": 0, "max_replicas": 10}`)
	for _, c := range []struct {
		config      Config
		capacity    float64
		rising      bool
		least, most int
	}{
		{ten, 100, false, 2, 10}, {ten, 100, true, 2, 10}, {ten, 80, true, 5, 8}, {ten, 50, false, 1, 5}, {ten, 50, true, 3, 5}, {ten, 1, false, 1, 1}, {ten, 0, true, 0, 0},
		{ten, 25, false, 1, 3}, {ten, 400, false, 2, 10}, {zero, 50, false, 0, 5}, {zero, 100, true, 0, 10},
	} {
		if least, most := Bounds(c.config, &c.capacity, c.rising); least != c.least || most != c.most {
			t.Errorf("%v %%, rising %v: %d to %d, want %d to %d", c.capacity, c.rising, least, most, c.least, c.most)
		}
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		replicas int
		percent  float64
		want     int
	}{{3, 50, 2}, {3, 1, 1}, {3, 0, 0}, {0, 50, 0}, {10, 100, 10}, {10, 25, 3}} {
		if got := Share(tt.replicas, &tt.percent); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
	if got := Share(3, nil); got != 3 {
		t.Error(got)
	}
}

// TestReasonNamesCapacity: a bound that the target capacity has lowered is not the number of max_replicas, and the reason says so.
func TestReasonNamesCapacity(t *testing.T) {
	t.Parallel()
	d := Decision{Rule: RuleLoad, Blocked: "max_replicas", Inputs: Inputs{Calls: 3, Target: 2, Most: 0, Capacity: new(0.0)}}
	if got, want := d.Reason(), "3.0 calls / 2 a replica = 1.5; at most 0 by max_replicas at a target capacity of 0 %"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d.Inputs.Capacity = new(100.0)
	if got, want := d.Reason(), "3.0 calls / 2 a replica = 1.5; at most 0 by max_replicas"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestPanicWithinStable is a property: the panic window of each config that is accepted is at most its stable window, also the default one.
func TestPanicWithinStable(t *testing.T) {
	t.Parallel()
	random, accepted := rand.New(rand.NewPCG(1, 21)), 0
	for range 2000 {
		fields := map[string]float64{}
		for _, name := range []string{"stable_window_s", "panic_window_s", "look_back_period_s"} {
			if random.IntN(2) == 0 {
				fields[name] = 1 + float64(random.IntN(200))/10
			}
		}
		raw, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(raw)
		_, set := fields["panic_window_s"]
		switch {
		case err != nil && !set:
			t.Fatalf("%s: %v", raw, err)
		case err != nil:
			continue
		case c.PanicWindow > c.StableWindow || !set && c.PanicWindow != min(DefaultPanicWindow, c.StableWindow):
			t.Fatalf("%s: %s in %s", raw, c.PanicWindow, c.StableWindow)
		}
		accepted++
	}
	if accepted < 1000 {
		t.Error(accepted)
	}
}

// TestPanicWindow: a panic window that was set above the stable window is a mistake; the default one is bounded by it.
func TestPanicWindow(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"panic_window_s": 90}`:                           "panic_window_s must be at most the stable window (stable_window_s, else look_back_period_s: 60 s), is 90",
		`{"panic_window_s": 31, "look_back_period_s": 30}`: "panic_window_s must be at most the stable window (stable_window_s, else look_back_period_s: 30 s), is 31",
	} {
		if _, err := Parse(json.RawMessage(raw)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
	if c := parse(t, `{"stable_window_s": 4}`); c.PanicWindow != 4*time.Second {
		t.Errorf("%s", c.PanicWindow)
	}
	if c := parse(t, `{"stable_window_s": 4, "panic_window_s": 4}`); c.PanicWindow != 4*time.Second {
		t.Errorf("%s", c.PanicWindow)
	}
}

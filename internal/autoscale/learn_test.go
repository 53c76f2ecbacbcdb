package autoscale

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// shrunk is a deployment whose load has just brought its replicas from 10 to 9, with a load that 10 replicas need.
func shrunk(t *testing.T) *deployment {
	t.Helper()
	d := deploy(t, `{"min_replicas": 1, "max_replicas": 20, "initial_replicas": 10}`)
	if down := d.loaded(2*time.Minute, Load{Running: 18}); len(down) != 1 || d.facts.Target != 9 {
		t.Fatalf("%+v", down)
	}
	return d
}

// TestTakenBackByLoad: a step down counts as taken back if the load made the number grow again, and not if a bound, the target capacity, a deploy or a restart of the node did.
func TestTakenBackByLoad(t *testing.T) {
	t.Parallel()
	capacity := func(d *deployment, percent float64, rising bool) {
		before := d.facts.Target
		d.facts.Capacity = &percent
		d.facts.Least, d.facts.Most = Bounds(d.config, &percent, rising)
		if rising {
			d.facts.Warm = Share(d.config.Initial(), &percent)
		}
		d.loaded(tick, Load{Running: 18})
		d.facts.Warm = 0
		if before == d.facts.Target {
			t.Errorf("%v %% has changed nothing: %d replicas", percent, before)
		}
	}
	for name, x := range map[string]struct {
		run  func(d *deployment)
		back bool
	}{
		"the load": {func(d *deployment) { d.loaded(10*time.Second, Load{Running: 22}) }, true},
		"a policy": {func(d *deployment) {
			d.facts.Raw = new(10.0)
			d.loaded(10*time.Second, Load{})
		}, true},
		"min_replicas": {func(d *deployment) {
			d.facts.Least = 10
			d.loaded(tick, Load{Running: 18})
			d.facts.Least = 1
		}, false},
		"initial_replicas": {func(d *deployment) {
			d.facts.Target = 10
			d.state.Set(d.now, 9, 10)
		}, false},
		"the target capacity, and the load up to its bound": {func(d *deployment) {
			capacity(d, 40, false)
			d.loaded(10*time.Second, Load{Running: 18})
			d.facts.Capacity, d.facts.Most = nil, 20
			d.loaded(10*time.Second, Load{Running: 20})
		}, false},
		"the target capacity, and initial_replicas": {func(d *deployment) {
			capacity(d, 40, false)
			capacity(d, 100, true)
		}, false},
		"a restart": {func(d *deployment) {
			d.state.Restarted()
			d.loaded(10*time.Second, Load{Running: 22})
		}, false},
	} {
		d := shrunk(t)
		if x.run(d); d.facts.Target != 10 {
			t.Errorf("%s: %d replicas", name, d.facts.Target)
		}
		if back := d.state.calm > 0; back != x.back {
			t.Errorf("%s: it counts as taken back: %v, want %v", name, back, x.back)
		}
	}
}

// TestCalmIsOfTheLoad: the longer time after a step down that was taken back begins with the step up by the load, and a later step up by the target capacity does not begin it anew. It survives the store, also from
// the form of an older node.
func TestCalmIsOfTheLoad(t *testing.T) {
	t.Parallel()
	d := shrunk(t)
	d.loaded(10*time.Second, Load{Running: 22})
	until := d.state.asked.Add(d.state.calm)
	d.loaded(30*time.Second, Load{Running: 2})
	d.facts.Most = 5
	d.loaded(tick, Load{Running: 2})
	d.facts.Most, d.facts.Least = 20, 10
	d.loaded(tick, Load{Running: 2})
	d.facts.Least = 1
	d.restart(t, 0)
	got := d.decide(Load{Running: 2})
	if got.Blocked != takenBack || got.Until.After(until.Add(time.Second)) || got.Until.Before(until.Add(-time.Second)) {
		t.Errorf("%s, want until %v", got.Reason(), until)
	}
	raw, err := json.Marshal(d.state)
	var form map[string]any
	if err = errors.Join(err, json.Unmarshal(raw, &form)); err != nil {
		t.Fatal(err)
	}
	delete(form, "asked")
	older, err := json.Marshal(form)
	if err = errors.Join(err, json.Unmarshal(older, &d.state)); err != nil {
		t.Fatal(err)
	}
	if !d.state.asked.Equal(d.state.grown) || d.state.asked.IsZero() {
		t.Errorf("from an older node: %v, want %v", d.state.asked, d.state.grown)
	}
}

// TestLimitOfStep: a step is limited by its factor where another step can follow, and by the bound where the number has reached it.
func TestLimitOfStep(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		config, want string
		from, to     int
		load         Load
	}{
		{`{"min_replicas": 1, "max_replicas": 20, "initial_replicas": 3}`, "; at least 1 by min_replicas", 3, 1, Load{}},
		{`{"min_replicas": 0, "max_replicas": 20, "initial_replicas": 3}`, "at most 0 replicas were needed in the last 60 s", 3, 1, Load{}},
		{`{"min_replicas": 1, "max_replicas": 20, "initial_replicas": 3}`, "at most 0.5 replicas were needed in the last 60 s", 3, 1, Load{Running: 1}},
		{`{"min_replicas": 1, "max_replicas": 20, "initial_replicas": 8}`, "; no more in one step by max_downscale_factor", 8, 2, Load{Running: 1}},
		{`{"min_replicas": 2, "max_replicas": 20, "initial_replicas": 8}`, "; at least 2 by min_replicas", 8, 2, Load{Running: 1}},
		{`{"min_replicas": 3, "max_replicas": 20, "initial_replicas": 8}`, "; at least 3 by min_replicas", 8, 3, Load{Running: 1}},
		{`{"min_replicas": 1, "max_replicas": 20, "max_upscale_factor": 4}`, "; no more in one step by max_upscale_factor", 1, 4, Load{Running: 60}},
		{`{"min_replicas": 1, "max_replicas": 4, "max_upscale_factor": 4}`, "; at most 4 by max_replicas", 1, 4, Load{Running: 60}},
		{`{"min_replicas": 1, "max_replicas": 3, "max_upscale_factor": 4}`, "; at most 3 by max_replicas", 1, 3, Load{Running: 60}},
	} {
		d := deploy(t, x.config)
		for d.facts.Target == x.from && d.now.Sub(begin) < 2*time.Minute {
			d.loaded(tick, x.load)
		}
		if d.facts.Target != x.to || len(d.changes) != 1 {
			t.Errorf("%s: to %d replicas, want %d", x.config, d.facts.Target, x.to)
			continue
		}
		if reason := d.changes[0].Reason(); !strings.HasSuffix(reason, x.want) {
			t.Errorf("%s: %s, want %s", x.config, reason, x.want)
		}
	}
}

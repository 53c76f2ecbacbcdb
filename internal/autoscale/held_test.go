package autoscale

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// decide samples a load once, and decides.
func (d *deployment) decide(l Load) Decision {
	d.state.Observe(d.now, l)
	decision := Decide(d.now, d.config, &d.state, d.facts)
	d.facts.Target, d.facts.Ready = decision.Replicas, decision.Replicas
	d.now = d.now.Add(tick)
	return decision
}

// TestHeldReasons: a number that stays although fewer replicas are needed has a reason for that, and the time at which that ends at the latest.
func TestHeldReasons(t *testing.T) {
	t.Parallel()
	policy := func(d *deployment, raw float64) { d.facts.Raw = &raw }
	for name, c := range map[string]struct {
		config string
		run    func(d *deployment)
		want   string
	}{
		"the stable window": {plain, func(d *deployment) { d.loaded(100*time.Second, Load{Running: 7}) }, "0.0 calls in the last 6 s / 2 a replica = 0.0; it waits for stable_window_s, because 3.5 replicas were needed in the last 60 s, until 2026-11-30T12:02:4"},
		"the answers of a policy": {plain, func(d *deployment) {
			policy(d, 5)
			d.loaded(100*time.Second, Load{Running: 1})
			policy(d, 2)
		}, "the policy asks for 2; it waits for stable_window_s, because 5 replicas were asked for in the last 60 s, until 2026-11-30T12:02:4"},
		"the pause between steps": {`{"min_replicas": 1, "max_replicas": 100, "stable_window_s": 6}`, func(d *deployment) {
			d.loaded(100*time.Second, Load{Running: 160})
			d.loaded(9*time.Second, Load{})
		}, "; it waits for the time between steps (downscale_steps_per_minute), until 2026-11-30T12:02:1"},
		"an idle replica":  {`{"min_replicas": 0, "max_replicas": 10}`, func(d *deployment) { d.loaded(100*time.Second, Load{Running: 1}) }, "; it waits for 90 s without a call, until 2026-11-30T12:03:10Z at the latest"},
		"a new deployment": {`{"min_replicas": 1, "max_replicas": 10, "initial_replicas": 4}`, func(d *deployment) { d.loaded(tick, Load{}) }, "0.0 calls in the last 6 s / 2 a replica = 0.0; it waits for stable_window_s, until 2026-11-30T12:01:00Z at the latest"},
		"a new deployment with a little load": {`{"min_replicas": 1, "max_replicas": 7, "initial_replicas": 4}`, func(d *deployment) {
			d.loaded(tick, Load{})
			d.loaded(tick, Load{Running: 1})
			d.loaded(10*time.Second, Load{})
		}, "0.0 calls in the last 6 s / 2 a replica = 0.0; it waits for stable_window_s, until 2026-11-30T12:01:00Z at the latest"},
		"a delay": {`{"min_replicas": 1, "max_replicas": 10, "downscale_delay_s": 300}`, func(d *deployment) {
			d.loaded(100*time.Second, Load{Running: 7})
			d.loaded(40*time.Second, Load{})
		}, "0.0 calls in the last 30 s / 2 a replica = 0.0; it waits for downscale_delay_s, until 2026-11-30T12:0"},
		"the look-back period": {`{"min_replicas": 0, "max_replicas": 10, "downscale_delay_s": 300, "look_back_period_s": 20}`, func(d *deployment) {
			d.loaded(100*time.Second, Load{Running: 2})
			d.loaded(10*time.Second, Load{})
		}, "/ 2 a replica = 0.5; it waits for look_back_period_s, until 2026-11-30T12:02:00Z at the latest"},
	} {
		d := deploy(t, c.config)
		c.run(d)
		var got Decision
		for range 70 { // the panic window passes
			if got = d.decide(Load{}); got.Blocked != "" && got.Rule == RuleWaitingDown && (got.Inputs.Calls == 0 || name == "the look-back period") {
				break
			}
		}
		if reason := got.Reason(); !strings.Contains(reason, c.want) || got.Rule != RuleWaitingDown || got.Blocked == "" || !strings.HasSuffix(reason, "Z at the latest") {
			t.Errorf("%s: %s\nwant %s\n%+v", name, reason, c.want, got)
		}
	}
}

// TestPolicyStepNamesWindow: a step to the highest answer of the window says so.
func TestPolicyStepNamesWindow(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 1, "max_replicas": 10, "stable_window_s": 10}`)
	for _, raw := range []float64{8, 5, 2} {
		d.facts.Raw = &raw
		d.loaded(8*time.Second, Load{Running: 1})
	}
	d.loaded(8*time.Second, Load{Running: 1})
	for _, change := range d.changes {
		if change.Replicas == 5 && change.Reason() != "the policy has asked for at most 5 in the last 10 s, and asks for 2 now" {
			t.Error(change.Reason())
		}
	}
	if len(d.changes) < 2 {
		t.Errorf("%+v", d.changes)
	}
}

// TestHeldUntil is a property: of a number that stays although fewer replicas are needed each decision names the cause, and while the load stays the number shrinks at the time that the decision says.
func TestHeldUntil(t *testing.T) {
	t.Parallel()
	checked := 0
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 22))
		d := deploy(t, []string{
			plain, `{"min_replicas": 0, "max_replicas": 40, "target_ongoing_requests": 3, "stable_window_s": 20, "tolerance": 0.3}`, `{"min_replicas": 2, "max_replicas": 60, "max_downscale_factor": 1.5, "downscale_steps_per_minute": 6}`,
			`{"min_replicas": 0, "max_replicas": 20, "downscale_delay_s": 15, "look_back_period_s": 8}`,
		}[random.IntN(4)])
		for range 12 {
			l := Load{Running: random.IntN(40)}
			if random.IntN(3) == 0 {
				l.Running = 0
			}
			var until time.Time
			held := false
			for range 80 + random.IntN(1200) {
				from := d.facts.Target
				got := d.decide(l)
				fewer := got.Rule == RuleWaitingDown
				if need := ceil(got.Inputs.need()); !fewer && got.Replicas == from && from > d.facts.Least && got.Blocked == "" && need <= d.config.fewest(from) && need > 0 {
					t.Fatalf("seed %d: %d replicas stay, %d are needed, and no cause is named: %s", seed, from, need, got.Reason())
				}
				if held && fewer && got.Until.After(until) && !until.IsZero() && d.config.DownscaleDelay == nil && got.Replicas == from {
					t.Fatalf("seed %d: held until %v, and then until %v: %s", seed, until, got.Until, got.Reason())
				}
				if held && !until.IsZero() && got.Replicas == from && d.now.Add(-2*tick).After(until) {
					t.Fatalf("seed %d: still %d replicas after %v: %s", seed, from, until, got.Reason())
				}
				if held && !until.IsZero() && got.Replicas < from && d.config.DownscaleDelay == nil && until.Sub(d.now) > 2*tick {
					t.Fatalf("seed %d: %d replicas at %v, before %v: %s", seed, got.Replicas, d.now, until, got.Reason())
				}
				if until, held = got.Until, fewer && math.Abs(got.Inputs.Calls-float64(l.Running)) < 1e-6; held {
					checked++
				}
			}
		}
	}
	if checked < 1000 {
		t.Errorf("only %d decisions held a number", checked)
	}
}

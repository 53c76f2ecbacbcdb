package autoscale

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// published is the algorithm of the reference as it is published, with its delays counted in ticks of 100 ms.
type published struct {
	counter int
	loads   []float64 // of the look-back period, one a tick
}

func (p *published) decide(c Config, total float64, f Facts) int {
	ticks := func(d time.Duration) int { return int(d / tick) }
	if p.loads = append(p.loads, total); len(p.loads) > ticks(*c.LookBack) {
		p.loads = p.loads[1:]
	}
	if f.Ready == 0 {
		if total > 0 {
			return min(max(int(math.Ceil(c.UpFactor)), f.Target), f.Most)
		}
		return f.Target
	}
	sum := 0.0
	for _, l := range p.loads {
		sum += l
	}
	running, desired, factor := float64(f.Ready), sum/float64(len(p.loads))/c.Target, c.UpFactor
	if desired < running {
		factor = c.DownFactor
	}
	scaled := int(math.Ceil(running + factor*(desired-running) - 1e-9))
	if int(math.Ceil(desired-1e-9)) < f.Ready && scaled == f.Ready {
		scaled--
	}
	bounded, delay := min(max(scaled, f.Least), f.Most), *c.DownscaleDelay
	if f.Target == 1 && c.DownscaleToZeroDelay != nil {
		delay = *c.DownscaleToZeroDelay
	} else if f.Target > 1 {
		bounded = max(1, bounded)
	}
	switch {
	case bounded > f.Target:
		if p.counter = max(p.counter, 0) + 1; p.counter > ticks(*c.UpscaleDelay) {
			p.counter = 0
			return bounded
		}
	case bounded < f.Target:
		if p.counter = min(p.counter, 0) - 1; p.counter < -ticks(delay) {
			p.counter = 0
			return bounded
		}
	default:
		p.counter = 0
	}
	return f.Target
}

// TestAsPublished: with all delays set, and ticks that are 100 ms apart, the numbers equal the numbers of the published algorithm. Each load stands for a multiple of the
// width of a bucket, so that both see the same look-back period.
func TestAsPublished(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		fields := map[string]any{
			"min_replicas": r.IntN(3), "max_replicas": 10 + r.IntN(30), "upscale_delay_s": r.IntN(8), "downscale_delay_s": r.IntN(30), "look_back_period_s": 3,
			"upscaling_factor": 0.25 * float64(1+r.IntN(8)), "downscaling_factor": 0.25 * float64(1+r.IntN(4)), "target_ongoing_requests": 2,
		}
		if r.IntN(2) == 0 {
			fields["downscale_to_zero_delay_s"] = r.IntN(10)
		}
		raw, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		d, p := deploy(t, string(raw)), &published{}
		d.now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
		changes, running := 0, 0
		for i := range 4000 {
			if i%100 == 0 {
				if running = 2 * r.IntN(20); r.IntN(3) == 0 {
					running = 0
				}
			}
			d.facts.Starting, d.facts.Ready = 0, d.facts.Target
			d.state.Observe(d.now, Load{Running: running})
			want := p.decide(c, float64(running), d.facts)
			d.now = d.now.Add(tick) // the load has been there for a tick
			got := Decide(d.now, c, &d.state, d.facts)
			if got.Replicas != want {
				t.Fatalf("seed %d, %s: tick %d, %d calls: from %d to %d, the published algorithm says %d: %+v", seed, raw, i, running, d.facts.Target, got.Replicas, want, got)
			}
			if want != d.facts.Target {
				changes++
			}
			d.facts.Target = want
		}
		if changes < 5 {
			t.Errorf("seed %d: %d changes say little", seed, changes)
		}
	}
}

// TestDelays: a delay that is set is honoured by the clock in its direction, and the other direction stays adaptive.
func TestDelays(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 0, "max_replicas": 10, "initial_replicas": 1, "upscale_delay_s": 5}`)
	d.loaded(time.Minute, Load{Running: 1})
	began := d.now
	up := d.loaded(20*time.Second, Load{Running: 10})
	if len(up) == 0 || up[0].Rule != RuleDelay || up[0].Inputs.Held < 5*time.Second {
		t.Fatalf("up: %+v", up)
	}
	if wait := up[0].Inputs.Held; wait > 6*time.Second || d.state.LastUp.Sub(began) < 5*time.Second {
		t.Errorf("after %v", wait)
	}
	if down := d.loaded(3*time.Minute, Load{Running: 1}); len(down) == 0 || d.facts.Target != 1 || down[len(down)-1].Rule != RuleQuiet {
		t.Errorf("down: %+v", down)
	}
	d = deploy(t, `{"min_replicas": 0, "max_replicas": 10, "initial_replicas": 3, "downscale_delay_s": 300, "downscale_to_zero_delay_s": 5, "look_back_period_s": 3}`)
	if up = d.loaded(5*time.Second, Load{Running: 20}); len(up) == 0 || d.facts.Target != 10 {
		t.Errorf("up: %+v", up)
	}
	d.loaded(299*time.Second, Load{})
	if d.facts.Target != 10 {
		t.Errorf("within the delay: %+v", d.changes)
	}
	waits := Decide(d.now, d.config, &d.state, d.facts)
	if waits.Rule != RuleWaitingDown || waits.Blocked != "downscale_delay_s" || waits.Next.Before(d.now) {
		t.Errorf("within the delay: %+v", waits)
	}
	down := d.loaded(15*time.Second, Load{})
	if len(down) != 2 || down[0].Replicas != 1 || down[1].Replicas != 0 || down[1].Inputs.Held < 5*time.Second || down[1].Inputs.Held > 6*time.Second {
		t.Errorf("after the delay: %+v", down)
	}
	if up = d.loaded(tick, Load{Queued: 1}); len(up) != 1 || up[0].Rule != RuleColdStart || up[0].Replicas != 1 {
		t.Errorf("wake: %+v", up)
	}
}

// TestAggregation: the load of the look-back period is its mean, its largest or its smallest value.
func TestAggregation(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]int{"mean": 5, "max": 8, "min": 2} {
		d := deploy(t, `{"max_replicas": 20, "upscale_delay_s": 0, "downscale_delay_s": 0, "look_back_period_s": 30, "aggregation_function": "`+how+`"}`)
		d.now = d.now.Truncate(time.Second)
		for range 15 {
			d.loaded(time.Second, Load{Running: 4})
			d.loaded(time.Second, Load{Running: 16})
		}
		if d.facts.Target != want {
			t.Errorf("%s: %d replicas, want %d", how, d.facts.Target, want)
		}
	}
}

// TestZeroFromLastCall: downscale_to_zero_delay_s counts from the end of the last call. Where look_back_period_s is set, too, the load of that period is none first.
func TestZeroFromLastCall(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]time.Duration{
		`{"min_replicas": 0, "max_replicas": 4, "initial_replicas": 1, "downscale_to_zero_delay_s": 5}`:                                                 5 * time.Second,
		`{"min_replicas": 0, "max_replicas": 4, "initial_replicas": 1, "downscale_to_zero_delay_s": 5, "downscale_delay_s": 300, "upscale_delay_s": 1}`: 5 * time.Second,
		`{"min_replicas": 0, "max_replicas": 4, "initial_replicas": 1, "downscale_to_zero_delay_s": 5, "look_back_period_s": 30}`:                       35 * time.Second,
	} {
		d := deploy(t, config)
		d.loaded(time.Minute, Load{Running: 1})
		d.loaded(4*time.Second, Load{})
		d.loaded(tick, Load{Running: 1}) // a call begins the time anew
		last := d.now
		down := d.loaded(2*time.Minute, Load{})
		if after := d.state.LastDown.Sub(last).Round(time.Second); len(down) != 1 || down[0].Replicas != 0 || after < want || after > want+2*time.Second {
			t.Errorf("%s: after %v, want %v: %+v", config, after, want, down)
		} else if reason := down[0].Reason(); want == 5*time.Second && !strings.HasPrefix(reason, "no call for 5") {
			t.Error(reason)
		}
	}
}

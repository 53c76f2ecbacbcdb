package autoscale

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// begin is not a multiple of any bucket.
var begin = time.Date(2026, 11, 30, 12, 0, 0, 123_456_789, time.UTC)

const tick = 100 * time.Millisecond

// deployment is one under test, whose replicas start within a tick.
type deployment struct {
	config  Config
	state   State
	facts   Facts
	now     time.Time
	changes []Decision
}

func deploy(t *testing.T, config string) *deployment {
	t.Helper()
	c := parse(t, config)
	d := &deployment{config: c, now: begin, facts: Facts{Target: c.Initial(), Ready: c.Initial()}}
	d.facts.Least, d.facts.Most = Bounds(c, nil, false)
	return d
}

// loaded lets a load stand for a time, and returns the decisions that changed the number.
func (d *deployment) loaded(length time.Duration, l Load) []Decision {
	from := len(d.changes)
	for end := d.now.Add(length); d.now.Before(end); d.now = d.now.Add(tick) {
		d.state.Observe(d.now, l)
		decision := Decide(d.now, d.config, &d.state, d.facts)
		if decision.Replicas != d.facts.Target {
			d.changes = append(d.changes, decision)
		}
		d.facts.Target, d.facts.Ready = decision.Replicas, decision.Replicas
	}
	return d.changes[from:]
}

const plain = `{"min_replicas": 1, "max_replicas": 10, "target_ongoing_requests": 2}`

// TestStep: a load step has its number of replicas within two seconds by one decision, keeps it, and gives it back after the stable window.
func TestStep(t *testing.T) {
	t.Parallel()
	d := deploy(t, plain)
	d.loaded(5*time.Minute, Load{Running: 1})
	began := d.now
	if up := d.loaded(20*time.Second, Load{Queued: 9, Running: 5}); len(up) != 1 || up[0].Replicas != 7 || up[0].Rule != RulePanic || d.state.LastUp.Sub(began) > 2*time.Second {
		t.Errorf("up: %+v", up)
	} else if reason := up[0].Reason(); reason != "14.0 calls in the last 0.25 s / 2 a replica = 7.0 (panic)" {
		t.Error(reason)
	}
	if down := d.loaded(58*time.Second, Load{Running: 1}); len(down) != 0 {
		t.Errorf("within the stable window: %+v", down)
	}
	down := d.loaded(2*time.Minute, Load{Running: 1})
	if len(down) != 2 || down[0].Replicas != 2 || down[1].Replicas != 1 {
		t.Fatalf("down: %+v", down)
	}
	if reason := down[0].Reason(); !strings.HasPrefix(reason, "at most 0.5 replicas were needed in the last 60 s") {
		t.Error(reason)
	}
}

// TestTolerance: a load a little above the target asks for no other replica, and a load clearly above it asks for one.
func TestTolerance(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 4, "max_replicas": 10}`)
	d.loaded(5*time.Minute, Load{Running: 8})
	if up := d.loaded(5*time.Minute, Load{Running: 8}); len(up) != 0 {
		t.Errorf("at the target: %+v", up)
	}
	up := d.loaded(time.Minute, Load{Running: 10})
	if len(up) != 1 || up[0].Replicas != 5 || up[0].Rule != RuleLoad {
		t.Fatalf("above the target: %+v", up)
	}
}

// TestQueueTellsLittle: calls that wait do not ask for one replica each. The deployment has 1 replica that executes 10 calls a second, and 30 come.
func TestQueueTellsLittle(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 1, "max_replicas": 100}`)
	d.facts.Starting = 1 // more do not get ready in this test
	l := Load{Running: 5}
	for i := range 100 {
		l.Queued += 2
		if l.Arrived += 3; i == 0 {
			l.Queued++
		}
		l.Finished++
		d.state.Observe(d.now, l)
		decision := Decide(d.now, d.config, &d.state, Facts{Target: d.facts.Target, Ready: 1, Starting: d.facts.Target - 1, Least: 1, Most: 100})
		d.facts.Target = decision.Replicas
		d.now = d.now.Add(tick)
	}
	if n := d.facts.Target; n < 3 || n > 9 {
		t.Errorf("%d replicas while 200 calls wait", n)
	}
}

// TestZero: an idle deployment has no replica after the grace period, and the first call wakes it at once.
func TestZero(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 0, "max_replicas": 10, "initial_replicas": 1}`)
	d.loaded(time.Second, Load{Running: 1})
	last := d.now
	down := d.loaded(3*time.Minute, Load{})
	if len(down) != 1 || down[0].Replicas != 0 || down[0].Rule != RuleIdle || down[0].Reason() != "no call for 90 s" {
		t.Fatalf("down: %+v %q", down, down[0].Reason())
	}
	if after := d.state.LastDown.Sub(last); after < 89*time.Second || after > 91*time.Second {
		t.Errorf("after %v", after)
	}
	slow := deploy(t, `{"min_replicas": 0, "max_replicas": 10, "initial_replicas": 1}`)
	slow.facts.StartTime = 20 * time.Second
	if down := slow.loaded(199*time.Second, Load{}); len(down) != 0 {
		t.Errorf("a replica that starts in 20 s: %+v", down)
	}
	if down := slow.loaded(2*time.Second, Load{}); len(down) != 1 || down[0].Reason() != "no call for 200 s" {
		t.Errorf("a replica that starts in 20 s: %+v", down)
	}
	d.state.Observe(d.now, Load{Queued: 5})
	decision := Decide(d.now, d.config, &d.state, d.facts)
	if decision.Replicas != 3 || decision.Rule != RuleColdStart || decision.Reason() != "5 calls wait, and there is no replica" {
		t.Errorf("up: %+v", decision)
	}
	d.facts.Target = decision.Replicas
	for range 20 { // the replicas start: the first calls count for as long
		d.now = d.now.Add(tick)
		d.state.Observe(d.now, Load{Queued: 5})
		if decision = Decide(d.now, d.config, &d.state, Facts{Target: 3, Starting: 3, Most: 10}); decision.Replicas != 3 {
			t.Fatalf("while they start: %+v", decision)
		}
	}
}

// TestHolds: a hold keeps the number, bounds act all the same, and the reason says so.
func TestHolds(t *testing.T) {
	t.Parallel()
	d := deploy(t, plain)
	d.facts.HoldUp, d.facts.HoldDown = "the application is paused", "a rollout is under way"
	if up := d.loaded(time.Minute, Load{Running: 10}); len(up) != 0 {
		t.Errorf("up: %+v", up)
	}
	decision := Decide(d.now, d.config, &d.state, d.facts)
	if decision.Desired != 5 || decision.Rule != RuleHeld || decision.Reason() != "10.0 calls in the last 6 s / 2 a replica = 5.0; held: the application is paused" {
		t.Errorf("%+v: %s", decision, decision.Reason())
	}
	d.facts.Least = 3
	if up := d.loaded(tick, Load{Running: 10}); len(up) != 1 || up[0].Replicas != 3 || up[0].Reason() != "the bounds are 3 to 10" {
		t.Errorf("bounds: %+v", up)
	}
	d.facts.HoldUp = ""
	if up := d.loaded(5*time.Second, Load{Running: 10}); len(up) != 1 || up[0].Replicas != 5 {
		t.Errorf("without the hold: %+v", up)
	}
	if down := d.loaded(5*time.Minute, Load{}); len(down) != 0 {
		t.Errorf("down: %+v", down)
	}
	d.facts.HoldDown = ""
	if down := d.loaded(tick, Load{}); len(down) != 1 || down[0].Replicas != 3 || down[0].Blocked != "min_replicas" || down[0].Desired != 2 {
		t.Errorf("without the hold: %+v", down)
	}
	d.facts.Most = 2
	if down := d.loaded(tick, Load{}); len(down) != 1 || down[0].Replicas != 2 {
		t.Errorf("another bound: %+v", down)
	}
}

// TestMost: max_replicas is the limit, and the decision says what the load asks for.
func TestMost(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"max_replicas": 4}`)
	up := d.loaded(time.Minute, Load{Running: 5, Queued: 13})
	if len(up) != 1 || up[0].Replicas != 4 || up[0].Desired != 9 || !strings.HasSuffix(up[0].Reason(), "= 9.0 (panic); at most 4 by max_replicas") {
		t.Fatalf("%+v: %s", up, up[0].Reason())
	}
}

// TestPolicy: the number of a policy takes the place of the load, each number counts, and it shrinks after the stable window.
func TestPolicy(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 1, "max_replicas": 50, "initial_replicas": 10}`)
	raw := 11.0
	d.facts.Raw = &raw
	if up := d.loaded(2*time.Minute, Load{}); len(up) != 1 || up[0].Replicas != 11 || up[0].Rule != RulePolicy || up[0].Reason() != "the policy asks for 11" {
		t.Errorf("%+v", up)
	}
	raw = 10
	if down := d.loaded(50*time.Second, Load{Running: 50}); len(down) != 0 {
		t.Errorf("within the stable window: %+v", down)
	}
	if down := d.loaded(20*time.Second, Load{Running: 50}); len(down) != 1 || down[0].Replicas != 10 {
		t.Errorf("after it: %+v", down)
	}
	d = deploy(t, `{"min_replicas": 0, "max_replicas": 50, "upscale_delay_s": 3, "upscaling_factor": 0.5, "initial_replicas": 2}`)
	raw = 10
	d.facts.Raw = &raw
	if up := d.loaded(3*time.Second, Load{}); len(up) != 0 {
		t.Errorf("within the delay: %+v", up)
	}
	if up := d.loaded(time.Second, Load{}); len(up) != 1 || up[0].Replicas != 6 || up[0].Reason() != "the policy asks for 10, for 3 s" {
		t.Errorf("after it: %+v", up)
	}
}

// TestNoWaves: steps between a number that is a little too low and the next number become rare.
func TestNoWaves(t *testing.T) {
	t.Parallel()
	d := deploy(t, `{"min_replicas": 1, "max_replicas": 50, "initial_replicas": 10}`)
	for range 18_000 { // half an hour, in which 9 replicas have more calls than 10 have
		l := Load{Running: 17}
		if d.facts.Ready < 10 {
			l.Running = 22
		}
		d.loaded(tick, l)
	}
	if n := len(d.changes); n > 12 || n < 4 {
		t.Errorf("%d changes in half an hour", n)
	}
}

// TestRestart: a deployment whose state went through the store decides as one whose state did not, and a time in which the node was down counts for nothing.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, config := range []string{plain, `{"min_replicas": 0, "max_replicas": 40, "upscale_delay_s": 3, "downscale_delay_s": 20, "look_back_period_s": 10}`} {
		a, b := deploy(t, config), deploy(t, config)
		r := rand.New(rand.NewPCG(7, 7))
		for i := range 3000 {
			l := Load{Queued: r.IntN(3) * r.IntN(10), Running: r.IntN(6), Arrived: uint64(i) * 3, Finished: uint64(i) * 3}
			if i > 2000 {
				l = Load{Arrived: 6000, Finished: 6000}
			}
			a.loaded(tick, l)
			if b.loaded(tick, l); i%100 == 0 {
				raw, err := json.Marshal(b.state)
				if err != nil || len(raw) > 4096 {
					t.Fatal(err, len(raw))
				}
				b.state = State{}
				if err = json.Unmarshal(raw, &b.state); err != nil {
					t.Fatal(err)
				}
			}
			if a.facts.Target != b.facts.Target {
				t.Fatalf("%s: step %d: %d replicas and %d after a restart", config, i, a.facts.Target, b.facts.Target)
			}
		}
		if len(a.changes) < 3 {
			t.Errorf("%s: %d changes say little", config, len(a.changes))
		}
	}
	d := deploy(t, plain)
	d.loaded(time.Minute, Load{Running: 12})
	d.now = d.now.Add(time.Hour)
	if down := d.loaded(59*time.Second, Load{Running: 1}); len(down) != 0 || d.facts.Target != 6 {
		t.Errorf("after an hour without a node: %+v", down)
	}
	d.state = State{}
	d.now = d.now.Add(time.Second)
	if down := d.loaded(59*time.Second, Load{Running: 1}); len(down) != 0 || d.facts.Target != 6 {
		t.Errorf("after a restart without a state: %+v", down)
	}
}

// TestProperties: with any load and facts the number is within the bounds, holds hold, and steps are as far apart as they should be.
func TestProperties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := Config{}
		for {
			fields := map[string]any{"min_replicas": r.IntN(4), "max_replicas": 1 + r.IntN(60), "target_ongoing_requests": 0.5 + 4*r.Float64()}
			for name, value := range map[string]float64{
				"upscale_delay_s": 20 * r.Float64(), "downscale_delay_s": 40 * r.Float64(), "downscale_to_zero_delay_s": 30 * r.Float64(), "look_back_period_s": 1 + 60*r.Float64(),
				"stable_window_s": 5 + 60*r.Float64(), "upscaling_factor": 0.1 + 2*r.Float64(), "downscaling_factor": 0.1 + r.Float64(), "tolerance": 0.3 * r.Float64(),
			} {
				if r.IntN(2) == 0 {
					fields[name] = value
				}
			}
			raw, _ := json.Marshal(fields)
			var err error
			if c, err = Parse(raw); err == nil {
				break
			}
		}
		var s State
		f := Facts{Target: c.MinReplicas, Ready: c.MinReplicas}
		f.Least, f.Most = Bounds(c, nil, false)
		now, lastUp, lastDown := begin, time.Time{}, time.Time{}
		l := Load{}
		for range 3000 {
			now = now.Add(time.Duration(r.IntN(200)+1) * time.Millisecond)
			if r.IntN(20) == 0 {
				l.Queued, l.Running = r.IntN(5)*r.IntN(40), r.IntN(5*f.Ready+1)
			}
			l.Arrived, l.Finished = l.Arrived+uint64(r.IntN(4)), l.Finished+uint64(r.IntN(4))
			if s.Observe(now, l); r.IntN(300) == 0 {
				f.Least, f.Most = Bounds(c, new(float64(r.IntN(101))), false)
			}
			if f.Warm = 0; r.IntN(300) == 0 {
				f.Warm, f.Capacity = r.IntN(c.MaxReplicas+1), new(100.0)
			}
			if f.HoldUp, f.HoldDown = "", ""; r.IntN(10) == 0 {
				f.HoldUp, f.HoldDown = "up", "down"
			}
			d := Decide(now, c, &s, f)
			within := min(max(f.Target, f.Least, f.Warm), f.Most)
			switch {
			case f.Warm > max(f.Target, f.Least) && d.Replicas == within && within > max(f.Target, f.Least) && d.Rule != RuleWarm:
				t.Fatalf("seed %d: the rule of a step to %d by a capacity that rises is %s", seed, d.Replicas, d.Rule)
			case d.Replicas < f.Least || d.Replicas > f.Most:
				t.Fatalf("seed %d: %d replicas, bounds %d to %d", seed, d.Replicas, f.Least, f.Most)
			case f.HoldUp != "" && d.Replicas != within:
				t.Fatalf("seed %d: from %d to %d during a hold", seed, f.Target, d.Replicas)
			case d.Replicas > within && d.Rule != RuleColdStart && c.UpscaleDelay == nil && now.Sub(lastUp) < 2*time.Second:
				t.Fatalf("seed %d: a step up %v after the last one", seed, now.Sub(lastUp))
			case d.Replicas < within && c.delayDown(f.Target) == nil && f.Target > 1 && now.Sub(lastDown) < 30*time.Second:
				t.Fatalf("seed %d: a step down %v after the last one", seed, now.Sub(lastDown))
			case d.Replicas < within && c.delayDown(f.Target) == nil && float64(d.Replicas) < d.Inputs.Highest-1e-6:
				t.Fatalf("seed %d: %d replicas, and %v were needed", seed, d.Replicas, d.Inputs.Highest)
			case d.Reason() == "":
				t.Fatal("no reason")
			}
			if d.Replicas > f.Target {
				lastUp = now
			} else if d.Replicas < f.Target {
				lastDown = now
			}
			f.Target = d.Replicas
			if f.Ready = min(f.Ready+r.IntN(2), f.Target); f.Target > f.Ready {
				f.Starting = f.Target - f.Ready
			}
		}
		if !s.LastUp.Equal(lastUp) || !s.LastDown.Equal(lastDown) {
			t.Fatalf("seed %d: last changes at %v and %v, not %v and %v", seed, s.LastUp, s.LastDown, lastUp, lastDown)
		}
	}
}

// TestSame: the same inputs give the same decisions.
func TestSame(t *testing.T) {
	t.Parallel()
	run := func() []Decision {
		d := deploy(t, plain)
		for i := range 600 {
			d.loaded(time.Second, Load{Running: i * 7 % 13, Queued: i * 5 % 3, Arrived: uint64(20 * i), Finished: uint64(20 * i)})
		}
		return d.changes
	}
	if a, b := run(), run(); len(a) == 0 || !reflect.DeepEqual(a, b) {
		t.Errorf("%v\n%v", a, b)
	}
}

// TestAllocations: a decision that changes nothing allocates nothing.
func TestAllocations(t *testing.T) {
	for _, config := range []string{plain, `{"max_replicas": 10, "upscale_delay_s": 30, "downscale_delay_s": 600}`} {
		d := deploy(t, config)
		d.loaded(2*time.Minute, Load{Running: 9, Queued: 2})
		if n := testing.AllocsPerRun(100, func() { d.loaded(tick, Load{Running: 9, Queued: 2}) }); n != 0 {
			t.Errorf("%s: %v allocations", config, n)
		}
	}
}

// BenchmarkDecide is one sample and decision of a deployment under load.
func BenchmarkDecide(b *testing.B) {
	for name, config := range map[string]string{"adaptive": plain, "delays": `{"max_replicas": 10, "upscale_delay_s": 30, "downscale_delay_s": 600}`} {
		b.Run(name, func(b *testing.B) {
			c, err := Parse(json.RawMessage(config))
			if err != nil {
				b.Fatal(err)
			}
			var s State
			now, f, l := begin, Facts{Target: 5, Ready: 5, Least: 1, Most: 10}, Load{Queued: 1, Running: 9}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(tick)
				l.Arrived, l.Finished = l.Arrived+3, l.Finished+3
				s.Observe(now, l)
				Decide(now, c, &s, f)
			}
		})
	}
}

// FuzzState: a state that the store has, in any form, leads to a decision within the bounds.
func FuzzState(f *testing.F) {
	d := &deployment{config: Config{MinReplicas: 1, MaxReplicas: 10, Target: 2, Aggregation: Mean, UpFactor: 1, DownFactor: 1, StableWindow: time.Minute, PanicWindow: 6 * time.Second}, now: begin}
	d.state.Observe(begin, Load{Queued: 1})
	raw, err := json.Marshal(d.state)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"recent":{"width":500000000,"newest":7,"buckets":[[1,2,3]]},"needs":{"width":3,"newest":9,"most":[1]},"last":{"Queued":3},"seen":"2026-11-30T12:00:00Z","effort":-1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, config := range []string{plain, `{"max_replicas": 10, "upscale_delay_s": 3, "downscale_delay_s": 20}`} {
			var s State
			if json.Unmarshal(raw, &s) != nil {
				return
			}
			c := parse(t, config)
			for i := range 5 {
				now := begin.Add(time.Duration(i) * tick)
				s.Observe(now, Load{Queued: i, Running: 5})
				if n := Decide(now, c, &s, Facts{Target: 3, Ready: 3, Least: 1, Most: 10}).Replicas; n < 1 || n > 10 {
					t.Fatalf("%d replicas", n)
				}
			}
		}
	})
}

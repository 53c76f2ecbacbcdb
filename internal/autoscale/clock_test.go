package autoscale

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// set is a time as the machine has it after its clock was set, by whole seconds: the monotonic part goes on. Package time has no function for it, because a program sees it only where a clock is set.
func set(t time.Time, seconds int) time.Time {
	const second = 1 << 30 // the bits below are nanoseconds
	*(*uint64)(unsafe.Pointer(&t)) += uint64(int64(seconds) * second)
	return t
}

// TestClockIsSet: a clock that is set back or forward while the node runs changes no decision, whatever the config is.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for _, config := range []string{plain, `{"min_replicas": 0, "max_replicas": 40, "upscale_delay_s": 3, "downscale_delay_s": 20, "look_back_period_s": 10}`} {
		for seed := range uint64(10) {
			r := rand.New(rand.NewPCG(seed, 3))
			a, b := deploy(t, config), deploy(t, config)
			now, stepped := time.Now(), 0
			if got := set(now, 100); got.Sub(now) != 0 || got.Round(0).Sub(now.Round(0)) != 100*time.Second {
				t.Fatalf("a clock that was set: %v and %v", now, got)
			}
			for i := range 4000 {
				l := Load{Queued: r.IntN(3) * r.IntN(10), Running: r.IntN(6), Arrived: uint64(i) * 3, Finished: uint64(i) * 3}
				if i%2000 > 1000 {
					l = Load{Arrived: l.Arrived, Finished: l.Finished}
				}
				if r.IntN(500) == 0 {
					stepped += r.IntN(2_000_000) - 1_000_000
				}
				now = now.Add(tick)
				a.now, b.now = now, set(now, stepped)
				a.loaded(tick, l)
				if b.loaded(tick, l); a.facts.Target != b.facts.Target {
					t.Fatalf("%s, seed %d: step %d: %d replicas, and %d with a clock that was set", config, seed, i, a.facts.Target, b.facts.Target)
				}
			}
			if len(a.changes) < 3 {
				t.Errorf("%s: %d changes say little", config, len(a.changes))
			}
		}
	}
}

// TestClockWasSetBack: the clock is an hour earlier when the next node reads the state: the windows are there, delays go on, and a load step is followed as fast as ever.
func TestClockWasSetBack(t *testing.T) {
	t.Parallel()
	d := deploy(t, plain)
	d.loaded(time.Minute, Load{Running: 4})
	d.restart(t, -time.Hour)
	began := d.now
	if up := d.loaded(3*time.Second, Load{Queued: 9, Running: 5}); d.facts.Target != 7 {
		t.Errorf("up: %+v", up)
	} else if at := d.state.LastUp; at.Before(began) || at.After(d.now) {
		t.Errorf("the number grew at %v, and it is %v", at, d.now)
	}
	if _, at := d.state.Last(); !at.Equal(d.now.Add(-tick)) {
		t.Errorf("the newest sample is of %v, and it is %v", at, d.now)
	}
	d = deploy(t, `{"max_replicas": 9, "initial_replicas": 4, "downscale_delay_s": 30, "look_back_period_s": 1}`)
	d.loaded(20*time.Second, Load{Running: 1})
	d.restart(t, -time.Hour)
	began = d.now
	if down := d.loaded(20*time.Second, Load{Running: 1}); len(down) != 1 || d.state.LastDown.Sub(began).Round(time.Second) != 10*time.Second {
		t.Errorf("after %v: %+v", d.state.LastDown.Sub(began), down)
	}
}

// restart puts the state through the store, and has a time pass.
func (d *deployment) restart(t *testing.T, passes time.Duration) {
	t.Helper()
	raw, err := json.Marshal(d.state)
	if err != nil {
		t.Fatal(err)
	}
	d.state = State{}
	if err := json.Unmarshal(raw, &d.state); err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(passes)
}

// TestGap: a restart of the node within a minute takes nothing from a delay, and counts for nothing; after a longer time the delay begins anew.
func TestGap(t *testing.T) {
	t.Parallel()
	for gap, want := range map[time.Duration]time.Duration{5 * time.Second: 15 * time.Second, 40 * time.Second: 10 * time.Second, 2 * time.Minute: 30 * time.Second} {
		d := deploy(t, `{"max_replicas": 9, "initial_replicas": 4, "downscale_delay_s": 30, "look_back_period_s": 1}`)
		d.loaded(10*time.Second, Load{Running: 1})
		d.restart(t, gap) // of which the last sample stands for 10 s
		began := d.now
		if d.loaded(time.Minute, Load{Running: 1}); d.state.LastDown.Sub(began).Round(time.Second) != want {
			t.Errorf("a gap of %v: after %v, want %v", gap, d.state.LastDown.Sub(began), want)
		}
	}
	d := deploy(t, `{"min_replicas": 0, "max_replicas": 9, "initial_replicas": 1}`)
	d.loaded(time.Second, Load{Running: 1})
	d.loaded(80*time.Second, Load{})
	d.restart(t, 20*time.Second)
	if down := d.loaded(12*time.Second, Load{}); len(down) != 1 || down[0].Replicas != 0 {
		t.Errorf("to none: %+v", down)
	}
}

// FuzzClock: with any steps of the clock, and time that the machine sleeps, the number is within the bounds, and a load step is followed soon.
func FuzzClock(f *testing.F) {
	f.Add([]byte{1, 200, 7, 130, 0, 255, 3, 9}, true)
	f.Add([]byte{255, 255, 255, 255, 128, 128}, false)
	f.Fuzz(func(t *testing.T, steps []byte, monotonic bool) {
		d := deploy(t, plain)
		if d.now = time.Now(); !monotonic {
			d.now = d.now.Round(0)
		}
		for i, step := range steps[:min(len(steps), 50)] {
			by := int(int8(step)) * int(int8(step)) * int(int8(step)) * 100 // up to 6 years
			switch {
			case i%3 == 0 && step < 128:
				d.now = d.now.Add(time.Duration(by) * time.Second)
			case monotonic:
				d.now = set(d.now, by)
			default:
				d.now = d.now.Add(time.Duration(by) * time.Second)
			}
			if d.loaded(time.Second, Load{Running: int(step) % 3}); d.facts.Target < 1 || d.facts.Target > 10 {
				t.Fatalf("%d replicas", d.facts.Target)
			}
		}
		if d.loaded(15*time.Second, Load{Queued: 9, Running: 5}); d.facts.Target < 7 {
			t.Errorf("%d replicas for 14 calls", d.facts.Target)
		}
	})
}

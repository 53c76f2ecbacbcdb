package rollout

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var defaults = Rate{Enabled: true, MinCalls: 100, Window: time.Minute, Factor: 2, Points: 5}

func pause(d time.Duration) *time.Duration { return &d }

// one is a deployment of 8 replicas of which n are new.
func one(n int, s Settings) []Deployment {
	if s.Deadline == 0 {
		s.Deadline = 10 * time.Minute
	}
	return []Deployment{{Name: "D", Settings: s, Replicas: 8, Ready: n, Live: n, Former: 8 - n}}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	s := Settings{Steps: []int{1, 4}, StepPause: pause(time.Minute)}
	r := New(1, 2, start)
	look := func(n int, after time.Duration) Decision {
		t.Helper()
		return r.Look(one(n, s), start.Add(after))
	}
	if d := look(0, 0); d.Limits["D"] != 1 || d.Stepped || r.Status().State != "going" || r.Status().Steps != 3 {
		t.Errorf("%+v %+v", d, r.Status())
	}
	if d := look(1, time.Second); d.Limits["D"] != 1 || !d.Wake.Equal(start.Add(61*time.Second)) || r.Status().State != "waiting" {
		t.Errorf("%+v %+v", d, r.Status())
	}
	if d := look(1, 61*time.Second); d.Limits["D"] != 4 || !d.Stepped || r.Step != 2 {
		t.Errorf("%+v", d)
	}
	s.StepPause = nil
	look(4, 5*time.Minute)
	if d := look(4, 2*time.Hour); d.Limits["D"] != 4 || d.Failure != nil || r.Status().State != "waiting" {
		t.Errorf("%+v %+v", d, r.Status())
	}
	if !r.Resume(start.Add(3 * time.Hour)) {
		t.Error("not resumed")
	}
	if d := look(4, 3*time.Hour); d.Limits["D"] != 8 || r.Status().State != "going" {
		t.Errorf("%+v %+v", d, r.Status())
	}
	if r.Resume(start) {
		t.Error("resumed although it goes on")
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	r := New(1, 2, start)
	r.Look(one(2, Settings{}), start)
	r.Pause(start)
	all := one(2, Settings{})
	all[0].Live = 3
	if d := r.Look(all, start); d.Limits["D"] != 3 || r.Status().State != "paused" {
		t.Errorf("%+v", d)
	}
	all[0].Live = 2 // one has ended: its place is kept
	if d := r.Look(all, start.Add(time.Hour)); d.Limits["D"] != 3 || d.Failure != nil || !d.Wake.IsZero() {
		t.Errorf("%+v", d)
	}
	r.Resume(start.Add(time.Hour))
	if d := r.Look(all, start.Add(time.Hour)); d.Limits["D"] != 8 || !d.Wake.Equal(start.Add(70*time.Minute)) {
		t.Errorf("%+v", d)
	}
}

// TestPauseInAStep: Resume ends the pause alone, and then the wait of the step. Each state has its own time.
func TestPauseInAStep(t *testing.T) {
	t.Parallel()
	r := New(1, 2, start)
	s := Settings{Steps: []int{1}}
	since := func(state string, after time.Duration) {
		t.Helper()
		r.Look(one(1, s), start.Add(after))
		if got := r.Status(); got.State != state || !got.Since.Equal(start.Add(after)) || r.Step != 1 {
			t.Errorf("%+v, want %s since %s", got, state, after)
		}
	}
	r.Look(one(0, s), start)
	since("waiting", time.Second)
	r.Pause(start.Add(time.Minute))
	since("paused", time.Minute)
	if !r.Resume(start.Add(time.Hour)) {
		t.Error("not resumed")
	}
	since("waiting", time.Second)
	if !r.Resume(start.Add(2*time.Hour)) || r.Step != 2 {
		t.Errorf("the wait has not ended: %+v", r.Status())
	}
	if got := r.Status(); got.State != "going" || !got.Since.Equal(start.Add(2*time.Hour)) || !got.StartedAt.Equal(start) {
		t.Errorf("%+v", got)
	}
}

// TestHeld: other options are not for a rollout whose pause or steps they would take back.
func TestHeld(t *testing.T) {
	t.Parallel()
	r := New(1, 2, start)
	s := Settings{Steps: []int{1}}
	held := func(ready int, want string) {
		t.Helper()
		r.Look(one(ready, s), start)
		if got := r.Held(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	held(0, "")
	held(1, "step 1 of 2 waits")
	r.Pause(start)
	held(1, "it is paused")
	r.Stuck = "calls fail"
	held(1, "")
	r.Resume(start)
	r.Resume(start)
	held(1, "it is at step 2 of 2")
	r.Settle(nil, start)
	held(8, "")
}

// TestStepNumbers: the numbers of steps hold after a scale, and a rollout that is watched has none.
func TestStepNumbers(t *testing.T) {
	t.Parallel()
	r := New(1, 2, start)
	s := Settings{Steps: []int{1, 2}}
	look := func(replicas, ready, step, steps int, state string) {
		t.Helper()
		all := one(ready, s)
		all[0].Replicas, all[0].Former = replicas, replicas-ready
		r.Look(all, start)
		got := r.Status()
		if got.State != state || got.Step != step || got.Steps != steps {
			t.Errorf("%+v, want step %d of %d, %s", got, step, steps, state)
		}
		if text := fmt.Sprintf("step %d of %d", step, steps); steps > 0 && !strings.Contains(got.Message, text) {
			t.Errorf("%q is without %q", got.Message, text)
		}
	}
	look(4, 1, 1, 3, "waiting")
	r.Resume(start)
	look(4, 2, 2, 3, "waiting")
	r.Resume(start)
	look(4, 3, 3, 3, "going")
	look(2, 1, 2, 2, "going") // it was scaled
	all := one(2, s)
	all[0].RollBack, all[0].Rate = true, Rate{Enabled: true, Window: time.Minute}
	r.Settle(all, start)
	look(2, 2, 0, 0, "watching")
}

// TestContinue: the next node of a killed one goes on with the times of the rollout. For example, a step waits for a minute, and the node is killed after 50 s of it.
func TestContinue(t *testing.T) {
	t.Parallel()
	killed, began := start.Add(50*time.Second), start.Add(-time.Minute)
	r := New(1, 2, killed)
	r.Continue(1, false, began, start)
	s := Settings{Steps: []int{1}, StepPause: pause(time.Minute)}
	r.Look(one(0, s), killed) // it takes the replica over
	if got := r.Status(); got.State != "going" || !got.StartedAt.Equal(began) || !got.Since.Equal(began) {
		t.Errorf("%+v", got)
	}
	if d := r.Look(one(1, s), killed.Add(time.Second)); !d.Wake.Equal(start.Add(time.Minute)) || !d.Reached || r.Status().State != "waiting" || !r.Since().Equal(start) {
		t.Errorf("%+v %+v", d, r.Status())
	}
	paused := New(1, 2, killed)
	paused.Continue(2, true, began, start)
	if got := paused.Status(); got.State != "paused" || !got.Since.Equal(start) || paused.Step != 2 {
		t.Errorf("%+v", got)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	r := New(1, 2, start)
	look := func(n int, after time.Duration) Decision { return r.Look(one(n, Settings{}), start.Add(after)) }
	look(0, 0)
	if d := look(1, 9*time.Minute); d.Failure != nil || !d.Wake.Equal(start.Add(19*time.Minute)) {
		t.Errorf("%+v", d)
	}
	look(0, 15*time.Minute) // one of them has ended: no progress
	if d := look(1, 19*time.Minute); d.Failure == nil || d.Failure.Reason != "progress_deadline" || !strings.Contains(d.Failure.Message, "1 of 8") {
		t.Errorf("%+v", d)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	calls := func(n, failures uint64) helvetype.CallWindow {
		return helvetype.CallWindow{Calls: n, Failures: failures}
	}
	for _, tt := range []struct {
		now, old helvetype.CallWindow
		want     bool
	}{
		{calls(99, 99), calls(0, 0), false},
		{calls(100, 6), calls(0, 0), true},
		{calls(100, 5), calls(0, 0), false},
		{calls(1000, 85), calls(100, 4), false},
		{calls(1000, 95), calls(100, 4), true},
		{calls(100, 45), calls(100, 30), false},
		{calls(100, 61), calls(100, 30), true},
	} {
		if got := defaults.Exceeded(tt.now, tt.old); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestWatch: calls are compared in the window, a replica that is gone counts, and the watch goes on for one window after the rollout.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := Settings{Rate: defaults, RollBack: true}
	r := New(1, 2, start)
	var old, now [2]uint64
	look := func(n int, after time.Duration) Decision {
		all, at := one(n, s), start.Add(after)
		if due, _ := r.Due(&all[0], at); due {
			r.Sample(&all[0], []Count{{Replica: "1", Calls: old[0], Failures: old[1]}, {Replica: "2", New: true, Started: at, Calls: now[0], Failures: now[1]}}, at)
		}
		return r.Look(all, at)
	}
	old = [2]uint64{1000, 900} // long ago
	if d := look(0, 0); d.Failure != nil || !d.Wake.Equal(start.Add(5*time.Second)) {
		t.Errorf("%+v", d)
	}
	old, now = [2]uint64{1100, 910}, [2]uint64{60, 6}
	if d := look(1, 5*time.Second); d.Failure != nil || r.Status().Old.Calls != 100 || r.Status().New.Calls != 60 {
		t.Errorf("%+v %+v", d, r.Status())
	}
	if !r.Settle(one(8, s), start.Add(time.Minute)) || r.Status().State != "watching" {
		t.Error("it is not watched")
	}
	if d := look(8, 70*time.Second); d.Over || d.Failure != nil || r.Status().New.Calls != 0 {
		t.Errorf("%+v %+v", d, r.Status())
	}
	r.Note("D", Count{Replica: "2", New: true, Calls: 160, Failures: 50})
	now = [2]uint64{160, 50}
	d := look(8, 80*time.Second)
	if f := d.Failure; f == nil || f.Reason != "error_rate" || f.Inputs["new_calls"] != "100" || f.Inputs["new_failures"] != "44" || f.Inputs["old_calls"] != "100" || f.Inputs["old_failures"] != "10" {
		t.Errorf("%+v", d.Failure)
	}
	if d := look(8, 10*time.Minute); !d.Over {
		t.Errorf("%+v", d)
	}
}

// TestEnds: every rollout whose replicas become ready ends, with all kinds of steps and pauses; it never asks for more new replicas
// than there are, and a later step for no fewer.
func TestEnds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			all := make([]Deployment, 1+rng.IntN(3))
			for i := range all {
				d := Deployment{Name: fmt.Sprint(i), Replicas: rng.IntN(6), New: rng.IntN(4) == 0, Settings: Settings{Deadline: time.Minute}}
				for range rng.IntN(4) {
					d.Steps = append(d.Steps, rng.IntN(8))
				}
				if rng.IntN(2) == 0 {
					d.StepPause = pause(time.Duration(rng.IntN(100)) * time.Second)
				}
				if !d.New {
					d.Former = d.Replicas
				}
				all[i] = d
			}
			r, now, limits := New(1, 2, start), start, map[string]int{}
			for range 300 {
				if rng.IntN(5) == 0 {
					r.Pause(start)
				}
				d := r.Look(all, now)
				if d.Failure != nil {
					t.Fatalf("%+v", d.Failure)
				}
				done := true
				for i := range all {
					of := &all[i]
					n := d.Limits[of.Name]
					if n > of.Replicas || n < limits[of.Name] && !r.Paused {
						t.Fatalf("a limit of %d for %+v, after %d", n, of, limits[of.Name])
					}
					if !r.Paused {
						limits[of.Name] = n
					}
					if of.Ready < n {
						of.Ready, of.Live = of.Ready+1, of.Live+1
					}
					if !of.New {
						of.Former = max(of.Replicas-of.Ready, 0)
					}
					done = done && of.done()
				}
				if done {
					return
				}
				if now = now.Add(time.Second); !d.Wake.IsZero() && d.Wake.Before(start.Add(24*time.Hour)) && rng.IntN(2) == 0 && r.Status().State == "waiting" {
					now = d.Wake
				}
				if rng.IntN(2) == 0 {
					r.Resume(now)
				}
			}
			t.Fatalf("it does not end: %+v, %+v", r.Status(), all)
		})
	}
}

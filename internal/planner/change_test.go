package planner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestChange(t *testing.T) {
	t.Parallel()
	of := func(revision string, states ...State) (all []Observed) {
		for i, s := range states {
			all = append(all, Observed{Key: a, ID: fmt.Sprint(revision, i), Revision: revision, State: s, StartedAt: start})
		}
		return all
	}
	target := func(n int, c Change) Target {
		if c.New == 0 {
			c.New = n
		}
		return Target{Key: a, Revision: "2", Replicas: n, Change: &c}
	}
	const none = -1 // a New of 0
	for _, tt := range []struct {
		name     string
		target   Target
		observed []Observed
		want     []Action
	}{
		{name: "a first deploy has no bound", target: target(4, Change{Surge: 1}), want: []Action{Start{a, 4}}},
		{name: "one beside four", target: target(4, Change{Surge: 1}), observed: of("1", Running, Running, Running, Running), want: []Action{Start{a, 1}}},
		{name: "a former one stops when it is ready, and the next starts", target: target(4, Change{Surge: 1}),
			observed: append(of("1", Running, Running, Running, Running), of("2", Running)...), want: []Action{Start{a, 1}, Stop{"10"}}},
		{name: "not before it is", target: target(4, Change{Surge: 1}), observed: append(of("1", Running, Running, Running, Running), of("2", Unready)...)},
		{name: "first out, then in", target: target(2, Change{Unavailable: 1}), observed: of("1", Running, Running), want: []Action{Start{a, 1}, Stop{"10"}}},
		{name: "a step", target: target(4, Change{Surge: 1, New: 1}), observed: append(of("1", Running, Running, Running), of("2", Running)...)},
		{name: "a former replica that has ended in a step comes again", target: target(4, Change{Surge: 1, New: 1, Former: "1"}),
			observed: append(of("1", Running, Running), of("2", Running)...), want: []Action{StartFormer{a, 1}}},
		{name: "and one of the step too", target: target(4, Change{Surge: 1, New: 1, Former: "1"}), observed: of("1", Running, Running, Running), want: []Action{Start{a, 1}}},
		{name: "a new one takes its place without a step", target: target(4, Change{Surge: 1, Former: "1"}),
			observed: append(of("1", Running, Running, Running), of("2", Starting)...), want: []Action{Start{a, 1}}},
		{name: "but not while new ones fail", target: target(4, Change{Surge: 1, Former: "1", Doubt: true, Had: 4}),
			observed: append(of("1", Running, Running, Running), of("2", Starting)...), want: []Action{StartFormer{a, 1}}},
		{name: "a restart: those that have served, and one beside them", target: target(4, Change{Surge: 1, Former: "1", Doubt: true, Had: 4}),
			want: []Action{StartFormer{a, 4}, Start{a, 1}}},
		{name: "without surge", target: target(4, Change{Unavailable: 1, Former: "1", Doubt: true, Had: 4}), want: []Action{StartFormer{a, 3}, Start{a, 1}}},
		{name: "not more than there were", target: target(4, Change{Surge: 1, Former: "1", Doubt: true, Had: 1}), want: []Action{StartFormer{a, 1}, Start{a, 4}}},
		{name: "and none when there were none", target: target(2, Change{Surge: 1, Former: "1", Doubt: true}), want: []Action{Start{a, 2}}},
		{name: "none for now", target: target(4, Change{Surge: 1, New: none}), observed: of("1", Running, Running, Running, Running)},
		{name: "an unready former one stops if there are enough others", target: target(2, Change{Surge: 1}),
			observed: append(of("1", Running, Unready), of("2", Running)...), want: []Action{Start{a, 1}, Stop{"11"}}},
		{name: "and stays if there are not", target: target(2, Change{Surge: 1}), observed: append(of("1", Unready, Unready), of("2", Starting)...)},
		{name: "scaled down meanwhile", target: target(1, Change{Surge: 1}), observed: append(of("1", Running, Running), of("2", Running, Running)...),
			want: []Action{Stop{"10"}, Stop{"11"}, Stop{"20"}}},
		{name: "a lower number: all former ones stay until a new one is ready", target: target(2, Change{Surge: 1, Before: 6}),
			observed: of("1", Running, Running, Running, Running, Running, Running), want: []Action{Start{a, 1}}},
		{name: "half of them go with half of the new ones", target: target(2, Change{Surge: 1, Before: 6}),
			observed: append(of("1", Running, Running, Running, Running, Running, Running), of("2", Running)...), want: []Action{Start{a, 1}, Stop{"10"}, Stop{"11"}, Stop{"12"}}},
		{name: "and the others with the last", target: target(2, Change{Surge: 1, Before: 6}),
			observed: append(of("1", Running, Running, Running), of("2", Running, Running)...), want: []Action{Stop{"10"}, Stop{"11"}, Stop{"12"}}},
		{name: "a lower number without surge", target: target(2, Change{Unavailable: 1, Before: 4}),
			observed: of("1", Running, Running, Running, Running), want: []Action{Start{a, 1}, Stop{"10"}}},
		{name: "none wanted any more", target: target(0, Change{Surge: 1, Before: 2}), observed: of("1", Running, Running), want: []Action{Stop{"10"}, Stop{"11"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, _ := Plan([]Target{tt.target}, tt.observed, nil, start); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	t.Run("a former replica that fails waits", func(t *testing.T) {
		t.Parallel()
		one := target(1, Change{Surge: 1, New: none, Former: "1", Failures: History{Rounds: 3, LastFailure: start}})
		if got, wake := Plan([]Target{one}, nil, nil, start); len(got) > 0 || !wake.Equal(start.Add(2*time.Second)) {
			t.Errorf("%v %v", got, wake)
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		replicas, surge, unavailable, most int
		want                               [2]int
		said                               bool
	}{
		{4, 1, 0, 0, [2]int{1, 0}, false},
		{4, 0, 2, 0, [2]int{0, 2}, false},
		{4, 0, 0, 0, [2]int{0, 1}, false},
		{4, 2, 0, 5, [2]int{1, 0}, false},
		{4, 2, 0, 4, [2]int{0, 1}, true},
		{4, 2, 2, 4, [2]int{0, 2}, false},
		{1, 1, 9, 0, [2]int{1, 1}, false},
	} {
		c, said := Bounds(tt.replicas, tt.surge, tt.unavailable, tt.most)
		if got := [2]int{c.Surge, c.Unavailable}; got != tt.want || (said != "") != tt.said {
			t.Errorf("%+v: %v %q", tt, got, said)
		}
	}
}

// TestBudget: in random changes with crashes the plan never stops a ready replica when fewer than the budget would be left, never has more replicas than
// the budget, and ends with replicas of the target's revision alone.
func TestBudget(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1000) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 6))
			n := rng.IntN(6)
			c, _ := Bounds(n, rng.IntN(3), rng.IntN(3), 0)
			target := Target{Key: a, Revision: "2", Replicas: n, Change: &c}
			var observed []Observed
			id := 0
			add := func(revision string, s State) {
				id++
				observed = append(observed, Observed{Key: a, ID: fmt.Sprint(id), Revision: revision, State: s, StartedAt: start.Add(time.Duration(id) * time.Second), Waits: s == Starting && rng.IntN(2) == 0})
			}
			if rng.IntN(3) == 0 {
				c.Before = n + rng.IntN(6)
			}
			for range max(n, c.Before) {
				add("1", Running)
			}
			count := func(match func(Observed) bool) (n int) {
				for _, o := range observed {
					if match(o) {
						n++
					}
				}
				return n
			}
			ready := func(o Observed) bool { return o.State == Running }
			live := func(o Observed) bool { return o.State <= Running }
			plan := func() {
				actions, _ := Plan([]Target{target}, observed, nil, start)
				least := c.least(target.Replicas, count(func(o Observed) bool { return ready(o) && o.Revision == "2" })) - c.Unavailable
				before, had := count(ready), count(live)
				for _, act := range actions {
					switch act := act.(type) {
					case Start:
						for range act.Count {
							add("2", Starting)
						}
					case StartFormer:
						if c.Former == "" {
							t.Fatal("a former replica starts although none may")
						}
						for range act.Count {
							add("1", Starting)
						}
					case Stop:
						i := slices.IndexFunc(observed, func(o Observed) bool { return o.ID == act.Replica })
						observed[i].State = Draining
					}
				}
				if after := count(ready); after < min(before, least) {
					t.Fatalf("%d of %d ready replicas are left of %d, %d may be unavailable", after, before, target.Replicas, c.Unavailable)
				}
				if all := count(live); all > max(had, max(target.Replicas, c.Before)+c.Surge) {
					t.Fatalf("%d replicas of %d, the surge is %d", all, target.Replicas, c.Surge)
				}
				newReady := count(func(o Observed) bool { return ready(o) && o.Revision == "2" })
				former := count(func(o Observed) bool { return live(o) && o.Revision == "1" })
				if waits := count(func(o Observed) bool { return o.Waits && live(o) && o.Revision == "1" }); waits > 0 && former > max(c.former(target.Replicas, newReady, c.Doubt), target.Replicas-c.New) {
					t.Fatalf("%d former replicas wait for their part of the node, of %d: %+v", waits, former, c)
				}
				if again, _ := Plan([]Target{target}, observed, nil, start); len(again) > 0 {
					t.Fatalf("after %v it also wants %v", actions, again)
				}
			}
			for range 30 { // crashes, steps, pauses and scaling
				c.New, c.Former, c.Doubt, c.Had = rng.IntN(target.Replicas+1), []string{"", "1"}[rng.IntN(2)], rng.IntN(2) == 0, rng.IntN(6)
				if rng.IntN(8) == 0 {
					target.Replicas = rng.IntN(6)
				}
				plan()
				for i := range observed {
					switch o := &observed[i]; rng.IntN(6) {
					case 0:
						if o.State <= Running {
							o.State = Dead
						}
					case 1, 2, 3:
						if o.State < Running {
							o.State++
							o.Waits = false
						}
					}
				}
			}
			for range 60 {
				c.New, c.Former, c.Doubt = target.Replicas, "", false
				plan()
				observed = slices.DeleteFunc(observed, func(o Observed) bool { return o.State > Running })
				for i := range observed {
					observed[i].State, observed[i].Waits = Running, false
				}
			}
			if got := count(func(o Observed) bool { return o.Revision == "2" && o.State == Running }); got != target.Replicas || len(observed) != got {
				t.Fatalf("it ends with %+v, wanted %d", observed, target.Replicas)
			}
		})
	}
}

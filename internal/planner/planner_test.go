package planner

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b  = Key{"app", "a"}, Key{"app", "b"}
)

func seen(k Key, id string, s State, age time.Duration) Observed {
	return Observed{Key: k, ID: id, State: s, StartedAt: start.Add(-age)}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	one := []Target{{Key: a, Replicas: 1}}
	tests := []struct {
		name     string
		targets  []Target
		observed []Observed
		history  map[Key]History
		want     []Action
		wake     time.Duration // after start; 0 for none
	}{
		{name: "nothing"},
		{name: "starts what is missing", targets: []Target{{Key: b, Replicas: 2}, {Key: a, Replicas: 3}},
			observed: []Observed{seen(a, "a1", Running, 0), seen(b, "b1", Starting, 0)},
			want:     []Action{Start{a, 2}, Start{b, 1}}},
		{name: "leaves what is right", targets: one, observed: []Observed{seen(a, "a1", Starting, 0)}},
		{name: "draining and dead do not count", targets: one,
			observed: []Observed{seen(a, "a1", Draining, 0), seen(a, "a2", Dead, 0)}, want: []Action{Start{a, 1}}},
		{name: "does not stop twice", observed: []Observed{seen(a, "a1", Draining, 0), seen(a, "a2", Dead, 0)}},
		{name: "stops the newest starting first, then the newest running", targets: one,
			observed: []Observed{
				seen(a, "old", Running, 9), seen(a, "young", Running, 1), seen(a, "slow", Starting, 5), seen(a, "new", Starting, 1),
			},
			want: []Action{Stop{"new"}, Stop{"slow"}, Stop{"young"}}},
		{name: "same age", targets: one,
			observed: []Observed{seen(a, "2", Running, 1), seen(a, "1", Running, 1)}, want: []Action{Stop{"1"}}},
		{name: "stops what has no target",
			observed: []Observed{seen(b, "b1", Running, 0), seen(a, "a1", Starting, 0), seen(a, "a2", Running, 0)},
			want:     []Action{Stop{"a1"}, Stop{"a2"}, Stop{"b1"}}},
		{name: "a target of none", targets: []Target{{Key: a}, {Key: b, Replicas: -1}},
			observed: []Observed{seen(a, "a1", Running, 0)}, want: []Action{Stop{"a1"}}},
		{name: "the first failure is made good at once", targets: one,
			history: map[Key]History{a: {Failures: 1, Rounds: 1, LastFailure: start}}, want: []Action{Start{a, 1}}},
		{name: "the second is not", targets: one, history: map[Key]History{a: {Failures: 2, Rounds: 2, LastFailure: start}}, wake: time.Second},
		{name: "the delay is over", targets: one,
			history: map[Key]History{a: {Failures: 2, Rounds: 2, LastFailure: start.Add(-time.Second)}}, want: []Action{Start{a, 1}}},
		{name: "the earliest wake", targets: []Target{{Key: a, Replicas: 1}, {Key: b, Replicas: 1}},
			history: map[Key]History{a: {Failures: 9, Rounds: 9, LastFailure: start}, b: {Failures: 4, Rounds: 4, LastFailure: start}}, wake: 4 * time.Second},
		{name: "back-off of one does not hold up another", targets: []Target{{Key: a, Replicas: 1}, {Key: b, Replicas: 1}},
			history: map[Key]History{a: {Failures: 3, Rounds: 3, LastFailure: start}}, want: []Action{Start{b, 1}}, wake: 2 * time.Second},
		{name: "back-off does not hold up stops", targets: []Target{{Key: a, Replicas: 1}, {Key: b, Replicas: 1}},
			observed: []Observed{seen(b, "1", Running, 2), seen(b, "2", Running, 1)},
			history:  map[Key]History{a: {Failures: 3, Rounds: 3, LastFailure: start}, b: {Failures: 3, Rounds: 3, LastFailure: start}}, want: []Action{Stop{"2"}}, wake: 2 * time.Second},
		{name: "no wake when nothing is missing", targets: one, observed: []Observed{seen(a, "a1", Running, 0)},
			history: map[Key]History{a: {Failures: 5, Rounds: 5, LastFailure: start}}},
		{name: "too many failures of a deployment that never ran", targets: []Target{{Key: a, Replicas: 1, GiveUp: MaxFailures(20, 1)}},
			history: map[Key]History{a: {Failures: 3, Rounds: 3, LastFailure: start}}, want: []Action{GiveUp{a}}},
		{name: "too few rounds of failures", targets: []Target{{Key: a, Replicas: 3, GiveUp: 9, GiveUpRounds: RolloutRounds}},
			history: map[Key]History{a: {Failures: 6, Rounds: 2, LastFailure: start}}, wake: time.Second},
		{name: "too many rounds of failures", targets: []Target{{Key: a, Replicas: 3, GiveUp: 9, GiveUpRounds: RolloutRounds}},
			history: map[Key]History{a: {Failures: 3, Rounds: 3, LastFailure: start}}, want: []Action{GiveUp{a}}},
		{name: "but not of one that did", targets: []Target{{Key: a, Replicas: 1, GiveUp: 3}},
			history: map[Key]History{a: {Failures: 3, Rounds: 3, LastFailure: start, Ran: true}}, wake: 2 * time.Second},
		{name: "a former revision serves until the new one runs", targets: []Target{{Key: a, Revision: "2", Replicas: 2}},
			observed: []Observed{{Key: a, ID: "1", Revision: "1", State: Running, StartedAt: start}, {Key: a, ID: "2", Revision: "1", State: Running, StartedAt: start}, {Key: a, ID: "3", Revision: "2", State: Starting, StartedAt: start}},
			want:     []Action{Start{a, 1}}},
		{name: "and is replaced one by one", targets: []Target{{Key: a, Revision: "2", Replicas: 2}},
			observed: []Observed{
				{Key: a, ID: "1", Revision: "1", State: Running, StartedAt: start}, {Key: a, ID: "2", Revision: "1", State: Running, StartedAt: start},
				{Key: a, ID: "3", Revision: "2", State: Running, StartedAt: start}, {Key: a, ID: "4", Revision: "2", State: Starting, StartedAt: start},
			},
			want: []Action{Stop{"1"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, wake := Plan(tt.targets, tt.observed, tt.history, start)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			var want time.Time
			if tt.wake != 0 {
				want = start.Add(tt.wake)
			}
			if !wake.Equal(want) {
				t.Errorf("wake %v, want %v", wake, want)
			}
		})
	}
}

func TestOrderOfStarts(t *testing.T) {
	t.Parallel()
	c, d := Key{"app", "c"}, Key{"app", "d"}
	uses := func(k Key, of ...Key) Target { return Target{Key: k, Replicas: 1, Uses: of} }
	for _, tt := range []struct {
		name     string
		targets  []Target
		observed []Observed
		history  map[Key]History
		want     []Action
	}{
		{name: "those that are used come first", targets: []Target{uses(a, b), uses(b, c), uses(c)}, want: []Action{Start{c, 1}}},
		{name: "and are waited for", targets: []Target{uses(a, b), uses(b, c), uses(c)},
			observed: []Observed{seen(c, "1", Starting, 0)}},
		{name: "until one is ready", targets: []Target{uses(a, b), uses(b, c), {Key: c, Replicas: 2}},
			observed: []Observed{seen(c, "1", Running, 0), seen(c, "2", Starting, 0)}, want: []Action{Start{b, 1}}},
		{name: "of this revision", targets: []Target{uses(a, b), {Key: b, Revision: "2", Replicas: 1}},
			observed: []Observed{{Key: b, ID: "1", Revision: "1", State: Running, StartedAt: start}, {Key: b, ID: "2", Revision: "2", State: Starting, StartedAt: start}}},
		{name: "once", targets: []Target{uses(a, b), uses(b)}, history: map[Key]History{b: {Ran: true}},
			want: []Action{Start{a, 1}, Start{b, 1}}},
		{name: "all of them", targets: []Target{uses(a, b, c), uses(b), uses(c)},
			observed: []Observed{seen(b, "1", Running, 0), seen(c, "2", Starting, 0)}},
		{name: "a cycle starts together", targets: []Target{uses(a, b), uses(b, c), uses(c, a), uses(d, a)},
			want: []Action{Start{a, 1}, Start{b, 1}, Start{c, 1}}},
		{name: "after what it uses", targets: []Target{uses(a, b), uses(b, a, c), uses(c)}, want: []Action{Start{a, 1}, Start{c, 1}}},
		{name: "what begins early", targets: []Target{{Key: a, Replicas: 1, Uses: []Key{b}, Early: true}, uses(b)}, want: []Action{Start{a, 1}, Start{b, 1}}},
		{name: "one that uses itself", targets: []Target{uses(a, a)}, want: []Action{Start{a, 1}}},
		{name: "what nobody wants is not waited for", targets: []Target{uses(a, b, c), {Key: c}}, want: []Action{Start{a, 1}}},
		{name: "stops do not wait", targets: []Target{{Key: a, Uses: []Key{b}}, uses(b)},
			observed: []Observed{seen(a, "1", Running, 0)}, want: []Action{Stop{"1"}, Start{b, 1}}},
		{name: "nor is one given up that waits", targets: []Target{{Key: a, Replicas: 1, GiveUp: 1, Uses: []Key{b}}, uses(b)},
			history: map[Key]History{a: {Failures: 1, LastFailure: start}}, want: []Action{Start{b, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, wake := Plan(tt.targets, tt.observed, tt.history, start); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 || !wake.IsZero() {
				t.Errorf("got %v, wake %v, want %v", got, wake, tt.want)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	for failures, seconds := range []int{0, 0, 1, 2, 4, 8, 16, 32, 64, 64} {
		if got := Delay(failures); got != time.Duration(seconds)*time.Second {
			t.Errorf("after %d failures %v, want %v s", failures, got, seconds)
		}
	}
	if got := Delay(1 << 30); got != 64*time.Second {
		t.Errorf("after very many failures %v", got)
	}
}

// world is a node that carries out the plan, with random failures.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	now      time.Time
	targets  []Target
	observed []Observed
	history  map[Key]History
	next     int
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 5)), now: start, history: map[Key]History{}}
	for i := range 4 {
		k := Key{"app" + fmt.Sprint(i%2), fmt.Sprint(i)}
		if w.rng.IntN(4) > 0 {
			t := Target{Key: k, Revision: fmt.Sprint(w.rng.IntN(2)), Replicas: w.rng.IntN(5)}
			t.Early = w.rng.IntN(4) == 0
			for j := range 4 {
				if w.rng.IntN(3) == 0 { // uses cross applications too, and make circles
					t.Uses = append(t.Uses, Key{"app" + fmt.Sprint(j%2), fmt.Sprint(j)})
				}
			}
			w.targets = append(w.targets, t)
		}
		for range w.rng.IntN(7) {
			w.add(Observed{
				Key: k, Revision: fmt.Sprint(w.rng.IntN(2)), State: State(w.rng.IntN(5)),
				StartedAt: w.now.Add(-time.Duration(w.rng.IntN(9)) * time.Second),
			})
		}
		if w.rng.IntN(3) == 0 {
			w.history[k] = History{Failures: w.rng.IntN(9), Rounds: w.rng.IntN(5), LastFailure: w.now.Add(-time.Duration(w.rng.IntN(9)) * time.Second)}
		}
	}
	return w
}

func (w *world) add(o Observed) {
	w.next++
	o.ID = fmt.Sprint("r", w.next)
	w.observed = append(w.observed, o)
}

func (w *world) target(k Key) Target {
	for _, t := range w.targets {
		if t.Key == k {
			return t
		}
	}
	return Target{Key: k}
}

func (w *world) count(match func(Observed) bool) (n int) {
	for _, o := range w.observed {
		if match(o) {
			n++
		}
	}
	return n
}

func serves(k Key) func(Observed) bool {
	return func(o Observed) bool { return o.Key == k && o.State == Running }
}

// mayStart is the rule of Uses in other words: u is ready, was ready once, has no target, or is in a circle with k.
func (w *world) mayStart(k, u Key) bool {
	t := w.target(u)
	if t.Replicas == 0 || w.history[u].Ran || w.count(func(o Observed) bool { return serves(u)(o) && o.Revision == t.Revision }) > 0 {
		return true
	}
	reached := map[Key]bool{u: true}
	for range 4 { // every path is at most this long
		for _, t := range w.targets {
			for _, v := range t.Uses {
				reached[v] = reached[v] || reached[t.Key]
			}
		}
	}
	return reached[k]
}

// plan calls Plan, checks the promises that hold for every plan, and carries it out.
func (w *world) plan() (actions []Action, wake time.Time) {
	w.t.Helper()
	actions, wake = Plan(w.targets, w.observed, w.history, w.now)
	shuffledTargets, shuffled := slices.Clone(w.targets), slices.Clone(w.observed)
	w.rng.Shuffle(len(shuffledTargets), reflect.Swapper(shuffledTargets))
	w.rng.Shuffle(len(shuffled), reflect.Swapper(shuffled))
	if again, _ := Plan(shuffledTargets, shuffled, w.history, w.now); !slices.Equal(again, actions) {
		w.t.Fatalf("another order of the arguments gives another plan:\n%v\n%v", actions, again)
	}
	if !wake.IsZero() && !wake.After(w.now) {
		w.t.Fatal("wake has passed")
	}
	serving := map[Key]int{}
	for _, t := range w.targets {
		serving[t.Key] = w.count(serves(t.Key))
	}
	stopped := map[string]bool{}
	for _, act := range actions {
		switch act := act.(type) {
		case Start:
			t := w.target(act.Key)
			live := w.count(func(o Observed) bool {
				return o.Key == act.Key && o.Revision == t.Revision && o.State <= Running
			})
			for _, u := range t.Uses {
				may := w.mayStart(t.Key, u)
				if !may && !Waiting(w.targets, w.observed, w.history)(t.Key, false) {
					w.t.Fatalf("%v need not wait for %v, which it uses", t.Key, u)
				}
				if !may && !t.Early {
					w.t.Fatalf("starts %v before %v, which it uses, is ready", t.Key, u)
				}
			}
			if act.Count < 1 || live+act.Count > t.Replicas {
				w.t.Fatalf("starts %d beside %d of %d", act.Count, live, t.Replicas)
			}
			for range act.Count {
				w.add(Observed{Key: act.Key, Revision: t.Revision, State: Starting, StartedAt: w.now})
			}
		case Stop:
			i := slices.IndexFunc(w.observed, func(o Observed) bool { return o.ID == act.Replica })
			if i < 0 || stopped[act.Replica] || w.observed[i].State > Running {
				w.t.Fatalf("stops %s", act.Replica)
			}
			stopped[act.Replica] = true
			w.observed[i].State = Draining
		}
	}
	for _, t := range w.targets {
		if before, after := serving[t.Key], w.count(serves(t.Key)); after < min(before, t.Replicas) {
			w.t.Fatalf("of %d that served %d are left, the target is %d", before, after, t.Replicas)
		}
	}
	if again, _ := Plan(w.targets, w.observed, w.history, w.now); len(again) > 0 {
		w.t.Fatalf("after %v it also wants %v", actions, again)
	}
	return actions, wake
}

// live lets time pass: starts finish or fail, drains finish, replicas die.
func (w *world) live(fate bool) {
	w.observed = slices.DeleteFunc(w.observed, func(o Observed) bool {
		return o.State >= Draining && (!fate || w.rng.IntN(2) == 0)
	})
	for i := range w.observed {
		o := &w.observed[i]
		dies := fate && w.rng.IntN(4) == 0
		switch {
		case dies && o.State <= Running:
			o.State = Dead
			h := w.history[o.Key]
			w.history[o.Key] = History{Failures: h.Failures + 1, Rounds: h.Rounds + 1, LastFailure: w.now, Ran: h.Ran}
		case o.State < Running && (!fate || w.rng.IntN(2) == 0):
			o.State = Running
			if h := w.history[o.Key]; o.Revision == w.target(o.Key).Revision {
				h.Ran = true
				w.history[o.Key] = h
			}
		}
	}
}

// TestConverges: after a time of random failures the target is reached, by carrying out the plan and waking at its
// times.
func TestConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			for range 20 {
				w.plan()
				w.live(true)
				w.now = w.now.Add(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
			}
			quiet := false
			for range 20 {
				actions, wake := w.plan()
				w.live(false)
				if quiet = len(actions) == 0 && wake.IsZero(); quiet {
					break
				}
				if !wake.IsZero() {
					w.now = wake
				}
			}
			if !quiet {
				t.Fatal("it does not come to rest")
			}
			for _, o := range w.observed {
				if tt := w.target(o.Key); o.State != Running || o.Revision != tt.Revision {
					t.Fatalf("left over: %+v", o)
				}
			}
			for _, tt := range w.targets {
				if n := w.count(func(o Observed) bool { return o.Key == tt.Key }); n != tt.Replicas {
					t.Fatalf("%v has %d replicas", tt, n)
				}
			}
			if n := w.count(func(o Observed) bool { return w.target(o.Key).Replicas == 0 }); n != 0 {
				t.Fatalf("%d replicas without a target", n)
			}
		})
	}
}

func BenchmarkPlan(bm *testing.B) {
	var targets []Target
	var observed []Observed
	for i := range 100 {
		k := Key{"app", fmt.Sprint(i)}
		targets = append(targets, Target{Key: k, Replicas: 10})
		for j := range 10 {
			observed = append(observed, Observed{Key: k, ID: fmt.Sprint(i, "#", j), State: Running})
		}
	}
	bm.ReportAllocs()
	for bm.Loop() {
		if actions, _ := Plan(targets, observed, nil, start); len(actions) != 0 {
			bm.Fatal(actions)
		}
	}
}

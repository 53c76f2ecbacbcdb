package planner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fate says how starts of the new revision of a deployment end. Starts of the revision before succeed.
type fate int

const (
	good fate = iota
	fails
	hangs
	turns // the first succeeds, and the others fail
	fates
)

// changing is an application in the middle of a rollout from revision 1 to 2, on a node that was started again.
type changing struct {
	rng      *rand.Rand
	now      time.Time
	targets  []Target
	fates    map[Key]fate
	observed []Observed
	began    map[Key]bool    // a start of revision 2 has begun
	ran      map[Key]bool    // a replica of revision 2 was ready
	failed   map[Key]History // of revision 2
	next     int
	adopted  int // the replicas of these first ids have a worker of the node before: user code of them has begun
}

func newChanging(seed uint64) *changing {
	w := &changing{
		rng: rand.New(rand.NewPCG(seed, 7)), now: start, fates: map[Key]fate{}, began: map[Key]bool{}, ran: map[Key]bool{}, failed: map[Key]History{},
	}
	keys := []Key{{"app", "a"}, {"app", "b"}, {"app", "c"}, {"app", "d"}}
	uses := func(i int, order []int) (all []Key) { // without circles, but for a few
		for j, k := range keys {
			if order[j] > order[i] && w.rng.IntN(2) == 0 || w.rng.IntN(30) == 0 {
				all = append(all, k)
			}
		}
		return all
	}
	before, after := w.rng.Perm(len(keys)), w.rng.Perm(len(keys))
	all := w.rng.IntN(3) > 0 // no deployment may have fewer new replicas than it wants
	bad := w.rng.IntN(3) > 0
	for i, k := range keys {
		n := w.rng.IntN(4)
		c, _ := Bounds(n, w.rng.IntN(3), w.rng.IntN(3), 0)
		t := Target{Key: k, Revision: "2", Replicas: n, Change: &c, Uses: uses(i, after), Early: w.rng.IntN(2) == 0}
		if bad {
			w.fates[k] = fate(w.rng.IntN(int(fates)))
		}
		switch w.rng.IntN(6) {
		case 0: // both revisions have it
			t.Revision, t.Served, t.Uses = "1", true, uses(i, before)
		case 1: // revision 1 alone has it
			t.Revision, t.Served, t.Uses = "1", true, uses(i, before)
		case 2: // revision 2 alone has it
		default:
			if c.Former, c.Had, c.Uses = "1", w.rng.IntN(4), uses(i, before); !all {
				c.New = w.rng.IntN(n + 1)
			}
		}
		w.targets = append(w.targets, t)
		for range w.rng.IntN(3) { // the workers of the node before have outlived it
			switch {
			case c.Former != "" && w.rng.IntN(2) == 0:
				w.add(k, "1")
			case t.Revision == "1", w.fates[k] == good:
				w.add(k, t.Revision)
			}
		}
	}
	w.adopted = w.next
	return w
}

func (w *changing) add(k Key, revision string) {
	w.next++
	w.observed = append(w.observed, Observed{Key: k, ID: fmt.Sprintf("%03d", w.next), Revision: revision, State: Starting, StartedAt: w.now})
}

// count counts the replicas of a deployment that are ready, of a revision or, for "", of both.
func (w *changing) count(k Key, revision string) (n int) {
	for _, o := range w.observed {
		if o.Key == k && o.State == Running && (revision == "" || o.Revision == revision) {
			n++
		}
	}
	return n
}

// note says what the rollout knows, as package fleet does.
func (w *changing) note() {
	for i := range w.targets {
		if t := &w.targets[i]; t.Change.Former != "" {
			t.Change.Doubt = !w.ran[t.Key] || w.failed[t.Key].Failures > 0
		}
	}
}

// plan carries out a plan.
func (w *changing) plan(t *testing.T) (wake time.Time) {
	t.Helper()
	w.note()
	actions, wake := Plan(w.targets, w.observed, w.failed, w.now)
	for _, act := range actions {
		switch act := act.(type) {
		case Start:
			of := w.targets[slices.IndexFunc(w.targets, func(t Target) bool { return t.Key == act.Key })]
			for range act.Count {
				w.add(act.Key, of.Revision)
			}
		case StartFormer:
			for range act.Count {
				w.add(act.Key, "1")
			}
		case Stop:
			i := slices.IndexFunc(w.observed, func(o Observed) bool { return o.ID == act.Replica })
			if w.observed[i].State == Running || w.observed[i].Waits { // another starting replica is stopped when it is ready, if there are still too many
				w.observed[i].State = Draining
			}
		}
	}
	return wake
}

// live lets starts end. With deaths some replicas that are ready end too.
func (w *changing) live(deaths bool) {
	waits := Waiting(w.targets, w.observed, w.failed)
	next := slices.Clone(w.observed)
	for i := range next {
		o := &next[i]
		t := w.targets[slices.IndexFunc(w.targets, func(t Target) bool { return t.Key == o.Key })]
		isNew := o.Revision == t.Revision
		dies := deaths && o.State == Running && w.rng.IntN(8) == 0
		o.Waits = deaths && o.State == Starting && w.rng.IntN(3) == 0
		switch {
		case o.Waits:
		case o.State == Draining:
			o.State = Dead
		case o.State == Starting && o.ID > fmt.Sprintf("%03d", w.adopted) && waits(o.Key, !isNew): // its host asks before it runs user code
		case o.State == Starting && o.Revision == "2" && w.fates[o.Key] == hangs:
		case o.State == Starting && o.Revision == "2" && (w.fates[o.Key] == fails || w.fates[o.Key] == turns && w.began[o.Key]), dies:
			if o.State = Dead; isNew {
				h := w.failed[o.Key]
				w.failed[o.Key] = History{Failures: h.Failures + 1, Rounds: h.Rounds + 1, LastFailure: w.now}
			}
		case o.State == Starting:
			if o.State = Running; o.Revision == "2" {
				w.ran[o.Key], w.began[o.Key] = true, true
			} else if !isNew {
				t.Change.Failures.Ran = true
			}
		}
	}
	w.observed = slices.DeleteFunc(next, func(o Observed) bool { return o.State == Dead })
}

// TestServedComesBack: a node is started again in a rollout, with none or some of the replicas, and replicas of the new revision fail, hang or turn bad, and no
// deployment may have more than a number of them, for ever. Every deployment of the revision before has its replicas all the same, within its budget. Where all is good the
// rollout comes to its limits.
func TestServedComesBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newChanging(seed)
			for round := range 80 {
				wake := w.plan(t)
				w.live(round < 15)
				if w.now = w.now.Add(time.Second); round >= 15 && wake.After(w.now) {
					w.now = wake
				}
			}
			sound := true
			for _, f := range w.fates {
				sound = sound && f == good
			}
			for _, of := range w.targets {
				k, c := of.Key, of.Change
				ready, isNew := w.count(k, ""), w.count(k, "2")
				switch most := min(c.New, of.Replicas); {
				case of.Served && ready != of.Replicas:
					t.Errorf("%v, which has not changed, has %d of %d replicas\n%s", k, ready, of.Replicas, w)
				case c.Former != "" && ready < min(of.Replicas, c.Had)-c.Unavailable:
					t.Errorf("%v has %d of %d replicas, of %d before, and may lack %d\n%s", k, ready, of.Replicas, c.Had, c.Unavailable, w)
				case sound && c.Former != "" && (isNew != most || ready != of.Replicas):
					t.Errorf("%v has %d new replicas of %d, and %d of %d\n%s", k, isNew, most, ready, of.Replicas, w)
				case sound && c.Former == "" && ready != of.Replicas:
					t.Errorf("%v is new, and has %d of %d replicas\n%s", k, ready, of.Replicas, w)
				}
			}
		})
	}
}

func (w *changing) String() (text string) {
	for _, t := range w.targets {
		text += fmt.Sprintf("%s: %d of revision %s, served %v, early %v, fate %d, uses %v, %+v\n", t.Deployment, t.Replicas, t.Revision, t.Served, t.Early, w.fates[t.Key], t.Uses, *t.Change)
	}
	for _, o := range w.observed {
		text += fmt.Sprintf("  %s %s: revision %s, %d\n", o.Deployment, o.ID, o.Revision, o.State)
	}
	return text
}

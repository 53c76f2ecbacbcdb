// Package planner decides what a node must start and stop to get from what runs to what should run. It is pure: no
// clock, no I/O, no state, the same answer for the same question in any order of its arguments.
//
// It is level-triggered. Nothing remembers what was asked for before: a replica that is being started is observed as
// starting and counts, so asking twice changes nothing.
package planner

import (
	"cmp"
	"slices"
	"time"
)

// Key names a deployment.
type Key struct{ App, Deployment string }

// Target is how many replicas of which revision of a deployment should run; fewer than none is none.
type Target struct {
	Key
	Revision string
	Replicas int
	// GiveUp is after how many failed starts a deployment of which no replica ever ran is given up; 0 for never.
	GiveUp int
	// Uses are deployments that this one calls: none of its replicas is started before each of those has had a ready one. Those
	// that use each other, directly or not, do not wait for each other, and one without a target is not waited for.
	Uses []Key
	// Early says that its starts begin at once, and ask [Waits] themselves when they have come to the user's code.
	Early bool
}

// MaxFailures is the reference's bound on failed starts, for [Target].GiveUp: retries in all, and three per replica.
func MaxFailures(retries, replicas int) int { return min(retries, 3*replicas) }

// State is what a replica is doing.
type State uint8

// The states. Only starting and running replicas count: one that drains is on its way out, and one that is dead is
// waiting for its owner to forget it.
const (
	Starting State = iota
	Running
	Draining
	Dead
)

// Observed is one replica of the node.
type Observed struct {
	Key
	ID        string // unique in the node
	Revision  string
	State     State
	StartedAt time.Time
}

// History is how a deployment's replicas have fared: starts that failed and replicas that died. The caller resets it when
// one has run well for long.
type History struct {
	Failures    int // for giving up
	Rounds      int // the same, where replicas that failed together count once, for the delay of the next start
	LastFailure time.Time
	Ran         bool // a replica of the target's revision was ready once: from then on failures are retried for ever
}

// Action is a [Start], a [Stop] or a [GiveUp].
type Action interface{ action() }

// Start asks for Count more replicas of the target's revision.
type Start struct {
	Key
	Count int
}

// Stop asks for one replica to be drained and ended.
type Stop struct{ Replica string }

// GiveUp says that a deployment cannot start.
type GiveUp struct{ Key }

func (Start) action()  {}
func (Stop) action()   {}
func (GiveUp) action() {}

// The first failure is made good at once, because most are a crash that will not repeat; then the delay doubles from 1 s
// to 64 s, as the reference's does.
const (
	firstDelay = time.Second
	lastDelay  = 64 * time.Second
)

// Delay is how long to wait after the last of n rounds of starts that failed before the next start.
func Delay(rounds int) time.Duration {
	if rounds <= 1 {
		return 0
	}
	d := firstDelay
	for range rounds - 2 {
		if d *= 2; d >= lastDelay {
			return lastDelay
		}
	}
	return d
}

// Plan compares target and observed. There is at most one target per deployment; a deployment without one is stopped.
// Actions are sorted by deployment, and for one deployment come starts, or that it is given up, then stops. wake is when to ask again although
// nothing has changed, because a start is held back; zero if there is no such time.
func Plan(targets []Target, observed []Observed, history map[Key]History, now time.Time) (actions []Action, wake time.Time) {
	wanted, live := index(targets, observed)
	keys := make([]Key, 0, len(wanted))
	for k := range wanted {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Deployment, b.Deployment))
	})
	for _, k := range keys {
		start, stop := compare(wanted[k], live[k])
		if start > 0 {
			h := history[k]
			if t := wanted[k]; !t.Early && waits(wanted, live, history, k) {
				// Whoever becomes ready has the question asked again.
			} else if t.GiveUp > 0 && !h.Ran && h.Failures >= t.GiveUp {
				actions = append(actions, GiveUp{k})
			} else if at := h.LastFailure.Add(Delay(h.Rounds)); h.Rounds > 1 && at.After(now) {
				if wake.IsZero() || at.Before(wake) {
					wake = at
				}
			} else {
				actions = append(actions, Start{k, start})
			}
		}
		for _, o := range stop {
			actions = append(actions, Stop{o.ID})
		}
	}
	return actions, wake
}

// Waits says whether user code of the deployment k should not run yet, because what it uses is not ready.
func Waits(targets []Target, observed []Observed, history map[Key]History, k Key) bool {
	wanted, live := index(targets, observed)
	return waits(wanted, live, history, k)
}

// index sorts both by deployment. What runs without a target has one of none.
func index(targets []Target, observed []Observed) (wanted map[Key]Target, live map[Key][]Observed) {
	wanted, live = map[Key]Target{}, map[Key][]Observed{}
	for _, o := range observed {
		if o.State == Starting || o.State == Running {
			live[o.Key] = append(live[o.Key], o)
			wanted[o.Key] = Target{Key: o.Key}
		}
	}
	for _, t := range targets {
		wanted[t.Key] = t
	}
	return wanted, live
}

// waits is Waits.
func waits(wanted map[Key]Target, live map[Key][]Observed, history map[Key]History, k Key) bool {
	for _, u := range wanted[k].Uses {
		t := wanted[u]
		ready := func(o Observed) bool { return o.State == Running && o.Revision == t.Revision }
		if t.Replicas > 0 && !history[u].Ran && !slices.ContainsFunc(live[u], ready) && !leads(wanted, u, k, nil) {
			return true
		}
	}
	return false
}

// leads says whether from uses to, directly or not. It is asked for what is missing only.
func leads(wanted map[Key]Target, from, to Key, seen map[Key]bool) bool {
	if from == to {
		return true
	}
	if seen == nil {
		seen = map[Key]bool{}
	}
	seen[from] = true
	for _, u := range wanted[from].Uses {
		if !seen[u] && leads(wanted, u, to, seen) {
			return true
		}
	}
	return false
}

// compare gives how many replicas one deployment lacks and which are too many.
func compare(t Target, live []Observed) (start int, stop []Observed) {
	replicas := max(t.Replicas, 0)
	var current, former []Observed
	running := 0
	for _, o := range live {
		switch {
		case o.Revision != t.Revision:
			former = append(former, o)
		default:
			current = append(current, o)
			if o.State == Running {
				running++
			}
		}
	}
	// Replicas of another revision stand in for those of the target's that do not run yet.
	stop = append(surplus(former, replicas-running), surplus(current, replicas)...)
	return max(replicas-len(current), 0), stop
}

// surplus are the replicas beyond the keep that are worth most. Those that serve nobody yet go first, and then the
// youngest, which have the least to lose.
func surplus(of []Observed, keep int) []Observed {
	n := len(of) - max(keep, 0)
	if n <= 0 {
		return nil
	}
	slices.SortFunc(of, func(a, b Observed) int {
		return cmp.Or(cmp.Compare(a.State, b.State), b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return of[:n:n]
}

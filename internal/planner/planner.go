// Package planner decides what a node must start and stop to get from what runs to what should run. It is pure: no
// clock, no I/O, the same answer for the same question.
package planner

import (
	"cmp"
	"slices"
	"time"
)

// Key names a deployment.
type Key struct{ App, Deployment string }

// Target is how many replicas of a deployment should run.
type Target struct {
	Key
	Replicas int
}

// State is what a replica is doing.
type State uint8

// The states. A dead replica is not observed at all.
const (
	Starting State = iota
	Running
	Draining
)

// Observed is one replica of the node.
type Observed struct {
	Key
	ID        string
	State     State
	StartedAt time.Time
}

// History is how a deployment's replicas have fared: starts that failed and replicas that died, since the last one that
// ran well for long.
type History struct {
	Failures    int
	LastFailure time.Time
}

// Action is a [Start] or a [Stop].
type Action interface{ action() }

// Start asks for replicas of a deployment.
type Start struct {
	Key
	Count int
}

// Stop asks for one replica to be drained and ended.
type Stop struct{ Replica string }

func (Start) action() {}
func (Stop) action()  {}

// The first failure is made good at once, because most are a crash that will not repeat; then the delay doubles from 1 s
// to 64 s, as the reference's does.
const (
	firstDelay = time.Second
	lastDelay  = 64 * time.Second
)

// Delay is how long to wait after the last of n failures before the next start.
func Delay(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	d := firstDelay
	for range failures - 2 {
		if d *= 2; d >= lastDelay {
			return lastDelay
		}
	}
	return d
}

// Plan compares target and observed. Actions come sorted. wake is when to ask again although nothing changes, because
// a start is held back; zero if never. A deployment without a target is stopped.
func Plan(targets []Target, observed []Observed, history map[Key]History, now time.Time) (actions []Action, wake time.Time) {
	have := map[Key][]Observed{}
	for _, o := range observed {
		if o.State != Draining {
			have[o.Key] = append(have[o.Key], o)
		}
	}
	targets = slices.Clone(targets)
	slices.SortFunc(targets, func(a, b Target) int { return compare(a.Key, b.Key) })
	for _, t := range targets {
		live := have[t.Key]
		delete(have, t.Key)
		switch missing := t.Replicas - len(live); {
		case missing > 0:
			h := history[t.Key]
			if at := h.LastFailure.Add(Delay(h.Failures)); h.Failures > 1 && at.After(now) {
				if wake.IsZero() || at.Before(wake) {
					wake = at
				}
				continue
			}
			actions = append(actions, Start{t.Key, missing})
		case missing < 0:
			// Those that serve nobody yet go first, and of those the youngest.
			slices.SortFunc(live, func(a, b Observed) int {
				return cmp.Or(cmp.Compare(a.State, b.State), b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID))
			})
			for _, o := range live[:-missing] {
				actions = append(actions, Stop{o.ID})
			}
		}
	}
	var rest []string
	for _, live := range have {
		for _, o := range live {
			rest = append(rest, o.ID)
		}
	}
	slices.Sort(rest)
	for _, id := range rest {
		actions = append(actions, Stop{id})
	}
	return actions, wake
}

func compare(a, b Key) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Deployment, b.Deployment))
}

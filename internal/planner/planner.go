// Package planner decides which replicas a node must start and stop, so that the running replicas become the wanted
// ones. It is pure: it has no clock, no I/O and no state, and the order of its arguments does not matter.
//
// The planner is level-triggered: it compares two states and does not remember earlier actions. For example, with a
// target of three replicas, one running and one starting, [Plan] asks for one start. If it is asked again at once,
// the new replica is observed as starting, and the answer is empty.
package planner

import (
	"cmp"
	"slices"
	"time"
)

// Key names a deployment.
type Key struct{ App, Deployment string }

// Target is the wanted number of replicas of one deployment, and their revision. A negative number counts as 0.
type Target struct {
	Key
	Revision string
	Replicas int
	// GiveUp is the number of failed starts after which a deployment is given up, if no replica of it ever ran; 0 for
	// never.
	GiveUp int
	// GiveUpRounds is the same for rounds of failed starts (see [Failures]); 0 for never. For example, with 3, a rollout whose new replicas fail in the same way each
	// time goes back after a few seconds, and one failure of three replicas at once is no more than one.
	GiveUpRounds int
	// Uses are the deployments that this one calls. No replica of this one starts before each used deployment has had
	// a ready replica. For example, with A using B and B using C, replicas start in the order C, B, A. Deployments
	// that use each other in a circle do not wait for each other, and a deployment without a target is not waited
	// for.
	Uses []Key
	// Served says that replicas of this revision have served in the revision before: that has the deployment in the same version, or it alone has
	// it. They wait as former replicas do: see [Waiting].
	Served bool
	// Early lets replicas start at once; their host asks [Waiting] before it runs user code. An interpreter can start
	// meanwhile.
	Early bool
	// Change bounds the change from replicas of other revisions; nil for one without bounds.
	Change *Change
}

// MaxFailures is Ray Serve's limit for [Target].GiveUp: the number of retries, and at most three per replica.
func MaxFailures(retries, replicas int) int { return min(retries, 3*replicas) }

// RolloutRounds is the number of rounds of failed starts after which the rollout of a deployment has failed, if none of its new replicas ever ran.
const RolloutRounds = 3

// State is the state of one replica.
type State uint8

// The states. A draining replica will end, and a dead one is removed by its owner: neither counts. An unready replica runs, and cannot take the place of
// another yet: it fails its readiness check, or has not been ready for min_ready_s.
const (
	Starting State = iota
	Unready
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
	Use       Use
	// Waits says that the replica starts, and waits for its part of the node: nothing of it has begun.
	Waits bool
}

// Use is what a stop of a replica would disturb. It is known where replicas may be too many.
type Use struct {
	Calls   int // that run now
	Streams int // of them, streams and connections, which may last for hours
	Alone   int // of the models that are loaded, those that no other replica of the deployment has: the next call for one loads it anew
	Models  int // that are loaded
}

// History has the failures of a deployment's replicas: failed starts and deaths. The caller resets it when a replica
// has run well for long.
type History struct {
	Failures    int // number of failures, for giving up
	Rounds      int // number of failures where simultaneous ones count once, for the delay of the next start
	LastFailure time.Time
	Ran         bool // a replica of the target's revision was ready once: from then on failures are retried for ever
}

// Action is a [Start], a [Stop] or a [GiveUp].
type Action interface{ action() }

// Start is the action of starting Count more replicas of the target's revision.
type Start struct {
	Key
	Count int
}

// StartFormer is the action of starting Count more replicas of the revision before, [Change].Former. It comes before the [Start] of the same deployment.
type StartFormer struct {
	Key
	Count int
}

// Stop is the action of draining and ending one replica.
type Stop struct{ Replica string }

// GiveUp is the action of ending the attempts to start a deployment.
type GiveUp struct{ Key }

func (Start) action()       {}
func (StartFormer) action() {}
func (Stop) action()        {}
func (GiveUp) action()      {}

// A first failure is followed by a start at once, because most failures are a crash that will not repeat. Then the
// delay doubles from 1 s to 64 s, as in Ray Serve.
const (
	firstDelay = time.Second
	lastDelay  = 64 * time.Second
)

// Delay is the time between the last of n failed rounds of starts and the next start.
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

// Plan returns the actions that lead from the observed replicas to the targets. There is at most one target per
// deployment; a deployment without one is stopped. Actions are sorted by deployment; within one deployment starts, or
// giving up, come before stops. The result wake is the time at which Plan has to be called again although nothing has
// changed, because a start is delayed. It is zero if there is no such time.
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
		more, at := Step(wanted[k], live[k], history[k], func(former bool) bool { return waits(wanted, live, history, k, former) }, now)
		actions, wake = append(actions, more...), earlier(wake, at)
	}
	return actions, wake
}

// earlier is the first of two times; the zero time does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Step is [Plan] for one deployment, whose replicas are observed. A deployment without a target has one of no replicas. The function waits says that a
// deployment that this one, or its form in the revision before, uses is not ready (see [Waiting]); it is called if a replica is missing and has to wait for that.
func Step(t Target, observed []Observed, h History, waits func(former bool) bool, now time.Time) (actions []Action, wake time.Time) {
	live := make([]Observed, 0, len(observed))
	for _, o := range observed {
		if o.State <= Running {
			live = append(live, o)
		}
	}
	start, back, stop := compare(t, live, true)
	if (back > 0 || t.formerWaits(live)) && !t.Change.Doubt && !waits(false) {
		start, back, stop = compare(t, live, false)
	}
	if back > 0 {
		if !t.Early && waits(true) {
			// Step is called again when a used deployment becomes ready.
		} else if at := t.Change.Failures.delayed(now); !at.IsZero() {
			wake = at
		} else {
			actions = append(actions, StartFormer{t.Key, back})
		}
	}
	if start > 0 {
		if !t.Early && waits(false) {
			// As above.
		} else if !h.Ran && (t.GiveUp > 0 && h.Failures >= t.GiveUp || t.GiveUpRounds > 0 && h.Rounds >= t.GiveUpRounds) {
			actions = append(actions, GiveUp{t.Key})
		} else if at := h.delayed(now); !at.IsZero() {
			wake = earlier(wake, at)
		} else {
			actions = append(actions, Start{t.Key, start})
		}
	}
	for _, o := range stop {
		actions = append(actions, Stop{o.ID})
	}
	return actions, wake
}

// formerWaits says that a replica of another revision waits for its part of the node.
func (t *Target) formerWaits(live []Observed) bool {
	return t.Change != nil && slices.ContainsFunc(live, func(o Observed) bool { return o.Waits && o.Revision != t.Revision })
}

// Waiting gives a function that reports whether user code of a deployment has to wait, because a deployment that it uses is not ready. Its second argument
// asks for the replicas of the revision before ([Change].Former).
//
// A replica of the new revision waits for a used deployment until a new replica of that is ready. Where no new one may start for now it waits as a former replica
// does: until any replica of the used deployment is ready, and only if one of a revision that has served is to start. For example, A uses B, and the rollout from 1 to 2 is
// paused with one new replica of A and none of B when the machine restarts: A of revision 2 and A of revision 1 start when B of revision 1 is ready.
func Waiting(targets []Target, observed []Observed, history map[Key]History) func(k Key, former bool) bool {
	wanted, live := index(targets, observed)
	return func(k Key, former bool) bool { return waits(wanted, live, history, k, former) }
}

// index groups both arguments by deployment. A deployment that runs without a target gets a target of no replicas.
func index(targets []Target, observed []Observed) (wanted map[Key]Target, live map[Key][]Observed) {
	wanted, live = map[Key]Target{}, map[Key][]Observed{}
	for _, o := range observed {
		if o.State <= Running {
			live[o.Key] = append(live[o.Key], o)
			wanted[o.Key] = Target{Key: o.Key}
		}
	}
	for _, t := range targets {
		wanted[t.Key] = t
	}
	return wanted, live
}

// waits is [Waiting] on the grouped arguments.
func waits(wanted map[Key]Target, live map[Key][]Observed, history map[Key]History, k Key, former bool) bool {
	t := wanted[k]
	served := former || t.Served
	for _, u := range t.uses(former) {
		if lacks(wanted[u], live[u], history[u], served) && !reaches(wanted, u, k, served, nil) {
			return true
		}
	}
	return false
}

// lacks says that a deployment has no ready replica for a replica that uses it, and is to have one. served says that the other replica is of a revision that has served.
func lacks(t Target, live []Observed, h History, served bool) bool {
	if t.Replicas <= 0 || h.Ran {
		return false
	}
	c := t.Change
	served = served || c != nil && c.New <= 0
	if slices.ContainsFunc(live, func(o Observed) bool { return o.State == Running && (served || o.Revision == t.Revision) }) {
		return false
	}
	switch {
	case !served:
		return true
	case c != nil && c.Former != "":
		return !c.Failures.Ran && c.former(t.Replicas, 0, c.Doubt) > 0
	}
	return t.Served
}

// uses are the deployments that this one calls, or that its form in the revision before called.
func (t *Target) uses(former bool) []Key {
	if former && t.Change != nil && t.Change.Former != "" {
		return t.Change.Uses
	}
	return t.Uses
}

// reaches reports whether the deployment from uses the deployment to, directly or through others. The map seen has the
// deployments that were visited; nil for none.
func reaches(wanted map[Key]Target, from, to Key, former bool, seen map[Key]bool) bool {
	if from == to {
		return true
	}
	if seen == nil {
		seen = map[Key]bool{}
	}
	seen[from] = true
	t := wanted[from]
	for _, u := range t.uses(former) {
		if !seen[u] && reaches(wanted, u, to, former, seen) {
			return true
		}
	}
	return false
}

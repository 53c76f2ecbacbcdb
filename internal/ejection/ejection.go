// Package ejection decides which replicas of a node get no calls for a while: those whose readiness check does not pass, and those that are ejected because calls to
// them fail for reasons of the system. Such a call is lost on its way, or its deadline passes while the replica ends none. The package is pure: it has no clock,
// no lock and no I/O, and its caller says what happens.
//
// An ejection is the passive half of health. A check asks the replica; here the calls of users are the question. For example, with
// consecutive_failures 5 a replica has a method that hangs in a lock: five calls pass their deadlines, and no call of the replica ends well in
// between, so the replica is ejected for eject_s. Then it is probed. If the probe passes, the replica returns; if its calls hang again it is ejected for twice
// as long, up to 16 times eject_s.
//
// A failure counts only as long as no call ends well after it. The owner gives the number of calls that have ended well with each failure, which its
// counters have anyway: a call that ends well does nothing for this package.
//
// Three bounds hold for all callers together, because there is one [Node] for all routers of a node:
//
//   - The last replica of a deployment that would get calls stays, and no check and no failure takes it out. If the others go, an ejected one returns at once. If no
//     readiness check passes any more, one replica is kept all the same until the check of another passes, so that a database that is gone for a moment does
//     not take a whole deployment out. A replica whose check has never passed is not kept: it has not started yet.
//   - At most max_percent of the replicas of a deployment that would get calls are ejected.
//   - At most half of all such replicas of the node are ejected. If more fail, the cause is the node or a thing that all of them use, and calls would only be
//     pressed into fewer replicas.
//
// For example, a deployment has four replicas and max_percent 50. Two are ejected; the third fails as well and stays, because three of four are more than half.
// One of the two that are left dies: now one of three is the most, so the replica that was ejected first returns.
//
// Another example: the checks of A and B pass, and C has just started. The database goes. The check of A fails, and A gets no calls; the check of B fails, and B is kept.
// B dies: A is kept, because its check has passed once. The check of C passes: C gets the calls, and A gets none until its own check passes.
package ejection

import (
	"slices"
	"time"
)

// Config is the part of a deployment's options (ejection_config) that decides.
type Config struct {
	Enabled    bool
	Failures   int           // in a row
	Time       time.Duration // of the first ejection
	MaxPercent int
}

// most is the factor by which the time of ejections grows at most.
const most = 16

// Node has the deployments of one node.
type Node struct {
	ready, ejected int // over all deployments
}

// Deployment has the replicas of one deployment that are in service. Make it with [Node.Deployment].
type Deployment struct {
	node     *Node
	replicas []*Replica // in the order in which they came
	percent  int        // max_percent of the options that were seen last
	failed   uint64     // the number of replicas whose checks began to fail
}

// Replica is one replica in service.
type Replica struct {
	// Owner is the caller's own record of the replica.
	Owner any

	of     *Deployment
	passes bool   // its last readiness checks have passed, or it has none
	failed uint64 // its place in the order in which checks began to fail; 0 for a replica whose check has never passed
	kept   bool   // its check fails, and it gets calls as the last replica
	ready  bool   // it would get calls without ejections: it passes or is kept
	gone   bool

	failures  int
	succeeded uint64 // calls that had ended well at the last failure

	ejected  bool
	since    time.Time     // of the ejection
	until    time.Time     // the time of the next probe
	last     time.Duration // of the last ejection
	returned time.Time
}

// Decision is the answer to a failure or a probe.
type Decision int

// The decisions.
const (
	// Nothing changes.
	Nothing Decision = iota
	// Eject says that the replica gets no calls until its probe at [Replica.Until] has passed.
	Eject
	// Keep says that the replica would get no calls, and gets them because of a bound.
	Keep
	// Wait says that the replica stays ejected, and is probed again at [Replica.Until].
	Wait
	// Return says that the replica gets calls again.
	Return
	// Release says that the replica gets no calls until its readiness check passes, because that of another replica passes.
	Release
)

// Move is a change of a replica that follows from a change of another one, or from its own readiness check. To is Return, Keep or Release. Keep says here that
// the replica gets calls although its readiness check fails.
type Move struct {
	*Replica
	To Decision
}

// Deployment makes a deployment without replicas.
func (n *Node) Deployment() *Deployment { return &Deployment{node: n, percent: 100} }

// Add adds a replica that is in service. ready is false for a replica that has to pass its readiness check first.
func (d *Deployment) Add(ready bool) (*Replica, []Move) {
	r := &Replica{of: d}
	d.replicas = append(d.replicas, r)
	return r, r.SetReady(ready)
}

// Takes says that the replica gets calls.
func (r *Replica) Takes() bool { return r.ready && !r.ejected && !r.gone }

// Ready says that the last readiness checks have passed.
func (r *Replica) Ready() bool { return r.passes }

// Kept says that the replica gets calls as the last one although its readiness check fails.
func (r *Replica) Kept() bool { return r.kept && !r.gone }

// Ejected says since when the replica is ejected, and when it is probed.
func (r *Replica) Ejected() (since, until time.Time, ejected bool) {
	return r.since, r.until, r.ejected
}

// Until is the time of the next probe of an ejected replica.
func (r *Replica) Until() time.Time { return r.until }

// Remove takes a replica out that is not in service any more. The result has the changes of others that follow.
func (r *Replica) Remove() []Move {
	if r.gone {
		return nil
	}
	r.setReady(false)
	r.setEjected(false)
	r.gone = true
	r.of.replicas = slices.DeleteFunc(r.of.replicas, func(o *Replica) bool { return o == r })
	return r.of.settle()
}

// SetReady notes the result of readiness checks. The result has the changes that follow, except that a replica whose check passes or fails gets calls or gets none.
func (r *Replica) SetReady(ready bool) []Move {
	if r.gone {
		return nil
	}
	switch d := r.of; {
	case ready:
		r.kept = false
		r.setReady(true)
	case r.passes:
		d.failed++
		r.failed = d.failed
		r.setReady(false)
	}
	r.passes = ready
	return r.of.settle()
}

// Failed notes a failure of the system. succeeded is the number of calls of the replica that have ended well so far.
func (r *Replica) Failed(succeeded uint64, now time.Time, c Config) Decision {
	if !c.Enabled || r.gone || r.ejected {
		return Nothing
	}
	if succeeded != r.succeeded {
		r.failures, r.succeeded = 0, succeeded
	}
	if r.failures++; r.failures < c.Failures {
		return Nothing
	}
	r.failures = 0
	r.of.percent = c.MaxPercent
	if !r.of.room() {
		return Keep
	}
	if now.Sub(r.returned) > most*c.Time {
		r.last = 0
	}
	r.setEjected(true)
	r.since = now
	r.await(now, c)
	return Eject
}

// Probed notes the result of a probe of an ejected replica. The replica of a deployment that ejects no more returns in any case.
func (r *Replica) Probed(passed bool, now time.Time, c Config) Decision {
	switch {
	case r.gone || !r.ejected:
		return Nothing
	case passed || !c.Enabled:
		r.comeBack(now)
		return Return
	}
	r.await(now, c)
	return Wait
}

// await sets the time of the next probe: twice as long from now as the last time.
func (r *Replica) await(now time.Time, c Config) {
	r.last = max(min(2*r.last, most*c.Time), c.Time)
	r.until = now.Add(r.last)
}

func (r *Replica) comeBack(now time.Time) {
	r.setEjected(false)
	r.failures, r.returned = 0, now
}

// count gives the number of replicas that would get calls without ejections, and how many of these are ejected.
func (d *Deployment) count() (ready, ejected int) {
	for _, r := range d.replicas {
		if r.ready {
			ready++
			if r.ejected {
				ejected++
			}
		}
	}
	return ready, ejected
}

// allowed is the number of ejected replicas that the bounds of a deployment allow.
func (d *Deployment) allowed(ready int) int { return max(min(ready*d.percent/100, ready-1), 0) }

// room says whether one more replica may be ejected.
func (d *Deployment) room() bool {
	ready, ejected := d.count()
	return ejected < d.allowed(ready) && 2*(d.node.ejected+1) <= d.node.ready
}

// settle makes the bounds of the deployment hold after a change of a replica.
func (d *Deployment) settle() []Move { return append(d.keep(), d.balance()...) }

// keep keeps the replica whose check began to fail last if no check passes, and releases it when one passes. A replica that is not ejected comes first. A replica that
// is kept is kept as long as no check passes: calls should not move to and fro between replicas that are equally bad.
func (d *Deployment) keep() (moves []Move) {
	var kept, best *Replica
	passes := false
	for _, r := range d.replicas {
		passes = passes || r.passes
		if r.kept {
			kept = r
		}
		if !r.passes && r.failed > 0 && (best == nil || best.ejected && !r.ejected || best.ejected == r.ejected && best.failed < r.failed) {
			best = r
		}
	}
	switch {
	case passes && kept != nil:
		kept.kept = false
		kept.setReady(false)
		return []Move{{kept, Release}}
	case !passes && kept == nil && best != nil:
		best.kept = true
		best.setReady(true)
		return []Move{{best, Keep}}
	}
	return nil
}

// balance returns the replicas that were ejected first, as long as more are ejected than the bounds of the deployment allow. The bound of the node is
// looked at when a replica is ejected only: deployments of a node should not depend on each other's ends.
func (d *Deployment) balance() (moves []Move) {
	for {
		ready, ejected := d.count()
		if ejected <= d.allowed(ready) {
			return moves
		}
		var first *Replica
		for _, r := range d.replicas {
			if r.ready && r.ejected && (first == nil || r.since.Before(first.since)) {
				first = r
			}
		}
		first.comeBack(first.until)
		moves = append(moves, Move{first, Return})
	}
}

func (r *Replica) setReady(ready bool) {
	if r.ready == ready {
		return
	}
	n := r.of.node
	delta := 1
	if !ready {
		delta = -1
	}
	n.ready += delta
	if r.ejected {
		n.ejected += delta
	}
	r.ready = ready
}

func (r *Replica) setEjected(ejected bool) {
	if r.ejected == ejected {
		return
	}
	r.ejected = ejected
	switch n := r.of.node; {
	case !r.ready:
	case ejected:
		n.ejected++
	default:
		n.ejected--
	}
}

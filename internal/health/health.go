// Package health decides which replicas in service get calls. A replica that runs is out of routing while its readiness check does not pass, and while it is
// ejected because calls to it fail for reasons of the system (package ejection). The replica is not ended by that: the calls that it executes go on, and it gets
// calls again without a restart.
//
// Three things happen to a replica beside its calls. Its health check, which replaces it, is asked by its owner (package probe). Its readiness check is asked here, in
// periods. The failures of its calls are reported by the data plane ([Replica.Failed]), on the way of a call that has failed; a call that ends
// well costs nothing.
//
// For example, a replica loads another model and lets its check_ready fail meanwhile. The first answer takes it out of routing: the owner is told by a [Change] with the
// reason not_ready, and gives the router the other replicas. Calls that wait at the replica go to the others. A minute later the check passes, and the change
// ready_again brings the replica back. If it was the last replica that got calls, it gets them all the same, and the owner is told the reason kept.
//
// One mutex guards the numbers of a node. It is taken after the mutex of the owner, and no function of the owner is called with it: changes are delivered on a
// goroutine of their own, in order.
package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/ejection"
	"github.com/helve-serve/helve/internal/probe"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Subject is a replica that was started. A host.Replica is one.
type Subject interface {
	probe.Replica
	HasHealthCheck() bool
	HasReadyCheck() bool
	// Sign asks the replica's process for a sign of life.
	Sign(ctx context.Context) error
	Counts() telemetry.Counts
}

// The reasons of changes, which the events of replicas have.
const (
	NotReady   = "not_ready"   // the readiness check does not pass
	ReadyAgain = "ready_again" // the readiness check passes again
	Ejected    = "ejected"     // calls fail for reasons of the system
	Returned   = "returned"    // an ejected replica gets calls again
	NotEjected = "not_ejected" // the replica would be ejected, and a bound forbids it
	Kept       = "kept"        // the readiness check does not pass, and the replica gets calls as the last one
)

// Change is a change of a replica that its owner is told.
type Change struct {
	Reason, Message string
	// First is set for the first time that a replica with a readiness check is ready. It is no event: the replica has only just started.
	First bool
}

// Better says that the replica may get more calls than before.
func (c Change) Better() bool { return c.First || c.Reason == ReadyAgain || c.Reason == Returned }

// last says why a replica is kept, in the status and in events.
const last = "the last replica"

// Node has the replicas of one node.
type Node struct {
	ctx context.Context // ends when the node closes
	run func(func())    // starts a goroutine of the owner's
	log *slog.Logger

	mu         sync.Mutex
	bounds     ejection.Node
	changes    []func() // to deliver
	delivering bool
}

// NewNode makes a node without replicas. Each goroutine is started by run, and ends soon after ctx.
func NewNode(ctx context.Context, run func(func()), log *slog.Logger) *Node {
	return &Node{ctx: ctx, run: run, log: log}
}

// Deployment has the replicas of one deployment.
type Deployment struct {
	node *Node
	of   *ejection.Deployment
}

// Deployment makes a deployment without replicas.
func (n *Node) Deployment() *Deployment {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &Deployment{n, n.bounds.Deployment()}
}

// Owner is the part of a replica's owner that a [Replica] uses.
type Owner struct {
	// Options gives the options that the replica has now. It returns false once the replica is out of service.
	Options func() (o spec.Effective, inService bool)
	// Changed is told each change, in order, without a lock.
	Changed func(Change)
}

// Replica is one replica in service. A nil Replica gets calls: it is a replica that is not watched.
type Replica struct {
	node    *Node
	subject Subject
	owner   Owner
	config  atomic.Pointer[ejection.Config]
	view    atomic.Pointer[View]

	// Guarded by the mutex of the node.
	of       *ejection.Replica
	notReady *helvetype.Condition // nil: ready
	refused  string               // the reason of the change not_ready or kept; "" while there is none
	ejection string               // the reason of the ejection
	reason   string               // the same, or that of the last probe
	cancel   context.CancelFunc   // ends the wait for the next probe of an ejected replica; nil for none
	kept     time.Time            // of the last change not_ejected
	left     bool
}

// View is a replica as readers see it. It is not changed once it is there.
type View struct {
	Takes             bool // the replica gets calls
	NotReady, Ejected *helvetype.Condition
	// Why is the reason why it gets no calls, or should get none, as it was first: unlike the reasons above it stays the same while other checks fail.
	Why string
}

// Watch begins to watch a replica that is in service now, with the options o. It calls no function of the owner's before it returns.
func (d *Deployment) Watch(subject Subject, o spec.Effective, owner Owner) *Replica {
	n, checks := d.node, subject.HasReadyCheck()
	r := &Replica{node: n, subject: subject, owner: owner}
	r.Follow(o)
	n.mu.Lock()
	var moves []ejection.Move
	r.of, moves = d.of.Add(!checks)
	r.of.Owner = r
	if checks {
		r.notReady = &helvetype.Condition{Since: time.Now(), Reason: "its readiness check has not passed yet", Next: "the first readiness check"}
	}
	r.showLocked()
	n.moveLocked(moves)
	n.mu.Unlock()
	if checks {
		n.run(func() { probe.Probe{Replica: subject, Options: owner.Options}.Readiness(n.ctx, r.checked) })
	}
	return r
}

// Follow gives the replica the options of another revision.
func (r *Replica) Follow(o spec.Effective) {
	if r != nil {
		c := ejection.Config{
			Enabled: o.Ejection.Enabled, Failures: o.Ejection.Failures, Time: o.Ejection.EjectFor, MaxPercent: o.Ejection.MaxPercent,
		}
		r.config.Store(&c)
	}
}

// Leave ends the watch: the replica is out of service. It may be called more than once.
func (r *Replica) Leave() {
	if r == nil {
		return
	}
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.left {
		return
	}
	r.left = true
	moves := r.of.Remove()
	r.showLocked()
	n.moveLocked(moves)
}

// View is the replica as it is now.
func (r *Replica) View() View {
	if r == nil {
		return View{Takes: true}
	}
	return *r.view.Load()
}

// Takes says that the replica gets calls.
func (r *Replica) Takes() bool { return r == nil || r.view.Load().Takes }

// showLocked makes the view anew, and stops the wait for a probe that is of no use any more.
func (r *Replica) showLocked() {
	v := View{Takes: r.of.Takes(), NotReady: r.notReady, Why: r.refused}
	if r.of.Kept() {
		c := *r.notReady
		c.Kept, v.NotReady = last, &c
	}
	if r.notReady != nil && r.refused == "" {
		v.Why = "its readiness check has not passed yet"
	}
	if since, until, ejected := r.of.Ejected(); ejected {
		v.Ejected = &helvetype.Condition{Since: since, Reason: r.reason, Next: "a probe; if it passes, the replica gets calls again", NextAt: until}
		if v.NotReady == nil {
			v.Why = r.ejection
		}
	} else if r.cancel != nil {
		r.cancel()
		r.cancel = nil
	}
	r.view.Store(&v)
}

// changeLocked delivers a change.
func (r *Replica) changeLocked(c Change) {
	n := r.node
	n.changes = append(n.changes, func() { r.owner.Changed(c) })
	if !n.delivering && n.ctx.Err() == nil {
		n.delivering = true
		n.run(n.deliver)
	}
}

func (n *Node) deliver() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.changes) > 0 {
		changes := n.changes
		n.changes = nil
		n.mu.Unlock()
		for _, f := range changes {
			f()
		}
		n.mu.Lock()
	}
	n.delivering = false
}

// moveLocked shows and tells the changes of replicas that the bounds ask for.
func (n *Node) moveLocked(moves []ejection.Move) {
	for _, m := range moves {
		r := m.Owner.(*Replica) //nolint:forcetypeassert // each has one
		switch m.To {
		case ejection.Return:
			r.changeLocked(Change{Reason: Returned, Message: "too few other replicas are left"})
		case ejection.Keep:
			r.changeLocked(Change{Reason: Kept, Message: last + ": " + r.refused})
		case ejection.Release:
			r.changeLocked(Change{Reason: NotReady, Message: "another replica gets the calls; " + r.refused})
		}
		r.showLocked()
	}
}

// checked notes the answer of a readiness check.
func (r *Replica) checked(a probe.Readiness) {
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.left {
		return
	}
	before := r.of.Ready()
	moves := r.of.SetReady(a.Ready)
	switch {
	case a.Ready:
		r.notReady = nil
	default:
		c := helvetype.Condition{Since: time.Now(), Reason: "its readiness check has not passed often enough yet", Next: "the next readiness check", NextAt: time.Now().Add(a.Again)}
		if r.notReady != nil {
			c.Since = r.notReady.Since
		}
		if a.Err != nil {
			c.Reason = fmt.Sprintf("its readiness check failed (%d in a row): %s", a.Row, call.TextOf(a.Err))
			if e, ok := errors.AsType[*call.Error](a.Err); ok {
				c.Traceback = e.Traceback
			}
		}
		r.notReady = &c
	}
	switch {
	case a.Ready && !before:
		r.changeLocked(Change{Reason: ReadyAgain, Message: "its readiness check passes", First: r.refused == ""})
		r.refused = ""
	case !a.Ready && a.Err != nil && r.refused == "":
		if r.refused = r.notReady.Reason; !r.of.Kept() {
			r.changeLocked(Change{Reason: NotReady, Message: r.refused})
		}
	}
	r.showLocked()
	n.moveLocked(moves)
}

// Failed notes that a call at the replica has failed for a reason of the system, which text describes. It is called by the goroutine of the call, and does not
// wait for other calls.
func (r *Replica) Failed(text string) {
	c := *r.config.Load()
	if !c.Enabled {
		return
	}
	k := r.subject.Counts()
	n, now := r.node, time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.left {
		return
	}
	switch r.of.Failed(k.Succeeded(), now, c) {
	case ejection.Eject:
		r.reason = fmt.Sprintf("%d calls in a row failed for reasons of the system, and none ended well in between; the last: %s", c.Failures, text)
		r.ejection = r.reason
		r.awaitReturnLocked()
		r.showLocked()
		r.changeLocked(Change{Reason: Ejected, Message: r.reason})
	case ejection.Keep:
		if now.Sub(r.kept) > keptTime {
			r.kept = now
			r.changeLocked(Change{Reason: NotEjected, Message: fmt.Sprintf(
				"%d calls in a row failed for reasons of the system, the last: %s; it gets calls all the same: it is the last replica, or as many as may be are ejected", c.Failures, text)})
		}
	}
}

// Failure describes the failure of a replica to the user, with the traceback of the user's code.
func Failure(replica string, err error) *helvetype.Failure {
	f := &helvetype.Failure{Replica: replica, At: time.Now(), Error: err.Error()}
	if e, ok := errors.AsType[*call.Error](err); ok && e.Traceback != "" && !strings.Contains(f.Error, e.Traceback) {
		f.Error += "\n" + strings.TrimRight(e.Traceback, "\n")
	}
	return f
}

// keptTime is the least time between two changes that say that a replica is not ejected.
const keptTime = time.Minute

// awaitReturnLocked probes the replica when its time has come, until it returns.
func (r *Replica) awaitReturnLocked() {
	if r.node.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.node.ctx)
	r.cancel = cancel
	r.node.run(func() {
		defer cancel()
		for r.awaitProbe(ctx) {
		}
	})
}

// awaitProbe waits for the time of the next probe and makes it. It returns false if the replica has returned or has left.
func (r *Replica) awaitProbe(ctx context.Context) bool {
	n := r.node
	n.mu.Lock()
	timer := time.NewTimer(time.Until(r.of.Until()))
	n.mu.Unlock()
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	o, ok := r.owner.Options()
	if !ok {
		return false
	}
	err := r.probe(ctx, o)
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	switch r.of.Probed(err == nil, time.Now(), *r.config.Load()) {
	case ejection.Wait:
		r.reason = "its probe failed: " + call.TextOf(err)
		r.showLocked()
		return true
	case ejection.Return:
		r.showLocked()
		r.changeLocked(Change{Reason: Returned, Message: "its probe has passed"})
	}
	return false
}

// probe asks a replica that is ejected whether it works: for a sign of life, and its health check if it has one.
func (r *Replica) probe(ctx context.Context, o spec.Effective) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.HealthCheckTimeout, fmt.Errorf("the probe took longer than health_check_timeout_s (%s)", o.HealthCheckTimeout))
	defer cancel()
	if err := r.subject.Sign(ctx); err != nil {
		return err
	}
	if !r.subject.HasHealthCheck() {
		return nil
	}
	return r.subject.CheckHealth(ctx)
}

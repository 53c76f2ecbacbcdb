package fleet

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/userconfig"
)

// Revision is one version of an application, as it was deployed. An application has one; while it changes from one to the next it has
// two, whose replicas serve side by side.
type Revision struct {
	App      *Application
	Number   int
	First    bool // the application was not there before
	Def      deploy.App
	Identity string          // see [deploy.App.Identity]
	Wrote    *records.Deploy // its records in the store
	At       time.Time       // of its deploy, also if a node before this one has begun it
	GoKeys   []string        // of its Go workers
	Ctx      context.Context // ends when it failed or its application is gone: starts under way are given up
	Cancel   context.CancelCauseFunc

	Settled   chan struct{} // closed when its first start succeeded or failed
	Stuck     chan struct{} // closed when its rollout has failed and was paused for the first time: see [rollout.Rollout.Stuck]
	Concluded chan struct{} // closed after that, when the store says so
	Failure   error         // why it failed to start. Guarded by Fleet.Mu, as ran
	Ran       bool          // its first start succeeded
}

// Deployment is a deployment of an application: the part that decides which replicas there are. Guarded by Fleet.Mu.
type Deployment struct {
	Serving *serving.Deployment // the part that has the calls
	Health  *health.Deployment  // the part that says which replicas get calls

	App    *Application
	Name   string
	Now    *DeploymentRevision
	Former *DeploymentRevision // while its application changes: the deployment of the revision before
	// Asked is the number of replicas in the record scale/A/D, FormerAsked that of Former, and Wanted the part of it that the target capacity leaves.
	Asked, FormerAsked Number
	decided            store.Scale // the last number of the autoscaler, which the store may not have yet
	Wanted             int
	Scaling            states.Scaling // until the replicas have followed a change of wanted; not while a revision starts that changes more than the number
	renumbered         bool           // the last deploy has changed the number alone

	Configuring chan struct{} // of one: full while a Reconfigure runs, which waits for user code; filled before Fleet.Mu is taken

	Replicas map[string]*Replica
	Failures planner.Failures
	// formerFailures counts the failed starts of replicas of former, which start where others of former have ended.
	FormerFailures planner.Failures
	LastErr        error
	Message        string             // of the last failure
	First          *helvetype.Failure // of the last row of failures
	Shown          states.Shown
	Causes         journal.Deployment
	GaveUp         bool
	flapping       bool     // its replicas are ready and end again and again
	Hopeless       bool     // a failure of the kind that no other attempt heals: see [deploy.Permanent]
	Continued      bool     // the revision before has the deployment too
	RolledBack     string   // the error of its form in the revision that was given up last; "" since the next deploy
	Yielded        int      // replicas that made room for others; see Deployment.yieldedLocked
	MadeRoom       bool     // a replica of former made room for a new one: see package room
	Dropped        bool     // its application does not have it any more
	dynamic        []string // deployments whose handles its replicas asked for
	Over           bool     // its time was over before that of its application, which ends
	Departed       telemetry.Departed[host.Replica]
	Starts         uint64         // how often a replica became ready
	StartTook      time.Duration  // the newest start of a replica; 0 before the first
	configs        int            // numbers of user configs that were given out
	Numbers        policy.Metrics // that its replicas report for autoscaling policies
	policy         foundPolicy
}

// NoteFailureLocked notes the error of a replica that failed, for the status and for giving up. The event of the failure is the replica's last.
func (d *Deployment) NoteFailureLocked(r *Replica, err error) {
	d.LastErr, d.Message = err, err.Error()
	if d.First == nil || d.Failures.Number() <= 1 {
		d.First = health.Failure(r.ID, err)
	}
	d.Causes.Failed(r.LastEvent)
	d.noteFlappingLocked()
}

// DeploymentRevision is a deployment as one revision has it.
type DeploymentRevision struct {
	Revision   *Revision
	Definition *host.Deployment
	Host       host.Host // starts its replicas
	// code identifies the code and the process of its replicas: of two revisions with the same code and options, replicas of one are
	// as good as replicas of the other. "" is equal to no other.
	Code deploy.Code
	// version is the number of the revision that the replicas are of: it goes on as long as code and options ask for no new replicas.
	Version string

	// Guarded by Fleet.Mu.
	Ran    bool // a replica was ready once
	Config userconfig.Target
	Places planner.Places // for the next replicas to start
}

// retries says that starts that fail are made again before the application has run.
func (e *DeploymentRevision) retries() bool { return e.Revision.Def.Retry || e.Revision.Def.Attempts }

// maxFailures is the number of failed starts after which the deployment is given up while its revision starts.
func (d *Deployment) maxFailures() int {
	if d.Hopeless || !d.Now.retries() {
		return 1
	}
	n := planner.MaxFailures(d.Now.Definition.Options.MaxConstructorRetries, d.Wanted)
	if d.hasteLocked() { // a round has no more failures than replicas that change at a time
		b := d.boundsLocked()
		n = min(n, planner.RolloutRounds*max(min(b.Surge+b.Unavailable, d.Wanted), 1))
	}
	return n
}

func (r *Revision) ID() string { return strconv.Itoa(r.Number) }

// defsKept are the newest revisions whose code is kept in this process, as the store keeps their records.
const defsKept = 10

// NewRevision makes the next revision of an application.
func (a *Application) NewRevision(def deploy.App, identity string, w *records.Deploy) *Revision {
	a.Revisions = max(w.Number, w.Last)
	r := &Revision{App: a, Number: w.Number, Def: def, Identity: identity, Wrote: w, Settled: make(chan struct{}), Stuck: make(chan struct{}), Concluded: make(chan struct{})}
	r.Ctx, r.Cancel = context.WithCancelCause(a.Ctx)
	a.begun = append(a.begun, r)
	a.Restored, a.Restarting = a.Restored || def.Restored, a.Restarting || len(w.Restarting) > 0
	if def.Home != nil { // the code of a program that deploys applications to a node of its own
		a.Defs[r.Number] = def
		delete(a.Defs, r.Number-defsKept)
	}
	return r
}

var errFollowed = errors.New("another revision has taken its place")

// EndFormerLocked ends the contexts of revisions that another one has followed, when nothing of them is left: the context of the application would keep each as
// long as the application is there. A replica that goes on in a later revision keeps the context of its start. For example, revision 1 has started A and B, and
// revision 2 has changed B alone: the context of 1 goes on with A, and ends when a later revision has changed A.
func (a *Application) EndFormerLocked() {
	if len(a.begun) < 2 {
		return
	}
	used := map[context.Context]bool{a.Current.Ctx: true}
	for _, d := range a.Deployments {
		for _, r := range d.Replicas {
			used[r.Ctx] = true
		}
	}
	a.begun = slices.DeleteFunc(a.begun, func(r *Revision) bool {
		if used[r.Ctx] {
			return false
		}
		r.Cancel(errFollowed)
		return true
	})
}

// ContinueLocked lets e go on with the state of the deployment, as far as e does not change it: the replicas, and their user config. For
// example, a deploy that changes max_ongoing_requests alone keeps every replica, and changes the gates of the replicas that run.
func (d *Deployment) ContinueLocked(e *DeploymentRevision) {
	last := d.Now
	e.Config.Current = d.NewConfigLocked(e.Config.Current.Value)
	if last == nil || e.Revision.Def.Changes != last.Revision.Number && !e.Code.Same(last.Code, e.Revision.Def.RollbackOf != 0) ||
		spec.MostUpdate(spec.ChangesOver(last.Definition.Options, e.Definition.Options, deploy.SameFiles(&last.Revision.Def, &e.Revision.Def)[e.Definition.Name])) >= spec.NewReplicas {
		return
	}
	if last.Config.Current.Value != nil && e.Config.Current.Value == nil { // a replica cannot be told that it has none any more
		return
	}
	e.Version = last.Version
	if string(last.Config.Current.Value) == string(e.Config.Current.Value) {
		e.Config.Current = last.Config.Current
	}
	e.Inherit(last)
}

// Inherit takes over the history of the replicas from a revision that has the same.
func (e *DeploymentRevision) Inherit(last *DeploymentRevision) {
	e.Ran = e.Ran || last.Ran
	e.Places = last.Places.Clone()
}

// ForgetFailuresLocked is for a deployment that changes to another revision: failures of the former say nothing about the new one.
func (d *Deployment) ForgetFailuresLocked() {
	d.Failures.Forget()
	d.GaveUp, d.Hopeless, d.MadeRoom, d.Message = false, false, false, ""
}

// Become changes the deployment to its form in a revision. Calls that wait go on waiting, in the same queue. Replicas of the same
// version go on; the loop gives them the options of the revision (Controller.follow of package controller) and its user config ([Controller.configureLocked]).
func (d *Deployment) Become(e *DeploymentRevision) {
	d.Now = e
	o := &e.Definition.Options
	d.Serving.Become(serving.State{
		Home: e.Revision.Def.Home, InProcess: e.Host.InProcess(), ReadsInput: o.RequestRouter.Policy == spec.Custom,
		Grace:   o.GracefulShutdownTimeout,
		Refusal: router.Refusal{Status: o.Backpressure.StatusCode, RetryAfter: int(math.Ceil(o.Backpressure.RetryAfter.Seconds()))},
	}, o.MaxQueuedRequests, e.Revision.Def.Policy(e.Definition))
	for _, r := range d.Replicas {
		if r.Of.Version != e.Version {
			continue
		}
		r.Of = e
		r.recordLocked(r.record.Reason, r.record.Message) // its revision is another one
	}
}

// SettleLocked ends the first start of a revision when everything runs.
func (f *Fleet) SettleLocked(r *Revision) {
	a := r.App
	if a.Own != helvetype.ApplicationDeploying || a.Failure != nil || a.Current != r {
		return
	}
	now := time.Now()
	for _, d := range a.Deployments {
		e := d.Now
		if e.Revision != r {
			continue
		}
		ready := 0
		for _, running := range d.Serving.Router.Replicas() {
			have := d.Replicas[running.ID()]
			if have == nil || have.Of != e { // the replica takes calls until the loop has stopped it
				return
			}
			if have.Config != e.Config.Current.Number || have.Applied != e { // the loop gives them to the replica
				return
			}
			if !have.AvailableLocked(now).IsZero() { // the loop looks again then
				return
			}
			ready++
		}
		if ready < d.Wanted {
			return
		}
	}
	if a.Own, a.Previous = helvetype.ApplicationRunning, nil; r.Def.Restored && a.RolledBack == "" {
		a.StartError = ""
	}
	if u := r.Def.Undoes; u != nil { // the operator is told until the next deploy
		a.StartError, a.RolledBack = u.Reason, strconv.Itoa(u.Revision)
		a.causes.GoBack(u.Event)
	}
	a.settleRolloutLocked(now)
	for _, d := range a.Deployments {
		d.Former = nil
	}
	r.Ran = true
	close(r.Settled)
	a.WakeLocked() // for the remains of the revision before
}

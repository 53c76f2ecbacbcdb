package controller

import (
	"cmp"
	"context"
	"math"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/userconfig"
)

// revision is one version of an application, as it was deployed. An application has one; while it changes from one to the next it has
// two, whose replicas serve side by side.
type revision struct {
	app      *application
	number   int
	first    bool // the application was not there before
	def      deploy.App
	identity string          // see [App.identity]
	wrote    *records.Deploy // its records in the store
	goKeys   []string        // of its Go workers
	ctx      context.Context // ends when it failed or its application is gone: starts under way are given up
	cancel   context.CancelCauseFunc

	settled   chan struct{} // closed when its first start succeeded or failed
	concluded chan struct{} // closed after that, when the store says so
	failure   error         // why it failed to start. Guarded by Controller.mu, as ran
	ran       bool          // its first start succeeded
}

// deployment is a deployment of an application: the part that decides which replicas there are. Guarded by Controller.mu.
type deployment struct {
	serving *serving.Deployment // the part that has the calls
	health  *health.Deployment  // the part that says which replicas get calls

	app    *application
	name   string
	now    *deploymentRevision
	former *deploymentRevision // while its application changes: the deployment of the revision before
	// asked is the number of replicas in the record scale/A/D, formerAsked that of former, and wanted the part of it that the target capacity leaves.
	asked, formerAsked, wanted int
	scaling                    states.Scaling // until the replicas have followed a change of wanted; not while a revision starts

	configuring chan struct{} // of one: full while a Reconfigure runs, which waits for user code; filled before Controller.mu is taken

	replicas map[string]*replica
	failures planner.Failures
	// formerFailures counts the failed starts of replicas of former, which start where others of former have ended.
	formerFailures planner.Failures
	lastErr        error
	message        string             // of the last failure
	first          *helvetype.Failure // of the last row of failures
	shown          states.Shown
	causes         journal.Deployment
	gaveUp         bool
	flapping       bool     // its replicas are ready and end again and again
	hopeless       bool     // a failure of the kind that no other attempt heals: see [deploy.Permanent]
	continued      bool     // the revision before has the deployment too
	rolledBack     string   // the error of its form in the revision that was given up last; "" since the next deploy
	yielded        int      // replicas that made room for others on GPUs; see [deployment.yieldedLocked]
	dropped        bool     // its application does not have it any more
	dynamic        []string // deployments whose handles its replicas asked for
	over           bool     // its time was over before that of its application, which ends
	departed       telemetry.Departed[host.Replica]
	starts         uint64 // how often a replica became ready
	configs        int    // numbers of user configs that were given out
}

// noteFailureLocked notes the error of a replica that failed, for the status and for giving up. The event of the failure is the replica's last.
func (d *deployment) noteFailureLocked(r *replica, err error) {
	d.lastErr, d.message = err, err.Error()
	if d.first == nil || d.failures.Number() <= 1 {
		d.first = health.Failure(r.id, err)
	}
	d.causes.Failed(r.lastEvent)
	d.noteFlappingLocked()
}

// deploymentRevision is a deployment as one revision has it.
type deploymentRevision struct {
	revision   *revision
	definition *host.Deployment
	host       host.Host // starts its replicas
	// code identifies the code and the process of its replicas: of two revisions with the same code and options, replicas of one are
	// as good as replicas of the other. "" is equal to no other.
	code string
	// version is the number of the revision that the replicas are of: it goes on as long as code and options ask for no new replicas.
	version string

	// Guarded by Controller.mu.
	ran    bool // a replica was ready once
	config userconfig.Target
	places planner.Places // for the next replicas to start
}

// retries says that starts that fail are made again before the application has run.
func (e *deploymentRevision) retries() bool { return e.revision.def.Retry || e.revision.def.Attempts }

// maxFailures is the number of failed starts after which the deployment is given up while its revision starts.
func (d *deployment) maxFailures() int {
	if d.hopeless || !d.now.retries() {
		return 1
	}
	n := planner.MaxFailures(d.now.definition.Options.MaxConstructorRetries, d.wanted)
	if d.hasteLocked() { // a round has no more failures than replicas that change at a time
		b := d.boundsLocked()
		n = min(n, planner.RolloutRounds*max(min(b.Surge+b.Unavailable, d.wanted), 1))
	}
	return n
}

func (r *revision) id() string { return strconv.Itoa(r.number) }

// defsKept are the newest revisions whose code is kept in this process, as the store keeps their records.
const defsKept = 10

// newRevision makes the next revision of an application.
func (a *application) newRevision(def deploy.App, identity string, w *records.Deploy) *revision {
	a.revisions = max(w.Number, w.Last)
	r := &revision{app: a, number: w.Number, def: def, identity: identity, wrote: w, settled: make(chan struct{}), concluded: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(a.ctx)
	a.restored, a.restarting = a.restored || def.Restored, a.restarting || len(w.Restarting) > 0
	if def.Home != nil { // the code of a program that deploys applications to a node of its own
		a.defs[r.number] = def
		delete(a.defs, r.number-defsKept)
	}
	return r
}

// deployment makes a deployment of the revision, with the host of its kind.
func (r *revision) deployment(s spec.Deployment) *deploymentRevision {
	c := r.app.c
	definition, placed := r.def.Place(s, r.app.hosts, deploy.Settings{
		Node: c.set.Node, Codec: c.set.Codec, Program: c.set.Program, Drains: &c.drains, Strict: c.set.Strict, OutOfLine: c.set.OutOfLine, Host: c.set.Host,
	})
	if placed.GoKey != "" {
		r.goKeys = append(r.goKeys, placed.GoKey)
	}
	return &deploymentRevision{
		revision: r, definition: definition, host: placed.Host, code: placed.Code, config: userconfig.Target{Current: userconfig.Config{Value: s.Options.UserConfig}}, version: r.id(),
	}
}

// newDeploymentLocked makes a deployment without replicas.
func (a *application) newDeploymentLocked(name string) *deployment {
	c := a.c
	d := &deployment{
		serving: serving.New(c.log, c.set.Node, a.name, name), health: c.health.Deployment(), app: a, name: name, replicas: map[string]*replica{}, configuring: make(chan struct{}, 1),
	}
	d.serving.Why = func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		return d.message
	}
	d.serving.UsesMore = d.noteUse
	d.serving.Successor = func() *serving.Deployment {
		if next := c.Deployment(a.name, name); next != d.serving {
			return next
		}
		return nil
	}
	d.serving.Starving = d.noteStarving
	a.deployments[name] = d
	d.moveLocked(states.Deploy, states.Facts{}, 0)
	return d
}

// continueLocked lets e go on with the state of the deployment, as far as e does not change it: the replicas, and their user config. For
// example, a deploy that changes max_ongoing_requests alone keeps every replica, and changes the gates of the replicas that run.
func (d *deployment) continueLocked(e *deploymentRevision) {
	last := d.now
	e.config.Current = d.newConfigLocked(e.config.Current.Value)
	if last == nil || e.revision.def.Changes != last.revision.number && (last.code == "" || last.code != e.code) || spec.MostUpdate(spec.Changes(last.definition.Options, e.definition.Options)) >= spec.NewReplicas {
		return
	}
	if last.config.Current.Value != nil && e.config.Current.Value == nil { // a replica cannot be told that it has none any more
		return
	}
	e.version = last.version
	if string(last.config.Current.Value) == string(e.config.Current.Value) {
		e.config.Current = last.config.Current
	}
	e.inherit(last)
}

// inherit takes over the history of the replicas from a revision that has the same.
func (e *deploymentRevision) inherit(last *deploymentRevision) {
	e.ran = e.ran || last.ran
	e.places = last.places.Clone()
}

// adoptLocked makes r the target of the application. Deployments that it has in common with the revision before keep their routers and with them every call that
// waits; deployments that r does not have stay until the change is over, because replicas of the revision before may call them.
func (a *application) adoptLocked(r *revision) {
	a.previous, a.current = a.current, r
	a.status, a.startError, a.rolledBack, a.since = helvetype.ApplicationDeploying, "", "", time.Now()
	if r.def.Restored {
		a.startError, a.since = "it is being restored: the node before has run it", r.def.At
	}
	a.noteLocked(states.Deploy, states.Facts{Otherwise: a.startError})
	a.beginRolloutLocked(r)
	for _, s := range r.def.Graph.Deployments {
		e := r.deployment(s)
		d := a.deployments[s.Name]
		if d != nil && d.dropped { // the loop does not see it any more: its replicas drain, and replicas that start do so when they are ready
			for _, r := range d.replicas {
				a.c.stopLocked(r)
			}
			d = nil
		}
		if d == nil {
			d = a.newDeploymentLocked(s.Name)
		}
		d.former, d.formerAsked, d.continued, d.formerFailures = d.now, d.asked, d.now != nil || a.change.watchesOnly(), planner.Failures{}
		n := a.c.scales.Of(a.name, d.name)
		if d.asked, d.scaling = n.Record.Replicas, states.NotScaling; n.Modified == 0 { // it cannot be read
			d.asked = e.definition.Options.StartReplicas()
		}
		d.wanted = planner.Capacity(d.asked, a.c.capacity)
		d.continueLocked(e)
		d.become(e)
		d.forgetFailuresLocked()
		d.noteResourcesLocked()
		d.noteSurgeLocked()
		d.rolledBack, d.first = "", nil
		if r.def.Bound != nil {
			r.def.Bound(s.Name, d.serving)
		}
	}
}

// forgetFailuresLocked is for a deployment that changes to another revision: failures of the former say nothing about the new one.
func (d *deployment) forgetFailuresLocked() {
	d.failures.Forget()
	d.gaveUp, d.hopeless, d.message = false, false, ""
}

// become changes the deployment to its form in a revision. Calls that wait go on waiting, in the same queue. Replicas of the same
// version go on; the loop gives them the options of the revision ([Controller.follow]) and its user config ([Controller.configureLocked]).
func (d *deployment) become(e *deploymentRevision) {
	d.now = e
	o := &e.definition.Options
	d.serving.Become(serving.State{
		Home: e.revision.def.Home, InProcess: e.host.InProcess(), ReadsInput: o.RequestRouter.Policy == spec.Custom,
		Grace:   o.GracefulShutdownTimeout,
		Refusal: router.Refusal{Status: o.Backpressure.StatusCode, RetryAfter: int(math.Ceil(o.Backpressure.RetryAfter.Seconds()))},
	}, o.MaxQueuedRequests, e.revision.def.Policy(e.definition))
	for _, r := range d.replicas {
		if r.of.version != e.version {
			continue
		}
		r.of = e
		r.recordLocked(r.record.Reason, r.record.Message) // its revision is another one
	}
}

// revertLocked goes back to the revision before: the new one failed to start. Replicas of the old one that have been
// stopped are started again; until then replicas of the new one that run stay.
func (a *application) revertLocked(cause error) {
	failed := a.current
	a.current, a.previous, a.change = a.previous, nil, nil
	for _, d := range a.deployments {
		if d.gaveUp {
			d.rolledBack = cmp.Or(d.message, cause.Error())
		}
		if d.former != nil {
			if d.former.version == d.now.version {
				d.former.inherit(d.now)
			}
			d.become(d.former)
			d.former = nil
			if failed.wrote.Set(d.name, a.c.scales.Of(a.name, d.name)) {
				d.asked = d.formerAsked // see [Controller.putBack]
				d.wanted = planner.Capacity(d.asked, a.c.capacity)
			}
		}
		d.forgetFailuresLocked()
		if d.now.revision == a.current {
			continue
		}
		a.dropLocked(d, call.NewError(helvetype.ReasonDeploymentUnavailable, "revision "+failed.id()+" of application "+a.name+" failed to start: "+cause.Error()))
	}
	if a.status = helvetype.ApplicationRunning; !a.current.ran {
		a.status = helvetype.ApplicationDeploying // it goes on being restored
	}
	a.startError, a.rolledBack = cause.Error(), failed.id()
}

// dropLocked ends a deployment that its application no longer has. Its replicas are stopped by the loop.
func (a *application) dropLocked(d *deployment, gone *call.Error) {
	d.serving.Refuse(gone)
	d.dropped = true
	a.c.wg.Go(func() { d.serving.Router.Close(gone) })
}

// tidyLocked ends the remains of revisions that are over: deployments that the current one does not have, once no replica of another
// revision could call them.
func (a *application) tidyLocked() {
	if a.status != helvetype.ApplicationRunning {
		return
	}
	former := false
	a.tidy = true
	for _, d := range a.deployments {
		a.tidy = a.tidy && d.now.revision == a.current
		for _, r := range d.replicas {
			former = former || r.of.revision != a.current && d.now.revision == a.current
		}
	}
	a.tidy = a.tidy && !former
	for name, d := range a.deployments {
		if d.dropped && len(d.replicas) == 0 {
			d.moveLocked(states.Deleted, states.Facts{}, 0)
			delete(a.deployments, name)
		} else if !former && !d.dropped && d.now.revision != a.current {
			a.dropLocked(d, call.NewError(helvetype.ReasonDeploymentUnavailable,
				"deployment "+name+" is not part of application "+a.name+" any more"))
			a.wakeLocked()
		}
	}
}

// settleLocked ends the first start of a revision when everything runs.
func (c *Controller) settleLocked(r *revision) {
	a := r.app
	if a.status != helvetype.ApplicationDeploying || a.failure != nil || a.current != r {
		return
	}
	now := time.Now()
	for _, d := range a.deployments {
		e := d.now
		if e.revision != r {
			continue
		}
		ready := 0
		for _, running := range d.serving.Router.Replicas() {
			have := d.replicas[running.ID()]
			if have == nil || have.of != e { // the replica takes calls until the loop has stopped it
				return
			}
			if have.config != e.config.Current.Number || have.applied != e { // the loop gives them to the replica
				return
			}
			if !have.availableLocked(now).IsZero() { // the loop looks again then
				return
			}
			ready++
		}
		if ready < d.wanted {
			return
		}
	}
	if a.status, a.previous = helvetype.ApplicationRunning, nil; r.def.Restored && a.rolledBack == "" {
		a.startError = ""
	}
	if u := r.def.Undoes; u != nil { // the operator is told until the next deploy
		a.startError, a.rolledBack = u.Reason, strconv.Itoa(u.Revision)
	}
	a.settleRolloutLocked(now)
	for _, d := range a.deployments {
		d.former = nil
	}
	r.ran = true
	close(r.settled)
	a.wakeLocked() // for the remains of the revision before
}

// giveUpLocked is for a deployment whose replicas have failed too often while its revision starts.
func (c *Controller) giveUpLocked(d *deployment) {
	if a := d.app; a.change != nil && a.current == d.now.revision && !rollout.Of(d.now.definition.Options, 1).RollBack {
		a.stickLocked(d.message)
		return
	}
	c.failByLocked(d.now.revision, d.lastErr, "replicas_failed", map[string]string{"deployment": d.name, "failures": strconv.Itoa(d.failures.Number())})
}

// failLocked ends the first start of a revision with its first error.
func (c *Controller) failLocked(r *revision, err error) { c.failByLocked(r, err, "failed", nil) }

// failByLocked is failLocked with a word for the cause, and the numbers that led to it.
func (c *Controller) failByLocked(r *revision, err error, cause string, inputs map[string]string) {
	a := r.app
	if a.status != helvetype.ApplicationDeploying || a.failure != nil || a.current != r || r.def.Restored {
		return
	}
	if a.previous != nil {
		if a.change != nil {
			a.noteRolledBackLocked(a.change, err.Error(), cause, inputs)
		}
		r.failure = err
		a.revertLocked(err)
		close(r.settled)
		r.cancel(err)
		a.wakeLocked()
		return
	}
	a.status, a.failure, a.startError, r.failure = helvetype.ApplicationDeployFailed, err, err.Error(), err
	e := call.NewError(helvetype.ReasonDeploymentUnavailable, "application "+a.name+" failed to start: "+err.Error())
	for _, d := range a.deployments {
		d.serving.Refuse(e)
	}
	close(r.settled)
	a.cancel(err)
	a.wakeLocked()
}

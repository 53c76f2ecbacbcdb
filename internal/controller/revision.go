package controller

import (
	"cmp"
	"errors"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/userconfig"
)

// newFormLocked makes a deployment of the revision, with the host of its kind.
func (c *Controller) newFormLocked(r *fleet.Revision, s spec.Deployment) *fleet.DeploymentRevision {
	definition, placed := r.Def.Place(s, r.App.Hosts, deploy.Settings{
		Node: c.set.Node, Codec: c.set.Codec, Program: c.set.Program, Drains: &c.drains, Metrics: c.set.Metrics, Strict: c.set.Strict, OutOfLine: c.set.OutOfLine, Host: c.set.Host,
	})
	if placed.GoKey != "" {
		r.GoKeys = append(r.GoKeys, placed.GoKey)
	}
	return &fleet.DeploymentRevision{
		Revision: r, Definition: definition, Host: placed.Host, Code: placed.Code, Config: userconfig.Target{Current: userconfig.Config{Value: s.Options.UserConfig}}, Version: r.ID(),
	}
}

// newDeploymentLocked makes a deployment without replicas.
func (c *Controller) newDeploymentLocked(a *fleet.Application, name string) *fleet.Deployment {
	d := &fleet.Deployment{
		Serving: serving.New(c.Log, c.set.Node, a.Name, name), Health: c.health.Deployment(), App: a, Name: name, Replicas: map[string]*fleet.Replica{}, Configuring: make(chan struct{}, 1),
	}
	d.Serving.Trace = c.set.Trace
	d.Serving.Why = func() string {
		c.Mu.Lock()
		defer c.Mu.Unlock()
		return d.Message
	}
	d.Serving.UsesMore, d.Serving.Queues = d.NoteUse, c.WakeScaler
	d.Serving.Successor = func() *serving.Deployment {
		if next := c.Deployment(a.Name, name); next != d.Serving {
			return next
		}
		return nil
	}
	d.Serving.Starving, d.Serving.Circled, d.Serving.All = d.NoteStarving, d.NoteCycle, c.Routed
	a.Deployments[name] = d
	d.MoveLocked(states.Deploy, states.Facts{}, 0)
	return d
}

// adoptLocked makes r the target of the application. Deployments that it has in common with the revision before keep their routers and with them every call that
// waits; deployments that r does not have stay until the change is over, because replicas of the revision before may call them.
func (c *Controller) adoptLocked(a *fleet.Application, r *fleet.Revision) {
	a.Previous, a.Current = a.Current, r
	a.Own, a.Yields, a.StartError, a.RolledBack = helvetype.ApplicationDeploying, false, "", ""
	if r.At = time.Now(); (r.Def.Restored || r.Wrote.Unended()) && !r.Def.At.IsZero() { // a node before this one has begun the deploy
		r.At = r.Def.At
	}
	if r.Def.Undoes == nil {
		a.GoBackLocked(0)
	}
	if r.Def.Restored {
		a.StartError = "it is being restored: the node before has run it"
	}
	a.NoteLocked(states.Deploy, states.Facts{Otherwise: a.StartError})
	a.BeginRolloutLocked(r)
	defer c.WakeScaler()
	defer c.Readier.Tell() // a start that waits may wait for another revision
	for _, s := range r.Def.Graph.Deployments {
		e := c.newFormLocked(r, s)
		d := a.Deployments[s.Name]
		if d != nil && d.Dropped { // the loop does not see it any more: its replicas drain, and replicas that start do so when they are ready
			for _, r := range d.Replicas {
				c.stopLocked(r)
			}
			d = nil
		}
		if d == nil {
			d = c.newDeploymentLocked(a, s.Name)
		}
		d.Former, d.FormerAsked, d.Continued, d.FormerFailures = d.Now, d.Asked, d.Now != nil || a.Change.WatchesOnly(), planner.Failures{}
		n := c.Scales.Of(a.Name, d.Name)
		if d.Asked, d.Scaling = fleet.NumberOf(n.Record), states.NotScaling; n.Modified == 0 { // the record cannot be read
			d.Asked = fleet.Number{Replicas: e.Definition.Options.StartReplicas()}
		} else if d.FormerAsked.Scaled && r.Wrote.Kept(d.Name) { // a record of the autoscaler may still be on its way to the store
			d.Asked = d.FormerAsked
		}
		before := d.Wanted
		d.Wanted = d.Asked.At(c.Capacity)
		d.ContinueLocked(e)
		d.Become(e)
		d.ScalesLocked(before)
		d.NoteDeployedLocked(before)
		d.ForgetFailuresLocked()
		c.room.NoteLocked(d)
		d.NoteSurgeLocked()
		d.RolledBack, d.First = "", nil
		if r.Def.Bound != nil {
			r.Def.Bound(s.Name, d.Serving)
		}
	}
}

// revertLocked goes back to the revision before: the new one failed to start. Replicas of the old one that have been
// stopped are started again; until then replicas of the new one that run stay.
func (c *Controller) revertLocked(a *fleet.Application, cause error) {
	failed := a.Current
	a.Current, a.Previous, a.Change = a.Previous, nil, nil
	defer c.Readier.Tell() // as when it became the target
	for _, d := range a.Deployments {
		if d.GaveUp {
			d.RolledBack = cmp.Or(d.Message, cause.Error())
		}
		if d.Former != nil {
			if d.Former.Version == d.Now.Version {
				d.Former.Inherit(d.Now)
			}
			d.Become(d.Former)
			d.Former = nil
			if d.SetByLocked(failed) {
				before := d.Wanted
				d.Asked, d.Scaling = d.FormerAsked, states.NotScaling // see records.Target.PutBack
				d.Wanted = d.Asked.At(c.Capacity)
				d.NoteReturnedLocked(before, failed)
			}
		}
		d.ForgetFailuresLocked()
		if d.Now.Revision == a.Current {
			continue
		}
		c.dropLocked(a, d, call.NewError(helvetype.ReasonDeploymentUnavailable, "revision "+failed.ID()+" of application "+a.Name+" failed to start: "+cause.Error()))
	}
	if a.Own = helvetype.ApplicationRunning; !a.Current.Ran {
		a.Own = helvetype.ApplicationDeploying // its restore goes on
	}
	if a.Yields = errors.Is(cause, deploy.ErrSuperseded); !a.Yields {
		a.StartError, a.RolledBack = cause.Error(), failed.ID()
	}
}

// dropLocked ends a deployment that its application no longer has. Its replicas are stopped by the loop.
func (c *Controller) dropLocked(a *fleet.Application, d *fleet.Deployment, gone *call.Error) {
	d.Serving.Refuse(gone)
	d.Dropped = true
	c.wg.Go(func() { d.Serving.Router.Close(gone) })
}

// tidyLocked ends the remains of revisions that are over: deployments that the current one does not have, once no replica of another
// revision could call them.
func (c *Controller) tidyLocked(a *fleet.Application) {
	if a.Own != helvetype.ApplicationRunning {
		return
	}
	former := false
	a.Tidy = true
	for _, d := range a.Deployments {
		a.Tidy = a.Tidy && d.Now.Revision == a.Current
		for _, r := range d.Replicas {
			former = former || r.Of.Revision != a.Current && d.Now.Revision == a.Current
		}
	}
	a.Tidy = a.Tidy && !former
	for name, d := range a.Deployments {
		if d.Dropped && len(d.Replicas) == 0 {
			d.MoveLocked(states.Deleted, states.Facts{}, 0)
			delete(a.Deployments, name)
		} else if !former && !d.Dropped && d.Now.Revision != a.Current {
			c.dropLocked(a, d, call.NewError(helvetype.ReasonDeploymentUnavailable,
				"deployment "+name+" is not part of application "+a.Name+" any more"))
			a.WakeLocked()
		}
	}
	if a.Tidy && a.Previous == nil {
		a.EndFormerLocked()
	}
}

// giveUpLocked is for a deployment whose replicas have failed too often while its revision starts.
func (c *Controller) giveUpLocked(d *fleet.Deployment) {
	if a := d.App; a.Change != nil && a.Current == d.Now.Revision && !rollout.Of(d.Now.Definition.Options, 1).RollBack {
		c.stickLocked(a, d.Message)
		return
	}
	c.failByLocked(d.Now.Revision, d.LastErr, "replicas_failed", map[string]string{"deployment": d.Name, "failures": strconv.Itoa(d.Failures.Number())})
}

// failLocked ends the first start of a revision with its first error.
func (c *Controller) failLocked(r *fleet.Revision, err error) { c.failByLocked(r, err, "failed", nil) }

// failByLocked is failLocked with a word for the cause, and the numbers that led to it.
func (c *Controller) failByLocked(r *fleet.Revision, err error, cause string, inputs map[string]string) {
	a := r.App
	if a.Own != helvetype.ApplicationDeploying || a.Failure != nil || a.Current != r || r.Def.Restored {
		return
	}
	if a.Previous != nil {
		if a.Change != nil {
			c.noteRolledBackLocked(a, a.Change, err.Error(), cause, inputs)
		}
		r.Failure = err
		c.revertLocked(a, err)
		close(r.Settled)
		r.Cancel(err)
		a.WakeLocked()
		return
	}
	a.Own, a.Failure, a.StartError, r.Failure = helvetype.ApplicationDeployFailed, err, err.Error(), err
	a.Yields = errors.Is(err, deploy.ErrSuperseded)
	e := call.NewError(helvetype.ReasonDeploymentUnavailable, "application "+a.Name+" failed to start: "+err.Error())
	for _, d := range a.Deployments {
		d.Serving.Refuse(e)
	}
	close(r.Settled)
	a.Cancel(err)
	a.WakeLocked()
}

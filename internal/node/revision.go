package node

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
)

// revision is one version of an application: what was deployed, and the process that its Go replicas share. An application
// has one; while it changes from one to the next it has two, whose replicas serve side by side.
type revision struct {
	app      *app
	number   int
	first    bool // the application was not there before
	def      App
	identity string          // see [App.identity]
	ctx      context.Context // ends when it failed or its application is gone: starts under way are given up
	cancel   context.CancelCauseFunc

	settled chan struct{} // closed when its first start succeeded or failed

	// Guarded by Node.mu.
	failure     error // why it failed to start
	goWorker    *workerProc
	goWorkerUp  chan struct{} // closed when the one being started is up or has failed
	goWorkerErr error
}

// edition is a deployment as one revision has it.
type edition struct {
	*revision
	spec      spec.Deployment
	options   spec.Effective
	class     *instance.Class // nil for what lives in another executable
	placement placement

	// Guarded by Node.mu.
	ran            bool            // a replica was ready once
	config         json.RawMessage // the user config that replicas have, nil for none
	configVersion  int             // 0: what was deployed
	configVersions int             // that were given out
	trial          *trial          // a user config that may replace it; nil for none
	vacant         []lineage       // places whose replica is gone, for the next to start
	lastExit       *helvetype.Exit
	methods        []protocol.Method // of the first Python replica that became ready
}

// retries says that starts that fail are made again before the application has run.
func (e *edition) retries() bool {
	return e.def.Retry || e.def.RetryStated && e.options.Sources["max_constructor_retry_count"] != spec.FromDefault
}

type placement uint8

const (
	inNode placement = iota
	inGoWorker
	inPython
)

func (r *revision) id() string { return strconv.Itoa(r.number) }

// newRevision makes the next revision of an application.
func (a *app) newRevision(def App) *revision {
	a.revisions++
	r := &revision{app: a, number: a.revisions, def: def, identity: def.identity(a.node.set.Program), settled: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(a.ctx)
	return r
}

func (r *revision) edition(s spec.Deployment) *edition {
	e := &edition{revision: r, spec: s, options: s.Options.Effective(), class: r.def.Classes[s.Name], config: s.Options.UserConfig}
	switch {
	case s.Language == "python":
		e.placement = inPython
	case e.options.Isolation == spec.Process || r.def.Program != nil:
		e.placement = inGoWorker
	}
	return e
}

// adoptLocked makes r what the application should become. Deployments that it has in common with the revision before keep
// their routers and with them every call that waits; those that it no longer has stay until the change is over, because
// replicas of the revision before may call them.
func (a *app) adoptLocked(r *revision) {
	a.previous, a.current = a.current, r
	for _, s := range r.def.Graph.Deployments {
		e := r.edition(s)
		d := a.deployments[s.Name]
		if d != nil && d.dropped { // the loop does not see it any more: what runs drains, what starts does when it is ready
			for _, u := range d.units {
				a.node.stopLocked(u)
			}
			d = nil
		}
		if d == nil {
			d = &Deployment{Router: router.New(a.node.id), app: a, name: s.Name, units: map[string]*Unit{}, configuring: make(chan struct{}, 1)}
			a.deployments[s.Name] = d
		}
		d.former = d.now.Load()
		d.become(e)
		d.forgetFailuresLocked()
		if r.def.Bound != nil {
			r.def.Bound(s.Name, d)
		}
	}
	a.status, a.message, a.since = helvetype.ApplicationDeploying, "", time.Now()
}

// forgetFailuresLocked is for a deployment that becomes what another revision has it as: those of the former say nothing of it.
func (d *Deployment) forgetFailuresLocked() {
	d.failures, d.starting.n, d.running.n, d.gaveUp, d.message = 0, 0, 0, false, ""
}

func (d *Deployment) become(e *edition) {
	d.now.Store(e)
	d.Router.SetLimit(e.options.MaxQueuedRequests)
	d.Router.SetPolicy(e.policy())
	d.looks.Store(e.options.RequestRouter.Policy == spec.Custom)
}

// revertLocked goes back to the revision before: the new one failed to start. Replicas of the old one that have been
// stopped are started again; until then those of the new one that run stay.
func (a *app) revertLocked(cause error) {
	failed := a.current
	a.current, a.previous = a.previous, nil
	for _, d := range a.deployments {
		if d.former != nil {
			d.become(d.former)
			d.former = nil
		}
		d.forgetFailuresLocked()
		if d.now.Load().revision == a.current {
			continue
		}
		a.dropLocked(d, call.NewError(call.DeploymentUnavailable, "revision "+failed.id()+" of application "+a.name+" failed to start: "+cause.Error()))
	}
	a.status = helvetype.ApplicationRunning
	a.message = "revision " + failed.id() + " failed to start and was rolled back: " + cause.Error()
}

// dropLocked ends a deployment that its application no longer has. Its replicas are stopped by the loop.
func (a *app) dropLocked(d *Deployment, gone *call.Error) {
	d.down.Store(gone)
	d.dropped = true
	a.node.wg.Go(func() { d.Router.Close(gone) })
}

// tidyLocked ends what is left of revisions that are over: deployments that the current one does not have, once no
// replica of another revision could call them, and Go workers without replicas.
func (a *app) tidyLocked() {
	if a.status != helvetype.ApplicationRunning {
		return
	}
	former := false
	inUse := map[*revision]bool{a.current: true}
	for _, d := range a.deployments {
		for _, u := range d.units {
			inUse[u.revision] = true
			former = former || u.revision != a.current && d.now.Load().revision == a.current
		}
	}
	for name, d := range a.deployments {
		if d.dropped && len(d.units) == 0 {
			delete(a.deployments, name)
		} else if !former && !d.dropped && d.now.Load().revision != a.current {
			a.dropLocked(d, call.NewError(call.DeploymentUnavailable,
				"deployment "+name+" is not part of application "+a.name+" any more"))
			a.node.wake()
		}
	}
	for _, w := range a.node.workers {
		if w.rev != nil && w.rev.app == a && w.rev.goWorker == w && !inUse[w.rev] && !w.ending.Swap(true) {
			a.node.wg.Go(func() { w.end(a.node.ctx) })
		}
	}
}

// Package fleet has the applications of a node as they are: their revisions, deployments and replicas, with their targets, states, failures and user
// configs. Package controller changes them; this package derives the state of each object and the events of its changes, the
// arguments of the planner and of a rollout, the status, the metrics, and the state file for the next node.
//
// This package starts no goroutine, does not wait, and calls no user code. For example, a replica dies: the controller takes its record away ([Replica.FireLocked], then
// [Deployment.NoteFailureLocked]). From then on [Deployment.ObserveLocked] has one replica less for the planner, which asks for another, and [Fleet.NoteLocked] finds
// that the deployment is UNHEALTHY and writes that event.
//
// [Fleet.Mu] guards every application, deployment and replica record. It is taken before the mutexes of packages host and router, and after that of [serving.Deployment.Update].
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/agenda"
	"github.com/helve-serve/helve/internal/await"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/takeover"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Fleet is the applications of a node. Its methods may be called from any goroutine; those whose names end in Locked with Mu held.
type Fleet struct {
	Log      *slog.Logger
	Recorder *records.Recorder // takes the states of the replicas for the store
	events   *telemetry.Events
	// Wake has the loop of the controller look at the changed applications. It may be called with or without Mu.
	Wake func()

	Mu         sync.Mutex
	Scales     records.Scales
	Capacity   *float64 // see [Fleet.SetCapacity]
	rising     bool     // Capacity is on its way up
	Apps       map[string]*Application
	Before     *takeover.Before // the applications and workers that the node before has left
	Journal    *journal.Journal
	Shut       bool         // the node closes: no application is taken any more
	Draining   bool         // the drain of the node has begun
	HandedOver bool         // the next node decides what runs
	Scaler     Autoscaler   // set before the first application; nil without
	Changed    await.Signal // a replica is gone, is ready or has another user config
	Readier    await.Signal // a replica is ready
}

// New makes the fleet of a node without applications. The states of replicas go into store, for the node of that id; durable says that they outlive this process.
func New(log *slog.Logger, node string, of store.Store, events *telemetry.Events, workers *host.Workers, durable bool, wake func()) *Fleet {
	return &Fleet{
		Log: log, Recorder: records.NewRecorder(of, log, node), events: events, Wake: wake,
		Apps: map[string]*Application{}, Before: takeover.NewBefore(workers), Journal: journal.New(events, log, durable),
	}
}

// Application is an application of this node. Its fields are guarded by Fleet.Mu.
type Application struct {
	fleet       *Fleet
	Ctx         context.Context // ends when the application failed to start or is gone: starts under way are given up
	Cancel      context.CancelCauseFunc
	Name        string
	Deployments map[string]*Deployment
	Hosts       *host.App
	Revisions   int                        // so far
	Defs        map[int]deploy.App         // as they were deployed, by revision, where the store does not have their code: see Node.Rollback of package node
	Restored    bool                       // a node before this one has run it
	Agenda      agenda.Agenda[*Deployment] // the deployments at which the loop has to look: see [Application.WakeLocked]
	Unsaved     bool                       // the file of the node does not have the last change: see Controller.snapshot of package controller
	Tidy        bool                       // nothing is left of other revisions than current
	unwell      map[string]*Deployment     // deployments whose state is another than HEALTHY, by name
	Restarting  bool                       // replicas of it are outdated: see Controller.Restart of package controller
	Current     *Revision                  // the revision that runs, or should
	Previous    *Revision                  // the revision that a change began from; nil while there is no change
	begun       []*Revision                // whose contexts may not have ended; see EndFormerLocked
	Change      *Change                    // the rollout, and for a while after it; nil while there is none
	Own         helvetype.ApplicationState // by itself: DEPLOYING, RUNNING, DEPLOY_FAILED or DELETING
	Shown       states.Shown               // the state that users see, which depends on the deployments
	StartError  string                     // of a start that was given up since the last deploy
	RolledBack  string                     // the revision whose start was given up, if the one before runs again
	End         string                     // see [states.ApplicationFacts]
	Yields      bool                       // its deploy was superseded, and the other one is about to come
	causes      journal.Application
	Deleted     bool
	Left        context.Context // of a deleted application: the time that its replicas have to finish
	Kept        bool            // the application failed to start, and has ended but for its status
	Keeping     chan struct{}   // closed when kept is set or the application is gone
	CloseHosts  sync.Once
	Cut         []error       // names the calls of deployments whose time was over
	Failure     error         // why the first revision failed to start
	Gone        chan struct{} // closed when nothing of it is left
	Concluding  chan struct{} // closed when the records of the last deploy are up to date; nil if they are
}

// NewApplicationLocked makes an application without revisions, and puts it into the fleet. life ends when the node closes.
func (f *Fleet) NewApplicationLocked(life context.Context, name string, hosts *host.App) *Application {
	a := &Application{
		fleet: f, Name: name, Deployments: map[string]*Deployment{}, unwell: map[string]*Deployment{}, Defs: map[int]deploy.App{}, Hosts: hosts,
		Gone: make(chan struct{}), Keeping: make(chan struct{}),
	}
	a.Ctx, a.Cancel = context.WithCancelCause(life)
	f.Apps[name] = a
	return a
}

// UnroutableLocked is why the routes of g cannot be served beside those of the other applications; nil if they can. An application
// that changes has those of both its revisions: it may go back. An application that is being deleted has no routes any more.
func (f *Fleet) UnroutableLocked(there *Application, g spec.Graph) error {
	if g.RoutePrefix == "" {
		return nil
	}
	for _, other := range f.Apps {
		if other == there || other.Own == helvetype.ApplicationDeleting || other.Failure != nil {
			continue
		}
		for _, r := range []*Revision{other.Current, other.Previous} {
			if r != nil && r.Def.Graph.RoutePrefix == g.RoutePrefix {
				return &deploy.RouteTakenError{App: g.App, Prefix: g.RoutePrefix, Owner: other.Name}
			}
		}
	}
	return nil
}

// ErrNodeEnds is the failure of a deploy that a durable node does not end, because the node itself ends. The next node goes on with the deploy.
var ErrNodeEnds = errors.New(states.EndOfNode)

// LeaveLocked ends the start of an application that is to be deleted, or whose node ends.
func (a *Application) LeaveLocked() {
	if a.Own == helvetype.ApplicationDeploying && a.Failure == nil { // it will not settle any more, and Deploy waits for that
		if a.Current.Failure = fmt.Errorf("application %s was deleted before it was ready", a.Name); a.End != "" {
			a.Current.Failure = fmt.Errorf("application %s was not ready yet: %w", a.Name, ErrNodeEnds)
		}
		close(a.Current.Settled)
	}
	a.Own = helvetype.ApplicationDeleting
}

// ServedLocked are the deployments as they serve.
func (a *Application) ServedLocked() (all []*serving.Deployment) {
	for _, d := range a.Deployments {
		all = append(all, d.Serving)
	}
	return all
}

// ForgetAppLocked takes an application that has no replica out of the status.
func (f *Fleet) ForgetAppLocked(a *Application) {
	if f.Apps[a.Name] != a {
		return
	}
	for _, d := range a.Deployments {
		d.MoveLocked(states.Deleted, states.Facts{}, 0)
	}
	a.NoteLocked(states.Deleted, states.Facts{Otherwise: a.End})
	delete(f.Apps, a.Name)
	close(a.Gone)
	if !a.Kept {
		close(a.Keeping)
	}
	f.Wake()
}

// TimesLocked is how long the calls of its deployments have to finish when it ends, and the longest of these times.
func (a *Application) TimesLocked() (times map[string]time.Duration, longest time.Duration) {
	times, uses := map[string]time.Duration{}, map[string][]string{}
	for name, d := range a.Deployments {
		times[name], uses[name] = d.Now.Definition.Options.GracefulShutdownTimeout, slices.Concat(d.Now.Definition.Spec.Uses, d.dynamic)
	}
	return times, serving.Times(times, uses)
}

// Unfinished names the calls that wait and run now that draining has ended, as the error of Controller.Close of package controller does; nil for none.
func (f *Fleet) Unfinished(draining context.Context) error {
	f.Mu.Lock()
	var served []*serving.Deployment
	var cut []error
	for _, name := range slices.Sorted(maps.Keys(f.Apps)) {
		cut = append(cut, f.Apps[name].Cut...)
		served = append(served, f.Apps[name].ServedLocked()...)
	}
	f.Mu.Unlock()
	return errors.Join(append(cut, serving.Unfinished(draining, served))...)
}

// ChangingLocked says that a deploy or the end of an application is under way, or a start or stop of a replica.
func (f *Fleet) ChangingLocked() bool {
	for _, a := range f.Apps {
		if a.Own == helvetype.ApplicationDeploying || a.Own == helvetype.ApplicationDeleting {
			return true
		}
		for _, d := range a.Deployments {
			for _, r := range d.Replicas {
				if r.State != helvetype.ReplicaRunning {
					return true
				}
			}
		}
	}
	return false
}

// EachServing calls do with each deployment as it serves; python says that its code is in Python.
func (f *Fleet) EachServing(do func(d *serving.Deployment, python bool)) {
	all := map[*serving.Deployment]bool{}
	f.Mu.Lock()
	for _, a := range f.Apps {
		for _, d := range a.Deployments {
			all[d.Serving] = d.Now.Definition.Spec.Language == "python"
		}
	}
	f.Mu.Unlock()
	for d, python := range all {
		do(d, python)
	}
}

// Ongoing is the number of calls that wait and run.
func (f *Fleet) Ongoing() (n int) {
	f.EachServing(func(d *serving.Deployment, _ bool) { n += d.Busy() })
	return n
}

// RestartsLocked are the replicas that are to be replaced, with those of an earlier restart that has not ended.
func (f *Fleet) RestartsLocked(app, deployment, id string) (a *Application, marked []*Replica, err error) {
	a = f.Apps[app]
	switch {
	case a == nil || a.EndingLocked() || a.Failure != nil:
		return nil, nil, f.MissingLocked(app)
	case a.DeployingLocked():
		return nil, nil, fmt.Errorf("application %q: %w to revision %d: the replicas of the new revision are new, and the others go", app, deploy.ErrRollout, a.Current.Number)
	case deployment != "" && (a.Deployments[deployment] == nil || a.Deployments[deployment].Dropped):
		return nil, nil, fmt.Errorf("no deployment %q in application %q", deployment, app)
	}
	found := false
	for _, d := range a.Deployments {
		for _, r := range d.Replicas {
			asked := (deployment == "" || d.Name == deployment) && r.State == helvetype.ReplicaRunning && (id == "" || r.ID == id)
			if found = found || asked; asked || r.Outdated {
				marked = append(marked, r)
			}
		}
	}
	if id != "" && !found {
		return nil, nil, fmt.Errorf("no replica %q of application %q runs", id, app)
	}
	return a, marked, nil
}

// Asked is a replica, or the process in which it starts, for questions to its process.
func (f *Fleet) Asked(app, deployment, id string) (host.Asked, error) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	a := f.Apps[app]
	if a == nil || a.Deployments[deployment] == nil {
		return nil, f.absentLocked(app, deployment)
	}
	switch r := a.Deployments[deployment].Replicas[id]; {
	case r == nil:
		return nil, fmt.Errorf("there is no replica %q of deployment %s of application %s", id, deployment, app)
	case r.Running != nil:
		return r.Running, nil
	case r.Worker != nil:
		return r.Worker, nil
	default:
		return nil, fmt.Errorf("replica %s starts, and has no process yet", id)
	}
}

// Deployed is the application as it is deployed now, and, if this process keeps its code, as a revision has it.
func (f *Fleet) Deployed(app string, revision int) (now deploy.App, then *deploy.App, ok bool) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	a := f.Apps[app]
	if a == nil || a.EndingLocked() {
		return now, nil, false
	}
	if def, kept := a.Defs[revision]; kept {
		then = &def
	}
	now = a.Current.Def
	now.Number, now.Changes = a.Current.Number, 0
	return now, then, true
}

// NoteUnstored records that the store has refused a change of an application.
func (f *Fleet) NoteUnstored(app string, err error) { f.Journal.NoteUnstored(app, err) }

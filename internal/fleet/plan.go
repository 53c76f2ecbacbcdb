package fleet

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
)

// WakeLocked makes the loop look at the whole application, after a change that may ask for other replicas of any deployment. The loop looks at no other
// application: for example, with a hundred applications a replica that ends costs as much as with one.
func (a *Application) WakeLocked() {
	a.Agenda.ChangeAll()
	a.Unsaved = true
	a.fleet.Wake()
}

// WakeLocked makes the loop look at the deployment, after a change that may ask for another replica of it, or for one less. The loop looks at no other deployment,
// but for those that wait for the ones that they use: with a thousand deployments a replica that ends costs as much as with ten.
func (d *Deployment) WakeLocked() {
	d.changedLocked()
	d.App.fleet.Wake()
}

// changedLocked is wakeLocked for a change after which the loop is woken anyway.
func (d *Deployment) changedLocked() {
	if a := d.App; a.Deployments[d.Name] == d {
		a.Agenda.Change(d)
	} else { // another has its name by now
		a.Agenda.ChangeAll()
	}
	d.App.Unsaved = true
}

// SteadyLocked says that the application does not change from one revision to another, and does not end: a change of one deployment concerns no other.
func (a *Application) SteadyLocked() bool {
	return a.Tidy && a.Own == helvetype.ApplicationRunning && a.Previous == nil && a.Change == nil && a.Failure == nil && !a.Deleted
}

// SortedLocked are the applications in the order of their names.
func (f *Fleet) SortedLocked() []*Application {
	return slices.SortedFunc(maps.Values(f.Apps), func(a, b *Application) int { return strings.Compare(a.Name, b.Name) })
}

// SortedLocked are the deployments in the order of their names.
func (a *Application) SortedLocked() []*Deployment {
	return slices.SortedFunc(maps.Values(a.Deployments), func(a, b *Deployment) int { return strings.Compare(a.Name, b.Name) })
}

// ObserveLocked are the arguments of the planner for a deployment.
func (d *Deployment) ObserveLocked(now time.Time) (t planner.Target, observed []planner.Observed, h planner.History) {
	t.Key = planner.Key{App: d.App.Name, Deployment: d.Name}
	if a := d.App; !a.Deleted && a.Failure == nil && !d.Dropped && !d.Over {
		t = d.targetLocked()
	}
	models, holders := map[int][]string(nil), map[string]int(nil) // by the index in observed, and how many have each model
	for _, r := range d.Replicas {
		s := r.PlannedLocked()
		if r.State == helvetype.ReplicaRunning && !r.AvailableLocked(now).IsZero() {
			s = planner.Unready
		}
		of := r.Of.Version
		if r.Outdated {
			of += "/outdated"
		}
		o := planner.Observed{ID: r.ID, Key: t.Key, Revision: of, State: s, StartedAt: r.StartedAt, Waits: s == planner.Starting && r.Wait != nil && r.Wait.For == WaitsForRoom}
		if r.State == helvetype.ReplicaRunning && len(d.Replicas) > t.Replicas { // one may have to stop
			var loaded []string
			if o.Use.Calls, o.Use.Streams, loaded = serving.Uses(r.Running); len(loaded) > 0 {
				if models == nil {
					models, holders = map[int][]string{}, map[string]int{}
				}
				models[len(observed)] = loaded
				for _, id := range loaded {
					holders[id]++
				}
			}
		}
		observed = append(observed, o)
	}
	for i, loaded := range models {
		of := &observed[i].Use
		of.Models = len(loaded)
		for _, id := range loaded {
			if holders[id] == 1 {
				of.Alone++
			}
		}
	}
	return t, observed, d.historyLocked()
}

// historyLocked has the failures of the deployment for the planner.
func (d *Deployment) historyLocked() planner.History {
	a, e := d.App, d.Now
	// In a rollout failures count also after a replica has run.
	ran := e.Ran && (e.Revision.Def.Retry && a.Previous == nil || a.Own != helvetype.ApplicationDeploying)
	// A start of a restored deployment that has failed is never given up, and others do not wait for it any more.
	return d.Failures.History(ran || e.Revision.Def.Restored && d.Failures.Number() > 0)
}

// WaitingLocked gives [planner.Waiting] of the application.
func (a *Application) WaitingLocked() func(k planner.Key, former bool) bool {
	var targets []planner.Target
	var observed []planner.Observed
	history := map[planner.Key]planner.History{}
	for _, d := range a.Deployments {
		t, live, h := d.ObserveLocked(time.Now())
		targets, observed, history[t.Key] = append(targets, t), append(observed, live...), h
	}
	return planner.Waiting(targets, observed, history)
}

// WaitsLocked says that user code of a form of the deployment has to wait, because a deployment that it uses is not ready. Where each of those has run, nothing waits, and
// the function waiting, which looks at the whole application, is not called.
func (e *DeploymentRevision) WaitsLocked(d *Deployment, waiting func() func(planner.Key, bool) bool) bool {
	for _, name := range e.Definition.Spec.Uses {
		if of := d.App.Deployments[name]; of != nil && !of.historyLocked().Ran {
			return waiting()(planner.Key{App: d.App.Name, Deployment: d.Name}, e.Version != d.Now.Version)
		}
	}
	return false
}

// PlannedLocked is the state of a replica for the planner.
func (r *Replica) PlannedLocked() planner.State {
	switch r.State {
	case helvetype.ReplicaRunning:
		if !r.TakesLocked() {
			return planner.Unready
		}
		return planner.Running
	case helvetype.ReplicaStopping:
		return planner.Draining
	}
	return planner.Starting
}

// ServesLocked says that the replica runs, and gets calls.
func (r *Replica) ServesLocked() bool { return r.PlannedLocked() == planner.Running }

// EndsLocked says that the replica drains.
func (r *Replica) EndsLocked() bool { return r.State == helvetype.ReplicaStopping }

// ReplicasLocked are all replicas, for range.
func (f *Fleet) ReplicasLocked(yield func(*Replica) bool) {
	for _, a := range f.Apps {
		for _, d := range a.Deployments {
			for _, r := range d.Replicas {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// Deployment finds a deployment that is there now; nil if there is none.
func (f *Fleet) Deployment(app, name string) *serving.Deployment {
	if d := f.Find(app, name); d != nil {
		return d.Serving
	}
	return nil
}

func (f *Fleet) Find(app, name string) *Deployment {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if a := f.Apps[app]; a != nil && !a.Deleted {
		return a.Deployments[name]
	}
	return nil
}

// Ingress is the name of an application's ingress deployment and method, or of another deployment of it where that is not "", and the language of the deployment.
func (f *Fleet) Ingress(app, deployment string) (in protocol.IngressMethod, ok bool) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	a := f.Apps[app]
	if a == nil || a.Deleted {
		return in, false
	}
	if of := a.Current.Def.Graph.Ingress; deployment == "" && of != nil {
		deployment, in.Method = of.Deployment, of.Method
	}
	d := a.Deployments[deployment]
	if d == nil {
		return in, false
	}
	in.Deployment, in.Language, in.Methods = deployment, d.Now.Definition.Spec.Language, d.Now.Host.Methods()
	return in, true
}

// NoteUse notes that a replica asked for a handle to another deployment, which the graph does not say.
func (d *Deployment) NoteUse(name string) {
	f := d.App.fleet
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if !slices.Contains(d.Now.Definition.Spec.Uses, name) && !slices.Contains(d.dynamic, name) {
		d.dynamic = append(d.dynamic, name)
	}
}

// yieldedLocked is how many replicas a deployment that its application no longer has does without, because they made room. If the
// application goes back to the revision that has it, they come back.
func (d *Deployment) yieldedLocked() int {
	if d.Now.Revision == d.App.Current {
		d.Yielded = 0
	}
	return min(d.Yielded, d.Wanted)
}

package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/inventory"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Readiness says of every application whether it answers requests: it runs, and no deployment is without a replica that should have one. An application that failed to
// start does not, until it is deployed again or deleted.
func (f *Fleet) Readiness() map[string]bool {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	all := make(map[string]bool, len(f.Apps))
	for name, a := range f.Apps {
		all[name] = a.readyLocked()
	}
	return all
}

func (a *Application) readyLocked() bool {
	if a.Deleted || a.Own == helvetype.ApplicationDeleting || a.Previous == nil && a.Own != helvetype.ApplicationRunning && !a.Current.Def.Restored {
		return false
	}
	ingress := ""
	if in := a.Current.Def.Graph.Ingress; in != nil {
		ingress = in.Deployment
	}
	for _, d := range a.Deployments {
		if d.Dropped || len(d.Serving.Router.Replicas()) > 0 {
			continue
		}
		if d.Name == ingress || d.Former != nil || d.Wanted > 0 {
			return false
		}
	}
	return true
}

// Inherit puts the overrides of the application as it is deployed now over one that is about to take its place ([deploy.App.Inherit]).
func (f *Fleet) Inherit(def *deploy.App) error {
	now, _, ok := f.Deployed(def.Graph.App, 0)
	if !ok || def.RollbackOf != 0 || def.Changes != 0 || def.Restored {
		return nil
	}
	return def.Inherit(&now)
}

// Status is a copy of the present state.
func (f *Fleet) Status() helvetype.Status {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.NoteLocked()
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}, TargetCapacity: f.Capacity}
	for name, a := range f.Apps {
		app := helvetype.ApplicationStatus{
			Status: helvetype.ApplicationState(a.Shown.State), Message: a.Shown.Message, DeployedAt: a.Current.At, RoutePrefix: a.Current.Def.Graph.RoutePrefix,
			Deployments: map[string]helvetype.DeploymentStatus{}, SharedMemory: a.Hosts.Memory(),
		}
		if ch := a.Change; ch != nil {
			if app.Rollout = ch.Status(); ch.Undone {
				app.Rollout.State = "rolling back"
			}
		}
		for name, d := range a.Deployments {
			app.Deployments[name] = d.inventoryLocked().Status()
		}
		s.Applications[name] = app
	}
	return s
}

// Metrics are the numbers of the node now. No worker is asked.
func (f *Fleet) Metrics() telemetry.Snapshot {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.NoteLocked()
	s := telemetry.Snapshot{Events: f.events.Last()}
	for _, name := range slices.Sorted(maps.Keys(f.Apps)) {
		a := f.Apps[name]
		app := telemetry.Application{
			Name: name, Revision: a.Current.Number, Route: a.Current.Def.Graph.RoutePrefix, State: helvetype.ApplicationState(a.Shown.State), SharedMemory: a.Hosts.Memory(),
		}
		if i := a.Current.Def.Graph.Ingress; i != nil {
			app.Ingress = i.Deployment
		}
		for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
			app.Deployments = append(app.Deployments, a.Deployments[name].inventoryLocked().Metrics())
		}
		s.Applications = append(s.Applications, app)
	}
	return s
}

// Calls lists the calls that wait and run at an object: an application, a deployment, a replica; with empty names at all. Of the calls that wait for a slot it
// lists up to limit per deployment, and none for a replica: each of them may get a slot of any.
func (f *Fleet) Calls(at helvetype.Object, limit int) helvetype.CallList {
	var of []inventory.Lister
	f.Mu.Lock()
	for _, a := range f.Apps {
		for _, d := range a.Deployments {
			if (at.App == "" || a.Name == at.App) && (at.Deployment == "" || d.Name == at.Deployment) {
				of = append(of, d.inventoryLocked().Lister(at.Replica))
			}
		}
	}
	f.Mu.Unlock()
	return inventory.Calls(of, limit)
}

// inventoryLocked describes the deployment and its replicas.
func (d *Deployment) inventoryLocked() *inventory.Deployment {
	e, v := d.Now, &inventory.Deployment{Serving: d.Serving, Departed: &d.Departed, Starts: d.Starts}
	s := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentState(d.Shown.State), Trigger: states.Trigger(d.Shown.Reason), Message: d.Shown.Message, Wanted: d.Wanted,
		Uses: e.Definition.Spec.Uses, DynamicUses: slices.Clone(d.dynamic), LastExit: e.Places.LastExit, Failures: d.Failures.Number(),
		FirstFailure: d.First, NextAt: d.Failures.Delayed(time.Now()),
	}
	if of := d.App.fleet.Scaler; of != nil && e.Definition.Options.Autoscaled() {
		s.Autoscaling = of.DescribeLocked(d)
	}
	if d.App.DeployingLocked() {
		s.MaxFailures = d.maxFailures()
	}
	v.Describe(s)
	for _, r := range d.Replicas {
		of := helvetype.ReplicaStatus{ID: r.ID, State: r.State, Revision: r.Of.Revision.Number, Rank: r.Rank, StartedAt: r.StartedAt, Restarts: r.Before.Restarts, LastExit: r.Before.Exit}
		out := r.Health.View()
		of.Ready, of.NotReady, of.Ejected = r.TakesLocked(), out.NotReady, out.Ejected
		v.Add(of, r.Running, r.ProcessLocked(), r.Wait, r.Of == e)
	}
	return v
}

// Missing says why there is no application of the name that serves.
func (f *Fleet) Missing(name string) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.MissingLocked(name)
}

func (f *Fleet) MissingLocked(name string) error {
	a := f.Apps[name]
	switch {
	case f.Shut:
		return deploy.ErrClosing
	case a == nil && len(f.Apps) == 0:
		return fmt.Errorf("no application %q is running", name)
	case a == nil:
		return fmt.Errorf("no application %q is running; there is %s", name, strings.Join(slices.Sorted(maps.Keys(f.Apps)), ", "))
	case a.Own == helvetype.ApplicationDeleting:
		return fmt.Errorf("application %q is being deleted", name)
	case a.Failure != nil:
		return fmt.Errorf("application %q failed to start: %w", name, a.Failure)
	}
	return fmt.Errorf("application %q is being deployed", name)
}

// DeployingLocked says that a deploy of the application has not ended. An application that is being restored is deployed already.
func (a *Application) DeployingLocked() bool {
	return a.Own == helvetype.ApplicationDeploying && !a.Current.Def.Restored
}

// Absent says why no deployment of the name serves.
func (f *Fleet) Absent(app, name string) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.absentLocked(app, name)
}

func (f *Fleet) absentLocked(app, name string) error {
	a := f.Apps[app]
	if a == nil || a.Deleted || f.Shut || a.Deployments[name] != nil {
		return f.MissingLocked(app)
	}
	return fmt.Errorf("no deployment %q in application %q; it has %s", name, app, strings.Join(slices.Sorted(maps.Keys(a.Deployments)), ", "))
}

// slowLocked says what the oldest start of a deployment waits for, if that has taken long, or why there is none.
func (d *Deployment) slowLocked() string {
	if d.App.Failure != nil {
		return "the application failed to start: no replica starts until it is deployed again"
	}
	if text := d.roomLocked(); text != "" {
		return text
	}
	var oldest *Replica
	for _, r := range d.Replicas {
		if r.State == helvetype.ReplicaStarting && r.Wait != nil && (oldest == nil || r.Wait.Since.Before(oldest.Wait.Since)) {
			oldest = r
		}
	}
	if oldest == nil {
		return placement.Unplaced(d.Wanted, d.Now.Definition.Options.MaxReplicasPerNode)
	}
	took := time.Since(oldest.Wait.Since)
	if took < SlowTime {
		return ""
	}
	return fmt.Sprintf("replica %s has waited for %s for %s", oldest.ID, oldest.Wait.For, took.Truncate(time.Second))
}

// roomLocked says which replica of the deployment waits for room on the node, and what is missing; "" if none waits. Of several replicas the text has the oldest.
func (d *Deployment) roomLocked() string {
	var oldest *Replica
	others := -1
	for _, r := range d.Replicas {
		if r.State != helvetype.ReplicaStarting || r.Wait == nil || r.Wait.Reason == "" {
			continue
		}
		if others++; oldest == nil || r.Wait.Since.Before(oldest.Wait.Since) || r.Wait.Since.Equal(oldest.Wait.Since) && r.ID < oldest.ID {
			oldest = r
		}
	}
	if oldest == nil {
		return ""
	}
	text := fmt.Sprintf("replica %s waits for room on the node: %s", oldest.ID, oldest.Wait.Reason)
	if others > 0 {
		text += fmt.Sprintf(", and %d more wait too", others)
	}
	return text
}

// EndingLocked says that the application goes: nothing of it that ends is missed.
func (a *Application) EndingLocked() bool {
	return a.fleet.Shut || a.Deleted || a.Own == helvetype.ApplicationDeleting
}

// Applications has the applications as they were deployed, for readers of [Fleet.Status].
func (f *Fleet) Applications() map[string]deploy.DeployedApp {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	all := map[string]deploy.DeployedApp{}
	for name, a := range f.Apps {
		app := deploy.DeployedApp{Revision: a.Current.Number, Submitted: a.Current.Def.Submitted, Deployments: map[string]deploy.DeployedDeployment{}}
		ingress := ""
		if in := a.Current.Def.Graph.Ingress; in != nil {
			ingress, app.DocsPath = in.Deployment, in.DocsPath
		}
		for _, d := range a.Deployments {
			app.Deployments[d.Name] = deploy.Deployed(d.Now.Definition, d.Wanted, d.Now.Config.Current.Value, d.Name == ingress)
		}
		all[name] = app
	}
	return all
}

package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/inventory"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Status is a copy of the present state.
func (c *Controller) Status() helvetype.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked()
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}}
	for name, a := range c.apps {
		app := helvetype.ApplicationStatus{
			Status: helvetype.ApplicationState(a.shown.State), Message: a.shown.Message, DeployedAt: a.since, RoutePrefix: a.current.def.Graph.RoutePrefix,
			Deployments: map[string]helvetype.DeploymentStatus{}, SharedMemory: a.hosts.Memory(),
		}
		if ch := a.change; ch != nil {
			if app.Rollout = ch.Status(); ch.undone {
				app.Rollout.State = "rolling back"
			}
		}
		for name, d := range a.deployments {
			app.Deployments[name] = d.inventoryLocked().Status()
		}
		s.Applications[name] = app
	}
	return s
}

// Metrics are the numbers of the node now. No worker is asked.
func (c *Controller) Metrics() telemetry.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked()
	s := telemetry.Snapshot{Events: c.set.Events.Last()}
	for _, name := range slices.Sorted(maps.Keys(c.apps)) {
		a := c.apps[name]
		app := telemetry.Application{
			Name: name, Route: a.current.def.Graph.RoutePrefix, State: helvetype.ApplicationState(a.shown.State), SharedMemory: a.hosts.Memory(),
		}
		for _, name := range slices.Sorted(maps.Keys(a.deployments)) {
			app.Deployments = append(app.Deployments, a.deployments[name].inventoryLocked().Metrics())
		}
		s.Applications = append(s.Applications, app)
	}
	return s
}

// Calls lists the calls that wait and run at the deployments of an application, or of all for "", and of one deployment if that is not "".
// Of the calls that wait for a slot it lists up to limit per deployment.
func (c *Controller) Calls(app, deployment string, limit int) helvetype.CallList {
	var of []inventory.Lister
	c.mu.Lock()
	for _, a := range c.apps {
		for _, d := range a.deployments {
			if (app == "" || a.name == app) && (deployment == "" || d.name == deployment) {
				of = append(of, d.inventoryLocked().Lister())
			}
		}
	}
	c.mu.Unlock()
	return inventory.Calls(of, limit)
}

// inventoryLocked describes the deployment and its replicas.
func (d *deployment) inventoryLocked() *inventory.Deployment {
	e, v := d.now, &inventory.Deployment{Serving: d.serving, Departed: &d.departed, Starts: d.starts}
	s := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentState(d.shown.State), Trigger: states.Trigger(d.shown.Reason), Message: d.shown.Message, Wanted: d.wanted,
		Uses: e.definition.Spec.Uses, DynamicUses: slices.Clone(d.dynamic), LastExit: e.places.LastExit, Failures: d.failures.Number(),
		FirstFailure: d.first, NextAt: d.failures.Delayed(time.Now()),
	}
	if d.app.deployingLocked() {
		s.MaxFailures = d.maxFailures()
	}
	v.Describe(s)
	for _, r := range d.replicas {
		of := helvetype.ReplicaStatus{ID: r.id, State: r.state, Rank: r.rank, StartedAt: r.startedAt, Restarts: r.before.Restarts, LastExit: r.before.Exit}
		out := r.health.View()
		of.Ready, of.NotReady, of.Ejected = r.takesLocked(), out.NotReady, out.Ejected
		v.Add(of, r.running, r.processLocked(), r.wait, r.of == e)
	}
	return v
}

// Missing says why there is no application of the name that serves.
func (c *Controller) Missing(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missingLocked(name)
}

func (c *Controller) missingLocked(name string) error {
	a := c.apps[name]
	switch {
	case c.closing:
		return deploy.ErrClosing
	case a == nil && len(c.apps) == 0:
		return fmt.Errorf("no application %q is running", name)
	case a == nil:
		return fmt.Errorf("no application %q is running; there is %s", name, strings.Join(slices.Sorted(maps.Keys(c.apps)), ", "))
	case a.status == helvetype.ApplicationDeleting:
		return fmt.Errorf("application %q is being deleted", name)
	case a.failure != nil:
		return fmt.Errorf("application %q failed to start: %w", name, a.failure)
	}
	return fmt.Errorf("application %q is being deployed", name)
}

// deployingLocked says that a deploy of the application has not ended. An application that is being restored is deployed already.
func (a *application) deployingLocked() bool {
	return a.status == helvetype.ApplicationDeploying && !a.current.def.Restored
}

// Absent says why no deployment of the name serves.
func (c *Controller) Absent(app, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[app]
	if a == nil || a.deleted || c.closing || a.deployments[name] != nil {
		return c.missingLocked(app)
	}
	return fmt.Errorf("no deployment %q in application %q; it has %s", name, app, strings.Join(slices.Sorted(maps.Keys(a.deployments)), ", "))
}

// slowLocked says what the oldest start of a deployment waits for, if that has taken long.
func (d *deployment) slowLocked() string {
	var oldest *replica
	for _, r := range d.replicas {
		if r.state == helvetype.ReplicaStarting && r.wait != nil && (oldest == nil || r.wait.Since.Before(oldest.wait.Since)) {
			oldest = r
		}
	}
	if oldest == nil {
		return planner.Unplaced(d.wanted, d.now.definition.Options.MaxReplicasPerNode)
	}
	took := time.Since(oldest.wait.Since)
	if took < slowTime {
		return ""
	}
	return fmt.Sprintf("replica %s has waited for %s for %s", oldest.id, oldest.wait.For, took.Truncate(time.Second))
}

// endingLocked says that the application goes: nothing of it that ends is missed.
func (a *application) endingLocked() bool {
	return a.c.closing || a.deleted || a.status == helvetype.ApplicationDeleting
}

// Applications has the applications as they were deployed, for readers of [Controller.Status].
func (c *Controller) Applications() map[string]deploy.DeployedApp {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]deploy.DeployedApp{}
	for name, a := range c.apps {
		app := deploy.DeployedApp{Revision: a.current.number, Deployments: map[string]deploy.DeployedDeployment{}}
		ingress := ""
		if in := a.current.def.Graph.Ingress; in != nil {
			ingress = in.Deployment
		}
		for _, d := range a.deployments {
			app.Deployments[d.name] = deploy.Deployed(d.now.definition, d.wanted, d.now.config.Current.Value, d.name == ingress)
		}
		all[name] = app
	}
	return all
}

package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/states"
)

// Status is a copy of the present state.
func (c *Controller) Status() helvetype.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked()
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}}
	for name, a := range c.apps {
		s.Applications[name] = a.statusLocked()
	}
	return s
}

func (a *application) statusLocked() helvetype.ApplicationStatus {
	s := helvetype.ApplicationStatus{
		Status: helvetype.ApplicationState(a.shown.State), Message: a.shown.Message, DeployedAt: a.since, RoutePrefix: a.current.def.Graph.RoutePrefix,
		Deployments: map[string]helvetype.DeploymentStatus{}, SharedMemory: a.hosts.Memory(),
	}
	for name, d := range a.deployments {
		s.Deployments[name] = d.statusLocked()
	}
	return s
}

func (d *deployment) statusLocked() helvetype.DeploymentStatus {
	e := d.now
	s := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentState(d.shown.State), Trigger: states.Trigger(d.shown.Reason), Message: d.shown.Message, Wanted: d.wanted, Replicas: []helvetype.ReplicaStatus{}, Uses: e.definition.Spec.Uses,
		DynamicUses: slices.Clone(d.dynamic), LastExit: e.places.LastExit, Calls: d.callsLocked(),
	}
	s.Failures = d.failures.Number()
	if d.app.status == helvetype.ApplicationDeploying {
		s.MaxFailures = d.maxFailures()
	}
	for _, r := range d.replicas {
		s.Replicas = append(s.Replicas, r.statusLocked())
		if r.state == helvetype.ReplicaRunning && r.of == d.now {
			s.Ready++
		}
	}
	slices.SortFunc(s.Replicas, func(a, b helvetype.ReplicaStatus) int {
		if c := a.StartedAt.Compare(b.StartedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return s
}

func (r *replica) statusLocked() helvetype.ReplicaStatus {
	s := helvetype.ReplicaStatus{
		ID: r.id, State: r.state, Rank: max(r.rank, 0), StartedAt: r.startedAt, Restarts: r.before.Restarts, LastExit: r.before.Exit,
	}
	p := r.processLocked()
	s.PID, s.GPUs, s.Unresponsive = p.PID, p.GPUs, p.Unresponsive
	if r.state == helvetype.ReplicaStarting && r.wait != nil {
		wait := *r.wait // a copy of the caller's
		s.Wait = &wait
	}
	return s
}

func (d *deployment) callsLocked() helvetype.Calls {
	d.departed.Settle()
	total, running := d.departed.Total(), 0
	for _, r := range d.liveReplicasLocked() {
		total.Add(r.Counts())
		running += r.Running()
	}
	return helvetype.Calls{Queued: d.serving.Router.Queued(), Running: running, Total: total.Started, Errors: total.Failed, Late: total.Late}
}

// liveReplicasLocked are the replicas that were started, with the replicas that are gone and have calls under way.
func (d *deployment) liveReplicasLocked() (all []host.Replica) {
	for _, r := range d.replicas {
		if r.running != nil {
			all = append(all, r.running)
		}
	}
	return append(all, d.departed.Leaving()...)
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
		return errors.New("the node is closing")
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

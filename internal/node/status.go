package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// Statuses follow the reference's rules. A deployment is UPDATING while its revision starts, DEPLOY_FAILED when that was given
// up, and later UNHEALTHY while replicas are missing because some have failed. An application that has started is as its worst
// deployment is: for example, of two deployments one is HEALTHY and one UNHEALTHY, then the application is UNHEALTHY.

// Status is what runs now.
func (n *Node) Status() helvetype.Status {
	n.countAll()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}}
	for name, a := range n.apps {
		s.Applications[name] = a.statusLocked()
	}
	s.References = n.keeping.status()
	return s
}

func (a *app) statusLocked() helvetype.ApplicationStatus {
	s := helvetype.ApplicationStatus{
		Status: a.status, Message: a.message, RoutePrefix: a.current.def.Graph.RoutePrefix, Deployments: map[string]helvetype.DeploymentStatus{}, SharedMemory: a.memory.status(),
	}
	worst := helvetype.DeploymentHealthy
	for _, name := range slices.Sorted(maps.Keys(a.deployments)) {
		d := a.deployments[name]
		ds := d.statusLocked()
		s.Deployments[name] = ds
		if d.now.Load().revision != a.current { // it goes with the revision before
			continue
		}
		if badness[ds.Status] > badness[worst] {
			worst = ds.Status
			if a.status != helvetype.ApplicationDeployFailed && ds.Message != "" {
				s.Message = fmt.Sprintf("deployment %s: %s", name, ds.Message)
			}
		}
	}
	if a.status == helvetype.ApplicationRunning {
		s.Status = ofApplication[worst]
	}
	return s
}

// badness orders statuses: the reference's ranks, the worst last.
var badness = map[helvetype.DeploymentState]int{ //nolint:gochecknoglobals // a constant
	helvetype.DeploymentHealthy: 0, helvetype.DeploymentUpdating: 1, helvetype.DeploymentUnhealthy: 2, helvetype.DeploymentDeployFailed: 3,
}

// ofApplication is what an application is whose worst deployment is so.
var ofApplication = map[helvetype.DeploymentState]helvetype.ApplicationState{ //nolint:gochecknoglobals // a constant
	helvetype.DeploymentHealthy: helvetype.ApplicationRunning, helvetype.DeploymentUpdating: helvetype.ApplicationDeploying,
	helvetype.DeploymentUnhealthy: helvetype.ApplicationUnhealthy, helvetype.DeploymentDeployFailed: helvetype.ApplicationDeployFailed,
}

func (d *Deployment) statusLocked() helvetype.DeploymentStatus {
	a, e := d.app, d.now.Load()
	s := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentHealthy, Replicas: []helvetype.ReplicaStatus{}, Uses: e.spec.Uses, DynamicUses: slices.Clone(d.dynamic),
		LastExit: e.lastExit, Calls: d.callsLocked(),
	}
	ready, former := 0, 0
	for _, u := range d.units {
		s.Replicas = append(s.Replicas, u.statusLocked())
		switch {
		case u.state != helvetype.ReplicaRunning:
		case u.edition != e:
			former++
		default:
			ready++
		}
	}
	slices.SortFunc(s.Replicas, func(a, b helvetype.ReplicaStatus) int {
		if c := a.StartedAt.Compare(b.StartedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	missing := ready < e.options.NumReplicas
	switch {
	case d.gaveUp:
		s.Status, s.Message = helvetype.DeploymentDeployFailed, d.message
	case a.status == helvetype.ApplicationDeleting:
		s.Status = helvetype.DeploymentUpdating
	case missing && d.failures > 0 && a.status != helvetype.ApplicationDeploying:
		s.Status, s.Message = helvetype.DeploymentUnhealthy, d.message
	case missing && d.failures > 0:
		s.Status, s.Message = helvetype.DeploymentUpdating, d.message
	case missing || former > 0:
		s.Status = helvetype.DeploymentUpdating
	}
	if s.Message == "" && missing {
		s.Message = d.slowLocked()
	}
	return s
}

func (u *Unit) statusLocked() helvetype.ReplicaStatus {
	s := helvetype.ReplicaStatus{
		ID: u.id, State: u.state, StartedAt: u.startedAt, Restarts: u.before.restarts, LastExit: u.before.exit,
	}
	if u.worker != nil && u.worker.proc != nil {
		s.PID = u.worker.proc.PID()
		if st := u.worker.stuck; st != nil {
			s.Unresponsive = &helvetype.Unresponsive{Since: st.since, Stacks: st.stacks}
		}
	}
	return s
}

// Missing says why there is no application of the name that serves.
func (n *Node) Missing(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.missingLocked(name)
}

func (n *Node) missingLocked(name string) error {
	a := n.apps[name]
	switch {
	case n.closing:
		return errors.New("the node is closing")
	case a == nil && len(n.apps) == 0:
		return fmt.Errorf("no application %q is running", name)
	case a == nil:
		return fmt.Errorf("no application %q is running; there is %s", name, strings.Join(slices.Sorted(maps.Keys(n.apps)), ", "))
	case a.status == helvetype.ApplicationDeleting:
		return fmt.Errorf("application %q is being deleted", name)
	case a.failure != nil:
		return fmt.Errorf("application %q failed to start: %w", name, a.failure)
	}
	return fmt.Errorf("application %q is being deployed", name)
}

// Absent says why no deployment of the name serves.
func (n *Node) Absent(app, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.apps[app]
	if a == nil || a.deleted || n.closing || a.deployments[name] != nil {
		return n.missingLocked(app)
	}
	return fmt.Errorf("no deployment %q in application %q; it has %s", name, app, strings.Join(slices.Sorted(maps.Keys(a.deployments)), ", "))
}

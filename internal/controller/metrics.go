package controller

import (
	"maps"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/telemetry"
)

// ghost is the last counts of a replica that is gone. They are shown for a while: a reader that comes every minute would else never see
// the calls between its last visit and the end of the replica.
type ghost struct {
	id    string
	calls telemetry.Counts
	at    time.Time
}

// The bounds of ghosts.
const (
	ghostTime = 10 * time.Minute
	ghostsMax = 32 // per deployment, the newest
)

// remember adds the counts of a replica that is gone.
func (d *deployment) rememberLocked(u *replica, k telemetry.Counts) {
	d.ghosts = append(d.ghosts, ghost{u.id, k, time.Now()})
	d.ghosts = d.ghosts[max(len(d.ghosts)-ghostsMax, 0):]
}

// Metrics are the numbers of the node now. No worker is asked.
func (c *Controller) Metrics() telemetry.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked()
	s := telemetry.Snapshot{Events: c.set.Events.Last()}
	for _, name := range slices.Sorted(maps.Keys(c.apps)) {
		a := c.apps[name]
		status := a.statusLocked()
		app := telemetry.Application{Name: name, Route: status.RoutePrefix, State: status.Status, SharedMemory: status.SharedMemory}
		for _, dname := range slices.Sorted(maps.Keys(a.deployments)) {
			d := a.deployments[dname]
			app.Deployments = append(app.Deployments, d.metricsLocked(status.Deployments[dname]))
		}
		s.Applications = append(s.Applications, app)
	}
	return s
}

func (d *deployment) metricsLocked(status helvetype.DeploymentStatus) telemetry.Deployment {
	m := telemetry.Deployment{Name: d.name, State: status.Status, Wanted: d.wanted, Queued: d.serving.Router.Queued(), Calls: d.past}
	add := func(u *replica, state helvetype.ReplicaState) {
		r := telemetry.Replica{ID: u.id, State: state}
		if u.running != nil {
			r.Running, r.Calls = serving.BaseOf(u.running).Running(), u.running.Counts()
			r.Healthy = state == helvetype.ReplicaRunning && u.running.Process().Unresponsive == nil
		}
		m.Calls.Add(r.Calls)
		m.Replicas = append(m.Replicas, r)
	}
	for _, id := range slices.Sorted(maps.Keys(d.replicas)) {
		add(d.replicas[id], d.replicas[id].state)
	}
	for _, u := range d.leaving {
		add(u, "")
	}
	for _, g := range d.ghosts {
		if time.Since(g.at) < ghostTime {
			m.Replicas = append(m.Replicas, telemetry.Replica{ID: g.id, Calls: g.calls})
		}
	}
	return m
}

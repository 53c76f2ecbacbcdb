package controller

import (
	"maps"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/telemetry"
)

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
	m := telemetry.Deployment{Name: d.name, State: status.Status, Wanted: d.wanted, Queued: d.serving.Router.Queued(), Calls: d.departed.Total(), Starts: d.starts}
	add := func(id string, running host.Replica, state helvetype.ReplicaState) {
		r := telemetry.Replica{ID: id, State: state, Started: state != helvetype.ReplicaStarting && state != helvetype.ReplicaRecovering}
		if running != nil {
			r.Running, r.Calls = running.Running(), running.Counts()
			r.Healthy = state == helvetype.ReplicaRunning && running.Process().Unresponsive == nil
		}
		m.Calls.Add(r.Calls)
		m.Replicas = append(m.Replicas, r)
	}
	for _, id := range slices.Sorted(maps.Keys(d.replicas)) {
		add(id, d.replicas[id].running, d.replicas[id].state)
	}
	for _, r := range d.departed.Leaving() {
		add(r.ID(), r, "")
	}
	m.Replicas = append(m.Replicas, d.departed.Newest()...)
	return m
}

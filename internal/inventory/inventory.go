// Package inventory describes the deployments and replicas of a node for people and programs: the status, the numbers for metrics, and the lists of
// calls. The owner of the deployments fills it in and reads it under its lock. No worker is asked.
package inventory

import (
	"cmp"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/why"
)

// Deployment is a deployment as it is now.
type Deployment struct {
	Serving  *serving.Deployment
	Departed *telemetry.Departed[host.Replica] // its replicas that are gone
	Starts   uint64                            // how often a replica became ready

	status   helvetype.DeploymentStatus
	replicas []replica
}

type replica struct {
	status  helvetype.ReplicaStatus
	running host.Replica // nil until it was started
}

// Describe sets the status, but for the replicas and the calls.
func (d *Deployment) Describe(s helvetype.DeploymentStatus) { d.status = s }

// Add adds a replica with its process and what its start waits for, nil for nothing. running is nil for a replica that was not started yet; current
// says that it is of the current revision.
func (d *Deployment) Add(s helvetype.ReplicaStatus, running host.Replica, p host.Process, wait *helvetype.Wait, current bool) {
	s.Rank = max(s.Rank, 0)
	s.PID, s.GPUs, s.Unresponsive = p.PID, p.GPUs, p.Unresponsive
	if s.State == helvetype.ReplicaStarting && wait != nil {
		own := *wait // a copy of the reader's
		s.Wait = &own
	}
	if s.Ready && current {
		d.status.Ready++
	}
	d.replicas = append(d.replicas, replica{s, running})
}

// Status is the whole status, the oldest replica first.
func (d *Deployment) Status() helvetype.DeploymentStatus {
	s := d.status
	s.Replicas = make([]helvetype.ReplicaStatus, 0, len(d.replicas))
	for _, r := range d.replicas {
		s.Replicas = append(s.Replicas, r.status)
	}
	slices.SortFunc(s.Replicas, func(a, b helvetype.ReplicaStatus) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	d.Departed.Settle()
	total, running := d.Departed.Total(), 0
	for _, r := range d.Live() {
		total.Add(r.Counts())
		running += r.Running()
	}
	s.Cycle = d.Serving.Cycle()
	s.Calls = helvetype.Calls{Queued: d.Serving.Router.Queued(), Running: running, Total: total.Started, Errors: total.Failed, Rejected: d.Serving.Router.Rejected(), Late: total.Late}
	s.Next, s.NextAt = why.Next(&s)
	return s
}

// Live are the replicas that were started, with the replicas that are gone and have calls under way.
func (d *Deployment) Live() (all []host.Replica) {
	for _, r := range d.replicas {
		if r.running != nil {
			all = append(all, r.running)
		}
	}
	return append(all, d.Departed.Leaving()...)
}

// callers are the calls by where they come from, also those at replicas that are gone.
func (d *Deployment) callers() map[telemetry.Caller]telemetry.CallerCounts {
	all := map[telemetry.Caller]telemetry.CallerCounts{}
	d.Serving.AddCallers(all)
	d.Departed.AddCallers(all)
	for _, r := range d.Live() {
		r.AddCallers(all)
	}
	return all
}

// Metrics are the numbers of the deployment.
func (d *Deployment) Metrics() telemetry.Deployment {
	d.Departed.Settle()
	m := telemetry.Deployment{
		Name: d.Serving.Name, State: d.status.Status, Wanted: d.status.Wanted, Autoscaling: d.status.Autoscaling, Queued: d.Serving.Router.Queued(), Rejected: d.Serving.Router.Rejected(), Calls: d.Departed.Total(), Starts: d.Starts,
		Origins: d.Serving.Router.QueuedByOrigin(), Callers: d.callers(), Waits: d.Serving.Router.Waits(), Lifecycle: d.Serving.Lifecycle.Counts(),
	}
	add := func(id string, running host.Replica, state helvetype.ReplicaState) {
		r := telemetry.Replica{ID: id, State: state, Started: state != helvetype.ReplicaStarting && state != helvetype.ReplicaRecovering}
		if running != nil {
			r.Running, r.Calls = running.Running(), running.Counts()
			r.Healthy = state == helvetype.ReplicaRunning && running.Process().Unresponsive == nil
			r.Utilization = serving.BaseOf(running).Utilization(r.Calls.Busy)
			r.Models = serving.BaseOf(running).Models()
		}
		m.Calls.Add(r.Calls)
		m.Replicas = append(m.Replicas, r)
	}
	slices.SortFunc(d.replicas, func(a, b replica) int { return cmp.Compare(a.status.ID, b.status.ID) })
	for _, r := range d.replicas {
		if add(r.status.ID, r.running, r.status.State); r.status.Ready {
			m.Ready++
		}
	}
	for _, r := range d.Departed.Leaving() {
		add(r.ID(), r, "")
	}
	m.Replicas = append(m.Replicas, d.Departed.Newest()...)
	return m
}

// Lister lists the calls of a deployment, without the lock of its owner.
type Lister struct {
	of       *serving.Deployment
	replicas []serving.Replica
	alone    bool // calls that wait for any replica are left out
}

// Lister has the replicas of now, or the one of an id alone if that is not "".
func (d *Deployment) Lister(id string) Lister {
	l := Lister{of: d.Serving, alone: id != ""}
	for _, r := range d.Live() {
		if id == "" || r.ID() == id {
			l.replicas = append(l.replicas, r)
		}
	}
	return l
}

// Calls lists the calls that wait and run at deployments, up to limit of each deployment's calls that wait for a slot.
func Calls(of []Lister, limit int) (list helvetype.CallList) {
	for _, l := range of {
		most := limit
		if l.alone {
			most = serving.NoWaits
		}
		calls, unlisted := l.of.Calls(l.replicas, most)
		list.Calls = append(list.Calls, calls...)
		list.Unlisted += unlisted
	}
	return list
}

package controller

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/takeover"
)

// UseDir keeps the node's state in a directory that outlasts it, and finds there the remains of a node that was
// killed: its workers, which go on for grace after their node has gone, are taken over with their replicas when their
// application is deployed again as it was. It must be called before the first Deploy. Only one node uses a directory.
func (c *Controller) UseDir(dir string, grace time.Duration) error {
	return c.workers.UseDir(dir, grace, func(dir string) (lastID uint64, workers []host.WorkerRecord) {
		before := c.file.Open(dir)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.before.Add(before.Applications)
		c.wg.Go(func() { c.file.Run(c.ctx) })
		return before.LastID, before.Workers
	})
}

// Forget removes the state of a node that closes in order. The next node of a durable one starts its applications again.
func (c *Controller) Forget() {
	if c.records.Durable {
		return
	}
	if dir := c.file.Remove(); dir != "" {
		build.Forget(dir)
	}
}

// snapshot is the state of this node for a next one, with the applications that have changed since it was called last, or with all.
func (c *Controller) snapshot(all bool) snapshot.State {
	lastID, workers := c.workers.Snapshot()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := snapshot.State{LastID: lastID, Workers: workers}
	unclaimed := map[string]*snapshot.Application{} // those of the node before: this node may be killed before they are claimed
	for _, was := range c.before.Unclaimed() {
		unclaimed[was.Name] = &was
	}
	for name, a := range c.apps {
		if a.deleted || a.failure != nil {
			continue
		}
		s.Names = append(s.Names, name)
		if was := unclaimed[name]; all || a.unsaved || was != nil {
			a.unsaved = was != nil // it is another one once it is claimed
			s.Applications = append(s.Applications, a.snapshotLocked(was))
		}
		delete(unclaimed, name)
	}
	for name, was := range unclaimed {
		s.Names, s.Applications = append(s.Names, name), append(s.Applications, *was)
	}
	return s
}

// snapshotLocked is the application as it is now, with the revision that it changes from, or with the application of the node before that is not claimed yet.
func (a *application) snapshotLocked(was *snapshot.Application) snapshot.Application {
	now := a.current.snapshotLocked()
	if p := a.previous; p != nil {
		before := p.snapshotLocked()
		now.Previous = &before
	} else if was != nil { // the revision that comes next may claim it
		was.Previous = &now
		return *was
	}
	return now
}

// claimedRevision is a revision for [takeover.Before]: the replicas of it that the node before has left are recovered.
type claimedRevision struct {
	sync.Locker
	*revision
	recovered map[string]*replica
}

// claimLocked takes over what the node before had of the application of a revision.
func (c *Controller) claimLocked(r *revision) {
	of := claimedRevision{&c.mu, r, map[string]*replica{}}
	for name, o := range r.wrote.Configs {
		of.configureLocked(name, o.UserConfig, o.Trial)
	}
	claim := takeover.Revision{App: r.app.name, Identity: r.identity, Ended: r.ctx, Replicas: of}
	if r.def.Restored {
		claim.Number = r.number
	}
	claim.Names = slices.Collect(maps.Keys(r.app.deployments))
	c.before.ClaimLocked(claim)
}

func (r claimedRevision) HostLocked(deployment string) host.Host {
	if d := r.app.deployments[deployment]; d != nil && d.now.revision == r.revision {
		return d.now.host
	}
	return nil
}

func (r claimedRevision) ConfigureLocked(deployment string, config, trial json.RawMessage) {
	if !r.app.c.records.Durable { // the store of a durable node has them
		r.configureLocked(deployment, config, trial)
	}
}

func (r claimedRevision) configureLocked(deployment string, config, trial json.RawMessage) {
	d := r.app.deployments[deployment]
	if d == nil || d.now.revision != r.revision {
		return
	}
	if config != nil {
		d.now.config.Accept(d.newConfigLocked(config))
	}
	if trial != nil {
		d.now.config.Try(d.newConfigLocked(trial))
	}
}

func (r claimedRevision) RecoverLocked(deployment, id string, rank *int) {
	u := r.app.c.newReplicaLocked(r.app.deployments[deployment], id, time.Now())
	if rank != nil {
		u.rank = *rank
	}
	if slices.Contains(r.wrote.Restarting, id) {
		u.outdated = true
	}
	r.recovered[id] = u
	u.fireLocked(states.Recover, states.Facts{}, nil)
}

func (r claimedRevision) LaunchLocked(id string, w *host.Worker) {
	r.app.c.launchLocked(r.recovered[id], w)
}

func (r claimedRevision) ForgetLocked(id string) {
	r.app.c.forgetLocked(r.recovered[id], states.Stopped, states.Facts{}, nil)
}

// snapshotLocked is the application as a revision has it.
func (r *revision) snapshotLocked() snapshot.Application {
	app := snapshot.Application{Name: r.app.name, Revision: r.number, Identity: r.identity, Graph: r.def.Graph}
	for _, d := range r.app.deployments {
		e := d.now
		if e.revision != r {
			e = d.former
		}
		present := e != nil && e.revision == r
		for id, of := range d.replicas {
			former := of.state == helvetype.ReplicaStopping || !present || of.of.version != e.version
			app.AddReplica(id, of.rank, of.rank != planner.Unranked, former)
		}
		if present {
			app.AddDeployment(d.name, d.scaleRecordLocked(), e.definition.Spec.Options.UserConfig, e.config.Current.Value)
			if trial, ok := e.config.Trial(); ok {
				app.AddTrial(d.name, trial.Value)
			}
		}
	}
	slices.Sort(app.Former)
	return app
}

package controller

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/takeover"
)

// UseDir keeps the node's state in a directory that outlasts it, and finds there the remains of a node that was
// killed: its workers, which go on for grace after their node has gone, are taken over with their replicas when their
// application is deployed again as it was. It must be called before the first Deploy. Only one node uses a directory.
func (c *Controller) UseDir(dir string, grace time.Duration) error {
	return c.workers.UseDir(dir, grace, func(dir string) (lastID uint64, workers []roster.Worker) {
		before := c.file.Open(dir)
		c.Mu.Lock()
		defer c.Mu.Unlock()
		c.Before.Add(before.Applications)
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
	c.Mu.Lock()
	defer c.Mu.Unlock()
	s := c.SnapshotLocked(all)
	s.LastID, s.Workers = lastID, workers
	return s
}

// claimedRevision is a revision for [takeover.Before]: the replicas of it that the node before has left are recovered.
type claimedRevision struct {
	sync.Locker
	c *Controller
	*fleet.Revision
	recovered map[string]*fleet.Replica
}

// claimLocked takes over the workers and user configs that the node before had for the application of a revision.
func (c *Controller) claimLocked(r *fleet.Revision) {
	of := claimedRevision{&c.Mu, c, r, map[string]*fleet.Replica{}}
	for name, o := range r.Wrote.Configs {
		of.configureLocked(name, o.UserConfig, o.Trial)
	}
	claim := takeover.Revision{App: r.App.Name, Identity: r.Identity, Ended: r.Ctx, Replicas: of}
	if r.Def.Restored {
		claim.Number = r.Number
	}
	claim.Names = slices.Collect(maps.Keys(r.App.Deployments))
	c.Before.ClaimLocked(claim)
}

func (r claimedRevision) HostLocked(deployment string) host.Host {
	if d := r.App.Deployments[deployment]; d != nil && d.Now.Revision == r.Revision {
		return d.Now.Host
	}
	return nil
}

func (r claimedRevision) ConfigureLocked(deployment string, config, trial json.RawMessage) {
	if !r.c.records.Durable { // the store of a durable node has them
		r.configureLocked(deployment, config, trial)
	}
}

func (r claimedRevision) configureLocked(deployment string, config, trial json.RawMessage) {
	d := r.App.Deployments[deployment]
	if d == nil || d.Now.Revision != r.Revision {
		return
	}
	if config != nil {
		d.Now.Config.Accept(d.NewConfigLocked(config))
	}
	if trial != nil {
		d.Now.Config.Try(d.NewConfigLocked(trial))
	}
}

func (r claimedRevision) RecoverLocked(deployment, id string, was snapshot.Replica) {
	if now := time.Now(); was.Started.IsZero() || was.Started.After(now) { // the clock was set back
		was.Started = now
	}
	u := r.c.NewReplicaLocked(r.App.Deployments[deployment], id, was.Started)
	u.Before.Restarts, u.Before.Exit = was.Before.Restarts, was.Before.Exit
	if was.Rank != nil {
		u.Rank = *was.Rank
	}
	if slices.Contains(r.Wrote.Restarting, id) {
		u.Outdated = true
	}
	r.recovered[id] = u
	u.FireLocked(states.Recover, states.Facts{}, nil)
}

func (r claimedRevision) LaunchLocked(id string, w *host.Worker) {
	r.c.launchLocked(r.recovered[id], w)
}

func (r claimedRevision) ForgetLocked(id string) {
	r.c.forgetLocked(r.recovered[id], states.Stopped, states.Facts{}, nil)
}

package controller

import (
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/states"
)

// UseDir keeps the node's state in a directory that outlasts it, and finds there the remains of a node that was
// killed: its workers, which go on for grace after their node has gone, are taken over with their replicas when their
// application is deployed again as it was. It must be called before the first Deploy. Only one node uses a directory.
func (c *Controller) UseDir(dir string, grace time.Duration) error {
	return c.workers.UseDir(dir, grace, func(dir string) (lastID uint64, workers []host.WorkerRecord) {
		before := c.file.Open(dir)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, a := range before.Applications {
			c.before[a.Name] = a
		}
		c.wg.Go(func() { c.file.Run(c.ctx) })
		return before.LastID, before.Workers
	})
}

// Forget removes the state of a node that closes in order.
func (c *Controller) Forget() {
	if dir := c.file.Remove(); dir != "" {
		build.Forget(dir)
	}
}

// snapshot is the state of this node for a next one.
func (c *Controller) snapshot() snapshot.Snapshot {
	lastID, workers := c.workers.Snapshot()
	c.mu.Lock()
	defer c.mu.Unlock()
	return snapshot.Snapshot{LastID: lastID, Applications: c.applicationsLocked(), Workers: workers}
}

// claimLocked takes over the state that the node before had of an application that is deployed now: its revision number, user
// configs and workers. If it is not the same any more, its workers are ended.
func (c *Controller) claimLocked(r *revision) {
	a := r.app
	was, ok := c.before[a.name]
	if !ok {
		return
	}
	delete(c.before, a.name)
	same := was.Identity == r.identity && r.identity != ""
	for name, d := range a.deployments {
		if config, ok := was.Configs[name]; ok && same {
			d.now.config.Accept(d.newConfigLocked(config))
		}
		if config, ok := was.Trials[name]; ok && same {
			d.now.config.Try(d.newConfigLocked(config))
		}
	}
	for _, w := range c.workers.Former(a.name) {
		if same {
			c.takeOverLocked(w, r, was)
		} else {
			c.workers.Dismiss(w.ID, "the application has changed")
		}
	}
}

// takeOverLocked expects a worker and its replicas. They count as being there, so that nothing is started in their place
// before it is known what has become of them. The former replicas end with their worker, or are stopped. For example, the node before was killed
// while it changed a Python deployment from code 1 to code 2: the worker with code 1 is ended, and the other one serves.
func (c *Controller) takeOverLocked(w host.WorkerRecord, r *revision, was snapshot.Application) {
	former := was.Former
	t := host.Takeover{ID: w.ID, Replicas: map[string]string{}, Hosts: map[string]host.Host{}, GiveUp: r.ctx}
	recovered := map[string]*replica{}
	for _, sr := range w.Replicas {
		d := r.app.deployments[sr.Deployment]
		if d == nil || d.now.revision != r || slices.Contains(former, sr.ID) {
			continue
		}
		t.Replicas[sr.ID] = sr.Deployment
		recovered[sr.ID] = c.newReplicaLocked(d, sr.ID, time.Now())
		if rank, ok := was.Ranks[sr.ID]; ok {
			recovered[sr.ID].rank = rank
		}
		recovered[sr.ID].fireLocked(states.Recover, states.Facts{}, nil)
	}
	if len(w.Replicas) > 0 && len(t.Replicas) == 0 {
		c.workers.Dismiss(w.ID, "none of its replicas is wanted any more")
		return
	}
	for name, d := range r.app.deployments {
		if d.now.revision == r {
			t.Hosts[name] = d.now.host
		}
	}
	t.Unknown = func(w *host.Worker, id, deployment string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		d := r.app.deployments[deployment]
		if d == nil || d.now.revision != r || slices.Contains(former, id) {
			return false
		}
		u := c.newReplicaLocked(d, id, time.Now())
		u.fireLocked(states.Recover, states.Facts{}, nil)
		c.launchLocked(u, w)
		return true
	}
	worker := c.workers.TakeOver(t)
	if worker == nil {
		for id, u := range recovered {
			c.forgetLocked(u, states.Stopped, states.Facts{}, nil)
			delete(recovered, id)
		}
		return
	}
	for _, u := range recovered {
		c.launchLocked(u, worker)
	}
}

// applicationsLocked are the applications as they are now.
func (c *Controller) applicationsLocked() []snapshot.Application {
	all := []snapshot.Application{}
	for _, a := range c.apps {
		if a.deleted || a.failure != nil {
			continue
		}
		r := a.current
		app := snapshot.Application{Name: a.name, Revision: r.number, Identity: r.identity, Graph: r.def.Graph}
		for _, d := range a.deployments {
			for id, of := range d.replicas {
				former := of.state == helvetype.ReplicaStopping || of.of.version != d.now.version || d.now.revision != r
				app.AddReplica(id, of.rank, of.rank != planner.Unranked, former)
			}
			if e := d.now; e.revision == r {
				app.AddDeployment(d.name, d.scaleRecordLocked(), e.definition.Spec.Options.UserConfig, e.config.Current.Value)
				if trial, ok := e.config.Trial(); ok {
					app.AddTrial(d.name, trial.Value)
				}
			}
		}
		slices.Sort(app.Former)
		all = append(all, app)
	}
	slices.SortFunc(all, func(a, b snapshot.Application) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Package takeover decides what becomes of the workers that a node before this one has left. Workers outlive their node for a time, with the
// replicas in them; the state of the node before (package snapshot) says which replicas these are.
//
// A worker is taken over when its application is deployed again as it was: the same revision, or another with the same code. Its replicas count as being there
// from then on, so that nothing is started in their place before it is known what has become of them. The workers of an application that is another
// one by now are ended.
//
// A node that is killed while an application changes from revision 3 to 4 leaves workers of both. A node that restores the application claims the workers
// of 3 for 3 and, when it goes on with the change, those of 4 for 4. A node to which 4 is deployed anew claims those of 4, and ends the others.
package takeover

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/snapshot"
)

// Before has the applications and workers of the node before, until they are claimed. Its owner guards it.
type Before struct {
	workers *host.Workers
	apps    map[string]snapshot.Application
}

// NewBefore has nothing yet.
func NewBefore(ws *host.Workers) *Before {
	return &Before{workers: ws, apps: map[string]snapshot.Application{}}
}

// Add adds the applications of the node before.
func (b *Before) Add(apps []snapshot.Application) {
	for _, a := range apps {
		b.apps[a.Name] = a
	}
}

// Former describes an application, for a deploy of it by another node; the zero Former for none.
func (b *Before) Former(app, identity string) (f records.Former) {
	was, ok := b.apps[app]
	if !ok {
		return f
	}
	f = records.Former{Number: was.Revision, Submitted: records.Submitted(was.Graph), Scales: was.Scales}
	if was.Identity == identity { // the same revision again
		f.Number--
	}
	return f
}

// Revision is a revision that takes workers over.
type Revision struct {
	App      string
	Number   int             // 0 for a revision that was deployed anew, and is not restored
	Identity string          // of its code
	Ended    context.Context // ends when it has failed, or its application is gone
	Names    []string        // of its deployments
	Replicas Replicas
}

// Replicas are the replicas of a revision. The methods that end in Locked are called with its lock.
type Replicas interface {
	sync.Locker
	// HostLocked is the host of a deployment, nil for a deployment that this revision does not have.
	HostLocked(deployment string) host.Host
	// ConfigureLocked gives a deployment the user config that it had, and the config that was on trial; nil for none.
	ConfigureLocked(deployment string, config, trial json.RawMessage)
	// RecoverLocked notes that a worker should have a replica, LaunchLocked starts that with the worker, and ForgetLocked gives it up. was is the replica as the node before had it.
	RecoverLocked(deployment, id string, was snapshot.Replica)
	LaunchLocked(id string, w *host.Worker)
	ForgetLocked(id string)
}

// ClaimLocked takes over the user configs and the workers that an application had in the node before.
func (b *Before) ClaimLocked(r Revision) {
	was, ok := b.apps[r.App]
	if !ok {
		return
	}
	last := true
	if p := was.Previous; p != nil && p.Revision == r.Number {
		last, was.Previous = false, nil
		b.apps[r.App] = was
		was = *p
	} else {
		delete(b.apps, r.App)
	}
	same := was.Identity == r.Identity && was.Identity != ""
	if same {
		for _, name := range r.Names {
			r.Replicas.ConfigureLocked(name, was.Configs[name], was.Trials[name])
		}
	}
	for _, w := range b.workers.Former(r.App) {
		switch {
		case !last && !(same && serves(w, was)): // the revision that comes next may want it
		case same:
			b.takeOverLocked(w, r, was)
		default:
			b.workers.Dismiss(w.ID, "the application has changed")
		}
	}
}

// serves says whether a worker has a replica that goes on.
func serves(w roster.Worker, was snapshot.Application) bool {
	return slices.ContainsFunc(w.Replicas, func(r roster.Replica) bool { return !slices.Contains(was.Former, r.ID) })
}

// takeOverLocked expects a worker and its replicas. The former replicas end with their worker, or are stopped. For example, the node before was killed
// while it changed a Python deployment from code 1 to code 2: for the second revision the worker with code 1 is ended, and the other one serves.
func (b *Before) takeOverLocked(w roster.Worker, r Revision, was snapshot.Application) {
	t := host.Takeover{ID: w.ID, Replicas: map[string]string{}, Hosts: map[string]host.Host{}, GiveUp: r.Ended}
	for _, sr := range w.Replicas {
		if r.Replicas.HostLocked(sr.Deployment) == nil || slices.Contains(was.Former, sr.ID) {
			continue
		}
		t.Replicas[sr.ID] = sr.Deployment
		r.Replicas.RecoverLocked(sr.Deployment, sr.ID, was.Replica(sr.ID))
	}
	if len(w.Replicas) > 0 && len(t.Replicas) == 0 {
		b.workers.Dismiss(w.ID, "none of its replicas is wanted any more")
		return
	}
	for _, name := range r.Names {
		if h := r.Replicas.HostLocked(name); h != nil {
			t.Hosts[name] = h
		}
	}
	t.Unknown = func(w *host.Worker, id, deployment string) bool {
		r.Replicas.Lock()
		defer r.Replicas.Unlock()
		if r.Replicas.HostLocked(deployment) == nil || slices.Contains(was.Former, id) {
			return false
		}
		known := was.Replica(id)
		known.Rank = nil
		r.Replicas.RecoverLocked(deployment, id, known)
		r.Replicas.LaunchLocked(id, w)
		return true
	}
	worker := b.workers.TakeOver(t)
	for id := range t.Replicas {
		if worker == nil {
			r.Replicas.ForgetLocked(id)
		} else {
			r.Replicas.LaunchLocked(id, worker)
		}
	}
}

// ForgetLocked leaves only the applications that are wanted, and ends the workers of the others. For example, a node is killed while it deletes an application
// whose record is gone already: an application that is deployed under the same name later has nothing to do with it.
func (b *Before) ForgetLocked(wanted func(app string) bool) {
	maps.DeleteFunc(b.apps, func(name string, _ snapshot.Application) bool { return !wanted(name) })
	b.workers.DismissOthers(wanted, "its application was deleted")
}

// Unclaimed are the applications of the node before that nothing has claimed yet.
func (b *Before) Unclaimed() []snapshot.Application {
	return slices.Collect(maps.Values(b.apps))
}

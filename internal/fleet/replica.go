package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/userconfig"
)

// TakesLocked says that the replica gets calls: it runs, its readiness check passes, and it is not ejected.
func (r *Replica) TakesLocked() bool {
	return r.State == helvetype.ReplicaRunning && r.Health.Takes()
}

// outLocked is the reason why a replica that runs gets no calls, or gets them as the last one only; "" for others.
func (r *Replica) outLocked() string {
	if r.State == helvetype.ReplicaRunning {
		return r.Health.View().Why
	}
	return ""
}

// FreeRankLocked is the lowest rank that no replica of a form of the deployment has.
func (d *Deployment) FreeRankLocked(e *DeploymentRevision) (rank int) {
	taken := map[int]bool{}
	for _, r := range d.Replicas {
		if r.Of.Version == e.Version && r.State != helvetype.ReplicaStopping {
			taken[r.Rank] = true
		}
	}
	for taken[rank] {
		rank++
	}
	return rank
}

// RanksLocked says that a replica counts among the ranks of its deployment.
func (r *Replica) RanksLocked() bool {
	return r.State != helvetype.ReplicaStopping && r.State != "" && r.Of.Version == r.Dep.Now.Version
}

// PlaceLocked is the rank that a replica should have, and the number of ranks.
func (r *Replica) PlaceLocked() host.Rank {
	return host.Rank{Rank: max(r.Rank, 0), World: r.Dep.Wanted}
}

// Replica is the controller's record of one replica, from its start until it is gone. Guarded by Fleet.Mu, but for the fields above the line.
type Replica struct {
	ID    string
	Dep   *Deployment
	Ctx   context.Context // ends when the start is given up
	Order int             // among the starts of its deployment
	// ---
	Of            *DeploymentRevision // that it belongs to: it goes from one revision to the next that leaves its version as it is
	Applied       *DeploymentRevision // whose options the replica has: see Controller.follow of package controller
	Running       host.Replica        // nil until it was started
	Routed        router.Replica      // nil until its router knows of it
	Worker        *host.Worker        // in which it starts; nil before it is known, and in this process
	State         helvetype.ReplicaState
	Health        *health.Replica // nil until it is in service
	StartedAt     time.Time
	ReadyAt       time.Time       // zero for a replica that was taken over
	Outdated      bool            // another one of its revision is to take its place: see Controller.Restart of package controller
	Rank          int             // among the replicas of its version; planner.Unranked before it has one
	Told          host.Rank       // that the replica knows
	Telling       bool            // a goroutine gives the replica its rank
	Wait          *helvetype.Wait // of its start; nil while it waits for nothing
	Before        planner.Former  // of the replicas that had its place
	LastEvent     uint64          // that changed its state
	record        store.Replica   // in the store, or on its way
	Config        int             // number of the user config that it has
	stalls        stalls          // of its event loop
	numbersFailed atomic.Value    // the name of the exception of its last numbers for autoscaling policies; "" for none
	counted       counted         // for [Numbers]
	Changing      chan struct{}   // closed when the goroutine that gives it another user config has ended; nil while there is none
}

// NewReplicaLocked makes the record of a replica as the deployment has them now.
func (f *Fleet) NewReplicaLocked(d *Deployment, id string, now time.Time) *Replica {
	r := &Replica{ID: id, Dep: d, Ctx: d.Now.Revision.Ctx, Of: d.Now, StartedAt: now, Rank: planner.Unranked}
	d.Replicas[id] = r
	return r
}

// ProcessLocked describes the process of a replica, also while it starts.
func (r *Replica) ProcessLocked() (p host.Process) {
	switch {
	case r.Running != nil:
		return r.Running.Process()
	case r.Worker != nil:
		return r.Worker.Process()
	}
	return p
}

// ConfigFor gives a replica the user config that its constructor gets.
func (f *Fleet) ConfigFor(r *Replica) json.RawMessage {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	config := r.Of.Config.Next()
	r.Config = config.Number
	return config.Value
}

// ResumedWith notes which user config a replica has that was taken over. A replica with a config that is not known is given the config of its revision.
func (f *Fleet) ResumedWith(r *Replica, digest string) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	r.Config = userconfig.Unknown
	if config := r.Of.Config.Next(); digest == spec.ConfigDigest(config.Value) {
		r.Config = config.Number
	}
}

// ConstructorError is the text for the user when the replica does not start.
func (r *Replica) ConstructorError(err error) error {
	return call.ConstructorError(err, r.Dep.App.Name, r.Dep.Name, r.ID)
}

// LeavePlaceLocked leaves the replica's place to the next that starts of its revision. Replicas of other revisions are not in its place:
// for example, the failures of a build that did not start are no restarts of the next one.
func (r *Replica) LeavePlaceLocked(exit *helvetype.Exit) {
	r.Of.Places.Leave(r.Before, exit, r.LastEvent, r.Dep.Wanted)
}

// slowTime is after how long the log says what a start waits for.
const SlowTime = 10 * time.Second

// FormerLocked describes an application, before it is deployed, by the state of this node.
func (f *Fleet) FormerLocked(there *Application, name, identity string) (was records.Former) {
	if there != nil {
		was = records.Former{Running: true, Current: there.Current.Number, Number: there.Revisions, Submitted: records.Submitted(there.Current.Def.Graph), Scales: map[string]store.Scale{}}
		for _, d := range there.Deployments {
			was.Scales[d.Name] = d.scaleRecordLocked()
		}
		return was
	}
	return f.Before.Former(name, identity)
}

// NoteFailure puts the failure of a revision into its records, for the history.
func (r *Revision) NoteFailure() {
	r.App.fleet.Mu.Lock()
	defer r.App.fleet.Mu.Unlock()
	if r.Failure == nil {
		return
	}
	deployment := ""
	for _, d := range r.App.SortedLocked() {
		if d.GaveUp && deployment == "" {
			deployment = d.Name
		}
	}
	r.Wrote.Fail(deployment, r.Failure.Error(), errors.Is(r.Failure, deploy.ErrSuperseded))
}

// LogStale says in the log that the records of an application are not up to date; nil is no error.
func (f *Fleet) LogStale(app string, err error) {
	if err != nil {
		f.Log.Error("the records of an application are not up to date", "app", app, "error", err)
	}
}

// recordLocked writes the records of a replica, after a change of its state or its revision. A replica without a state is gone. The
// assignment ends when the replica is to stop, its state when it has stopped.
func (r *Replica) recordLocked(reason, message string) {
	f := r.Dep.App.fleet
	if r.State == "" {
		f.Recorder.PutReplica(r.ID, nil, nil)
		return
	}
	a := store.Assign{App: r.Dep.App.Name, Deployment: r.Dep.Name, Revision: uint64(r.Of.Revision.Number), Version: r.Of.Version}
	r.record = f.Recorder.ReplaceReplica(r.ID, a, r.record, r.State, reason, message)
}

// Options are the options of the revision that the replica belongs to now.
func (f *Fleet) Options(r *Replica) spec.Effective {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return r.Of.Definition.Options
}

func (r *Replica) InServiceLocked() bool {
	return r.Dep.Replicas[r.ID] == r && r.State == helvetype.ReplicaRunning && !r.Dep.App.fleet.HandedOver
}

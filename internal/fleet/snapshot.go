package fleet

import (
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/snapshot"
)

// SnapshotLocked is the application as it is now, with the revision that it changes from, or with the application of the node before that is not claimed yet.
func (a *Application) SnapshotLocked(was *snapshot.Application) snapshot.Application {
	now := a.Current.snapshotLocked()
	if p := a.Previous; p != nil {
		before := p.snapshotLocked()
		now.Previous = &before
	} else if was != nil { // the revision that comes next may claim it
		was.Previous = &now
		return *was
	}
	return now
}

// snapshotLocked is the application as a revision has it.
func (r *Revision) snapshotLocked() snapshot.Application {
	app := snapshot.Application{Name: r.App.Name, Revision: r.Number, Identity: r.Identity, Graph: r.Def.Graph}
	for _, d := range r.App.Deployments {
		e := d.Now
		if e.Revision != r {
			e = d.Former
		}
		present := e != nil && e.Revision == r
		for id, of := range d.Replicas {
			former := of.State == helvetype.ReplicaStopping || !present || of.Of.Version != e.Version
			app.AddReplica(id, of.StartedAt, of.Rank, of.Rank != planner.Unranked, former)
		}
		if present {
			app.AddDeployment(d.Name, d.scaleRecordLocked(), e.Definition.Spec.Options.UserConfig, e.Config.Current.Value)
			if trial, ok := e.Config.Trial(); ok {
				app.AddTrial(d.Name, trial.Value)
			}
		}
	}
	slices.Sort(app.Former)
	return app
}

package fleet

import (
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/snapshot"
)

// SnapshotLocked has the applications for the file of the node: all names, and the applications that have changed since it was called last, or all.
func (f *Fleet) SnapshotLocked(all bool) (s snapshot.State) {
	unclaimed := map[string]*snapshot.Application{} // applications of the node before: this node may be killed before they are claimed
	for _, was := range f.Before.Unclaimed() {
		unclaimed[was.Name] = &was
	}
	for name, a := range f.Apps {
		if a.Deleted || a.Failure != nil {
			continue
		}
		s.Names = append(s.Names, name)
		if was := unclaimed[name]; all || a.Unsaved || was != nil {
			a.Unsaved = was != nil // its record is another once it is claimed
			s.Applications = append(s.Applications, a.SnapshotLocked(was))
		}
		delete(unclaimed, name)
	}
	for name, was := range unclaimed {
		s.Names, s.Applications = append(s.Names, name), append(s.Applications, *was)
	}
	return s
}

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
			was := snapshot.Replica{Started: of.StartedAt, Before: snapshot.Before{Restarts: of.Before.Restarts, Exit: of.Before.Exit}}
			if of.Rank != planner.Unranked {
				was.Rank = &of.Rank
			}
			app.AddReplica(id, was, former)
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

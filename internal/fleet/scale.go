package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// Number is a number of replicas as a record has it.
type Number struct {
	Replicas int
	// Scaled says that the autoscaler has set it: the target capacity is in it already. For example, with a target capacity of 50 the bounds of an autoscaler from 2 to 8 are 1 to 4, and
	// the 3 that it decides are 3, while a num_replicas of 6 is 3.
	Scaled bool
}

// NumberOf is the number of a record.
func NumberOf(s store.Scale) Number { return Number{s.Replicas, s.By == store.ByAutoscaler} }

// At is the number of replicas at a target capacity in percent, nil for 100.
func (n Number) At(capacity *float64) int {
	if n.Scaled {
		return n.Replicas
	}
	return autoscale.Share(n.Replicas, capacity)
}

// Unscalable says why a deployment cannot be scaled; nil if it can.
func (f *Fleet) Unscalable(app, name string) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	a := f.Apps[app]
	if f.Shut || a == nil || a.Deleted || a.Failure != nil || a.Own == helvetype.ApplicationDeleting {
		return f.MissingLocked(app)
	}
	d := a.Deployments[name]
	if d == nil || d.Dropped {
		return fmt.Errorf("no deployment %q in application %q; it has %s", name, app, strings.Join(slices.Sorted(maps.Keys(a.Deployments)), ", "))
	}
	if d.Now.Definition.Options.Autoscaled() {
		return fmt.Errorf("deployment %q of application %q: %w, and a number that is set would not stay; helve set %[2]s/%[1]s autoscaling_config.min_replicas=N sets the least number, and max_replicas the largest",
			name, app, deploy.ErrAutoscaled)
	}
	return nil
}

// NoteScaleLocked takes over a number of replicas that the store has ([records.Scales]).
func (f *Fleet) NoteScaleLocked(app, name string, s records.Scale) {
	if !f.Scales.Set(app, name, s) {
		return
	}
	a := f.Apps[app]
	if a == nil { // the node before had it, and it is about to be restored
		return
	}
	if a.Deployments[name] == nil {
		if a.Current.Wrote.Precedes() { // the deployment is one of the revision that the node before was changing to
			return
		}
		f.Log.Warn("a number of replicas is for a deployment that is not there", "record", store.ScaleKey(app, name).String())
		return
	}
	a.Unsaved = true
	a.Deployments[name].renumberLocked(NumberOf(s.Record), byRecord(s.Record))
}

// ownLocked says that a number in the store is one of the autoscaler of this node: the deployment has it already, or a newer one.
func (d *Deployment) ownLocked(s store.Scale) bool {
	return s.By == store.ByAutoscaler && d.Asked.Scaled && d.followsLoadLocked()
}

// WrittenLocked ends the time in which a deploy writes the records of an application.
func (f *Fleet) WrittenLocked() {
	app, arrived := f.Scales.Free()
	for _, name := range arrived {
		if a := f.Apps[app]; a != nil && a.Deployments[name] != nil {
			a.Unsaved = true
			if of := f.Scales.Of(app, name).Record; !a.Deployments[name].ownLocked(of) {
				a.Deployments[name].renumberLocked(NumberOf(of), byRecord(of))
			}
		}
	}
}

// scaleRecordLocked is the number of replicas of a deployment as a record. A number that the autoscaler has decided and that the store does not have yet has its author and reason all the same:
// read as one of a deploy it would be halved by a target capacity of 50.
func (d *Deployment) scaleRecordLocked() store.Scale {
	s := d.App.fleet.Scales.Of(d.App.Name, d.Name).Record
	if of := d.decided; d.Asked.Scaled && of.Replicas == d.Asked.Replicas && of.At.After(s.At) {
		s.By, s.Reason, s.At = of.By, of.Reason, of.At
	}
	s.Replicas = d.Asked.Replicas
	return s
}

// SetByLocked says that the number of the deployment is that of a revision, or of its autoscaler: it goes back if the revision fails ([records.Deploy.Set]).
func (d *Deployment) SetByLocked(r *Revision) bool {
	return r.Wrote.Set(d.Name, records.Scale{Record: d.scaleRecordLocked(), Modified: d.App.fleet.Scales.Of(d.App.Name, d.Name).Modified})
}

// SetCapacity sets the target capacity: the percentage of all numbers of replicas that this node runs, nil for 100. The records of the numbers stay. For example,
// with 50 a deployment of 4 replicas runs 2, and with nil again 4. rising says that the capacity is on its way up (see [autoscale.Bounds]).
func (f *Fleet) SetCapacity(percent *float64, rising bool) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Capacity, f.rising = percent, rising
	for _, a := range f.Apps {
		for _, d := range a.Deployments {
			d.renumberLocked(d.Asked, d.byCapacityLocked())
		}
	}
	f.WakeScaler() // the bounds are others
}

// WakeScaler has the autoscaler look at its deployments now.
func (f *Fleet) WakeScaler() {
	if f.Scaler != nil {
		f.Scaler.Wake()
	}
}

// scaleLocked changes the number of replicas of a deployment. note notes the change, with the number until now.
func (d *Deployment) scaleLocked(to Number, note func(before int)) {
	d.Asked = to
	n, before := to.At(d.App.fleet.Capacity), d.Wanted
	if n == before {
		return
	}
	d.noteLocked() // the state that it scales from: for example, a deploy that has just ended has left it HEALTHY
	d.Wanted = n
	note(before)
	d.directLocked()
	d.WakeLocked()
	d.App.fleet.Readier.Tell() // starts do not wait for a deployment of no replicas
}

// directLocked notes that the number of replicas that are wanted has changed.
func (d *Deployment) directLocked() {
	running := 0
	for _, r := range d.Replicas {
		if r.State == helvetype.ReplicaRunning {
			running++
		}
	}
	if d.Scaling = states.ScalingDown; d.Wanted > running {
		d.Scaling = states.ScalingUp
	}
}

// ScalesLocked is for a deploy that the deployment has just taken over: before is the number of replicas that were wanted until then. A deployment of which the deploy changes nothing but the
// number is UPSCALING or DOWNSCALING, and not UPDATING.
func (d *Deployment) ScalesLocked(before int) {
	f := d.Former
	d.renumbered = f != nil && d.Wanted != before && f.Version == d.Now.Version && f.Config.Current.Number == d.Now.Config.Current.Number && !d.Now.Revision.Def.Restored
	if d.renumbered {
		d.directLocked()
	}
}

// NoteScale takes over a number of replicas that another writer has put into the store.
func (f *Fleet) NoteScale(app, name string, s records.Scale) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if a := f.Apps[app]; a != nil && a.Deployments[name] != nil && a.Deployments[name].ownLocked(s.Record) {
		a.Deployments[name].NoteWrittenLocked(s)
		return
	}
	f.NoteScaleLocked(app, name, s)
}

// ForgetScale is for a record that was deleted. A deployment that runs keeps its number.
func (f *Fleet) ForgetScale(key string, modified int64) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Scales.Forget(key, modified)
	for _, a := range f.Apps {
		a.Unsaved = true
	}
}

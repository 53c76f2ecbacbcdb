package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// Deploy starts an application and waits until every replica is ready. The first failure of a constructor, worker or import ends it with that error, and nothing of
// the application stays behind; def says if failed starts are made again, and if the status of the application stays.
//
// An application that is there already changes to the new revision, if def says so: new replicas start beside the old, each that is ready lets an old one drain, and
// calls that wait go on waiting in the same queues. If a deployment of the new revision cannot start, the old one stays, and Deploy gives the error.
//
// The end of ctx ends the deploy. With a durable store it does so only until the store has the revision: for example, a program that is killed while the node still packs
// its directories leaves nothing, and a program that is killed while its model is loaded finds the application running.
func (c *Controller) Deploy(ctx context.Context, def deploy.App) error {
	if err := c.Inherit(&def); err != nil {
		return err
	}
	if err := def.Check(c.set.Program); err != nil {
		return err
	}
	if err := def.CheckRoom(c.workers.Ledger().Node()); err != nil {
		return err
	}
	record, err := def.Keep(ctx, c.set.Program, c.records.Code(), c.workers.Dir)
	if err != nil {
		c.NoteUnstored(def.Graph.App, err)
		return err
	}
	defer c.records.Pin(record.Blobs())()
	if ctx.Err() != nil { // replicas that are quick would else be ready before finish looks at ctx
		return call.EndOf(ctx)
	}
	if err := c.loadPolicies(ctx, &def); err != nil {
		return err
	}
	r, same, err := c.add(ctx, def, record)
	if err == nil && same {
		def.NoteUnchanged()
		return c.join(ctx, r)
	}
	if err != nil {
		return err
	}
	if c.records.Durable { // the store has it: a next node would go on with it too
		ctx = context.WithoutCancel(ctx)
	}
	return c.finish(ctx, r)
}

// finish waits until a revision that is the target runs, or has failed and left nothing, or its rollout waits for an operator.
func (c *Controller) finish(ctx context.Context, r *fleet.Revision) error {
	a, def := r.App, &r.Def
	if def.Added != nil {
		def.Added()
	}
	c.publish() //nolint:errcheck // the routes are published again when the application runs
	select {
	case <-r.Settled:
	case <-r.Stuck:
		go func() { // when an operator has resumed it, or another deploy has come
			<-r.Settled
			if err := c.end(context.WithoutCancel(ctx), r); err != nil {
				c.Log.Warn("a revision whose rollout was paused does not run", "app", a.Name, "revision", r.Number, "error", err)
			}
		}()
		return c.stuck(r)
	case <-ctx.Done():
		why := call.EndOf(ctx) // methods of the user's error may run: not under the lock
		c.Mu.Lock()
		c.failLocked(r, why)
		c.Mu.Unlock()
		<-r.Settled
	}
	return c.end(ctx, r)
}

// end ends the deploy of a revision that runs or has failed: in the store, and, for the first revision of an application, its remains.
func (c *Controller) end(ctx context.Context, r *fleet.Revision) error {
	a, def := r.App, &r.Def
	c.Mu.Lock()
	err := r.Failure
	failed, deleted, now := err != nil, a.Own == helvetype.ApplicationDeleting, a.Current
	c.Mu.Unlock()
	if err == nil {
		err = errors.Join(c.publish(), c.file.Save())
	}
	stale := c.conclude(ctx, r, !failed && (err == nil || !r.First))
	switch {
	case err == nil && stale != nil && c.records.Durable:
		return fmt.Errorf("application %s runs, but the next node may deploy it again: %w", a.Name, stale)
	case err == nil:
		return nil
	case !r.First && !failed:
		return fmt.Errorf("application %s has changed to revision %d all the same: %w", a.Name, r.Number, err)
	case !r.First:
		if deleted { // the caller that deletes it waits for its end
			return err
		}
		c.awaitRestored(ctx, a, now)
		return staysError(a.Name, now.Number, err)
	}
	ctx = context.WithoutCancel(ctx)
	if def.KeepFailed && !deleted {
		c.keep(ctx, a)
	} else {
		c.remove(ctx, ctx, a) //nolint:errcheck // nothing of it was ever called
	}
	return err
}

// keep ends all of an application that failed to start but its status.
func (c *Controller) keep(ctx context.Context, a *fleet.Application) {
	c.publish() //nolint:errcheck // fewer routes cannot collide
	c.Mu.Lock()
	e := call.NewError(helvetype.ReasonDeploymentUnavailable, "application "+a.Name+" failed to start: "+a.Failure.Error())
	served := a.ServedLocked()
	c.Mu.Unlock()
	for _, d := range served {
		d.Router.Close(e)
	}
	c.awaitStopped(a)
	a.CloseHosts.Do(func() { a.Hosts.Close(ctx) })
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if a.Own != helvetype.ApplicationDeleting { // else the caller that deletes it goes on
		a.Kept = true
		close(a.Keeping)
		a.WakeLocked()
	}
}

// awaitStopped waits until no replica of an application is left. The loop stops them, and each of them wakes it again.
func (c *Controller) awaitStopped(a *fleet.Application) {
	c.Changed.Until(context.Background(), &c.Mu, func() bool {
		for _, d := range a.Deployments {
			if len(d.Replicas) > 0 {
				return false
			}
		}
		return true
	})
}

// add makes def the target. same: the revision that it gives was the target before, and is as def says. An application of its name that is being deleted has its time to drain first.
func (c *Controller) add(ctx context.Context, def deploy.App, record store.Revision) (r *fleet.Revision, same bool, err error) {
	defer func() { // an application that yields to this deploy
		c.Mu.Lock()
		defer c.Mu.Unlock()
		if a := c.Apps[def.Graph.App]; err != nil && a != nil && a.Yields {
			a.Yields = false
			a.WakeLocked()
		}
	}()
	for {
		r, same, first, err := c.tryAdd(ctx, def, record)
		if first == nil {
			return r, same, err
		}
		select {
		case <-first.over:
		case <-ctx.Done():
			return nil, false, fmt.Errorf("application %q %s: %w", def.Graph.App, first.late, call.EndOf(ctx))
		}
	}
}

// obstacle has to be over before an application can be deployed.
type obstacle struct {
	over <-chan struct{}
	late string // why the deploy failed if that took too long
}

// tryAdd writes def into the store and makes it the target, unless an obstacle has to be over first.
func (c *Controller) tryAdd(ctx context.Context, def deploy.App, record store.Revision) (_ *fleet.Revision, same bool, first *obstacle, _ error) {
	if err := c.records.Lock(ctx); err != nil {
		return nil, false, nil, err
	}
	defer c.records.Unlock()
	c.Mu.Lock()
	defer c.Mu.Unlock()
	there := c.Apps[def.Graph.App]
	if !c.Shut && there.NewRevisionReasonLocked(&def, c.placing()) == "" {
		return there.Current, true, nil, nil
	}
	first, err := c.admitLocked(def)
	if first != nil || err != nil {
		return nil, false, first, err
	}
	there = c.Apps[def.Graph.App]
	f := c.FormerLocked(there, def.Graph.App, record.Identity)
	if u := def.Undoes; u != nil {
		f.Undone, f.Why = u.Revision, u.Reason
	}
	if def.RollbackOf == 0 { // a rollback leaves the numbers
		f.Cleared = def.Cleared
	}
	c.Scales.Hold(def.Graph.App)
	defer c.WrittenLocked()
	c.Mu.Unlock()
	w, err := c.records.WriteDeploy(ctx, record, f)
	if err != nil {
		c.NoteUnstored(def.Graph.App, err)
	}
	c.Mu.Lock()
	if err == nil && c.Shut {
		err = deploy.ErrClosing
		c.Mu.Unlock()
		c.withdraw(ctx, def.Graph.App, w)
		c.Mu.Lock()
	}
	if err != nil {
		return nil, false, nil, err
	}
	return c.addLocked(def, record.Identity, there, w), false, nil, nil
}

// admitLocked looks whether an application may be deployed now.
func (c *Controller) admitLocked(def deploy.App) (first *obstacle, _ error) {
	g := def.Graph
	if c.Shut {
		return nil, deploy.ErrClosing
	}
	there := c.Apps[g.App]
	if n := def.Changes; n != 0 && (there == nil || there.Current.Number != n && there.Revisions != n) { // the second: the change has superseded the rollout of its own revision
		return nil, fmt.Errorf("application %q: revision %d: %w", g.App, n, deploy.ErrChanged)
	}
	if def.Changes != 0 && there.Change != nil {
		if held := there.Change.Held(); held != "" {
			return nil, fmt.Errorf("application %q: %w, and other options would begin it anew: %s", g.App, deploy.ErrRollout, held)
		}
	}
	if there == nil || there.Own != helvetype.ApplicationDeleting { // the deploy waits for the end of an application that is being deleted
		if err := c.UnroutableLocked(there, g); err != nil { // before anything changes for a deploy that is refused
			return nil, err
		}
	}
	switch {
	case there == nil:
	case there.Kept && there.Own != helvetype.ApplicationDeleting:
		there.LeaveLocked()
		there.NoteAllLocked()
		c.ForgetAppLocked(there)
	case there.Failure != nil && there.Own != helvetype.ApplicationDeleting:
		return &obstacle{there.Keeping, "has failed to start, and had not ended in time"}, nil
	case there.Own == helvetype.ApplicationDeleting || there.Failure != nil:
		return &obstacle{there.Gone, "is being deleted, and was not gone in time"}, nil
	case !def.Replace:
		return nil, fmt.Errorf("application %q is deployed already: delete it first", g.App)
	case there.DeployingLocked(): // the last deploy wins, and the one before is told
		r := there.Current
		c.failByLocked(r, deploy.ErrSuperseded, superseded, nil)
		return &obstacle{r.Concluded, "was being deployed, and that had not ended in time"}, nil
	case there.Concluding != nil:
		return &obstacle{there.Concluding, "was deployed just before, and its records were not up to date in time"}, nil
	}
	return nil, nil
}

// addLocked makes an application the target, whose records w are in the store. there is the application as it is; nil for none.
func (c *Controller) addLocked(def deploy.App, identity string, there *fleet.Application, w *records.Deploy) *fleet.Revision {
	g := def.Graph
	a := there
	if a == nil {
		a = c.NewApplicationLocked(c.ctx, g.App, c.workers.NewApp(g.App))
	}
	for name, s := range w.Scales {
		c.NoteScaleLocked(a.Name, name, s)
	}
	r := a.NewRevision(def, identity, w)
	r.First = there == nil
	if a.Concluding = r.Concluded; def.Restored {
		a.Concluding = nil // its deploy has ended
	}
	c.adoptLocked(a, r)
	c.claimLocked(r)
	a.WakeLocked()
	return r
}

// Delete drains an application and stops its replicas.
func (c *Controller) Delete(ctx context.Context, name string) error {
	end, err := c.BeginDelete(ctx, name, "")
	if err != nil {
		return err
	}
	return end(ctx)
}

// BeginDelete takes an application out of the target; [deploy.ErrChanged] if source is not "" and another source has the application. The function that it gives
// drains the application and stops its replicas.
func (c *Controller) BeginDelete(ctx context.Context, name, source string) (end func(context.Context) error, err error) {
	c.Mu.Lock()
	a := c.Apps[name]
	if a == nil {
		err := c.MissingLocked(name)
		c.Mu.Unlock()
		return nil, err
	}
	_, grace := a.TimesLocked()
	c.Mu.Unlock()
	if err := c.unwant(ctx, a, source); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		draining, cancel := serving.Draining(ctx, grace)
		defer cancel()
		if cut := c.remove(ctx, draining, a); cut != nil {
			c.Log.Warn("calls were cut off", "app", name, "error", cut)
		}
		return c.publish()
	}, nil
}

// unwant deletes the records of an application, and lets nothing of it start any more.
func (c *Controller) unwant(ctx context.Context, a *fleet.Application, source string) error {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.Mu.Lock()
	there, has := c.Apps[a.Name] == a, a.Current.Def.Source
	c.Mu.Unlock()
	if source != "" && has != source {
		return fmt.Errorf("application %q: %w", a.Name, deploy.ErrChanged)
	}
	if there {
		if err := c.records.Delete(ctx, a.Name, 0); err != nil {
			c.NoteUnstored(a.Name, err)
			return fmt.Errorf("application %q: its records were not deleted: %w", a.Name, err)
		}
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	a.LeaveLocked()
	return nil
}

// remove answers the calls that are queued or run, until draining ends, and stops the replicas. The error names the calls that were cut off.
func (c *Controller) remove(ctx, draining context.Context, a *fleet.Application) (cut error) {
	c.Mu.Lock()
	failed := a.Failure != nil
	a.LeaveLocked()
	deadline, _ := draining.Deadline() // without one nothing expires
	c.expireLocked(a, time.Until(deadline))
	a.NoteAllLocked()
	served := a.ServedLocked()
	for _, d := range a.Deployments {
		for _, r := range d.Replicas {
			if r.Running != nil {
				r.Running.Drain()
				r.Running.Lend(false)
			}
		}
	}
	c.Mu.Unlock()
	c.publish() //nolint:errcheck // fewer routes cannot collide
	if !failed {
		cut = serving.Drain(draining, served)
	}
	gone := call.NewError(helvetype.ReasonDeploymentUnavailable, "application "+a.Name+" was deleted")
	a.Cancel(gone)
	c.Mu.Lock()
	a.Deleted, a.Left = true, draining
	for _, d := range a.Deployments {
		d.Serving.Refuse(gone)
	}
	a.WakeLocked()
	c.Mu.Unlock()
	for _, d := range served {
		d.Router.Close(gone)
	}
	c.awaitStopped(a)
	a.CloseHosts.Do(func() { a.Hosts.Close(ctx) })
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.ForgetAppLocked(a)
	return errors.Join(append(a.Cut, cut)...)
}

// expireLocked has the deployments end whose times are shorter than the whole drain.
func (c *Controller) expireLocked(a *fleet.Application, whole time.Duration) {
	times, _ := a.TimesLocked()
	for name, t := range times {
		if d := a.Deployments[name]; t < whole {
			time.AfterFunc(t, func() { c.expire(d) })
		}
	}
}

// expire stops the replicas of a deployment whose time is over, while others of its application have theirs.
func (c *Controller) expire(d *fleet.Deployment) {
	gone := call.NewError(helvetype.ReasonDeploymentUnavailable, "deployment "+d.Name+" has ended")
	c.Mu.Lock()
	if c.Apps[d.App.Name] == d.App && !d.App.Deleted && !d.Over {
		d.Over = true
		if cut := d.Serving.Cut(nil); cut != nil {
			d.App.Cut = append(d.App.Cut, cut)
		}
		d.Serving.Refuse(gone)
		d.App.WakeLocked()
	}
	c.Mu.Unlock()
	d.Serving.Router.Close(gone)
}

// Close drains the applications until draining ends, and stops their replicas. ctx bounds the whole. The error names the calls that
// did not finish. The controller takes no application any more.
func (c *Controller) Close(ctx, draining context.Context) error {
	c.Mu.Lock()
	c.Shut = true
	apps := slices.Collect(maps.Values(c.Apps))
	for _, a := range apps {
		if c.records.Durable && (a.Failure == nil || a.Current.Def.KeepFailed) && a.Own != helvetype.ApplicationDeleting && !strings.HasPrefix(a.Name, spec.HiddenApps) {
			a.End = states.EndOfNode
		}
	}
	c.Mu.Unlock()
	errs := make([]error, len(apps))
	var wg sync.WaitGroup
	for i, a := range apps {
		wg.Go(func() { errs[i] = c.remove(ctx, draining, a) })
	}
	wg.Wait()
	c.stop(errors.New("the node has closed"))
	c.wg.Wait()
	return errors.Join(errs...)
}

// Drain lets the code of all replicas know that the drain of the node has begun. They serve on until Close.
func (c *Controller) Drain() {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Draining = true
	for r := range c.ReplicasLocked {
		if r.Running != nil {
			r.Running.Drain()
		}
	}
}

// Drains are the drains of the replicas in this process.
func (c *Controller) Drains() *instance.Drains { return &c.drains }

// Closing refuses applications from now on, and gives the time that calls have to finish.
func (c *Controller) Closing() (grace time.Duration) {
	if c.records.Durable {
		c.file.Retire()
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Shut = true
	for _, a := range c.Apps {
		_, longest := a.TimesLocked()
		grace = max(grace, longest)
	}
	for _, a := range c.Apps {
		c.expireLocked(a, grace)
	}
	return grace
}

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
	"github.com/helve-serve/helve/internal/agenda"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// application is an application of this node. Its fields are guarded by Controller.mu.
type application struct {
	c           *Controller
	ctx         context.Context // ends when the application failed to start or is gone: starts under way are given up
	cancel      context.CancelCauseFunc
	name        string
	deployments map[string]*deployment
	hosts       *host.App
	revisions   int                        // so far
	defs        map[int]deploy.App         // as they were deployed, by revision, where the store does not have their code: see [Controller.Rollback]
	restored    bool                       // a node before this one has run it
	agenda      agenda.Agenda[*deployment] // the deployments at which the loop has to look: see [application.wakeLocked]
	unsaved     bool                       // the file of the node does not have the last change: see [Controller.snapshot]
	tidy        bool                       // nothing is left of other revisions than current
	unwell      map[string]*deployment     // deployments whose state is another than HEALTHY, by name
	restarting  bool                       // replicas of it are outdated: see [Controller.Restart]
	current     *revision                  // the revision that runs, or should
	previous    *revision                  // the revision that a change began from; nil while there is no change
	change      *change                    // the rollout, and for a while after it; nil while there is none
	status      helvetype.ApplicationState // by itself: DEPLOYING, RUNNING, DEPLOY_FAILED or DELETING
	shown       states.Shown               // the state that users see, which depends on the deployments
	startError  string                     // of a start that was given up since the last deploy
	rolledBack  string                     // the revision whose start was given up, if the one before runs again
	end         string                     // see [states.ApplicationFacts]
	causes      journal.Application
	deleted     bool
	left        context.Context // of a deleted application: the time that its replicas have to finish
	kept        bool            // the application failed to start, and has ended but for its status
	keeping     chan struct{}   // closed when kept is set or the application is gone
	closeHosts  sync.Once
	cut         []error // names the calls of deployments whose time was over
	failure     error   // why the first revision failed to start
	since       time.Time
	gone        chan struct{} // closed when nothing of it is left
	concluding  chan struct{} // closed when the records of the last deploy are up to date; nil if they are
}

// Deploy starts an application and waits until every replica is ready. The first failure of a constructor, worker or import ends it with that error, and nothing of
// the application stays behind; def says if failed starts are made again, and if the status of the application stays.
//
// An application that is there already changes to the new revision, if def says so: new replicas start beside the old, each that is ready lets an old one drain, and
// calls that wait go on waiting in the same queues. If a deployment of the new revision cannot start, the old one stays, and Deploy gives the error.
//
// The end of ctx ends the deploy. With a durable store it does so only until the store has the revision: for example, a program that is killed while the node still packs
// its directories leaves nothing, and one that is killed while its model is loaded finds the application running.
func (c *Controller) Deploy(ctx context.Context, def deploy.App) error {
	if err := c.inherit(&def); err != nil {
		return err
	}
	if err := def.Check(c.set.Program); err != nil {
		return err
	}
	if err := def.CheckDevices(c.workers.Devices()); err != nil {
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
	r, err := c.add(ctx, def, record)
	if err == nil && r == nil {
		def.NoteUnchanged()
	}
	if err != nil || r == nil {
		return err
	}
	if c.records.Durable { // the store has it: a next node would go on with it too
		ctx = context.WithoutCancel(ctx)
	}
	return c.finish(ctx, r)
}

// finish waits until a revision that is the target runs, or has failed and left nothing.
func (c *Controller) finish(ctx context.Context, r *revision) error {
	a, def := r.app, &r.def
	if def.Added != nil {
		def.Added()
	}
	c.publish() //nolint:errcheck // the routes are published again when the application runs
	select {
	case <-r.settled:
	case <-ctx.Done():
		why := call.EndOf(ctx) // methods of the user's error may run: not under the lock
		c.mu.Lock()
		c.failLocked(r, why)
		c.mu.Unlock()
		<-r.settled
	}
	c.mu.Lock()
	err := r.failure
	failed, deleted, now := err != nil, a.status == helvetype.ApplicationDeleting, a.current.number
	c.mu.Unlock()
	if err == nil {
		err = errors.Join(c.publish(), c.file.Save())
	}
	stale := c.conclude(ctx, r, !failed && (err == nil || !r.first))
	switch {
	case err == nil && stale != nil && c.records.Durable:
		return fmt.Errorf("application %s runs, but the next node may deploy it again: %w", a.name, stale)
	case err == nil:
		return nil
	case !r.first && !failed:
		return fmt.Errorf("application %s has changed to revision %d all the same: %w", a.name, r.number, err)
	case !r.first:
		if deleted { // the caller that deletes it waits for its end
			return err
		}
		c.awaitRestored(ctx, a)
		return fmt.Errorf("application %s stays at revision %d: %w", a.name, now, err)
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
func (c *Controller) keep(ctx context.Context, a *application) {
	c.publish() //nolint:errcheck // fewer routes cannot collide
	c.mu.Lock()
	e := call.NewError(helvetype.ReasonDeploymentUnavailable, "application "+a.name+" failed to start: "+a.failure.Error())
	served := a.servedLocked()
	c.mu.Unlock()
	for _, d := range served {
		d.Router.Close(e)
	}
	c.awaitStopped(a)
	a.closeHosts.Do(func() { a.hosts.Close(ctx) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.status != helvetype.ApplicationDeleting { // else the caller that deletes it goes on
		a.kept = true
		close(a.keeping)
		a.wakeLocked()
	}
}

// awaitStopped waits until no replica of an application is left. The loop stops them, and each of them wakes it again.
func (c *Controller) awaitStopped(a *application) {
	c.changed.Until(context.Background(), &c.mu, func() bool {
		for _, d := range a.deployments {
			if len(d.replicas) > 0 {
				return false
			}
		}
		return true
	})
}

// add makes def the target; nil for one that runs already as def says. An application of its name that is being deleted has its time to drain first.
func (c *Controller) add(ctx context.Context, def deploy.App, record store.Revision) (*revision, error) {
	for {
		r, first, err := c.tryAdd(ctx, def, record)
		if first == nil {
			return r, err
		}
		select {
		case <-first.over:
		case <-ctx.Done():
			return nil, fmt.Errorf("application %q %s: %w", def.Graph.App, first.late, call.EndOf(ctx))
		}
	}
}

// obstacle has to be over before an application can be deployed.
type obstacle struct {
	over <-chan struct{}
	late string // why the deploy failed if that took too long
}

// tryAdd writes def into the store and makes it what should run, unless something has to be over first.
func (c *Controller) tryAdd(ctx context.Context, def deploy.App, record store.Revision) (_ *revision, first *obstacle, _ error) {
	if err := c.records.Lock(ctx); err != nil {
		return nil, nil, err
	}
	defer c.records.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	first, err := c.admitLocked(def)
	if first != nil || err != nil {
		return nil, first, err
	}
	there := c.apps[def.Graph.App]
	if c.unchangedLocked(there, &def) {
		return nil, nil, nil
	}
	f := c.formerLocked(there, def.Graph.App, record.Identity)
	if u := def.Undoes; u != nil {
		f.Undone, f.Why = u.Revision, u.Reason
	}
	c.scales.Hold(def.Graph.App)
	defer c.writtenLocked()
	c.mu.Unlock()
	w, err := c.records.WriteDeploy(ctx, record, f)
	if err != nil {
		c.NoteUnstored(def.Graph.App, err)
	}
	c.mu.Lock()
	if err == nil && c.closing {
		err = deploy.ErrClosing
		c.mu.Unlock()
		c.withdraw(ctx, def.Graph.App, w)
		c.mu.Lock()
	}
	if err != nil {
		return nil, nil, err
	}
	return c.addLocked(def, record.Identity, there, w), nil, nil
}

// admitLocked looks whether an application may be deployed now.
func (c *Controller) admitLocked(def deploy.App) (first *obstacle, _ error) {
	g := def.Graph
	if c.closing {
		return nil, deploy.ErrClosing
	}
	there := c.apps[g.App]
	if n := def.Changes; n != 0 && (there == nil || there.current.number != n && there.revisions != n) { // the second: the change has superseded the rollout of its own revision
		return nil, fmt.Errorf("application %q: revision %d: %w", g.App, n, deploy.ErrChanged)
	}
	if there == nil || there.status != helvetype.ApplicationDeleting { // one that is being deleted is waited for
		if err := c.unroutableLocked(there, g); err != nil { // before anything changes for a deploy that is refused
			return nil, err
		}
	}
	switch {
	case there == nil:
	case there.kept && there.status != helvetype.ApplicationDeleting:
		there.leaveLocked()
		there.noteAllLocked()
		c.forgetAppLocked(there)
	case there.failure != nil && there.status != helvetype.ApplicationDeleting:
		return &obstacle{there.keeping, "has failed to start, and had not ended in time"}, nil
	case there.status == helvetype.ApplicationDeleting || there.failure != nil:
		return &obstacle{there.gone, "is being deleted, and was not gone in time"}, nil
	case !def.Replace:
		return nil, fmt.Errorf("application %q is deployed already: delete it first", g.App)
	case there.deployingLocked(): // the last deploy wins, and the one before is told
		r := there.current
		c.failByLocked(r, deploy.ErrSuperseded, "superseded", nil)
		return &obstacle{r.concluded, "was being deployed, and that had not ended in time"}, nil
	case there.concluding != nil:
		return &obstacle{there.concluding, "was deployed just before, and its records were not up to date in time"}, nil
	}
	return nil, nil
}

// addLocked makes an application what should run, whose records w are in the store. there is the application as it is; nil for none.
func (c *Controller) addLocked(def deploy.App, identity string, there *application, w *records.Deploy) *revision {
	g := def.Graph
	a := there
	if a == nil {
		a = &application{c: c, name: g.App, deployments: map[string]*deployment{}, unwell: map[string]*deployment{}, defs: map[int]deploy.App{}, hosts: c.workers.NewApp(g.App), gone: make(chan struct{}), keeping: make(chan struct{})}
		a.ctx, a.cancel = context.WithCancelCause(c.ctx)
		c.apps[a.name] = a
	}
	for name, s := range w.Scales {
		c.noteScaleLocked(a.name, name, s)
	}
	r := a.newRevision(def, identity, w)
	r.first = there == nil
	if a.concluding = r.concluded; def.Restored {
		a.concluding = nil // its deploy has ended
	}
	a.adoptLocked(r)
	c.claimLocked(r)
	a.wakeLocked()
	return r
}

// unroutableLocked is why the routes of g cannot be served beside those of the other applications; nil if they can. An application
// that changes has those of both its revisions: it may go back. An application that is being deleted has no routes any more.
func (c *Controller) unroutableLocked(there *application, g spec.Graph) error {
	if g.RoutePrefix == "" {
		return nil
	}
	for _, other := range c.apps {
		if other == there || other.status == helvetype.ApplicationDeleting || other.failure != nil {
			continue
		}
		for _, r := range []*revision{other.current, other.previous} {
			if r != nil && r.def.Graph.RoutePrefix == g.RoutePrefix {
				return &deploy.RouteTakenError{App: g.App, Prefix: g.RoutePrefix, Owner: other.name}
			}
		}
	}
	return nil
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
	c.mu.Lock()
	a := c.apps[name]
	if a == nil {
		err := c.missingLocked(name)
		c.mu.Unlock()
		return nil, err
	}
	_, grace := a.timesLocked()
	c.mu.Unlock()
	if err := c.unwant(ctx, a, source); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		draining, cancel := serving.Draining(ctx, grace)
		defer cancel()
		if cut := c.remove(ctx, draining, a); cut != nil {
			c.log.Warn("calls were cut off", "app", name, "error", cut)
		}
		return c.publish()
	}, nil
}

// unwant deletes the records of an application, and lets nothing of it start any more.
func (c *Controller) unwant(ctx context.Context, a *application, source string) error {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.mu.Lock()
	there, has := c.apps[a.name] == a, a.current.def.Source
	c.mu.Unlock()
	if source != "" && has != source {
		return fmt.Errorf("application %q: %w", a.name, deploy.ErrChanged)
	}
	if there {
		if err := c.records.Delete(ctx, a.name, 0); err != nil {
			c.NoteUnstored(a.name, err)
			return fmt.Errorf("application %q: its records were not deleted: %w", a.name, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.leaveLocked()
	return nil
}

// leaveLocked ends the start of an application that is to be deleted.
func (a *application) leaveLocked() {
	if a.status == helvetype.ApplicationDeploying && a.failure == nil { // it will not settle any more, and Deploy waits for that
		a.current.failure = fmt.Errorf("application %s was deleted before it was ready", a.name)
		close(a.current.settled)
	}
	a.status = helvetype.ApplicationDeleting
}

// remove answers the calls that are queued or run, until draining ends, and stops the replicas. The error names the calls that were cut off.
func (c *Controller) remove(ctx, draining context.Context, a *application) (cut error) {
	c.mu.Lock()
	failed := a.failure != nil
	a.leaveLocked()
	deadline, _ := draining.Deadline() // without one nothing expires
	a.expireLocked(time.Until(deadline))
	a.noteAllLocked()
	served := a.servedLocked()
	for _, d := range a.deployments {
		for _, r := range d.replicas {
			if r.running != nil {
				r.running.Drain()
				r.running.Lend(false)
			}
		}
	}
	c.mu.Unlock()
	c.publish() //nolint:errcheck // fewer routes cannot collide
	if !failed {
		cut = serving.Drain(draining, served)
	}
	gone := call.NewError(helvetype.ReasonDeploymentUnavailable, "application "+a.name+" was deleted")
	a.cancel(gone)
	c.mu.Lock()
	a.deleted, a.left = true, draining
	for _, d := range a.deployments {
		d.serving.Refuse(gone)
	}
	a.wakeLocked()
	c.mu.Unlock()
	for _, d := range served {
		d.Router.Close(gone)
	}
	c.awaitStopped(a)
	a.closeHosts.Do(func() { a.hosts.Close(ctx) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetAppLocked(a)
	return errors.Join(append(a.cut, cut)...)
}

// servedLocked are the deployments as they serve.
func (a *application) servedLocked() (all []*serving.Deployment) {
	for _, d := range a.deployments {
		all = append(all, d.serving)
	}
	return all
}

// forgetAppLocked takes an application that has no replica out of the status.
func (c *Controller) forgetAppLocked(a *application) {
	if c.apps[a.name] != a {
		return
	}
	for _, d := range a.deployments {
		d.moveLocked(states.Deleted, states.Facts{}, 0)
	}
	a.noteLocked(states.Deleted, states.Facts{Otherwise: a.end})
	delete(c.apps, a.name)
	close(a.gone)
	if !a.kept {
		close(a.keeping)
	}
	c.Wake()
}

// timesLocked is how long the calls of its deployments have to finish when it ends, and the longest of these times.
func (a *application) timesLocked() (times map[string]time.Duration, longest time.Duration) {
	times, uses := map[string]time.Duration{}, map[string][]string{}
	for name, d := range a.deployments {
		times[name], uses[name] = d.now.definition.Options.GracefulShutdownTimeout, slices.Concat(d.now.definition.Spec.Uses, d.dynamic)
	}
	return times, serving.Times(times, uses)
}

// expireLocked has the deployments end whose times are shorter than the whole drain.
func (a *application) expireLocked(whole time.Duration) {
	times, _ := a.timesLocked()
	for name, t := range times {
		if d := a.deployments[name]; t < whole {
			time.AfterFunc(t, func() { a.c.expire(d) })
		}
	}
}

// expire stops the replicas of a deployment whose time is over, while others of its application have theirs.
func (c *Controller) expire(d *deployment) {
	gone := call.NewError(helvetype.ReasonDeploymentUnavailable, "deployment "+d.name+" has ended")
	c.mu.Lock()
	if c.apps[d.app.name] == d.app && !d.app.deleted && !d.over {
		d.over = true
		if cut := d.serving.Cut(nil); cut != nil {
			d.app.cut = append(d.app.cut, cut)
		}
		d.serving.Refuse(gone)
		d.app.wakeLocked()
	}
	c.mu.Unlock()
	d.serving.Router.Close(gone)
}

// Close drains the applications until draining ends, and stops their replicas. ctx bounds the whole. The error names the calls that
// did not finish. The controller takes no application any more.
func (c *Controller) Close(ctx, draining context.Context) error {
	c.mu.Lock()
	c.closing = true
	apps := slices.Collect(maps.Values(c.apps))
	for _, a := range apps {
		if c.records.Durable && a.failure == nil && a.status != helvetype.ApplicationDeleting && !strings.HasPrefix(a.name, spec.HiddenApps) {
			a.end = states.EndOfNode
		}
	}
	c.mu.Unlock()
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

// Unfinished names the calls that wait and run now that draining has ended, as the error of [Controller.Close] does; nil for none.
func (c *Controller) Unfinished(draining context.Context) error {
	c.mu.Lock()
	var served []*serving.Deployment
	var cut []error
	for _, name := range slices.Sorted(maps.Keys(c.apps)) {
		cut = append(cut, c.apps[name].cut...)
		served = append(served, c.apps[name].servedLocked()...)
	}
	c.mu.Unlock()
	return errors.Join(append(cut, serving.Unfinished(draining, served))...)
}

// Drain lets the code of all replicas know that the drain of the node has begun. They serve on until Close.
func (c *Controller) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	for r := range c.replicasLocked {
		if r.running != nil {
			r.running.Drain()
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, a := range c.apps {
		_, longest := a.timesLocked()
		grace = max(grace, longest)
	}
	for _, a := range c.apps {
		a.expireLocked(grace)
	}
	return grace
}

// Package restore starts the applications again that a node before this one has left in its store. A durable node calls [Restorer.All] when it
// starts; [Restorer.Rollback] starts an older revision.
//
// Each application is restored by itself, and all at the same time. For example, of a hundred applications one has lost a blob: the other
// ninety-nine run after the time that the slowest of them takes, and the one is in the status with the reason, and is tried again.
//
// A node may be killed in the middle of a deploy. The record of the application names the revision before then: that is restored, and the deploy goes
// on from there. If its revision does not start, the deploy ends as it would have in the node before: the application stays at the revision before.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Applications are the applications of a node: the controller.
type Applications interface {
	// Resume makes a revision the target whose records are in the store. The start of a def that is Restored is never given up, and Resume does not
	// wait for it. For another def Resume is as Deploy is.
	Resume(ctx context.Context, def deploy.App, w *records.Deploy) error
	Deploy(ctx context.Context, def deploy.App) error
	// ShowFailed puts an application into the status whose first deploy has failed, and starts nothing.
	ShowFailed(ctx context.Context, def deploy.App, w *records.Deploy, o store.Outcome) error
	// ForgetFormer drops the applications of the node before that are not wanted.
	ForgetFormer(wanted func(app string) bool)
	// Deployed is the application as it is deployed now, and, if this process keeps its code, as a revision has it.
	Deployed(app string, revision int) (now deploy.App, then *deploy.App, ok bool)
}

// Own gives an application whose code is in the executable of this node; an error if that has none of its name.
type Own func(app string) (deploy.App, error)

// Restorer restores the applications of a store.
type Restorer struct {
	To     Applications
	Target *records.Target
	// Own gives the applications of the node's executable, nil for none, and Program starts the workers of that.
	Own     Own
	Program host.Program
	Log     *slog.Logger
	// Changed is called when an application is lost or found: its route is another one. May be nil.
	Changed func()

	mu     sync.Mutex
	lost   map[string]error  // see Lost
	routes map[string]string // see Routes
}

// Lost are the applications that cannot be loaded for now, with the reasons: a blob is damaged, or a record is of a newer version. They are tried
// again until they are deployed anew or deleted.
func (r *Restorer) Lost() map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.lost)
}

// Routes are the route prefixes of the applications that are lost, by their names, as far as their records can be read.
func (r *Restorer) Routes() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.routes)
}

// lose notes why an application cannot be loaded, and the route that it has, "" for none; nil for an application that is gone.
func (r *Restorer) lose(app string, why error, route string) {
	r.mu.Lock()
	same := why == nil && r.lost[app] == nil
	delete(r.lost, app)
	delete(r.routes, app)
	if why != nil {
		if r.lost == nil {
			r.lost, r.routes = map[string]error{}, map[string]string{}
		}
		r.lost[app] = why
		if route != "" {
			r.routes[app] = route
		}
	}
	r.mu.Unlock()
	if r.Changed != nil && !same {
		r.Changed()
	}
}

// route is the route prefix of an application that cannot be loaded; "" if it has none, or if that cannot be read.
func (r *Restorer) route(ctx context.Context, s records.Stored) string {
	number := s.From
	if number == 0 || !s.Deploy.Unended() {
		number = s.Deploy.Number
	}
	record, err := r.Target.Revision(ctx, s.App, number)
	if err != nil || record.Graph.Ingress == nil {
		return ""
	}
	return record.Graph.RoutePrefix
}

// Delete deletes the records of an application that is lost.
func (r *Restorer) Delete(ctx context.Context, app string) error {
	if err := r.Target.Lock(ctx); err != nil {
		return err
	}
	defer r.Target.Unlock()
	err := r.Target.Delete(ctx, app, 0)
	if err == nil {
		r.lose(app, nil, "")
	}
	return err
}

// All makes the applications of the store the target of this node. It returns when each of them is the target or cannot be loaded, and an error if
// the store cannot be read. Deploys that have not ended go on, and applications that cannot be loaded are tried again, until ctx ends. Each
// application has a goroutine, which spawn starts.
func (r *Restorer) All(ctx context.Context, spawn func(func())) error {
	if err := r.Target.Lock(ctx); err != nil {
		return err
	}
	stored, err := r.Target.Stored(ctx)
	r.Target.Unlock()
	if err != nil && len(stored) == 0 {
		return fmt.Errorf("the applications of the node before: %w", err)
	}
	if err != nil {
		r.Log.Error("some records of the node before cannot be read", "error", err)
	}
	if err == nil { // else an application that is missing here may be one whose record cannot be read
		r.To.ForgetFormer(func(app string) bool {
			return !strings.HasPrefix(app, spec.HiddenApps) && slices.ContainsFunc(stored, func(s records.Stored) bool { return s.App == app })
		})
	}
	var first sync.WaitGroup
	for _, s := range stored {
		if strings.HasPrefix(s.App, spec.HiddenApps) { // tasks and actors of a program that ran
			err := r.Delete(ctx, s.App)
			r.Log.Debug("an application of a program that has ended is not restored", "app", s.App, "error", err)
			continue
		}
		first.Add(1)
		tried := sync.OnceFunc(first.Done)
		spawn(func() {
			defer tried()
			r.one(ctx, s, tried)
		})
	}
	first.Wait()
	return nil
}

// one restores an application. tried is called when the application is the target, or cannot be.
func (r *Restorer) one(ctx context.Context, s records.Stored, tried func()) {
	for attempt := 1; ; attempt++ {
		err := r.try(ctx, s, tried)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			r.lose(s.App, nil, "")
			return
		}
		r.lose(s.App, err, r.route(ctx, s))
		if attempt == 1 {
			r.Log.Error("an application cannot be restored, and is tried again", "app", s.App, "error", err)
		}
		tried()
		for next := false; !next; {
			select {
			case <-time.After(planner.Delay(attempt + 1)):
			case <-ctx.Done():
				return
			}
			var over bool
			if s, next, over = r.look(ctx, s); over {
				r.lose(s.App, nil, "")
				return
			}
		}
	}
}

// look reads again how the store has an application that is lost. over says that it needs no restore any more: it was deleted, or another deploy has
// succeeded. next says that it can be tried; while a deploy of it is under way, it cannot. For example, a deploy over a lost application fails, and its records are
// as they were before, with another revision of the store: the application is tried again from these.
func (r *Restorer) look(ctx context.Context, s records.Stored) (now records.Stored, next, over bool) {
	if err := r.Target.Lock(ctx); err != nil {
		return s, false, false
	}
	defer r.Target.Unlock()
	all, err := r.Target.Stored(ctx)
	i := slices.IndexFunc(all, func(of records.Stored) bool { return of.App == s.App })
	if i < 0 {
		return s, true, err == nil // with an error its record may be unreadable
	}
	_, _, there := r.To.Deployed(s.App, 0)
	under := there && all[i].Deploy.Unended()
	return all[i], !under, there && !under
}

// try restores an application. An error is about loading it: a deploy that the node before had begun and that fails is none.
func (r *Restorer) try(ctx context.Context, s records.Stored, tried func()) error {
	def, own, err := r.load(ctx, s.App, s.Deploy.Number)
	if own == changed && err == nil { // another revision: the executable of the node has been replaced
		def.Added = tried
		return r.To.Deploy(ctx, def)
	}
	if o, failed := s.Deploy.Failed(); failed && err == nil {
		return r.To.ShowFailed(ctx, def, s.Deploy, o)
	}
	if !s.Deploy.Unended() {
		if err != nil {
			return err
		}
		return r.resume(ctx, def, s.Deploy)
	}
	if s.From != 0 {
		before, _, missing := r.load(ctx, s.App, s.From)
		if missing != nil && err != nil {
			return errors.Join(err, missing)
		}
		if missing != nil { // there is nothing to go back to
			return r.resume(ctx, def, s.Deploy)
		}
		if err := r.resume(ctx, before, s.Before(r.Target)); err != nil {
			return err
		}
		tried()
	}
	if err == nil {
		r.Log.Info("a deploy goes on that the node before had begun", "app", s.App, "revision", s.Deploy.Number, "from", s.From)
		def.Added, def.RollbackOf = tried, s.Deploy.Repeats
		err = r.To.Resume(ctx, def, s.Deploy)
	} else {
		err = errors.Join(err, r.undo(ctx, s))
	}
	if err != nil {
		r.Log.Error("a deploy that the node before had begun has failed", "app", s.App, "revision", s.Deploy.Number, "error", err)
	}
	return nil
}

// resume makes a revision the target that has run in the node before.
func (r *Restorer) resume(ctx context.Context, def deploy.App, w *records.Deploy) error {
	def.Restored = true
	return r.To.Resume(ctx, def, w)
}

// undo puts the records back of a deploy that cannot go on.
func (r *Restorer) undo(ctx context.Context, s records.Stored) error {
	if err := r.Target.Lock(ctx); err != nil {
		return err
	}
	defer r.Target.Unlock()
	_, err := r.Target.Undo(ctx, s.App, s.Deploy)
	return err
}

// code says whose the code of a revision is.
type code int

const (
	stored  code = iota // the store has it
	same                // in the executable of the node, as at the time of the deploy
	changed             // in the executable of the node, which is another one by now
)

// load is an application as a revision has it, with the code of the time of its deploy.
func (r *Restorer) load(ctx context.Context, app string, number int) (def deploy.App, of code, err error) {
	record, err := r.Target.Revision(ctx, app, number)
	switch {
	case err != nil:
	case record.Own && r.Own != nil:
		if def, err = r.Own(app); err != nil {
			break
		}
		def.Replace, def.Retry = true, true
		def.Describe(record)
		if of = same; record.Identity != def.Identity(r.Program) {
			of = changed
		}
	default:
		def, err = deploy.Load(record, record.Graph, r.Target.Blobs)
	}
	def.At = record.At
	if none, ok := errors.AsType[*records.NoRevisionError](err); ok {
		return def, of, none
	}
	if err != nil {
		return def, of, fmt.Errorf("application %q: revision %d: %w", app, number, err)
	}
	return def, of, nil
}

// Collect removes the blobs that no revision needs: of deploys that were not begun.
func (r *Restorer) Collect(ctx context.Context) error {
	if err := r.Target.Lock(ctx); err != nil {
		return err
	}
	defer r.Target.Unlock()
	return r.Target.Collect(ctx)
}

// Change says who asks for a change of an application, and why.
type Change struct {
	Author  helvetype.Author
	Message string // "" for one that says to which revision
	// Added is called when the change is the target: see [deploy.App].
	Added func()
}

// Rollback deploys an application again as a revision before has it, with the code of that, as a new revision. Number 0 is that of
// [records.Target.Before]. The numbers of replicas stay as they are.
func (r *Restorer) Rollback(ctx context.Context, app string, number int, by Change) error {
	def, err := r.Former(ctx, app, number)
	if err != nil {
		return err
	}
	def.Author, def.Message, def.Added = by.Author, cmp.Or(by.Message, def.Message), by.Added
	return r.To.Deploy(ctx, def)
}

// Former is an application as a revision before has it, ready to be deployed again.
func (r *Restorer) Former(ctx context.Context, app string, number int) (def deploy.App, err error) {
	record, err := store.Get(ctx, r.Target.Store, store.AppKey(app))
	if err != nil {
		return def, err
	}
	if number == 0 {
		number = r.Target.Before(ctx, app, record.Record)
	}
	if record.Modified != 0 && number <= 0 {
		return def, fmt.Errorf("application %q has no revision before this one", app)
	}
	now, then, ok := r.To.Deployed(app, number)
	switch {
	case !ok && r.Lost()[app] == nil:
		return def, fmt.Errorf("no application %q is running", app)
	case then == nil && !r.Target.Durable:
		return def, fmt.Errorf("application %q cannot go back to revision %d: only a durable node keeps the code of revisions (helve start)", app, number)
	case then == nil:
		loaded, of, err := r.load(ctx, app, number)
		if err == nil && of == changed {
			err = fmt.Errorf("application %q: revision %d: %w, which has changed since", app, number, deploy.ErrOwn)
		}
		if err != nil {
			return def, err
		}
		then = &loaded
	}
	then.RollbackOf, then.Replace, then.Added, then.Unchanged, then.Changes, then.Cleared = uint64(number), true, nil, nil, 0, nil // a rollback leaves the numbers
	then.Message = fmt.Sprintf("rollback to revision %d", number)
	if ok {
		then.Source = now.Source // the application belongs to the file that it belonged to
	}
	return *then, nil
}

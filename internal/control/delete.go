package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/spec"
)

// Delete removes an application. It returns when the target is written, not when the last replica has stopped.
func (o *Operator) Delete(ctx context.Context, by helvetype.Author, app string) error {
	done, err := o.turn(by.Seen)
	if err != nil {
		return err
	}
	defer done()
	return o.deleteOne(ctx, by, app)
}

// deleteOne is Delete within a turn.
func (o *Operator) deleteOne(ctx context.Context, by helvetype.Author, app string) error {
	if !slices.Contains(o.applications(), app) {
		return &helvetype.OperationError{Code: helvetype.CodeNotFound, Message: o.set.Node.Missing(app).Error(), Next: "helve status lists the applications"}
	}
	o.claims.Drop(app, by.Name) // a build of it that is under way is given up
	return refusal(o.beginDelete(ctx, app, ""))
}

// beginDelete deletes the target of an application, of a source if that is not "". Its replicas drain and stop after that.
func (o *Operator) beginDelete(ctx context.Context, app, source string) error {
	rest, err := o.set.Node.BeginDelete(ctx, app, source)
	if err != nil {
		return err
	}
	go func() {
		if err := rest(context.WithoutCancel(ctx)); err != nil {
			o.set.Log.Warn("an application that was deleted has not ended well", "app", app, "error", err)
		}
	}()
	return nil
}

// Shutdown deletes all applications. The node goes on, empty.
func (o *Operator) Shutdown(ctx context.Context, by helvetype.Author) error {
	done, err := o.turn(by.Seen) // one for all: each delete is another generation
	if err != nil {
		return err
	}
	defer done()
	var failed []string
	for _, app := range o.applications() {
		err := o.deleteOne(ctx, by, app)
		if e, gone := err.(*helvetype.OperationError); gone && e.Code == helvetype.CodeNotFound { //nolint:errorlint // Delete makes it
			err = nil // another operator has deleted it
		}
		if err != nil {
			failed = append(failed, fmt.Sprintf("application %q: %s", app, err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("some applications were not deleted: %s", strings.Join(failed, "; "))
}

// applications are the names of the applications of the node, without those of tasks and actors, and without those that are being deleted. An application that
// failed to start is one of them: its status stays until it is deleted.
func (o *Operator) applications() (names []string) {
	for name, app := range o.set.Node.Status().Applications {
		if !strings.HasPrefix(name, spec.HiddenApps) && app.Status != helvetype.ApplicationDeleting {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// obsolete are the applications that the source of the request has deployed before, and that its file does not have. A newer request for an application has
// more to say about it.
func (ap *apply) obsolete() (names []string) {
	if ap.r.Keep || ap.r.Only != "" {
		return nil
	}
	for _, name := range ap.o.applications() {
		if slices.ContainsFunc(ap.file.Applications, func(app config.Application) bool { return app.Name == name }) {
			continue
		}
		if source, ok := ap.o.sourceOf(name); ok && source == ap.source() && !ap.o.claims.Since(ap.number, name) {
			names = append(names, name)
		}
	}
	return names
}

// sourceOf is the source that has deployed an application, or has tried to. false: it cannot be told.
func (o *Operator) sourceOf(app string) (source string, ok bool) {
	if now, _, ok := o.set.Node.Deployed(app, 0); ok {
		return now.Source, true
	}
	if s := o.set.Node.Status().Applications[app]; s.FailedDeploy != nil && len(s.Deployments) == 0 {
		return s.FailedDeploy.Source, true
	}
	return "", false
}

// makeRoom deletes the obsolete applications whose routes applications of the file have. For example, a file renames the application of the route /. The old application
// stays if the node would refuse the new one.
func (ap *apply) makeRoom(ctx context.Context, all []ready) {
	if ap.failed() || ap.whole.Taken() {
		return
	}
	for _, name := range ap.obsolete() {
		now, _, ok := ap.o.set.Node.Deployed(name, 0)
		route := now.Graph.RoutePrefix
		if !ok || route == "" {
			continue
		}
		i := slices.IndexFunc(all, func(r ready) bool { return r.app.Graph.RoutePrefix == route })
		if i < 0 {
			continue
		}
		if _, err := ap.o.set.Node.Compare(ctx, all[i].app); err == nil { // else the deploy has the error
			ap.delete(ctx, name)
		}
	}
}

func (ap *apply) deleteObsolete(ctx context.Context) {
	all := ap.obsolete()
	ap.warnOfAll(all)
	for _, name := range all {
		ap.delete(ctx, name)
	}
}

// warnOfAll warns of a file without applications, which may be a template that came out empty: it deletes all applications of its source.
func (ap *apply) warnOfAll(obsolete []string) {
	if len(ap.file.Applications) > 0 || len(obsolete) == 0 {
		return
	}
	does := "has deleted"
	if ap.plans {
		does = "would delete"
	}
	ap.warn(fmt.Sprintf("the file has no applications, and %s all that source %s has: %s", does, ap.source(), strings.Join(obsolete, ", ")))
}

func (ap *apply) delete(ctx context.Context, app string) {
	of := helvetype.Outcome{Change: changeDeleted}
	switch err := ap.o.beginDelete(ctx, app, ap.source()); {
	case errors.Is(err, deploy.ErrChanged): // another source has it by now
		return
	case err != nil:
		of = failure(of, err)
	}
	ap.note(app, of)
}

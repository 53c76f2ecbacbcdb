package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fetch"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/worker"
)

// defaultSource is the source of a request that names none.
const defaultSource = "default"

// Apply makes the applications of a file the target.
//
// All applications are built first, at the same time, while the old revisions serve. Then each is deployed, and after that the applications are deleted that the same source has
// deployed before and the file does not have any more. An application that cannot be built is left as it is, and the others are
// deployed all the same. Then no application is deleted, because a refused application may be the new name of an old one. For
// example, a file renames "rank" to "ranker", whose module has a mistake: "rank" goes on.
//
// Without Wait it returns when the store has all applications; a start that fails is in the status then. With Wait it returns when they run or have failed. An error is for a
// request of which no application was taken.
func (o *Operator) Apply(ctx context.Context, by helvetype.Author, r helvetype.ApplyRequest) (a helvetype.ApplyAnswer, err error) {
	file, err := o.readFile(ctx, r)
	if err != nil {
		return a, err
	}
	if err := o.current(r.If); err != nil { // before builds that may take minutes
		return a, err
	}
	ap := &apply{o: o, by: by, r: r, file: file, outcomes: map[string]helvetype.Outcome{}, refused: map[string]error{}}
	defer ap.unpin()
	ap.warnings = slices.Clone(file.Warnings)
	ap.claim()
	loaded := ap.load(ctx)
	if err := ctx.Err(); err != nil { // of a client that has gone while its applications were built
		return a, refusal(call.EndOf(ctx))
	}
	if len(loaded) == 0 && ap.failed() { // nothing of the file holds, so its settings do not either
		return ap.answer()
	}
	client := ctx
	ctx = context.WithoutCancel(ctx) // else a client that goes now leaves half of its file: an old application deleted, and the new one not deployed
	done, err := o.turn(r.If)
	if err != nil {
		return a, err
	}
	release := sync.OnceFunc(done)
	defer release()
	if len(loaded) == 0 && ap.failed() {
		return ap.answer()
	}
	undo, err := ap.settings(ctx)
	if err != nil {
		return a, err
	}
	ap.makeRoom(ctx, loaded)
	over := ap.deploy(ctx, loaded)
	if ap.noneTaken() {
		undo()
		return ap.answer()
	}
	if ap.failed() {
		if left := ap.obsolete(); len(left) > 0 {
			ap.warn(fmt.Sprintf("%s: not deleted, although the file does not have it any more, because another application of the file was refused", strings.Join(left, ", ")))
		}
	} else {
		ap.deleteObsolete(ctx)
	}
	release()
	if r.Wait {
		select {
		case <-over:
			ap.awaitScaled(client)
		case <-client.Done():
		}
		if client.Err() != nil {
			return a, &helvetype.OperationError{
				Code: helvetype.CodeUnavailable, Message: "the request has ended before the applications were ready; they go on starting", Next: "helve status shows them", Err: call.EndOf(client),
			}
		}
	}
	return ap.answer()
}

// scaledTime is after how long deployments that scale are looked at again.
const scaledTime = 100 * time.Millisecond

// awaitScaled waits until no deployment of the file scales any more, or ctx ends. For example, a file with another target_capacity leaves its applications as they are, and replicas start or
// stop. A deployment whose replicas fail does not scale any more.
func (ap *apply) awaitScaled(ctx context.Context) {
	again := time.NewTicker(scaledTime)
	defer again.Stop()
	scales := func() bool {
		all := ap.o.set.Node.Status().Applications
		for _, app := range ap.file.Applications {
			for _, d := range all[app.Name].Deployments {
				if d.Status == helvetype.DeploymentUpscaling || d.Status == helvetype.DeploymentDownscaling || d.Status == helvetype.DeploymentHealthy && d.Autoscaling != nil && d.Autoscaling.Outside() {
					return true
				}
			}
		}
		return false
	}
	for scales() {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// current is the error for a change that was made for another generation than the present one; nil for generation 0.
func (o *Operator) current(seen uint64) error {
	if seen == 0 {
		return nil
	}
	if now := o.Generation(); now != seen {
		return otherGeneration(seen, now)
	}
	return nil
}

// readFile reads the file of a request, and leaves the one application that the request wants.
func (o *Operator) readFile(ctx context.Context, r helvetype.ApplyRequest) (*config.File, error) {
	name := r.Name
	if name == "" {
		name = "config"
	}
	var file *config.File
	var err error
	if r.Element {
		file, err = config.ReadElement(name, []byte(r.Config), r.Only, o.set.Secrets)
	} else {
		file, err = config.ReadAt(name, []byte(r.Config), o.set.Secrets) // a placeholder without a value is found here, before a replica fails for it
	}
	if err != nil {
		return nil, mistaken(err)
	}
	if err := file.In(config.Machine{Dir: r.Dir, Read: os.ReadFile, Fetch: func(uri string) (string, error) { return o.fetch(ctx, uri) }}); err != nil {
		return nil, mistaken(err)
	}
	if r.Only == "" {
		return file, nil
	}
	var names []string
	for _, app := range file.Applications {
		if app.Name == r.Only {
			file.Applications = []config.Application{app}
			return file, nil
		}
		names = append(names, app.Name)
	}
	return nil, &helvetype.OperationError{
		Code:    helvetype.CodeInvalidArgument,
		Message: fmt.Sprintf("%s: has no application %q; it has %s", name, r.Only, strings.Join(names, ", ")),
	}
}

// fetch brings the archive of a URI into the user's cache.
func (o *Operator) fetch(ctx context.Context, uri string) (string, error) {
	if !fetch.IsRemote(uri) {
		scheme, _, _ := strings.Cut(uri, "://")
		return "", fmt.Errorf("nodes fetch archives from https:// and http://, and nothing from %s://, as in %s; copy it to this machine and give the path", scheme, uri)
	}
	cache, err := pyenv.CacheDir(func(name string) string { return worker.Variable(o.set.Program.Env, name) })
	if err != nil {
		return "", err
	}
	return fetch.Archive(ctx, http.DefaultClient, uri, filepath.Join(cache, "fetched"))
}

// mistaken is the error for mistakes of a file.
func mistaken(err error) *helvetype.OperationError {
	e := &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: err.Error(), Next: "correct the file; helve plan FILE checks it without a change", Err: err}
	all, _ := errors.AsType[config.Mistakes](err)
	if one, ok := errors.AsType[*config.Mistake](err); ok && len(all) == 0 {
		all = config.Mistakes{one}
	}
	for _, m := range all {
		excerpt := strings.TrimPrefix(strings.TrimPrefix(m.Error(), m.Brief()), "\n")
		e.Mistakes = append(e.Mistakes, helvetype.Mistake{File: m.File, Line: m.Line, Column: m.Column, Message: m.Text, Excerpt: excerpt})
	}
	return e
}

// apply is one request under way.
type apply struct {
	o      *Operator
	by     helvetype.Author
	r      helvetype.ApplyRequest
	file   *config.File
	claims map[string]*claim.Claim // by application
	whole  *claim.Claim            // of the source, for a file that says of all applications of the source which there are; nil for others
	number uint64                  // of the claims
	plans  bool                    // the node changes nothing, and keeps no failure for its status

	changes []helvetype.ValueChange // of the settings of the node

	mu       sync.Mutex
	outcomes map[string]helvetype.Outcome
	refused  map[string]error // applications that were not taken, with the reasons
	warnings []string
	pins     []func() // let the packed files of applications that were built be collected
	over     bool     // nothing is pinned any more
}

// pin keeps the packed files of an application that was built until the request has ended. No record names them before the other applications are built too, which may take longer
// than a blob stays by itself. For example, the first of twelve applications is packed at once, and the last one is built half an hour later.
func (ap *apply) pin(a *deploy.App) {
	var digests []string
	for _, p := range a.Python.Packed {
		digests = append(digests, p.Digest)
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	if !ap.over && len(digests) > 0 { // else another request has taken the application over
		ap.pins = append(ap.pins, ap.o.set.Target.Pin(digests))
	}
}

// unpin is the end of the request. Applications that were deployed have records by now.
func (ap *apply) unpin() {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.over = true
	for _, unpin := range ap.pins {
		unpin()
	}
	ap.pins = nil
}

func (ap *apply) source() string {
	if ap.r.Source == "" {
		return defaultSource
	}
	return ap.r.Source
}

func (ap *apply) warn(texts ...string) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.warnings = append(ap.warnings, texts...)
}

// refuse notes that an application was not taken. A failure of the deploy itself is in the status from then on. A deploy that another one has overtaken, and one whose client
// or node has gone, has not failed.
func (ap *apply) refuse(app string, err error) {
	e, ok := errors.AsType[*helvetype.OperationError](err)
	passing := ok && (e.Code == helvetype.CodeAborted || e.Code == helvetype.CodeUnavailable || e.Code == helvetype.CodeFailedPrecondition)
	if !ap.plans && !passing && !errors.Is(err, context.Canceled) {
		failed := helvetype.FailedDeploy{By: ap.by.Name, Source: ap.source(), Error: err.Error()}
		if ok {
			failed.Error = e.Message // without the next step, which the status has itself
		}
		prefix := ""
		if i := slices.IndexFunc(ap.file.Applications, func(a config.Application) bool { return a.Name == app }); i >= 0 {
			prefix = ap.file.Applications[i].RoutePrefix
		}
		ap.o.set.Node.NoteFailedDeploy(app, prefix, failed)
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.refused[app] = err
	ap.outcomes[app] = failure(helvetype.Outcome{Change: changeRefused}, err)
}

func (ap *apply) note(app string, of helvetype.Outcome) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.outcomes[app] = of
}

func (ap *apply) failed() bool {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	return len(ap.refused) > 0
}

// noneTaken says that the file has applications, and that each of them was refused.
func (ap *apply) noneTaken() bool {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	return len(ap.refused) > 0 && len(ap.refused) == len(ap.file.Applications)
}

// failure is an outcome with an error.
func failure(of helvetype.Outcome, err error) helvetype.Outcome {
	of.Error, of.Code = err.Error(), helvetype.CodeUnknown
	if e, ok := errors.AsType[*helvetype.OperationError](err); ok {
		of.Error, of.Code, of.Next = strings.TrimRight(e.Message, "\n"), e.Code, e.Next
	}
	return of
}

// The changes of an application.
const (
	changeCreated   = "created"
	changeChanged   = "changed"
	changeUnchanged = "unchanged"
	changeDeleted   = "deleted"
	changeRefused   = "refused"
)

// answer is the answer to the request. It is an error if no application was taken.
func (ap *apply) answer() (a helvetype.ApplyAnswer, err error) {
	if ap.noneTaken() {
		err = ap.refusals()
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	return helvetype.ApplyAnswer{Generation: ap.o.Generation(), Applications: maps.Clone(ap.outcomes), Settings: ap.changes, Warnings: slices.Clone(ap.warnings)}, err
}

// refusals is the error of all applications that were refused, in the order of the file; nil if there are none.
func (ap *apply) refusals() error {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	if len(ap.refused) == 0 {
		return nil
	}
	all := &helvetype.OperationError{}
	var texts []string
	for _, app := range ap.file.Applications {
		if ap.refused[app.Name] == nil {
			continue
		}
		e, ok := errors.AsType[*helvetype.OperationError](ap.refused[app.Name])
		if !ok {
			return ap.refused[app.Name]
		}
		if all.Code == helvetype.CodeOK {
			all.Code, all.Next, all.Err = e.Code, e.Next, e.Err
		}
		if !slices.Contains(texts, e.Message) { // the same of all applications: the interpreter is not there, for example
			texts = append(texts, e.Message)
		}
		all.Mistakes = append(all.Mistakes, e.Mistakes...)
	}
	all.Message = strings.Join(texts, "\n\n")
	return all
}

// claim takes over all applications of the file.
func (ap *apply) claim() {
	var keys []string
	for _, app := range ap.file.Applications {
		keys = append(keys, app.Name)
	}
	source := claim.Source(ap.source())
	if !ap.r.Keep && ap.r.Only == "" {
		keys = append(keys, source)
	}
	ap.claims, ap.number = ap.o.claims.Take(ap.by.Name, keys...)
	ap.whole = ap.claims[source]
	delete(ap.claims, source)
}

// superseded is the error for an application that another request has taken over, or whose source another one has.
func (ap *apply) superseded(app string) error {
	if c := ap.claims[app]; c.Taken() || !ap.whole.Taken() {
		return c.Error(app)
	}
	return ap.whole.Error(app)
}

// ready is an application that can be deployed.
type ready struct {
	name string
	app  deploy.App
}

// deploy deploys applications at the same time. It returns when each of them is in the store or was refused. over is closed when all run or have failed.
func (ap *apply) deploy(ctx context.Context, all []ready) (over <-chan struct{}) {
	var taken, ended sync.WaitGroup
	for _, one := range all {
		taken.Add(1)
		ended.Go(func() { ap.deployOne(ctx, one, sync.OnceFunc(taken.Done)) })
	}
	done := make(chan struct{})
	go func() {
		ended.Wait()
		close(done)
	}()
	taken.Wait()
	return done
}

// deployOne deploys one application. taken is called when it is in the store, or was refused.
func (ap *apply) deployOne(ctx context.Context, one ready, taken func()) {
	defer taken()
	o := ap.o
	c := ap.claims[one.name]
	if c.Taken() || ap.whole.Taken() {
		ap.refuse(one.name, ap.superseded(one.name))
		return
	}
	before, err := o.revision(ctx, one.name)
	if err != nil {
		ap.refuse(one.name, err)
		return
	}
	added := make(chan struct{})
	one.app.Added, one.app.Taken = func() { close(added) }, c.Taken
	result := make(chan error, 1)
	go func() { result <- o.set.Node.Deploy(context.WithoutCancel(ctx), one.app) }()
	select {
	case <-added:
		ap.note(one.name, o.outcome(ctx, one.name, before))
		if before == 0 && ap.whole.Taken() && !c.Taken() { // a newer file of the source may have looked for applications to delete before this one was there
			ap.delete(ctx, one.name)
			ap.refuse(one.name, ap.whole.Error(one.name))
			return
		}
		taken()
		err = <-result
	case err = <-result:
	}
	if err == nil {
		ap.note(one.name, o.outcome(ctx, one.name, before))
		return
	}
	select {
	case <-added: // the failure is in the status, too
		reason := err
		if errors.Is(err, deploy.ErrSuperseded) {
			reason = c.Error(one.name)
		}
		ap.note(one.name, failure(o.outcome(ctx, one.name, before), refusal(reason)))
		o.set.Log.Warn("an application that was applied does not run", "app", one.name, "error", err)
	default:
		ap.refuse(one.name, ap.placed(one.name, err))
	}
}

// revision is the number of the revision that an application should run; 0 for no application.
func (o *Operator) revision(ctx context.Context, app string) (int, error) {
	record, err := store.Get(ctx, o.set.Target.Store, store.AppKey(app))
	if err != nil {
		return 0, fmt.Errorf("application %q: its record: %w", app, err)
	}
	return int(record.Record.Revision), nil
}

// outcome compares the revision that an application should run with the number before the request; 0 for no application.
func (o *Operator) outcome(ctx context.Context, app string, before int) helvetype.Outcome {
	now, err := o.revision(context.WithoutCancel(ctx), app)
	switch {
	case err != nil:
		return failure(helvetype.Outcome{Change: changeChanged}, err)
	case before == 0:
		return helvetype.Outcome{Change: changeCreated, Revision: now}
	case now == before:
		return helvetype.Outcome{Change: changeUnchanged, Revision: now}
	}
	return helvetype.Outcome{Change: changeChanged, Revision: now}
}

// placed is the error of an application that the node refuses, with its place in the file.
func (ap *apply) placed(app string, err error) error {
	if _, ok := errors.AsType[*helvetype.OperationError](err); ok {
		return err
	}
	if e, ok := errors.AsType[*policy.LoadError](err); ok {
		return mistaken(ap.file.Place(app, e.Deployment, e.Option(), err))
	}
	if errors.Is(err, deploy.ErrSuperseded) || errors.Is(err, deploy.ErrClosing) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return refusal(err)
	}
	if all, ok := errors.AsType[config.Mistakes](err); ok {
		return mistaken(all)
	}
	if _, taken := errors.AsType[*deploy.RouteTakenError](err); taken {
		return mistaken(ap.file.Place(app, "", "route_prefix", err))
	}
	return mistaken(ap.file.Place(app, "", "", err))
}

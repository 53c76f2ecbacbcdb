package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/plan"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/settings"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Plan says what Apply would do, and changes nothing. Applications are built for it, as for an apply. An error is for a file in which an application is
// refused, because a plan that leaves it out would promise too much.
func (o *Operator) Plan(ctx context.Context, r helvetype.ApplyRequest) (p helvetype.Plan, err error) {
	file, err := o.readFile(ctx, r)
	if err != nil {
		return p, err
	}
	if err := o.current(r.If); err != nil {
		return p, err
	}
	p.Generation = o.Generation()
	ap := &apply{o: o, r: r, file: file, outcomes: map[string]helvetype.Outcome{}, refused: map[string]error{}, claims: map[string]*claim.Claim{}, number: math.MaxUint64, plans: true}
	for _, app := range file.Applications {
		ap.claims[app.Name] = claim.Never() // nothing is taken over
	}
	defer ap.unpin()
	p.Applications = []helvetype.ApplicationPlan{}
	for _, one := range ap.load(ctx) {
		of, _, err := o.plan(ctx, one.app, ap.nextSettings)
		if err != nil {
			ap.refuse(one.name, ap.placed(one.name, err))
			continue
		}
		p.Applications = append(p.Applications, of)
	}
	if err := ap.refusals(); err != nil {
		return p, err
	}
	obsolete := ap.obsolete()
	ap.warnOfAll(obsolete)
	for _, app := range obsolete {
		of, err := o.planDelete(ctx, app)
		if err != nil {
			return p, err
		}
		p.Applications = append(p.Applications, of)
	}
	slices.SortFunc(p.Applications, func(a, b helvetype.ApplicationPlan) int { return strings.Compare(a.Name, b.Name) })
	if p.Settings, err = ap.planSettings(ctx); err != nil {
		return p, err
	}
	if p.Capacity, err = ap.planCapacity(ctx, p.Applications); err != nil {
		return p, err
	}
	p.Warnings = append(slices.Clone(file.Warnings), ap.warnings...)
	return p, nil
}

// PlanRollback says what Rollback would do. Revision 0 is the one before the present one.
func (o *Operator) PlanRollback(ctx context.Context, app string, revision int) (p helvetype.Plan, err error) {
	if err := o.known(app); err != nil {
		return p, err
	}
	p.Generation = o.Generation()
	def, err := o.former(ctx, app, revision)
	if err != nil {
		return p, err
	}
	return o.planOne(ctx, p, def)
}

// planOne completes a plan whose only change is that of one application.
func (o *Operator) planOne(ctx context.Context, p helvetype.Plan, def deploy.App) (helvetype.Plan, error) {
	one, _, err := o.plan(ctx, def, func(now settings.Node) settings.Node { return now })
	if err != nil {
		return p, refusal(err)
	}
	p.Applications, p.Warnings = []helvetype.ApplicationPlan{one}, def.Warnings()
	return p, nil
}

// PlanPatch says what Patch would do, and changes nothing. It makes the checks of Patch, except for a rollout that is in its way when the time has come.
func (o *Operator) PlanPatch(ctx context.Context, app string, options json.RawMessage) (p helvetype.Plan, err error) {
	if err := o.absent(app, ""); err != nil {
		return p, err
	}
	p.Generation = o.Generation()
	def, err := o.patched(ctx, app, options)
	if err != nil {
		return p, err
	}
	return o.planOne(ctx, p, def)
}

// plan is the plan of a deploy of an application. settle gives the settings of the node after it.
func (o *Operator) plan(ctx context.Context, def deploy.App, settle func(settings.Node) settings.Node) (p helvetype.ApplicationPlan, next deploy.App, err error) {
	of, err := o.set.Node.Compare(ctx, def)
	if err != nil {
		return p, def, err
	}
	in := plan.Input{App: def.Graph.App, After: version(&of.Next), Same: of.Same, SameFiles: of.SameFiles, Rollback: def.RollbackOf != 0, Cleared: def.Cleared, On: of.On, Elsewhere: of.Elsewhere}
	if of.Running {
		in.Before, in.Returns = version(&of.Now), map[string]plan.Scale{}
		for name, n := range of.Returns {
			in.Returns[name] = plan.Scale{Replicas: n.Replicas, By: records.ByDeploy, ByLoad: n.ByLoad}
		}
	}
	settings, _, err := o.readSettings(ctx)
	if err != nil {
		return p, def, err
	}
	settled := settle(settings)
	in.Capacity = plan.Capacity{Now: settings.TargetCapacity, Then: settled.TargetCapacity, Rising: settings.Rising, Rises: settled.Rising}
	if err := o.observe(ctx, &in); err != nil {
		return p, def, err
	}
	p = plan.Of(in)
	switch {
	case !of.Running:
	case of.Reason == "" && !slices.ContainsFunc(p.Deployments, func(d helvetype.DeploymentPlan) bool { return d.Next != d.Wanted }): // else at another target capacity
		p.Change = plan.Unchanged
	case p.Change == plan.Unchanged:
		p.Change, p.Reason = plan.Changed, of.Reason
	}
	p.Notes = plan.Notes(p.Change, o.set.Node.Status().Applications[p.Name], int(def.RollbackOf))
	return p, of.Next, nil
}

// planCapacity is what the target capacity of a file does to the applications of the node that the file leaves as they are.
func (ap *apply) planCapacity(ctx context.Context, planned []helvetype.ApplicationPlan) (all []helvetype.CapacityChange, err error) {
	before, _, err := ap.o.readSettings(ctx)
	if err != nil {
		return nil, err
	}
	next := ap.nextSettings(before)
	capacity := plan.Capacity{Now: before.TargetCapacity, Then: next.TargetCapacity, Rising: before.Rising, Rises: next.Rising}
	if capacity.Same() {
		return nil, nil
	}
	scales, err := ap.o.scales(ctx)
	if err != nil {
		return nil, err
	}
	for _, app := range slices.Sorted(maps.Keys(ap.o.set.Node.Status().Applications)) {
		now, _, ok := ap.o.set.Node.Deployed(app, 0)
		if !ok || slices.ContainsFunc(planned, func(p helvetype.ApplicationPlan) bool { return p.Name == app }) {
			continue
		}
		in := plan.Input{App: app, Before: version(&now), After: version(&now), Capacity: capacity, Scales: scales[app]}
		all = append(all, in.ByCapacity()...)
	}
	return all, nil
}

// planDelete is the plan of the end of an application.
func (o *Operator) planDelete(ctx context.Context, app string) (p helvetype.ApplicationPlan, err error) {
	now, _, ok := o.set.Node.Deployed(app, 0)
	in := plan.Input{App: app}
	if ok {
		in.Before = version(&now)
	}
	if err := o.observe(ctx, &in); err != nil {
		return p, err
	}
	if p = plan.Of(in); !ok { // the file does not have it any more, and its failure is forgotten
		p.Change, p.Reason = plan.Deleted, "it has never run"
	}
	return p, nil
}

func version(a *deploy.App) *plan.Version {
	v := &plan.Version{Graph: a.Graph, Options: a.Options(), Below: map[string]spec.Options{}}
	for _, d := range a.Graph.Deployments {
		v.Below[d.Name] = a.Layers.Below(d)
	}
	return v
}

// observe completes the input of a plan with the numbers of replicas.
func (o *Operator) observe(ctx context.Context, in *plan.Input) error {
	scales, err := o.scales(ctx)
	if err != nil {
		return err
	}
	in.Scales, in.Running, in.Replicas = scales[in.App], map[string]int{}, map[string][]string{}
	for name, d := range o.set.Node.Status().Applications[in.App].Deployments {
		for _, r := range d.Replicas {
			if r.State == helvetype.ReplicaRunning {
				in.Running[name]++
			}
			if r.State != helvetype.ReplicaStopping && r.Resources != nil {
				in.Replicas[name] = append(in.Replicas[name], r.ID)
			}
		}
	}
	return nil
}

// scales are the numbers of replicas of the store, by application and deployment.
func (o *Operator) scales(ctx context.Context) (map[string]map[string]plan.Scale, error) {
	scales, _, err := store.List(ctx, o.set.Target.Store, store.Scales(""))
	if err != nil && scales == nil {
		return nil, err
	}
	all := map[string]map[string]plan.Scale{}
	for _, s := range scales {
		key, err := store.ParseKey(s.Key)
		if err != nil {
			continue
		}
		if all[key.App] == nil {
			all[key.App] = map[string]plan.Scale{}
		}
		all[key.App][key.Deployment] = plan.Scale{Replicas: s.Record.Replicas, By: s.Record.By, Reason: s.Record.Reason, ByLoad: s.Record.By == store.ByAutoscaler}
	}
	return all, nil
}

// known is the error for an application that is neither there nor in the store.
func (o *Operator) known(app string) error {
	if _, _, ok := o.set.Node.Deployed(app, 0); ok {
		return nil
	}
	if lost := o.set.Restorer.Lost()[app]; lost != nil {
		return nil
	}
	return o.absent(app, "")
}

// former is an application as a revision before has it.
func (o *Operator) former(ctx context.Context, app string, revision int) (deploy.App, error) {
	def, err := o.set.Restorer.Former(ctx, app, revision)
	if err != nil {
		code := helvetype.CodeFailedPrecondition
		if _, none := errors.AsType[*records.NoRevisionError](err); none {
			code = helvetype.CodeNotFound
		}
		return def, &helvetype.OperationError{
			Code: code, Message: err.Error(), Next: fmt.Sprintf("helve history %s lists the revisions", app), Err: err,
		}
	}
	return def, nil
}

// Rollback deploys a former revision again, as a new one. Revision 0 is the one before the present one. It returns when the new revision is the target.
func (o *Operator) Rollback(ctx context.Context, by helvetype.Author, app string, revision int, message string) (r helvetype.Outcome, err error) {
	if err := o.known(app); err != nil {
		return r, err
	}
	def, err := o.former(ctx, app, revision)
	if err != nil {
		return r, err
	}
	def.Message = cmp.Or(message, def.Message)
	if err := o.current(by.Seen); err != nil { // a rollback that is refused takes nothing over
		return r, err
	}
	o.claims.Take(by.Name, app) // a build of it that is under way was asked for before
	return o.change(ctx, by, def, by.Seen)
}

// change deploys an application that is there already. It returns when the store has it; the start goes on.
func (o *Operator) change(ctx context.Context, by helvetype.Author, def deploy.App, seen uint64) (r helvetype.Outcome, err error) {
	app := def.Graph.App
	done, err := o.turn(seen)
	if err != nil {
		return r, err
	}
	defer done()
	before, err := o.revision(ctx, app)
	if err != nil {
		return r, err
	}
	added, over := make(chan struct{}), make(chan error, 1)
	def.Author, def.Added, def.Unchanged = by, func() { close(added) }, nil
	go func() { over <- o.set.Node.Deploy(context.WithoutCancel(ctx), def) }()
	select {
	case <-added:
		go func() {
			if err := <-over; err != nil {
				o.set.Log.Warn("a change of an application has failed", "app", app, "error", err)
			}
		}()
	case err = <-over:
		select {
		case <-added:
		default:
			if err != nil {
				return r, refusal(err)
			}
		}
	}
	r = o.outcome(ctx, app, before)
	if r.Warnings = def.Warnings(); err != nil {
		r = failure(r, refusal(err)) // it is in the status, too
	}
	return r, nil
}

// Patch sets options of the override layer. null clears an override, and the number of replicas that an operator has set. A generation of 0 is for any. Overrides stay over deploys: see [deploy.Layers].
// They are refused while a rollout is paused or has steps behind it: see [rollout.Rollout.Held].
func (o *Operator) Patch(ctx context.Context, by helvetype.Author, app string, options json.RawMessage, seen uint64) (r helvetype.Outcome, err error) {
	if err := o.absent(app, ""); err != nil {
		return r, err
	}
	o.patching.Lock()
	defer o.patching.Unlock()
	for attempt := 1; ; attempt++ {
		now, _, _ := o.set.Node.Deployed(app, 0)
		def, err := o.patched(ctx, app, options)
		if err != nil {
			return r, err
		}
		def.Message = "options: " + strings.Join(plan.PatchedPaths(options), ", ")
		r, err = o.change(ctx, by, def, seen)
		r.Reason = deploy.NotOverridden(now.Layers.Overrides(), def.Cleared, options)
		if !errors.Is(err, deploy.ErrChanged) || seen != 0 || attempt == patchAttempts { // else the options are put over those of the deploy that has come
			return r, heldBack(err, app)
		}
	}
}

// heldBack is the error of [Operator.Patch], with the commands that end a rollout that is in its way.
func heldBack(err error, app string) error {
	if e, ok := errors.AsType[*helvetype.OperationError](err); ok && e.Next == "" && errors.Is(e, deploy.ErrRollout) {
		e.Next = fmt.Sprintf("helve resume %s and, when its rollout is over, helve set again; or helve rollback %s", app, app)
	}
	return err
}

// patchAttempts is how often overrides are put over an application anew because another deploy of it has come.
const patchAttempts = 5

// patched is an application with other overrides.
func (o *Operator) patched(ctx context.Context, app string, options json.RawMessage) (def deploy.App, err error) {
	wrong := func(format string, args ...any) error {
		return &helvetype.OperationError{
			Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf(format, args...),
			Next: fmt.Sprintf("helve config %s --effective lists the options", app),
		}
	}
	if options, err = secret.SealJSON(options); err != nil {
		return def, wrong("%s", err)
	}
	var patch map[string]json.RawMessage
	if err := json.Unmarshal(options, &patch); err != nil || patch == nil {
		return def, wrong("the options must be a JSON object")
	}
	layers := map[string]json.RawMessage{}
	if raw, ok := patch["deployments"]; ok {
		if err := json.Unmarshal(raw, &layers); err != nil || layers == nil {
			return def, wrong("deployments: must be an object of deployments by name")
		}
		delete(patch, "deployments")
	}
	def, _, ok := o.set.Node.Deployed(app, 0)
	if !ok {
		return def, o.absent(app, "")
	}
	for name := range layers {
		if !slices.ContainsFunc(def.Graph.Deployments, func(d spec.Deployment) bool { return d.Name == name }) {
			return def, o.absent(app, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(patch)) {
		if !slices.Contains(overridable, name) {
			if near := nearest.Question(name, overridable); near != "" {
				return def, wrong("%s: there is no such option%s", name, near)
			}
			return def, wrong("%s: cannot be overridden for an application; %s can, and the options of a deployment, as in helve set %s/DEPLOYMENT OPTION=VALUE", name, strings.Join(overridable, " and "), app)
		}
	}
	if len(patch) > 0 {
		if layers[""], err = json.Marshal(patch); err != nil {
			return def, err
		}
	}
	if errs := deploy.UnknownOptions(layers); len(errs) > 0 {
		return def, wrong("%s", errors.Join(errs...))
	}
	cleared := deploy.ClearsNumber(layers)
	numbers, err := deploy.ExclusiveLayers(layers)
	if err != nil {
		return def, wrong("%s", err)
	}
	all, err := deploy.MergeOverrides(def.Layers.Overrides(), layers)
	if err != nil {
		return def, wrong("%s", err)
	}
	if own := all[""]; len(own) > 0 {
		a, err := spec.Application{}.Merge(own, spec.FromOverride)
		if errs := a.Validate(); err != nil || len(errs) > 0 {
			return def, wrong("%s", errors.Join(append(errs, err)...))
		}
	}
	if errs := def.Override(all); len(errs) > 0 {
		return def, wrong("%s", errors.Join(errs...))
	}
	for _, d := range def.Graph.Deployments {
		if cleared[d.Name] {
			if _, set, err := o.set.Target.SetNumber(ctx, app, d.Name); err != nil {
				return def, err
			} else if !set || d.Options.Effective().Autoscaled() { // an autoscaler takes the number over
				delete(cleared, d.Name)
			}
		}
		if n, ok := numbers[d.Name]; ok && d.Options.Effective().Autoscaled() {
			return def, &helvetype.OperationError{
				Code: helvetype.CodeFailedPrecondition, Message: fmt.Sprintf("deployment %q of application %q: %s, and num_replicas would have no effect", d.Name, app, deploy.ErrAutoscaled),
				Next: fmt.Sprintf("helve set %s/%s autoscaling_config.min_replicas=%s sets the least number, and max_replicas the largest: the two with one value fix the number", app, d.Name, n),
			}
		}
	}
	if prefix := def.Options().RoutePrefix; def.Graph.Ingress != nil {
		def.Graph.RoutePrefix = prefix
	}
	for _, err := range def.Graph.Validate() {
		return def, wrong("%s", err)
	}
	def.Changes, def.Cleared, def.Replace, def.RollbackOf, def.Restored = def.Number, cleared, true, 0, false
	return def, nil
}

// overridable are the options of an application that an override can have.
var overridable = []string{"history_limit", "route_prefix"} //nolint:gochecknoglobals // a constant

// History has the revisions of an application that are kept.
func (o *Operator) History(ctx context.Context, app string) (h helvetype.History, err error) {
	if err := o.known(app); err != nil {
		return h, err
	}
	now, all, err := o.set.Target.History(ctx, app)
	if err != nil {
		return h, err
	}
	h.App, h.Revisions, h.FailedDeploy = app, []helvetype.RevisionEntry{}, o.set.Node.Status().Applications[app].FailedDeploy
	starting := now.Attempt != nil || o.deploying(app)
	for _, n := range all {
		e := helvetype.RevisionEntry{
			Number: n.Number, At: n.Record.At, By: n.Record.By, From: n.Record.From, Source: n.Record.Source, Message: n.Record.Message,
			State: "retired", Reason: n.Outcome.Reason, RollbackOf: int(n.Record.RollbackOf),
		}
		switch {
		case n.Err != nil:
			e.Reason = "its record cannot be read: " + n.Err.Error()
		case uint64(n.Number) == now.Revision && starting && now.Paused:
			e.State = "paused"
		case uint64(n.Number) == now.Revision && starting:
			e.State = "starting"
		case n.Outcome.State == store.Failed:
			e.State = "failed"
		case n.Outcome.State == store.Superseded:
			e.State = "superseded"
		case uint64(n.Number) == now.Revision:
			e.State = "running"
		}
		if ran := slices.IndexFunc(all, func(other records.Numbered) bool { return uint64(other.Number) == n.Record.Before }); n.Err == nil && ran >= 0 && all[ran].Err == nil {
			e.Before, e.Changes = all[ran].Number, deploy.ChangesOf(all[ran].Record, n.Record)
		}
		h.Revisions = append(h.Revisions, e)
	}
	return h, nil
}

// deploying says whether an application has not run yet in its present revision.
func (o *Operator) deploying(app string) bool {
	return o.set.Node.Status().Applications[app].Status == helvetype.ApplicationDeploying
}

// scaled puts the number of replicas that an operator has set with Scale over num_replicas, unless that has no effect.
func (o *Operator) scaled(ctx context.Context, app, deployment string, values []helvetype.EffectiveValue) error {
	n, set, err := o.set.Target.SetNumber(ctx, app, deployment)
	if i := slices.IndexFunc(values, func(v helvetype.EffectiveValue) bool { return v.Path == "num_replicas" }); set && i >= 0 && values[i].Unused == "" {
		values[i].From, values[i].Value = string(spec.FromOverride), json.RawMessage(strconv.Itoa(n))
	}
	return err
}

// Config has each option of an application with the source of its value. A user config that was set in place, and a number of replicas that was scaled, are overrides.
func (o *Operator) Config(ctx context.Context, app string) (c helvetype.EffectiveConfig, err error) {
	if err := o.absent(app, ""); err != nil {
		return c, err
	}
	now, _, _ := o.set.Node.Deployed(app, 0)
	record, err := store.Get(ctx, o.set.Target.Store, store.AppKey(app))
	if err != nil {
		return c, err
	}
	c.App, c.Revision, c.Deployments = app, int(record.Record.Revision), map[string][]helvetype.EffectiveValue{}
	if c.Submitted, err = o.Submitted(ctx, app); err != nil {
		return c, err
	}
	c.Fields = plan.Values(now.Options().Effective().Values())
	configs := o.set.Target.Configs(app, record.Record)
	for _, d := range now.Graph.Deployments {
		options := d.Options
		if set := configs[d.Name]; set.UserConfig != nil {
			layer, err := json.Marshal(map[string]json.RawMessage{"user_config": set.UserConfig})
			if err == nil {
				options, _ = options.Merge(layer, spec.FromOverride) //nolint:errcheck // it was in use
			}
		}
		c.Deployments[d.Name] = plan.Values(options.Effective().ValuesIn(d.Language))
		if err := o.scaled(ctx, app, d.Name, c.Deployments[d.Name]); err != nil {
			return c, err
		}
	}
	return c, nil
}

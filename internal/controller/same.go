package controller

import (
	"context"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/spec"
)

// Compare looks at an application as a deploy of it would, deploys nothing, and keeps nothing.
func (c *Controller) Compare(_ context.Context, def deploy.App) (of deploy.Comparison, err error) {
	if err := c.Inherit(&def); err != nil {
		return of, err
	}
	if err := def.Check(c.set.Program); err != nil {
		return of, err
	}
	if err := def.CheckDevices(c.workers.Devices()); err != nil {
		return of, err
	}
	if err := def.KeepBuild(deploy.Kept(c.workers.Dir, c.records.Code())); err != nil {
		return of, err
	}
	of.Next, of.Devices = def, c.workers.Devices().Len()
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if a := c.Apps[def.Graph.App]; a != nil && !a.EndingLocked() && a.Failure == nil { // of an application that has failed to start nothing runs
		of.Running, of.Now, of.Same = true, a.Current.Def, c.sameCodeLocked(a, &def)
		of.Now.Graph.Deployments = a.DefinedLocked()
		of.SameFiles = deploy.SameFiles(&of.Now, &of.Next)
		of.Reason = c.newRevisionLocked(a, &def)
	}
	return of, nil
}

// sameCodeLocked says which deployments of an application have the code of the deployments that run.
func (c *Controller) sameCodeLocked(a *fleet.Application, def *deploy.App) map[string]bool {
	same := map[string]bool{}
	set := deploy.Settings{Node: c.set.Node, Codec: c.set.Codec, Program: c.set.Program, Strict: c.set.Strict, OutOfLine: c.set.OutOfLine, Host: c.set.Host}
	for _, s := range def.Graph.Deployments {
		d := a.Deployments[s.Name]
		if d == nil || d.Dropped {
			continue
		}
		_, placed := def.Place(s, a.Hosts, set)
		same[s.Name] = def.Changes == d.Now.Revision.Number || placed.Code.Same(d.Now.Code, def.RollbackOf != 0)
	}
	return same
}

// newRevisionLocked says why a deploy of an application makes a revision; "" for a deploy of an application as it runs, or as it is rolled out, with the same code and options, by the
// same source. Such a deploy makes none. An application whose handles are bound to deployments of this process is always deployed, for the handles.
func (c *Controller) newRevisionLocked(there *fleet.Application, def *deploy.App) string {
	switch {
	case there == nil || there.Failure != nil || there.EndingLocked():
		return "it does not run"
	case def.RollbackOf != 0:
		return "a rollback is a revision of its own"
	case def.Bound != nil || def.Home != nil || def.Restored || !def.Replace:
		return "its program deploys it"
	case there.RolledBack != "":
		return "the last deploy, revision " + there.RolledBack + ", was rolled back, and this one takes its place"
	case there.Yields:
		return "it takes the place of a deploy that was under way"
	case there.Change != nil && there.Change.Stuck != "":
		return "its rollout has failed and is paused, and a deploy begins it again"
	case there.Own != helvetype.ApplicationRunning && !there.DeployingLocked():
		return "the node starts it again, and it does not run yet"
	case def.Source != there.Current.Def.Source:
		return fmt.Sprintf("it belongs to source %q then", def.Source)
	}
	now := &there.Current.Def
	if !deploy.SameOptions(now, def) {
		return "its options have changed"
	}
	if !deploy.SamePlaces(now, def) {
		return "its directories have changed"
	}
	for _, s := range def.Graph.Deployments {
		if d := there.Deployments[s.Name]; d == nil || d.Now.Revision != there.Current || spec.ConfigDigest(d.Now.Config.Next().Value) != spec.ConfigDigest(s.Options.UserConfig) ||
			string(d.Now.Config.Current.Value) != string(s.Options.UserConfig) {
			return "the user config of " + s.Name + " was set in place, and is that of the deploy then"
		}
	}
	for _, same := range c.sameCodeLocked(there, def) {
		if !same {
			return "its code has changed"
		}
	}
	return ""
}

// join waits for the end of the deploy of another caller, if it is under way, and wants the same. For example, an operator deploys a file with --wait whose rollout has begun already.
func (c *Controller) join(ctx context.Context, r *fleet.Revision) error {
	stuck := r.Stuck
	select {
	case <-stuck: // and was resumed since
		stuck = nil
	default:
	}
	select {
	case <-r.Settled:
	case <-stuck:
		return c.stuck(r)
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
	c.Mu.Lock()
	failed, now := r.Failure, r.App.Current
	c.Mu.Unlock()
	if failed == nil || r.First {
		return failed
	}
	c.awaitRestored(ctx, r.App, now)
	return staysError(r.App.Name, now.Number, failed)
}

// stuck is the error of a deploy whose rollout has failed and waits for an operator.
func (c *Controller) stuck(r *fleet.Revision) error {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	why := ""
	if ch := r.App.Change; ch != nil {
		why = ch.Stuck
	}
	return fmt.Errorf("application %s, revision %d: %w; helve resume, helve rollback or another deploy ends that: %s", r.App.Name, r.Number, deploy.ErrStuck, why)
}

// staysError is the error of a deploy that has failed, of an application that runs in the revision before.
func staysError(app string, revision int, err error) error {
	return fmt.Errorf("application %s stays at revision %d: %w", app, revision, err)
}

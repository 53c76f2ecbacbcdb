package controller

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/spec"
)

// Compare looks at an application as a deploy of it would, and deploys nothing. It may keep executables.
func (c *Controller) Compare(ctx context.Context, def deploy.App) (of deploy.Comparison, err error) {
	if err := c.Inherit(&def); err != nil {
		return of, err
	}
	if err := def.Check(c.set.Program); err != nil {
		return of, err
	}
	if err := def.CheckDevices(c.workers.Devices()); err != nil {
		return of, err
	}
	keep := deploy.KeepInDir(c.workers.Dir)
	if blobs := c.records.Code(); blobs != nil {
		keep = deploy.KeepInBlobs(ctx, blobs)
	}
	if err := def.KeepBuild(keep); err != nil {
		return of, err
	}
	of.Next, of.Devices = def, c.workers.Devices().Len()
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if a := c.Apps[def.Graph.App]; a != nil && !a.EndingLocked() && a.Failure == nil { // of an application that has failed to start nothing runs
		of.Running, of.Now, of.Same = true, a.Current.Def, c.sameCodeLocked(a, &def)
		of.SameFiles = deploy.SameFiles(&of.Now, &of.Next)
		of.Unchanged = c.unchangedLocked(a, &def)
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

// unchangedLocked says that an application is deployed as it runs: with the same code and options, by the same source. Such a deploy makes no revision. An
// application whose handles are bound to deployments of this process is always deployed, for the handles.
func (c *Controller) unchangedLocked(there *fleet.Application, def *deploy.App) bool {
	if there == nil || there.Own != helvetype.ApplicationRunning || there.Failure != nil || there.Previous != nil || there.RolledBack != "" ||
		def.RollbackOf != 0 || def.Bound != nil || def.Home != nil || def.Restored || def.Source != there.Current.Def.Source {
		return false
	}
	now := &there.Current.Def
	if !deploy.SameOptions(now, def) || !deploy.SamePlaces(now, def) {
		return false
	}
	for _, s := range def.Graph.Deployments { // a user config that was set in place since is replaced by a deploy
		d := there.Deployments[s.Name]
		if d == nil || d.Now.Revision != there.Current || string(d.Now.Config.Current.Value) != string(s.Options.UserConfig) {
			return false
		}
		if spec.ConfigDigest(d.Now.Config.Next().Value) != spec.ConfigDigest(s.Options.UserConfig) {
			return false
		}
	}
	for _, same := range c.sameCodeLocked(there, def) {
		if !same {
			return false
		}
	}
	return true
}

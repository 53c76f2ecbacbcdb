package controller

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/spec"
)

// inherit puts the overrides of the application as it is deployed now over one that is about to take its place ([deploy.App.Inherit]).
func (c *Controller) inherit(def *deploy.App) error {
	now, _, ok := c.Deployed(def.Graph.App, 0)
	if !ok || def.RollbackOf != 0 || def.Changes != 0 || def.Restored {
		return nil
	}
	return def.Inherit(&now)
}

// Compare looks at an application as a deploy of it would, and deploys nothing. It may keep executables.
func (c *Controller) Compare(ctx context.Context, def deploy.App) (of deploy.Comparison, err error) {
	if err := c.inherit(&def); err != nil {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.apps[def.Graph.App]; a != nil && !a.endingLocked() {
		of.Running, of.Now, of.Same = true, a.current.def, a.sameCodeLocked(&def)
		of.Unchanged = c.unchangedLocked(a, &def)
	}
	return of, nil
}

// sameCodeLocked says which deployments of an application have the code of the deployments that run.
func (a *application) sameCodeLocked(def *deploy.App) map[string]bool {
	same := map[string]bool{}
	set := deploy.Settings{Node: a.c.set.Node, Codec: a.c.set.Codec, Program: a.c.set.Program, Strict: a.c.set.Strict, OutOfLine: a.c.set.OutOfLine, Host: a.c.set.Host}
	for _, s := range def.Graph.Deployments {
		d := a.deployments[s.Name]
		if d == nil || d.dropped {
			continue
		}
		_, placed := def.Place(s, a.hosts, set)
		same[s.Name] = def.Changes == d.now.revision.number || placed.Code != "" && placed.Code == d.now.code
	}
	return same
}

// unchangedLocked says that an application is deployed as it runs: with the same code and options, by the same source. Such a deploy makes no revision. An
// application whose handles are bound to deployments of this process is always deployed, for the handles.
func (c *Controller) unchangedLocked(there *application, def *deploy.App) bool {
	if there == nil || there.status != helvetype.ApplicationRunning || there.failure != nil || there.previous != nil || there.rolledBack != "" ||
		def.RollbackOf != 0 || def.Bound != nil || def.Home != nil || def.Restored || def.Source != there.current.def.Source {
		return false
	}
	now := &there.current.def
	if !deploy.SameOptions(now, def) {
		return false
	}
	for _, s := range def.Graph.Deployments { // a user config that was set in place since is replaced by a deploy
		d := there.deployments[s.Name]
		if d == nil || d.now.revision != there.current || string(d.now.config.Current.Value) != string(s.Options.UserConfig) {
			return false
		}
		if spec.ConfigDigest(d.now.config.Next().Value) != spec.ConfigDigest(s.Options.UserConfig) {
			return false
		}
	}
	for _, same := range there.sameCodeLocked(def) {
		if !same {
			return false
		}
	}
	return true
}

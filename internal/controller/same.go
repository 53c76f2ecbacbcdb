package controller

import (
	"context"
	"fmt"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
)

// Compare looks at an application as a deploy of it would, deploys nothing, and keeps nothing.
func (c *Controller) Compare(ctx context.Context, def deploy.App) (of deploy.Comparison, err error) {
	if err := c.Inherit(&def); err != nil {
		return of, err
	}
	if err := def.Check(c.set.Program); err != nil {
		return of, err
	}
	if err := def.CheckRoom(c.workers.Ledger().Node()); err != nil {
		return of, err
	}
	if err := def.KeepBuild(deploy.Kept(c.workers.Dir, c.records.Code())); err != nil {
		return of, err
	}
	of.Next, of.On, of.Elsewhere = def, c.workers.Ledger().Node(), c.workers.Ledger().Elsewhere(def.Graph.App)
	look := def
	if def.Changes == 0 { // its files are where they were read just now, and the node has not kept them
		look.Python.Packed = nil
	}
	if err := c.loadPolicies(ctx, &look); err != nil {
		return of, err
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if a := c.Apps[def.Graph.App]; a != nil && !a.EndingLocked() && a.Failure == nil { // of an application that has failed to start nothing runs
		of.Running, of.Now, of.Same = true, a.Current.Def, a.SameCodeLocked(&def, c.placing())
		of.Now.Graph.Deployments = a.DefinedLocked()
		of.SameFiles = deploy.SameFiles(&of.Now, &of.Next)
		of.Returns = a.ReturnsLocked()
		of.Reason = a.NewRevisionReasonLocked(&def, c.placing())
	}
	return of, nil
}

// placing are the settings by which the code of deployments is told.
func (c *Controller) placing() deploy.Settings {
	return deploy.Settings{Node: c.set.Node, Codec: c.set.Codec, Program: c.set.Program, Strict: c.set.Strict, OutOfLine: c.set.OutOfLine, Host: c.set.Host}
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

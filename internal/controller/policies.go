package controller

import (
	"context"

	"github.com/helve-serve/helve/internal/deploy"
)

// loadPolicies refuses an application to deploy with an autoscaling policy that cannot be loaded. A policy that the application has already is not looked at, and a rollback is never
// refused for one. For example, a file names a policy whose module is not there: the revision that runs stays as it is.
func (c *Controller) loadPolicies(ctx context.Context, def *deploy.App) error {
	if def.Restored || def.RollbackOf != 0 || c.Scaler == nil {
		return nil
	}
	all := def.ScalingPolicies(c.workers.NewApp(def.Graph.App), c.placing())
	if len(all) == 0 {
		return nil
	}
	c.Mu.Lock()
	all = c.Apps[def.Graph.App].NewPoliciesLocked(all)
	c.Mu.Unlock()
	if err := c.Scaler.LoadPolicies(ctx, all); err != nil {
		return err
	}
	if def.Taken != nil && def.Taken() {
		return deploy.ErrSuperseded
	}
	return nil
}

package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/restore"
)

// restoreTime is how long [Node.Restore] waits for the workers of the node before: they dial within 50 ms.
const restoreTime = 2 * time.Second

// collectEvery is the period in which blobs are collected that no revision needs.
const collectEvery = time.Hour

// Restore starts the applications of the store again, which a node before this one has deployed. It must be called after UseState and before any deploy.
// Workers of that node that live on are taken over, everything else is started. Each application is the target when Restore returns; ready is closed
// when the replicas that were taken over serve again, so that a listener that is opened then refuses nothing.
//
// For example, a node with a model that takes a minute to load is killed: the next one has the worker with the model, and ready is closed after 50 ms.
// After a restart of the machine there is no worker, ready is closed at once, and requests are answered with 503 until the model is loaded.
//
// An application that does not start is tried again for ever. One that cannot be loaded is in the status with the reason, and is tried again too.
func (n *Node) Restore() (ready <-chan struct{}, err error) {
	if err := n.operator.RestoreSettings(n.ctx); err != nil {
		n.log.Error("the settings that files have set are not restored", "error", err)
	}
	if err := n.restorer.All(n.ctx, n.wg.Go); err != nil {
		return nil, err
	}
	taken := make(chan struct{})
	n.wg.Go(func() {
		defer close(taken)
		ctx, cancel := context.WithTimeout(n.ctx, restoreTime)
		defer cancel()
		n.AwaitTakenOver(ctx)
	})
	n.wg.Go(func() { collect(n.ctx, n.restorer.Collect, n.log) })
	return taken, nil
}

// collect removes the blobs that no revision needs, at once and in periods. A node that was killed has left some, and so does a deploy that is refused after its code was kept. For
// example, an application is deployed each minute by a robot, with a mistake that only its start shows.
func collect(ctx context.Context, do func(context.Context) error, log *slog.Logger) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			log.Error("blobs that no revision needs are not removed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Rollback deploys an application again as a revision before has it, with its code; revision 0 is the one that ran before the present one. by is for people.
func (n *Node) Rollback(ctx context.Context, app string, revision int, by string) error {
	return n.restorer.Rollback(ctx, app, revision, restore.Change{Author: helvetype.Author{Name: by}})
}

// Delete drains an application and stops its replicas. An application that cannot be restored is deleted from the store.
func (n *Node) Delete(ctx context.Context, app string) error {
	if n.lost(app) != nil {
		return n.restorer.Delete(ctx, app)
	}
	_, alone := n.failedAlone(app)
	n.forgetFailed(app)
	if alone {
		return nil
	}
	return n.Controller.Delete(ctx, app)
}

// BeginDelete takes an application out of the target; [deploy.ErrChanged] if source is not "" and another source has the application. The function that it gives
// drains the application and stops its replicas.
func (n *Node) BeginDelete(ctx context.Context, app, source string) (end func(context.Context) error, err error) {
	if n.lost(app) != nil {
		return func(context.Context) error { return nil }, n.restorer.Delete(ctx, app)
	}
	if f, alone := n.failedAlone(app); alone {
		if source != "" && f.Source != source {
			return nil, deploy.ErrChanged
		}
		n.forgetFailed(app)
		return func(context.Context) error { return nil }, nil
	}
	n.forgetFailed(app)
	return n.Controller.BeginDelete(ctx, app, source)
}

// Missing says why there is no application of the name that serves.
func (n *Node) Missing(app string) error {
	if why := n.lost(app); why != nil {
		return fmt.Errorf("application %q cannot be restored: %w", app, why)
	}
	if _, alone := n.failedAlone(app); alone {
		return fmt.Errorf("application %q has never run: its deploy has failed", app)
	}
	return n.Controller.Missing(app)
}

// Readiness says of every application whether it answers requests.
func (n *Node) Readiness() map[string]bool {
	all := n.Controller.Readiness()
	for app := range n.restorer.Lost() {
		if _, there := all[app]; !there {
			all[app] = false
		}
	}
	return all
}

// lost is why an application cannot be restored; nil for others.
func (n *Node) lost(app string) error {
	if _, _, there := n.Deployed(app, 0); there { // it was deployed anew
		return nil
	}
	return n.restorer.Lost()[app]
}

// addLost adds the applications that cannot be restored to a status.
func (n *Node) addLost(to map[string]helvetype.ApplicationStatus) {
	for app, why := range n.restorer.Lost() {
		if _, there := to[app]; !there {
			to[app] = helvetype.ApplicationStatus{
				Status: helvetype.ApplicationDeployFailed, Message: "it cannot be restored: " + why.Error(), Deployments: map[string]helvetype.DeploymentStatus{},
			}
		}
	}
}

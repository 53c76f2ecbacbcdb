package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

// Restart replaces replicas by new ones of the same revision, within the budgets of rollouts: those of an application, of one deployment if that is not "", or
// one replica if that is not "".
func (o *Operator) Restart(_ context.Context, by helvetype.Author, app, deployment, replica string) error {
	done, err := o.turn(by.Seen)
	if err != nil {
		return err
	}
	defer done()
	if err := o.absent(app, deployment); err != nil {
		return err
	}
	err = o.set.Node.Restart(app, deployment, replica, by.Name)
	if err != nil && replica != "" && !o.runs(app, replica) {
		return &helvetype.OperationError{Code: helvetype.CodeNotFound, Message: err.Error(), Next: "helve status " + app}
	}
	return steered(err, app)
}

// runs says whether a replica of an application runs.
func (o *Operator) runs(app, replica string) bool {
	for _, d := range o.set.Node.Status().Applications[app].Deployments {
		if slices.ContainsFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.ID == replica && r.State == helvetype.ReplicaRunning }) {
			return true
		}
	}
	return false
}

// Pause stops the rollout of an application where it is, and Resume goes on with it.
func (o *Operator) Pause(ctx context.Context, by helvetype.Author, app string) error {
	done, err := o.turn(by.Seen)
	if err != nil {
		return err
	}
	defer done()
	if err := o.absent(app, ""); err != nil {
		return err
	}
	return steered(o.set.Node.PauseRollout(ctx, app, by.Name), app)
}

// Resume goes on with a rollout that Pause has stopped, else it ends the wait of a step. said is how the rollout stands then.
func (o *Operator) Resume(ctx context.Context, by helvetype.Author, app string) (said string, err error) {
	done, err := o.turn(by.Seen)
	if err != nil {
		return "", err
	}
	defer done()
	if err := o.absent(app, ""); err != nil {
		return "", err
	}
	if err := steered(o.set.Node.ResumeRollout(ctx, app, by.Name), app); err != nil {
		return "", err
	}
	return resumed(app, o.set.Node.Status().Applications[app].Rollout), nil
}

// resumed says how a rollout stands after a resume. For example, the first resume of a rollout that was paused while its step waited ends the pause alone.
func resumed(app string, r *helvetype.Rollout) string {
	if r != nil && r.State == "waiting" {
		return fmt.Sprintf("the rollout of %s waits at step %d of %d; helve resume %s again ends the step", app, r.Step, r.Steps, app)
	}
	return fmt.Sprintf("the rollout of %s goes on; follow it with helve status -w", app)
}

// steered is the error of a change of a rollout, with the command that shows how it stands.
func steered(err error, app string) error {
	err = refusal(err)
	e, ok := errors.AsType[*helvetype.OperationError](err)
	switch {
	case !ok || e.Next != "":
	case errors.Is(e, deploy.ErrRollout):
		e.Next = "helve pause " + app + ", helve rollback " + app + ", or wait: helve status -w"
	default:
		e.Next = "helve status " + app
	}
	return err
}

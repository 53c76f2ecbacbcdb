package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
)

// Restart replaces replicas by new ones of the same revision, within the budgets of rollouts: those of an application, of one deployment if that is not "", or
// one replica if that is not "".
func (o *Operator) Restart(context.Context, helvetype.Author, string, string, string) error {
	return unimplemented("restart")
}

// Pause stops the rollout of an application where it is, and Resume goes on with it.
func (o *Operator) Pause(context.Context, helvetype.Author, string) error {
	return unimplemented("pause")
}

// Resume goes on with a rollout that Pause has stopped.
func (o *Operator) Resume(context.Context, helvetype.Author, string) error {
	return unimplemented("resume")
}

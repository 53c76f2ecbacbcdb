package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
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
	o.setting.Lock()
	defer o.setting.Unlock()
	before, kv, err := o.readSettings(ctx)
	if err != nil {
		return err
	}
	next, err := before.Traced(c, o.set.Trace.Ratio())
	if err != nil {
		return err
	}
	if _, err := o.set.Node.UseSettings(next, false); err != nil {
		return err
	}
	if _, _, err := o.writeSettings(ctx, kv, before, next, by.Name); err != nil {
		o.set.Node.UseSettings(before, false) //nolint:errcheck // they held until now
		return err
	}
	o.set.Log.Info("the tracing of the node has changed", "sampling_ratio", o.set.Trace.Ratio(), "slow_from", o.set.Trace.SlowFrom(), "by", by.Name)
	return nil
}

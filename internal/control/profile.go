package control

import (
	"context"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/profile"
)

// Profile takes a profile of the process of a replica: see [profiler.Profiler.Take].
func (o *Operator) Profile(ctx context.Context, of helvetype.Object, kind profile.Kind, d time.Duration) ([]byte, error) {
	file, err := o.set.Profiler.Take(ctx, of, kind, d)
	return file, refusal(err)
}

// LastProfile joins the continuous profiles of the last time d of the process of a replica.
func (o *Operator) LastProfile(_ context.Context, of helvetype.Object, d time.Duration) ([]byte, error) {
	file, err := o.set.Profiler.Last(of, d)
	return file, refusal(err)
}

// Profiling says whether continuous profiles of all replicas are taken.
func (o *Operator) Profiling(context.Context) (profile.Continuous, error) {
	return o.set.Profiler.Continuous(), nil
}

// SetProfiling turns continuous profiles of all replicas on or off.
func (o *Operator) SetProfiling(_ context.Context, on bool) (profile.Continuous, error) {
	o.set.Profiler.SetContinuous(on)
	return o.set.Profiler.Continuous(), nil
}

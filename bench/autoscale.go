package main

import (
	"context"
	"fmt"
	"time"

	"github.com/helve-serve/helve/bench/scaling"
	"github.com/helve-serve/helve/bench/stat"
)

// autoscaleRows are the autoscaler in this process: how soon it acts, and what its looks cost.
func autoscaleRows(b *bench) []measurement {
	within := func(name string, bar time.Duration, take func(context.Context) (time.Duration, error)) measurement {
		return measurement{name: fmt.Sprintf("%s / %s", name, bar), bar: 1, measure: func() (result, error) {
			var all []float64
			for range b.rounds {
				took, err := take(b.ctx)
				if err != nil {
					return result{}, err
				}
				all = append(all, took.Seconds())
			}
			v := stat.Median(all)
			return result{fmt.Sprintf("%.1f ms", v*1e3), bar.String(), v / bar.Seconds()}, nil
		}}
	}
	deployments, replicas := 500, 20
	if b.rounds == 1 {
		deployments, replicas = 50, 2
	}
	const most = 5.0 // milliseconds
	return []measurement{
		within("load step, the second replica", 3*time.Second, scaling.LoadStep),
		within("wake from zero, Go in the node", 50*time.Millisecond, scaling.Wake),
		{name: fmt.Sprintf("CPU of a look at %d deployments of %d replicas / 5 ms", deployments, replicas), bar: 1, measure: func() (result, error) {
			v, err := scaling.Look(b.ctx, deployments, replicas, b.rounds, b.length)
			return result{fmt.Sprintf("%.2f ms", v), "5 ms", v / most}, err
		}},
	}
}

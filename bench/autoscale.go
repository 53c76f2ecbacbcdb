package main

import (
	"context"
	"fmt"
	"os"
	"sync"
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
	python := func(take func(context.Context) (time.Duration, error)) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (time.Duration, error) {
			if err := os.Setenv("HELVE_PYTHON", pythonPath()); err != nil { // the node finds the interpreter of its workers there
				return 0, err
			}
			return take(ctx)
		}
	}
	deployments, replicas := 500, 20
	if b.rounds == 1 {
		deployments, replicas = 50, 2
	}
	const most, few = 5.0, 10 // milliseconds; a part of the deployments
	const mostIdle, mostLoaded = 10.0, 30.0
	rounds := 3*(b.rounds-1) + 1 // the charts of a node take some of them more time
	look := sync.OnceValues(func() (float64, error) { return scaling.Look(b.ctx, deployments, replicas, rounds, b.length) })
	charts := func(name string, load bool, most float64) measurement {
		return measurement{name: fmt.Sprintf("CPU of the charts of %d deployments of %d replicas, %s / %.0f ms", deployments, replicas, name, most), bar: 1, measure: func() (result, error) {
			v, err := scaling.Charts(b.ctx, deployments, replicas, load, b.rounds)
			return result{fmt.Sprintf("%.2f ms", v), fmt.Sprintf("%.0f ms", most), v / most}, err
		}}
	}
	return []measurement{
		charts("idle", false, mostIdle),
		charts("each with a call", true, mostLoaded),
		within("load step, the second replica", 3*time.Second, scaling.LoadStep),
		within("wake from zero, Go in the node", 50*time.Millisecond, scaling.Wake),
		within("wake from zero, Go worker", time.Second, scaling.WakeWorker),
		within("wake from zero, Python", time.Second, python(scaling.WakePython)),
		within("wake from zero, Python with a warm spare", 200*time.Millisecond, python(scaling.WakeSpare)),
		{name: fmt.Sprintf("CPU of a look at %d deployments of %d replicas / 5 ms", deployments, replicas), bar: 1, measure: func() (result, error) {
			v, err := look()
			return result{fmt.Sprintf("%.2f ms", v), "5 ms", v / most}, err
		}},
		{name: fmt.Sprintf("CPU of a look at one deployment, among %d / among %d", deployments, deployments/few), bar: 1.5, measure: func() (result, error) {
			of, err := look()
			if err != nil {
				return result{}, err
			}
			least, err := scaling.Look(b.ctx, deployments/few, replicas, rounds, b.length)
			ours, theirs := of/float64(deployments), least/float64(deployments/few)
			return result{fmt.Sprintf("%.1f us", ours*1e3), fmt.Sprintf("%.1f us", theirs*1e3), ours / theirs}, err
		}},
	}
}

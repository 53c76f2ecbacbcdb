// Package scaling measures the autoscaler of a node in this process: how soon it acts, and the cost of its looks.
package scaling

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
	"github.com/helve-serve/helve/helvetype"
)

// Loaded is a deployment whose calls take a while, or until they are let go. It counts its replicas as they start.
type Loaded struct {
	started chan struct{}
	release chan struct{}
}

func (l *Loaded) Work(ctx context.Context, n int) (int, error) {
	select {
	case <-time.After(time.Duration(n)):
	case <-ctx.Done():
	}
	return n, nil
}

func (l *Loaded) Hold(ctx context.Context, n int) (int, error) {
	select {
	case <-l.release:
	case <-ctx.Done():
	}
	return n, nil
}

func (l *Loaded) construct(context.Context) (*Loaded, error) {
	l.started <- struct{}{}
	return l, nil
}

// following are the options of a deployment whose number of replicas follows the load between bounds.
func following(least, most, first int) helve.Options {
	return helve.Options{Autoscaling: &helvetype.AutoscalingOptions{MinReplicas: &least, MaxReplicas: most, InitialReplicas: &first, TargetOngoingRequests: 2}}
}

// run starts deployments in a node in this process, all with the same options.
func run(ctx context.Context, deployments int, o helve.Options) (*helve.System, *Loaded, error) {
	l := &Loaded{started: make(chan struct{}, 1<<16), release: make(chan struct{})}
	o.MaxOngoingRequests = new(100)
	sys, err := helve.Config{}.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("load")
		for i := range deployments {
			h := helve.Deploy(app, fmt.Sprintf("D%d", i), l.construct, o)
			if i == 0 {
				app.Ingress(helve.MethodOf(h, (*Loaded).Work))
			}
		}
		return app, nil
	})
	return sys, l, err
}

// LoadStep is the time from a load of 16 callers, at a deployment of one replica, to its second replica.
func LoadStep(ctx context.Context) (time.Duration, error) {
	sys, l, err := run(ctx, 1, following(1, 8, 1))
	if err != nil {
		return 0, err
	}
	<-l.started
	h, err := helve.HandleOf[*Loaded](sys, "load", "D0")
	if err != nil {
		return 0, errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
	}
	work := helve.MethodOf(h, (*Loaded).Work)
	loaded, stop := context.WithCancel(ctx)
	var callers sync.WaitGroup
	begin := time.Now()
	for range 16 {
		callers.Go(func() {
			for loaded.Err() == nil {
				work.Call(loaded, int(100*time.Millisecond)) //nolint:errcheck // the last calls end with loaded
			}
		})
	}
	select {
	case <-l.started:
	case <-time.After(time.Minute):
		err = errors.New("no second replica in a minute")
	}
	took := time.Since(begin)
	stop()
	callers.Wait()
	return took, errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
}

// turnsPerSecond is how often the autoscaler looks at a deployment with load.
const turnsPerSecond = 10

// Look is the processor time in milliseconds of one look of the autoscaler at many deployments, each of which has a call that runs. It is the difference of two nodes, one after the other: the
// first has the same deployments with fixed numbers of replicas, because the other work of a node, such as its charts of the last hour, is no part of a look. Each counts as the median of
// rounds of a length.
func Look(ctx context.Context, deployments, replicas, rounds int, length time.Duration) (float64, error) {
	without, err := busy(ctx, deployments, helve.Options{NumReplicas: &replicas}, true, rounds, length)
	if err != nil {
		return 0, err
	}
	with, err := busy(ctx, deployments, following(replicas, replicas, replicas), true, rounds, length)
	return (with - without) / turnsPerSecond, err
}

// chartsPeriod is the time from one addition to the charts of a node to the next.
const chartsPeriod = 5 * time.Second

// Charts is the processor time in milliseconds that a node with many deployments takes in the period of its charts, in which it adds each deployment and replica to them once. With load each
// deployment has a call that runs, else nothing changes.
func Charts(ctx context.Context, deployments, replicas int, load bool, rounds int) (float64, error) {
	second, err := busy(ctx, deployments, helve.Options{NumReplicas: &replicas}, load, rounds, chartsPeriod)
	return second * chartsPeriod.Seconds(), err
}

// busy is the processor time in milliseconds that a node takes in a second, with load while each of its deployments has a call that runs.
func busy(ctx context.Context, deployments int, o helve.Options, load bool, rounds int, length time.Duration) (float64, error) {
	sys, l, err := run(ctx, deployments, o)
	if err != nil {
		return 0, err
	}
	var held []*helve.Response[int]
	for i := range deployments {
		if !load {
			break
		}
		h, of := helve.HandleOf[*Loaded](sys, "load", fmt.Sprintf("D%d", i))
		if of != nil {
			err = of
			break
		}
		held = append(held, helve.MethodOf(h, (*Loaded).Hold).Remote(ctx, 0))
	}
	runtime.GC()            // of the start
	time.Sleep(time.Second) // each has been seen to have load
	var all []float64
	for range rounds {
		before, of := proc.SelfCPU()
		begin := time.Now()
		time.Sleep(length)
		after, then := proc.SelfCPU()
		err = errors.Join(err, of, then)
		all = append(all, (after-before).Seconds()*1e3/time.Since(begin).Seconds())
	}
	close(l.release)
	for _, r := range held {
		_, of := r.Result(ctx)
		err = errors.Join(err, of)
	}
	return stat.Median(all), errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
}

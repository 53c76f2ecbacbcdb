// Package scaling measures the autoscaler of a node in this process: how soon it acts, and what its looks cost.
package scaling

import (
	"context"
	"errors"
	"fmt"
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

// autoscaled starts deployments whose numbers of replicas follow the load between bounds.
func autoscaled(ctx context.Context, deployments, least, most, first int) (*helve.System, *Loaded, error) {
	l := &Loaded{started: make(chan struct{}, 1<<16), release: make(chan struct{})}
	sys, err := helve.Config{}.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("load")
		for i := range deployments {
			h := helve.Deploy(app, fmt.Sprintf("D%d", i), l.construct, helve.Options{
				MaxOngoingRequests: new(100), Autoscaling: &helvetype.AutoscalingOptions{MinReplicas: &least, MaxReplicas: most, InitialReplicas: &first, TargetOngoingRequests: 2},
			})
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
	sys, l, err := autoscaled(ctx, 1, 1, 8, 1)
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

// Wake is the time of the first call of a deployment of no replicas.
func Wake(ctx context.Context) (time.Duration, error) {
	sys, _, err := autoscaled(ctx, 1, 0, 2, 0)
	if err != nil {
		return 0, err
	}
	h, err := helve.HandleOf[*Loaded](sys, "load", "D0")
	if err != nil {
		return 0, errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
	}
	begin := time.Now()
	_, err = helve.MethodOf(h, (*Loaded).Work).Call(ctx, 0)
	return time.Since(begin), errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
}

// turnsPerSecond is how often the autoscaler looks at a deployment with load.
const turnsPerSecond = 10

// Look is the processor time in milliseconds of one look of the autoscaler at many deployments with load, as the median of rounds of a length each.
func Look(ctx context.Context, deployments, replicas, rounds int, length time.Duration) (float64, error) {
	sys, l, err := autoscaled(ctx, deployments, replicas, replicas, replicas)
	if err != nil {
		return 0, err
	}
	var held []*helve.Response[int]
	for i := range deployments {
		h, of := helve.HandleOf[*Loaded](sys, "load", fmt.Sprintf("D%d", i))
		if of != nil {
			err = of
			break
		}
		held = append(held, helve.MethodOf(h, (*Loaded).Hold).Remote(ctx, 0))
	}
	time.Sleep(time.Second) // each has been seen to have load
	var all []float64
	for range rounds {
		before, of := proc.SelfCPU()
		begin := time.Now()
		time.Sleep(length)
		after, then := proc.SelfCPU()
		err = errors.Join(err, of, then)
		all = append(all, (after-before).Seconds()*1e3/time.Since(begin).Seconds()/turnsPerSecond)
	}
	close(l.release)
	for _, r := range held {
		_, of := r.Result(ctx)
		err = errors.Join(err, of)
	}
	return stat.Median(all), errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
}

package scaling

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/proc"
)

// Waker answers at once.
type Waker struct{}

// Echo gives back its input.
func (Waker) Echo(_ context.Context, s string) (string, error) { return s, nil }

// echo is Waker as a caller sees it, in Go and in Python.
type echo interface {
	Echo(context.Context, string) (string, error)
}

// asleep are the options of a deployment that has no replica before a call comes.
func asleep(isolation helve.Isolation) helve.Options {
	o := following(0, 2, 0)
	o.Isolation = isolation
	return o
}

func waker(isolation helve.Isolation) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("wake")
		h := helve.Deploy(app, "Waker", func(context.Context) (Waker, error) { return Waker{}, nil }, asleep(isolation))
		app.Ingress(helve.MethodOf(h, Waker.Echo))
		return app, nil
	}
}

// BuildWaker is the application of [WakeWorker], for the workers that run it.
func BuildWaker() (*helve.App, error) { return waker(helve.Process)() }

func python(warm bool) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("wake")
		o := asleep("")
		o.WarmSpare = warm
		h := helve.Python[echo](app, "Waker", "pybench.app:Echo", helve.Args{}, o)
		app.Ingress(helve.MethodOf(h, echo.Echo))
		return app, nil
	}
}

// Wake is the time of the first call of a deployment of no replicas, in the node.
func Wake(ctx context.Context) (time.Duration, error) {
	return wake(ctx, waker(helve.InNode), Waker.Echo, false)
}

// WakeWorker is the same in a Go worker, a process that the call starts. [BuildWaker] must be known to workers.
func WakeWorker(ctx context.Context) (time.Duration, error) {
	return wake(ctx, BuildWaker, Waker.Echo, false)
}

// WakePython is the same of a class in Python with an empty constructor.
func WakePython(ctx context.Context) (time.Duration, error) {
	return wake(ctx, python(false), echo.Echo, false)
}

// WakeSpare is the same where a spare process is ready.
func WakeSpare(ctx context.Context) (time.Duration, error) {
	return wake(ctx, python(true), echo.Echo, true)
}

func wake[R any](ctx context.Context, build helve.Build, echo func(R, context.Context, string) (string, error), spare bool) (took time.Duration, err error) {
	sys, err := helve.Config{}.Run(ctx, build)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sys.Close(context.WithoutCancel(ctx))) }()
	h, err := helve.HandleOf[R](sys, "wake", "Waker")
	if err != nil {
		return 0, err
	}
	if spare {
		if err := settled(ctx); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	_, err = helve.MethodOf(h, echo).Call(ctx, "x")
	return time.Since(begin), err
}

// settled waits until this process has a child, and its children take no processor time any more: the spare process has imported its modules.
func settled(ctx context.Context) error {
	const (
		step  = 100 * time.Millisecond
		quiet = 10 // steps
		limit = 300
	)
	last, still := time.Duration(0), 0
	for range limit {
		children, err := proc.Children(os.Getpid())
		if err != nil {
			return err
		}
		var all time.Duration
		for _, pid := range children {
			cpu, err := proc.TreeCPU(pid)
			if err != nil {
				return err
			}
			all += cpu
		}
		if still++; len(children) == 0 || all-last > step/quiet {
			last, still = all, 0
		}
		if still == quiet {
			return nil
		}
		select {
		case <-time.After(step):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("no spare process is ready after %v", limit*step)
}

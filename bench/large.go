package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/peer"
)

// Blob makes, passes on and looks at large values.
type Blob struct{}

func (*Blob) Make(_ context.Context, n int) ([]byte, error)       { return make([]byte, n), nil }
func (*Blob) Echo(_ context.Context, b []byte) ([]byte, error)    { return b, nil }
func (*Blob) Size(_ context.Context, b []byte) (n int, err error) { return len(b), nil }

// pyBlob is the same in pybench/app.py.
type pyBlob interface {
	Make(context.Context, int) ([]byte, error)
	Echo(context.Context, []byte) ([]byte, error)
	Size(context.Context, []byte) (int, error)
}

// buildBlobs is three deployments in one worker.
func buildBlobs() (*helve.App, error) {
	app := helve.NewApp("blobs")
	var first helve.Handle[*Blob]
	for i, name := range links() {
		h := helve.Deploy(app, name, func(context.Context) (*Blob, error) { return &Blob{}, nil }, helve.Options{Isolation: helve.Process})
		if i == 0 {
			first = h
		}
	}
	app.Ingress(helve.MethodOf(first, (*Blob).Echo))
	return app, nil
}

// buildPythonBlobs is three deployments, each in a process of its own.
func buildPythonBlobs() (*helve.App, error) {
	app := helve.NewApp("pyblobs")
	var first helve.Handle[pyBlob]
	for i, name := range links() {
		h := helve.Python[pyBlob](app, name, "pybench.app:Blob", helve.Args{}, helve.Options{})
		if i == 0 {
			first = h
		}
	}
	app.Ingress(helve.MethodOf(first, pyBlob.Echo))
	return app, nil
}

func links() []string { return []string{"A", "B", "C"} }

// blobs are methods of the three deployments of an application, in the order in which a chain goes through them.
type blobs struct {
	make helve.Method[int, []byte]
	echo helve.Method[[]byte, []byte]
	size helve.Method[[]byte, int]
}

// blobsOf starts an application, until the group ends.
func blobsOf[R pyBlob](b *bench, name string, build helve.Build) (*blobs, error) {
	if err := os.Setenv("HELVE_PYTHON", pythonPath()); err != nil { // the node finds the interpreter of its workers there
		return nil, err
	}
	s, err := helve.Run(b.ctx, build)
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { s.Close(context.WithoutCancel(b.ctx)) })
	var h [3]helve.Handle[R]
	for i, link := range links() {
		if h[i], err = helve.HandleOf[R](s, name, link); err != nil {
			return nil, err
		}
	}
	return &blobs{helve.MethodOf(h[0], R.Make), helve.MethodOf(h[1], R.Echo), helve.MethodOf(h[2], R.Size)}, nil
}

// echoing sends a value there and back.
func (l *blobs) echoing(data []byte) caller {
	return func(ctx context.Context) error {
		out, err := l.echo.Call(ctx, data)
		if err != nil {
			return err
		}
		return peer.CheckSize(data, out)
	}
}

// chain lets A make a value, B pass it on and C look at it; the caller wants to know what C says.
func (l *blobs) chain(size int, opts ...helve.CallOption) caller {
	first, second := l.make.With(opts...), l.echo.With(opts...)
	return func(ctx context.Context) error {
		made := first.Remote(ctx, size)
		defer made.Close()
		echoed := second.RemoteFrom(ctx, made)
		defer echoed.Close()
		n, err := l.size.RemoteFrom(ctx, echoed).Result(ctx)
		if err != nil {
			return err
		}
		return peer.CheckCount(size, n)
	}
}

// largeRows send values of 1 MB and 10 MB, by whichever way values of that size take.
func largeRows(b *bench) (rows []measurement) {
	s := b.servers()
	grpc := s.peer("grpc", peer.Unix)
	worker := sync.OnceValues(func() (*blobs, error) { return blobsOf[*Blob](b, "blobs", buildBlobs) })
	python := sync.OnceValues(func() (*blobs, error) { return blobsOf[pyBlob](b, "pyblobs", buildPythonBlobs) })
	pair := sync.OnceValues(b.python)
	timed := func(links func() (*blobs, error), f func(*blobs) caller) func() (sample, error) {
		return func() (sample, error) {
			l, err := links()
			if err != nil {
				return sample{}, err
			}
			return b.timedLoop(1, b.length/2, f(l))
		}
	}
	for _, mb := range []int{1, 10} {
		size := mb << 20
		echo := func(l *blobs) caller { return l.echoing(make([]byte, size)) }
		byValue := func(l *blobs) caller { return l.chain(size) }
		byReference := func(l *blobs) caller { return l.chain(size, helve.ByReference) }
		raw := s.raw(peer.Unix, size)
		add := func(name string, ours, reference func() (sample, error)) {
			rows = append(rows, measurement{name: fmt.Sprintf("%d MB %s", mb, name), measure: b.once(ours, reference).row(latencyText, p50)})
		}
		echoes := b.once(timed(worker, echo), of(grpc, func(p peer.Client) (sample, error) { return b.timedLoop(1, b.length/2, echoing(p, make([]byte, size))) }))
		rows = append(rows,
			measurement{name: fmt.Sprintf("%d MB echo, Go worker / grpc-go", mb), measure: echoes.row(latencyText, p50)},
			measurement{name: fmt.Sprintf("%d MB echo, Go worker, CPU per call / grpc-go", mb), measure: echoes.row(microseconds, cpu)})
		add("echo, Go worker / raw socket", timed(worker, echo), raw)
		add("echo, Python worker / raw socket", timed(python, echo), raw)
		add("echo, Python to Python / raw socket", func() (sample, error) {
			run, err := pair()
			if err != nil {
				return sample{}, err
			}
			t, err := run(b.ctx, runIn{Seconds: b.length.Seconds() / 2, InFlight: 1, Size: size})
			return sample{v: t.P50 * 1e9, p99: t.P99 * 1e9}, err
		}, raw)
		add("three hops, Go worker / grpc-go", timed(worker, byValue), of(grpc, func(p peer.Client) (sample, error) {
			return b.latency(p.(peer.GRPC).Chain(size))
		}))
		add("three hops by reference, Go / by value", timed(worker, byReference), timed(worker, byValue))
		add("three hops by reference, Python / by value", timed(python, byReference), timed(python, byValue))
	}
	return rows
}

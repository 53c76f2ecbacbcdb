package main

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/peer"
)

// Far is in a Go worker. There is one of it.
type Far struct {
	holder *peer.Holder
	made   atomic.Int64
}

func (*Far) Echo(_ context.Context, s string) (string, error) { return s, nil }

// Items yields n items of a stream.
func (f *Far) Items(_ context.Context, n int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for range n {
			if !yield(peer.Item, nil) {
				return
			}
		}
	}
}

// Flood yields items of size bytes until its consumer stops.
func (f *Far) Flood(_ context.Context, size int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for yield(make([]byte, size), nil) {
			f.made.Add(1)
		}
	}
}

// Made is how many items of Flood were taken from it.
func (f *Far) Made(context.Context, helve.None) (int64, error) { return f.made.Load(), nil }

func (f *Far) Hold(ctx context.Context, _ helve.None) (helve.None, error) {
	f.holder.Hold(ctx)
	return helve.None{}, ctx.Err()
}

func (f *Far) Held(ctx context.Context, _ helve.None) (helve.None, error) {
	return helve.None{}, f.holder.Held(ctx)
}
func (f *Far) Ended(ctx context.Context, _ helve.None) (int, error) { return f.holder.Ended(ctx) }

// Mallocs and Heap are of the worker's process.
func (*Far) Mallocs(context.Context, helve.None) (uint64, error) { return mallocs(), nil }
func (*Far) Heap(context.Context, helve.None) (float64, error)   { return heapBytes(), nil }

func buildFar() (*helve.App, error) {
	app := helve.NewApp("far")
	h := helve.Deploy(app, "Far", func(context.Context) (*Far, error) { return &Far{holder: peer.NewHolder()}, nil },
		helve.Options{MaxOngoingRequests: new(1000), Isolation: helve.Process})
	app.Ingress(helve.MethodOf(h, (*Far).Echo))
	helve.StreamOf(h, (*Far).Items) // as the graph of an application does that uses it: the worker needs no reflection for an item
	return app, nil
}

// far is what rows call of Far.
type far struct {
	echo       helve.Method[string, string]
	hold, held helve.Method[helve.None, helve.None]
	ended      helve.Method[helve.None, int]
	items      helve.Stream[int, string]
	flood      helve.Stream[int, []byte]
	made       helve.Method[helve.None, int64]
	mallocs    helve.Method[helve.None, uint64]
	heap       helve.Method[helve.None, float64]
}

// far starts it, until the group ends.
func (b *bench) far() (*far, error) {
	s, err := helve.Run(b.ctx, buildFar)
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { s.Close(context.WithoutCancel(b.ctx)) })
	h, err := helve.HandleOf[*Far](s, "far", "Far")
	return &far{
		echo: helve.MethodOf(h, (*Far).Echo),
		hold: helve.MethodOf(h, (*Far).Hold), held: helve.MethodOf(h, (*Far).Held), ended: helve.MethodOf(h, (*Far).Ended),
		items: helve.StreamOf(h, (*Far).Items), flood: helve.StreamOf(h, (*Far).Flood), made: helve.MethodOf(h, (*Far).Made),
		mallocs: helve.MethodOf(h, (*Far).Mallocs), heap: helve.MethodOf(h, (*Far).Heap),
	}, err
}

func (f *far) cancelled(ctx context.Context) (float64, error) {
	call := func(m helve.Method[helve.None, helve.None]) caller {
		return func(ctx context.Context) error { _, err := m.Call(ctx, helve.None{}); return err }
	}
	return peer.CancelTime(ctx, call(f.hold), call(f.held), func(ctx context.Context) (int, error) {
		return f.ended.Call(ctx, helve.None{})
	})
}

package main

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/peer"
)

// streamRows are about streams from a Go worker to its node.
func streamRows(b *bench) []measurement {
	s := b.servers()
	far := sync.OnceValues(b.far)
	items := func() (sample, error) {
		const n = 100_000
		f, err := far()
		if err != nil {
			return sample{}, err
		}
		return b.itemsPerSecond(n, func(ctx context.Context) error {
			taken := 0
			for v, err := range f.items.Call(ctx, n) {
				if err != nil {
					return err
				}
				taken += len(v)
			}
			return peer.CheckCount(n*len(peer.Item), taken)
		})
	}
	grpc := b.once(items, of(s.peer("grpc", peer.Unix), b.itemRate))
	const million = 1e6
	return []measurement{
		{name: "Go worker, 64 B items of a stream / 1 M/s", bar: 1, atLeast: true, measure: func() (result, error) {
			err := grpc.take()
			o := grpc.ours
			return result{perSecond(o), perSecond(sample{v: million}), o.v / million}, err
		}},
		{name: "Go worker, 64 B items of a stream / grpc-go", measure: grpc.row(perSecond, p50)},
		{name: "Go worker, CPU per item of a stream / grpc-go", measure: grpc.row(nanoseconds, cpu)},
		{name: "streams whose reader stopped, memory each / bound", bar: 1, exact: true, measure: b.standing(far)},
	}
}

// standing lets methods in a worker yield to consumers that have read a hundred items and stopped, until nothing moves any more,
// and gives by how much the heaps of both processes have grown.
func (b *bench) standing(far func() (*far, error)) func() (result, error) {
	const (
		streams = 32
		size    = 16 << 10
		read    = 100
		window  = 1 << 20 // how far a stream may be ahead of its reader
		bound   = window + window/2
	)
	return func() (result, error) {
		f, err := far()
		if err != nil {
			return result{}, err
		}
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		defer cancel()
		heaps := func() (float64, error) {
			theirs, err := f.heap.Call(ctx, helve.None{})
			return theirs + heapBytes(), err
		}
		before, err := heaps()
		if err != nil {
			return result{}, err
		}
		for range streams {
			r := f.flood.Remote(ctx, size)
			defer r.Close()
			next, stop := iter.Pull2(r.All())
			defer stop()
			for range read {
				if _, err, _ := next(); err != nil {
					return result{}, err
				}
			}
		}
		made := int64(-1)
		for now := int64(0); now != made || now < streams*read; time.Sleep(b.length / 5) {
			made = now
			if now, err = f.made.Call(ctx, helve.None{}); err != nil {
				return result{}, err
			}
		}
		after, err := heaps()
		each := (after - before) / streams
		mb := func(v float64) string { return fmt.Sprintf("%.2f MB", v/(1<<20)) }
		return result{mb(each), mb(bound), each / bound}, err
	}
}

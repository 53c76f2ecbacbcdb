package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/peer"
)

// workerRows compare calls through a Go worker, with router, gate, frames and deadlines, with grpc-go and with the socket.
func workerRows(b *bench) []measurement {
	s := b.servers()
	grpc := s.peer("grpc", peer.Unix)
	echo := sync.OnceValues(func() (helve.Method[string, string], error) { return b.echo(helve.Process) })
	ours := func(measure func(caller) (sample, error)) func() (sample, error) {
		return func() (sample, error) {
			m, err := echo()
			if err != nil {
				return sample{}, err
			}
			return measure(func(ctx context.Context) error { _, err := m.Call(ctx, payload); return err })
		}
	}
	both := func(measure func(caller) (sample, error)) *shared {
		return b.once(ours(measure), of(grpc, func(p peer.Client) (sample, error) { return measure(echoing(p, []byte(payload))) }))
	}
	load := func(n int, length time.Duration) *shared {
		return both(func(f caller) (sample, error) { return b.timedLoop(n, length, f) })
	}
	one, many := load(1, b.length/2), load(128, b.length)
	far := sync.OnceValues(b.far)
	return append([]measurement{
		{name: "Go worker, 128 in flight / grpc-go", bar: 3, atLeast: true, measure: many.row(perSecond, rate)},
		{name: "Go worker, CPU per call at 128 / grpc-go", measure: many.row(microseconds, cpu)},
		{name: "Go worker, CPU per call at 1 / grpc-go", measure: one.row(microseconds, cpu)},
		{name: "Go worker, p50 at 1 / grpc-go", bar: 0.6, measure: one.row(latencyText, p50)},
		{name: "Go worker, p50 at 8 / grpc-go", measure: load(8, b.length/2).row(latencyText, p50)},
		{name: "Go worker, p50 at 64 / grpc-go", measure: load(64, b.length/2).row(latencyText, p50)},
		{name: "Go worker, p50 at 512 / grpc-go", measure: load(512, b.length/2).row(latencyText, p50)},
		{name: "Go worker, p50 at 1 / raw socket ping-pong", measure: b.once(ours(b.latency),
			s.raw(peer.Unix, len(payload))).row(latencyText, p50)},
		{name: "Go worker, cancel to handler, p50 / grpc-go", measure: b.once(
			func() (sample, error) {
				f, err := far()
				if err != nil {
					return sample{}, err
				}
				return b.repeated(f.cancelled)
			},
			of(grpc, func(p peer.Client) (sample, error) { return b.repeated(p.CancelCall) })).row(latencyText, p50)},
		{name: "Go worker, allocations a call, both ends / grpc-go", exact: true, measure: b.workerAllocations(far)},
	}, attachedRows(b, echo)...)
}

// workerAllocations counts the allocations of node and worker for a call, and the allocations of both ends of grpc-go.
func (b *bench) workerAllocations(far func() (*far, error)) func() (result, error) {
	ours := func() (sample, error) {
		f, err := far()
		if err != nil {
			return sample{}, err
		}
		return b.counted(func(ctx context.Context) error { _, err := f.echo.Call(ctx, payload); return err },
			func(ctx context.Context) (uint64, error) {
				theirs, err := f.mallocs.Call(ctx, helve.None{})
				return theirs + mallocs(), err
			})
	}
	return func() (result, error) {
		return b.row(func(s sample) string { return fmt.Sprintf("%.1f", s.v) }, ours, b.inProcess("grpc", mallocs))
	}
}

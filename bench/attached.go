package main

import (
	"context"
	"sync"

	"github.com/helve-serve/helve"
)

// attachedRole is a node of its own that runs the echo in a worker, and to which other programs attach.
func attachedRole() error {
	ctx := context.Background()
	s, err := helve.Config{Isolation: helve.Process, Admin: "private"}.Run(ctx, buildEcho)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	return ready(s.Address())
}

// attach starts the role and attaches to its node, until the group ends.
func (b *bench) attach() (helve.Method[string, string], error) {
	var echo helve.Method[string, string]
	address, err := b.serve("attached")
	if err != nil {
		return echo, err
	}
	s, err := helve.Connect(b.ctx, address)
	if err != nil {
		return echo, err
	}
	b.onEnd(func() { s.Close(context.WithoutCancel(b.ctx)) })
	h, err := helve.HandleOf[*Echo](s, "echo", "Echo")
	return helve.MethodOf(h, (*Echo).Echo), err
}

// attachedRows compare calls of a program that is attached to a node of another process with calls of the process of a node. Both run the echo in
// a worker: an attached call makes one hop more, over the connection of the program and its node.
func attachedRows(b *bench, worker func() (helve.Method[string, string], error)) []measurement {
	side := func(method func() (helve.Method[string, string], error), n int) func() (sample, error) {
		return func() (sample, error) {
			m, err := method()
			if err != nil {
				return sample{}, err
			}
			return b.timedLoop(n, b.length/2, func(ctx context.Context) error { _, err := m.Call(ctx, payload); return err })
		}
	}
	attached := sync.OnceValues(b.attach)
	load := func(n int) *shared { return b.once(side(attached, n), side(worker, n)) }
	one, many := load(1), load(64)
	return []measurement{
		{name: "connect: call 100 B, p50 at 1 / Go worker", measure: one.row(latencyText, p50)},
		{name: "connect: call 100 B, 64 in flight / Go worker", measure: many.row(perSecond, rate)},
		{name: "connect: CPU per call at 64 / Go worker", measure: many.row(microseconds, cpu)},
	}
}

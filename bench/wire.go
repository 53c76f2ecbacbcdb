package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/bench/peer"
)

// wireRows compare a bare connection, without router and gate, with grpc-go over each kind of socket.
func wireRows(b *bench) (rows []measurement) {
	servers := b.servers()
	for _, kind := range peer.Kinds() {
		rows = append(rows, b.wireRows(servers, kind)...)
	}
	return append(rows,
		measurement{name: "bare wire, unix, allocations a call / grpc-go", exact: true, measure: b.allocations("%.1f", mallocs)},
		measurement{name: "bare wire, unix, bytes allocated a call / grpc-go", exact: true, measure: b.allocations("%.0f B", allocated)})
}

func (b *bench) wireRows(s *servers, kind string) []measurement {
	ours, grpc := s.peer("wire", kind), s.peer("grpc", kind)
	both := func(measure func(peer.Client) (sample, error)) *shared {
		return b.once(of(ours, measure), of(grpc, measure))
	}
	load := func(n int, length time.Duration) *shared {
		return both(func(p peer.Client) (sample, error) { return b.timedLoop(n, length, echoing(p, []byte(payload))) })
	}
	echo := func(size int) func() (result, error) {
		return both(func(p peer.Client) (sample, error) { return b.latency(echoing(p, make([]byte, size))) }).row(latencyText, p50)
	}
	one, many := load(1, b.length/2), load(128, b.length)
	beside := b.once(b.beside(ours, ours), b.beside(grpc, s.peer("grpc", kind)))
	rows := []measurement{
		{name: "128 in flight / grpc-go", bar: 4, atLeast: true, measure: many.row(perSecond, rate)},
		{name: "CPU per call at 128 / grpc-go", measure: many.row(microseconds, cpu)},
		{name: "CPU per call at 1 / grpc-go", measure: one.row(microseconds, cpu)},
		{name: "p50 at 1 / grpc-go", bar: 0.6, measure: one.row(latencyText, p50)},
		{name: "p50 at 8 / grpc-go", measure: load(8, b.length/2).row(latencyText, p50)},
		{name: "p50 at 64 / grpc-go", measure: load(64, b.length/2).row(latencyText, p50)},
		{name: "p50 at 512 / grpc-go", measure: load(512, b.length/2).row(latencyText, p50)},
		{name: "p50 at 1 / raw ping-pong", measure: b.once(
			of(ours, func(p peer.Client) (sample, error) { return b.latency(echoing(p, []byte(payload))) }),
			s.raw(kind, len(payload))).row(latencyText, p50)},
		{name: "64 B items of a stream / grpc-go", measure: both(b.itemRate).row(perSecond, p50)},
		{name: "p50 beside 1 MB / two grpc-go", bar: 0.4, measure: beside.row(latencyText, p50)},
		{name: "p99 beside 1 MB / two grpc-go", bar: 0.8, measure: beside.row(microseconds, p99)},
		{name: "1 MB calls beside / two grpc-go", measure: beside.row(perSecond, rate)},
		{name: "1 MB echo / grpc-go", measure: echo(1 << 20)},
		{name: "10 MB echo / grpc-go", measure: echo(10 << 20)},
		{name: "cancel to handler, p50 / grpc-go", measure: both(func(p peer.Client) (sample, error) {
			return b.repeated(p.CancelCall)
		}).row(latencyText, p50)},
		{name: "set-up to first answer / grpc-go", measure: b.once(
			s.setUp("wire", kind, peer.DialSmall), s.setUp("grpc", kind, peer.DialGRPC)).row(latencyText, p50)},
		{name: "set-up, both connections / grpc-go", measure: b.once(
			s.setUp("wire", kind, peer.DialWire), s.setUp("grpc", kind, peer.DialGRPC)).row(latencyText, p50)},
	}
	for i := range rows {
		rows[i].name = "bare wire, " + kind + ", " + rows[i].name
	}
	return rows
}

// itemRate gives items of streams per second.
func (b *bench) itemRate(p peer.Client) (sample, error) {
	const n = 20_000
	return b.itemsPerSecond(n, func(ctx context.Context) error { return p.Items(ctx, n) })
}

// itemsPerSecond reads streams of n items one after the other. cpu is of an item.
func (b *bench) itemsPerSecond(n int, read caller) (sample, error) {
	s, err := b.timedLoop(1, b.length/2, read)
	return sample{v: s.rate * float64(n), cpu: s.cpu / float64(n)}, err
}

// beside times small calls of four callers while two others send 1 MB there and back. rate is of the large calls.
func (b *bench) beside(dialSmall, dialLarge func() (peer.Client, error)) func() (sample, error) {
	return func() (sample, error) {
		small, err := dialSmall()
		if err != nil {
			return sample{}, err
		}
		large, err := dialLarge()
		if err != nil {
			return sample{}, err
		}
		data := make([]byte, 1<<20)
		var wg sync.WaitGroup
		var enough atomic.Bool
		var calls atomic.Int64
		failed := make(chan error, 2)
		start := time.Now()
		for range 2 {
			wg.Go(func() {
				for !enough.Load() {
					if err := large.Echo(b.ctx, data); err != nil {
						failed <- err
						return
					}
					calls.Add(1)
				}
			})
		}
		s, err := b.timedLoop(4, b.length, echoing(small, []byte(payload)))
		s.rate = float64(calls.Load()) / time.Since(start).Seconds()
		enough.Store(true)
		wg.Wait()
		close(failed)
		return s, errors.Join(err, <-failed)
	}
}

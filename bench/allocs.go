package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/helve-serve/helve/bench/peer"
)

func mallocs() uint64   { return memory().Mallocs }
func allocated() uint64 { return memory().TotalAlloc }

func memory() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}

// allocations counts the allocations of both ends of a call, with one call at a time.
func (b *bench) allocations(format string, count func() uint64) func() (result, error) {
	return func() (result, error) {
		return b.row(func(s sample) string { return fmt.Sprintf(format, s.v) }, b.inProcess("wire", count), b.inProcess("grpc", count))
	}
}

// inProcess has a server and a client in this process, so that one number counts for both.
func (b *bench) inProcess(role string, count func() uint64) func() (sample, error) {
	return func() (sample, error) {
		dir, err := b.tempDir()
		if err != nil {
			return sample{}, err
		}
		serve := peer.ListenWire
		if role == "grpc" {
			serve = peer.ListenGRPC
		}
		l, err := serve(peer.Unix, filepath.Join(dir, role))
		if err != nil {
			return sample{}, err
		}
		defer l.Close()
		p, err := peer.Dial(b.ctx, role, peer.End{Kind: peer.Unix, Addr: l.Addr().String()})
		if err != nil {
			return sample{}, err
		}
		defer p.Close()
		return b.counted(echoing(p, []byte(payload)), func(context.Context) (uint64, error) { return count(), nil })
	}
}

// counted is by how much a count grows with a call.
func (b *bench) counted(f caller, count func(context.Context) (uint64, error)) (sample, error) {
	const warm, calls = 500, 2000
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	before := uint64(0)
	for i := range warm + calls {
		if i == warm {
			var err error
			if before, err = count(ctx); err != nil {
				return sample{}, err
			}
		}
		if err := f(ctx); err != nil {
			return sample{}, err
		}
	}
	after, err := count(ctx)
	return sample{v: float64(after-before) / calls}, err
}

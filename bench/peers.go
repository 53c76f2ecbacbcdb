package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/helve-serve/helve/bench/peer"
)

// servers are the servers that a group compares with, each started when the first row asks for it.
type servers struct {
	b    *bench
	ends map[string]func() (map[string]peer.End, error) // by role
}

func (b *bench) servers() *servers {
	s := &servers{b, map[string]func() (map[string]peer.End, error){}}
	for _, role := range []string{"wire", "grpc", "raw"} {
		s.ends[role] = sync.OnceValues(func() (map[string]peer.End, error) { return b.ends(role) })
	}
	return s
}

// peer is a connection, until the group ends, made when the first row asks for it.
func (s *servers) peer(role, kind string) func() (peer.Client, error) {
	return sync.OnceValues(func() (peer.Client, error) {
		ends, err := s.ends[role]()
		if err != nil {
			return nil, err
		}
		p, err := peer.Dial(s.b.ctx, role, ends[kind])
		if err != nil {
			return nil, err
		}
		s.b.onEnd(p.Close)
		if err := p.Echo(s.b.ctx, []byte(payload)); err != nil {
			return nil, fmt.Errorf("%s over %s: %w", role, kind, err)
		}
		return p, nil
	})
}

// setUp opens connections, one after the other, each for one call.
func (s *servers) setUp(role, kind string, dial func(context.Context, peer.End) (peer.Client, error)) func() (sample, error) {
	return func() (sample, error) {
		ends, err := s.ends[role]()
		if err != nil {
			return sample{}, err
		}
		return s.b.repeated(func(ctx context.Context) (float64, error) {
			t := time.Now()
			p, err := dial(ctx, ends[kind])
			if err != nil {
				return 0, err
			}
			defer p.Close()
			err = p.Echo(ctx, []byte(payload))
			return float64(time.Since(t)), err
		})
	}
}

// raw measures a ping-pong of that many bytes over a bare socket.
func (s *servers) raw(kind string, size int) func() (sample, error) {
	return func() (sample, error) {
		ends, err := s.ends["raw"]()
		if err != nil {
			return sample{}, err
		}
		c, err := peer.DialRaw(s.b.ctx, ends[kind], size)
		if err != nil {
			return sample{}, err
		}
		defer c.Close()
		if until, ok := s.b.ctx.Deadline(); ok {
			c.SetDeadline(until)
		}
		in, out := make([]byte, size), make([]byte, size)
		return s.b.latency(func(context.Context) error {
			if _, err := c.Write(in); err != nil {
				return err
			}
			_, err := io.ReadFull(c, out)
			return err
		})
	}
}

// caller makes one call.
type caller func(context.Context) error

func echoing(p peer.Client, data []byte) caller {
	return func(ctx context.Context) error { return p.Echo(ctx, data) }
}

// of measures a peer, once there is one.
func of(dial func() (peer.Client, error), measure func(peer.Client) (sample, error)) func() (sample, error) {
	return func() (sample, error) {
		p, err := dial()
		if err != nil {
			return sample{}, err
		}
		return measure(p)
	}
}

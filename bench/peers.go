package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// peer is a connection to the server of one side of a row.
type peer interface {
	// echo fails if the answer has not the size of data.
	echo(ctx context.Context, data []byte) error
	// items takes n items of 64 bytes of one stream.
	items(ctx context.Context, n int) error
	// cancelled cancels a call, and gives the nanoseconds until the context of its handler ended.
	cancelled(ctx context.Context) (float64, error)
	close()
}

// item is one item of a stream.
const item = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// dialPeer opens a connection of a role.
func dialPeer(ctx context.Context, role string, e end) (peer, error) {
	if role == "grpc" {
		return dialGRPC(ctx, e)
	}
	return dialWire(ctx, e)
}

func checkSize(sent, answer []byte) error {
	if len(answer) != len(sent) {
		return fmt.Errorf("the answer to %d bytes has %d", len(sent), len(answer))
	}
	return nil
}

// rawRole echoes messages of a size that the connection begins with: the floor of any exchange over a socket.
func rawRole() error {
	return serveEach(func(kind, sock string) (net.Listener, error) {
		l, err := listen(kind, sock)
		if err == nil {
			go accept(l, rawEcho)
		}
		return l, err
	})
}

func rawEcho(c net.Conn) {
	defer c.Close()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	buf := make([]byte, binary.LittleEndian.Uint32(size[:]))
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// servers are the servers that a group compares with, each started when the first row asks for it.
type servers struct {
	b    *bench
	ends map[string]func() (map[string]end, error) // by role
}

func (b *bench) servers() *servers {
	s := &servers{b, map[string]func() (map[string]end, error){}}
	for _, role := range []string{"wire", "grpc", "raw"} {
		s.ends[role] = sync.OnceValues(func() (map[string]end, error) { return b.ends(role) })
	}
	return s
}

// peer is a connection, until the group ends, made when the first row asks for it.
func (s *servers) peer(role, kind string) func() (peer, error) {
	return sync.OnceValues(func() (peer, error) {
		ends, err := s.ends[role]()
		if err != nil {
			return nil, err
		}
		p, err := dialPeer(s.b.ctx, role, ends[kind])
		if err != nil {
			return nil, err
		}
		s.b.onEnd(p.close)
		if err := p.echo(s.b.ctx, []byte(payload)); err != nil {
			return nil, fmt.Errorf("%s over %s: %w", role, kind, err)
		}
		return p, nil
	})
}

// setUp opens connections, one after the other, each for one call.
func (s *servers) setUp(role, kind string, dial func(context.Context, end) (peer, error)) func() (sample, error) {
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
			defer p.close()
			err = p.echo(ctx, []byte(payload))
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
		c, err := ends[kind].dial(s.b.ctx)
		if err != nil {
			return sample{}, err
		}
		defer c.Close()
		if until, ok := s.b.ctx.Deadline(); ok {
			c.SetDeadline(until)
		}
		if _, err := c.Write(binary.LittleEndian.AppendUint32(nil, uint32(size))); err != nil {
			return sample{}, err
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

func echoing(p peer, data []byte) caller {
	return func(ctx context.Context) error { return p.echo(ctx, data) }
}

// of measures a peer, once there is one.
func of(dial func() (peer, error), measure func(peer) (sample, error)) func() (sample, error) {
	return func() (sample, error) {
		p, err := dial()
		if err != nil {
			return sample{}, err
		}
		return measure(p)
	}
}

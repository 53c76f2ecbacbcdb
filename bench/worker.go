package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// rawCodec hands bytes through, so that grpc-go is measured and no encoding.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// grpcRole serves an echo on the socket that its environment names.
func grpcRole() error {
	l, err := net.Listen("unix", os.Getenv(socketEnv))
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			err := dec(&in)
			return &in, err
		}}},
	}, nil)
	go s.Serve(l)
	return ready("ready")
}

// rawRole echoes fixed-size messages, the floor of any exchange over a socket.
func rawRole() error {
	return serveConns(func(c net.Conn) {
		buf := make([]byte, len(payload))
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
}

// wireRole echoes calls on a bare connection of internal/wire: frames, ids and flushes, without router and gate.
func wireRole() error {
	return serveConns(func(c net.Conn) { wire.NewPeer(wire.NewConn(c), wireEcho{}).Serve() })
}

// serveConns serves every connection to the socket that its environment names.
func serveConns(serve func(net.Conn)) error {
	l, err := net.Listen("unix", os.Getenv(socketEnv))
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return ready("ready")
}

type wireEcho struct{}

func (wireEcho) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
	return nil
}
func (wireEcho) Route(wire.Route) any { return wireEcho{} }
func (wireEcho) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, errors.New("none")
}
func (wireEcho) Goaway(wire.Goaway) {}

// caller makes one call.
type caller func(context.Context) error

// workerCalls are an echo through a Go worker ("ours"), and its references by their role.
func (b *bench) workerCalls() (map[string]caller, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	echo, err := b.echo(helve.Process)
	if err != nil {
		return nil, err
	}
	calls := map[string]caller{"ours": func(ctx context.Context) error { _, err := echo.Call(ctx, payload); return err }}
	for _, role := range []string{"grpc", "raw", "wire"} {
		sock := filepath.Join(dir, role)
		if _, err := b.serve(role, socketEnv+"="+sock); err != nil {
			return nil, err
		}
		f, err := b.client(role, sock)
		if err == nil {
			err = f(b.ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
		calls[role] = f
	}
	return calls, nil
}

func workerRows(b *bench) []measurement {
	start := sync.OnceValues(b.workerCalls)
	row := func(text func(sample) string, measure func(caller) (sample, error), ours, reference string) func() (result, error) {
		return func() (result, error) {
			calls, err := start()
			if err != nil {
				return result{}, err
			}
			return b.row(text,
				func() (sample, error) { return measure(calls[ours]) },
				func() (sample, error) { return measure(calls[reference]) })
		}
	}
	at128 := func(f caller) (sample, error) { return b.closedLoop(128, f) }
	return []measurement{
		{name: "Go worker, 128 in flight / grpc-go", bar: 3, atLeast: true, measure: row(perSecond, at128, "ours", "grpc")},
		{name: "bare internal/wire, 128 in flight / grpc-go", bar: 4, atLeast: true, measure: row(perSecond, at128, "wire", "grpc")},
		{name: "Go worker, p50 at 1 / grpc-go", bar: 0.6, measure: row(latencyText, b.latency, "ours", "grpc")},
		{name: "Go worker, p50 at 1 / raw socket ping-pong", measure: row(latencyText, b.latency, "ours", "raw")},
	}
}

// client gives one call of a reference, which fails if what comes back has not the size of what was sent.
func (b *bench) client(role, sock string) (caller, error) {
	if role == "grpc" {
		cc, err := grpc.NewClient("unix:"+sock, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			return nil, err
		}
		b.onEnd(func() { cc.Close() })
		in := []byte(payload)
		return func(ctx context.Context) error {
			var out []byte
			if err := cc.Invoke(ctx, "/bench.Echo/Echo", &in, &out); err != nil {
				return err
			}
			return checkSize(out)
		}, nil
	}
	c, err := net.Dial("unix", sock)
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { c.Close() })
	if role == "raw" {
		if end, ok := b.ctx.Deadline(); ok {
			c.SetDeadline(end)
		}
		in, out := []byte(payload), make([]byte, len(payload))
		return func(context.Context) error {
			if _, err := c.Write(in); err != nil {
				return err
			}
			_, err := io.ReadFull(c, out)
			return err
		}, nil
	}
	p := wire.NewPeer(wire.NewConn(c), wireEcho{})
	go p.Serve() // until the connection is closed
	route, err := p.Declare(wire.Route{Method: "echo"})
	if err != nil {
		return nil, err
	}
	data := []byte(payload)
	return func(ctx context.Context) error {
		var k call.Call
		k.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: data}})
		w := call.NewWaiter()
		id := p.Start(nil, route, &k, 0, w)
		answer, e := w.Wait(ctx, canceler{p, id})
		if e != nil {
			return e
		}
		return checkSize(answer.Data)
	}, nil
}

func checkSize(answer []byte) error {
	if len(answer) != len(payload) {
		return fmt.Errorf("the answer to %d bytes has %d", len(payload), len(answer))
	}
	return nil
}

type canceler struct {
	p  *wire.Peer
	id uint64
}

func (c canceler) Cancel(b *call.Batch, _ error) { c.p.Cancel(b, c.id) }

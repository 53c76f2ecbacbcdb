package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

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

// grpcRole serves an echo on the socket that BENCH_SOCKET names.
func grpcRole() error {
	l, err := net.Listen("unix", os.Getenv("BENCH_SOCKET"))
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
	ready()
	return nil
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

// serveConns serves every connection to the socket that BENCH_SOCKET names.
func serveConns(serve func(net.Conn)) error {
	l, err := net.Listen("unix", os.Getenv("BENCH_SOCKET"))
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
	ready()
	return nil
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

// ready says that the child serves, and waits until the parent is done with it.
func ready() {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// serve starts a role and waits until it is ready.
func serve(role string, env ...string) (stop func(), line string, err error) {
	cmd := child(role, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err = bufio.NewReader(out).ReadString('\n')
	stop = func() { in.Close(); waitFor(cmd) }
	if err != nil {
		stop()
		return nil, "", fmt.Errorf("%s did not start: %w", role, err)
	}
	return stop, line, nil
}

func waitFor(cmd *exec.Cmd) {
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		cmd.Process.Kill()
		<-done
	}
}

func workerRows(b *bench) ([]row, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	s, echo, err := startEcho(helve.Process)
	if err != nil {
		return nil, err
	}
	defer s.Close(ctx)
	ours := func() error { _, err := echo.Call(ctx, payload); return err }

	var calls []func() error
	for _, role := range []string{"grpc", "raw", "wire"} {
		sock := filepath.Join(dir, role)
		stop, _, err := serve(role, "BENCH_SOCKET="+sock)
		if err != nil {
			return nil, err
		}
		defer stop()
		f, end, err := client(role, sock)
		if err != nil {
			return nil, err
		}
		defer end()
		calls = append(calls, f)
	}
	grpcCall, rawCall, wireCall := calls[0], calls[1], calls[2]

	throughput := func(f func() error) func() (float64, error) {
		return func() (float64, error) { return closedLoop(128, b.length, f) }
	}
	latency := func(f func() error) func() (float64, error) {
		return func() (float64, error) { return p50(b.length/2, f) }
	}
	var rows []row
	o, r, err := b.both(throughput(ours), throughput(grpcCall))
	if err != nil {
		return nil, err
	}
	rows = append(rows, row{"Go worker, 128 in flight / grpc-go", perSecond(o), perSecond(r), o / r, 3, true})
	if o, r, err = b.both(throughput(wireCall), throughput(grpcCall)); err != nil {
		return nil, err
	}
	rows = append(rows, row{"bare internal/wire, 128 in flight / grpc-go", perSecond(o), perSecond(r), o / r, 4, true})
	if o, r, err = b.both(latency(ours), latency(grpcCall)); err != nil {
		return nil, err
	}
	rows = append(rows, row{"Go worker, p50 at 1 / grpc-go", us(time.Duration(o)), us(time.Duration(r)), o / r, 0.6, false})
	if o, r, err = b.both(latency(ours), latency(rawCall)); err != nil {
		return nil, err
	}
	rows = append(rows, row{"Go worker, p50 at 1 / raw socket ping-pong", us(time.Duration(o)), us(time.Duration(r)), o / r, 0, false})
	return rows, nil
}

// client gives one call of a reference.
func client(role, sock string) (f func() error, end func(), err error) {
	if role == "grpc" {
		cc, err := grpc.NewClient("unix:"+sock, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			return nil, nil, err
		}
		in := []byte(payload)
		return func() error {
			var out []byte
			return cc.Invoke(context.Background(), "/bench.Echo/Echo", &in, &out)
		}, func() { cc.Close() }, nil
	}
	c, err := net.Dial("unix", sock)
	if err != nil {
		return nil, nil, err
	}
	end = func() { c.Close() }
	if role == "raw" {
		in, out := []byte(payload), make([]byte, len(payload))
		return func() error {
			if _, err := c.Write(in); err != nil {
				return err
			}
			_, err := io.ReadFull(c, out)
			return err
		}, end, nil
	}
	p := wire.NewPeer(wire.NewConn(c), wireEcho{})
	go p.Serve()
	route, err := p.Declare(wire.Route{Method: "echo"})
	if err != nil {
		return nil, nil, err
	}
	data := []byte(payload)
	return func() error {
		var k call.Call
		k.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: data}})
		w := call.NewWaiter()
		id := p.Start(nil, route, &k, 0, w)
		_, e := w.Wait(context.Background(), canceler{p, id})
		if e != nil {
			return e
		}
		return nil
	}, end, nil
}

type canceler struct {
	p  *wire.Peer
	id uint64
}

func (c canceler) Cancel(b *call.Batch, _ error) { c.p.Cancel(b, c.id) }

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// maxMessage is the only setting of grpc-go beside the codec: by default it refuses messages over 4 MB.
const maxMessage = 64 << 20

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

// grpcRole serves the methods that rows call of grpc-go.
func grpcRole() error { return serveEach(listenGRPC) }

// listenGRPC serves until its listener is closed.
func listenGRPC(kind, sock string) (net.Listener, error) {
	l, err := listen(kind, sock)
	if err == nil {
		go serveGRPC().Serve(l) //nolint:errcheck // until the listener is closed
	}
	return l, err
}

func serveGRPC() *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(maxMessage))
	h := newHolder()
	method := func(name string, f func(context.Context, []byte) ([]byte, error)) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			if err := dec(&in); err != nil {
				return nil, err
			}
			out, err := f(ctx, in)
			return &out, err
		}}
	}
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Peer", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			method("Echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }),
			method("Make", func(_ context.Context, in []byte) ([]byte, error) { return make([]byte, number(in)), nil }),
			method("Size", func(_ context.Context, in []byte) ([]byte, error) { return numbered(len(in)), nil }),
			method("Hold", func(ctx context.Context, _ []byte) ([]byte, error) { h.hold(ctx); return nil, ctx.Err() }),
			method("Held", func(ctx context.Context, _ []byte) ([]byte, error) { return nil, h.held(ctx) }),
			method("Ended", func(ctx context.Context, _ []byte) ([]byte, error) {
				at, err := h.ended(ctx)
				return numbered(at), err
			}),
		},
		Streams: []grpc.StreamDesc{{StreamName: "Items", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			var in []byte
			if err := s.RecvMsg(&in); err != nil {
				return err
			}
			one := []byte(item)
			for range number(in) {
				if err := s.SendMsg(&one); err != nil {
					return err
				}
			}
			return nil
		}}},
	}, nil)
	return s
}

func numbered(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

// number is the argument of numbered, and 0 for other bytes.
func number(b []byte) int {
	if len(b) != 8 {
		return 0
	}
	return int(binary.LittleEndian.Uint64(b))
}

// holder is a handler that waits for the end of its context, one at a time.
type holder struct {
	begun chan struct{}
	over  chan int // the time of the end, in nanoseconds of the clock that all processes share
}

func newHolder() *holder { return &holder{make(chan struct{}, 1), make(chan int, 1)} }

func (h *holder) hold(ctx context.Context) {
	h.begun <- struct{}{}
	<-ctx.Done()
	h.over <- int(time.Now().UnixNano())
}

// held waits until the handler waits.
func (h *holder) held(ctx context.Context) error {
	select {
	case <-h.begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended waits until its context has ended.
func (h *holder) ended(ctx context.Context) (int, error) {
	select {
	case at := <-h.over:
		return at, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// cancelTime cancels a call of a holder, and gives the nanoseconds until the context of its handler ended.
func cancelTime(ctx context.Context, hold, held func(context.Context) error, ended func(context.Context) (int, error)) (float64, error) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = hold(own) }) // the call ends with an error, because it is cancelled
	if err := held(ctx); err != nil {
		return 0, err
	}
	at := int(time.Now().UnixNano())
	cancel()
	end, err := ended(ctx)
	return float64(end - at), err
}

type grpcPeer struct{ cc *grpc.ClientConn }

// dialGRPC connects with the first call.
func dialGRPC(_ context.Context, e end) (peer, error) {
	target := "passthrough:///" + e.addr
	if e.kind == overUnix {
		target = "unix:" + e.addr
	}
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessage)))
	return grpcPeer{cc}, err
}

func (p grpcPeer) close() { p.cc.Close() }

func (p grpcPeer) call(ctx context.Context, method string, in []byte) (out []byte, err error) {
	err = p.cc.Invoke(ctx, "/bench.Peer/"+method, &in, &out)
	return out, err
}

func (p grpcPeer) echo(ctx context.Context, data []byte) error {
	out, err := p.call(ctx, "Echo", data)
	if err != nil {
		return err
	}
	return checkSize(data, out)
}

func (p grpcPeer) items(ctx context.Context, n int) error {
	s, err := p.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/bench.Peer/Items")
	if err != nil {
		return err
	}
	in := numbered(n)
	if err := errors.Join(s.SendMsg(&in), s.CloseSend()); err != nil {
		return err
	}
	var out []byte
	taken := 0
	for ; ; taken++ {
		if err := s.RecvMsg(&out); errors.Is(err, io.EOF) {
			return checkCount(n, taken)
		} else if err != nil {
			return err
		}
	}
}

func (p grpcPeer) cancelled(ctx context.Context) (float64, error) {
	call := func(method string) func(context.Context) error {
		return func(ctx context.Context) error { _, err := p.call(ctx, method, nil); return err }
	}
	return cancelTime(ctx, call("Hold"), call("Held"), func(ctx context.Context) (int, error) {
		out, err := p.call(ctx, "Ended", nil)
		return number(out), err
	})
}

package peer

import (
	"context"
	"errors"
	"io"
	"net"

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

// ListenGRPC serves the methods that rows call of grpc-go, until its listener is closed.
func ListenGRPC(kind, sock string) (net.Listener, error) {
	l, err := listen(kind, sock)
	if err == nil {
		go serveGRPC().Serve(l) //nolint:errcheck // until the listener is closed
	}
	return l, err
}

func serveGRPC() *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(maxMessage))
	h := NewHolder()
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
			method("Hold", func(ctx context.Context, _ []byte) ([]byte, error) { h.Hold(ctx); return nil, ctx.Err() }),
			method("Held", func(ctx context.Context, _ []byte) ([]byte, error) { return nil, h.Held(ctx) }),
			method("Ended", func(ctx context.Context, _ []byte) ([]byte, error) {
				at, err := h.Ended(ctx)
				return numbered(at), err
			}),
		},
		Streams: []grpc.StreamDesc{{StreamName: "Items", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			var in []byte
			if err := s.RecvMsg(&in); err != nil {
				return err
			}
			one := []byte(Item)
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

// GRPC is a connection of grpc-go.
type GRPC struct{ cc *grpc.ClientConn }

// DialGRPC connects with the first call.
func DialGRPC(_ context.Context, e End) (Client, error) {
	target := "passthrough:///" + e.Addr
	if e.Kind == Unix {
		target = "unix:" + e.Addr
	}
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessage)))
	return GRPC{cc}, err
}

// Close closes the connection.
func (p GRPC) Close() { p.cc.Close() }

func (p GRPC) call(ctx context.Context, method string, in []byte) (out []byte, err error) {
	err = p.cc.Invoke(ctx, "/bench.Peer/"+method, &in, &out)
	return out, err
}

// Echo is [Client].Echo.
func (p GRPC) Echo(ctx context.Context, data []byte) error {
	out, err := p.call(ctx, "Echo", data)
	if err != nil {
		return err
	}
	return CheckSize(data, out)
}

// Items is [Client].Items.
func (p GRPC) Items(ctx context.Context, n int) error {
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
			return CheckCount(n, taken)
		} else if err != nil {
			return err
		}
	}
}

// CancelCall is [Client].CancelCall.
func (p GRPC) CancelCall(ctx context.Context) (float64, error) {
	call := func(method string) func(context.Context) error {
		return func(ctx context.Context) error { _, err := p.call(ctx, method, nil); return err }
	}
	return CancelTime(ctx, call("Hold"), call("Held"), func(ctx context.Context) (int, error) {
		out, err := p.call(ctx, "Ended", nil)
		return number(out), err
	})
}

// Chain lets the server make a value, pass it on and look at it; the caller gets every value in between.
func (p GRPC) Chain(size int) func(context.Context) error {
	return func(ctx context.Context) error {
		made, err := p.call(ctx, "Make", numbered(size))
		if err != nil {
			return err
		}
		echoed, err := p.call(ctx, "Echo", made)
		if err != nil {
			return err
		}
		n, err := p.call(ctx, "Size", echoed)
		if err != nil {
			return err
		}
		return CheckCount(size, number(n))
	}
}

package peer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// token is the common secret of both ends of the bench; the proof costs the same as with a real one.
var token wire.Token //nolint:gochecknoglobals // a constant

// ListenWire serves bare connections of internal/wire until its listener is closed: opening, frames, ids and flushes, without router and
// gate.
func ListenWire(kind, sock string) (net.Listener, error) {
	l, err := listen(kind, sock)
	if err == nil {
		go serveWire(l)
	}
	return l, err
}

// serveWire serves pairs of connections, as a node does.
func serveWire(l net.Listener) {
	var links sync.Map // of chan *wire.Peer by id: the second connection may come before the first has its peer
	accept(l, func(c net.Conn) {
		link := make(chan *wire.Peer, 1)
		h, err := wire.Offer{Features: []string{wire.FeatureBulk}}.Accept(c, func(h wire.Hello) (wire.Token, error) {
			if h.Connection == wire.ConnSmall {
				links.Store(h.ID, link)
			}
			return token, nil
		})
		switch known, ok := links.Load(h.ID); {
		case err != nil || !ok:
			c.Close()
		case h.Connection == wire.ConnBulk:
			p := <-known.(chan *wire.Peer)
			if err := p.Attach(c); err != nil {
				p.Close(err)
			}
		default:
			p := wire.NewPeer(wire.NewLink(wire.NewConn(c), h.Terms), wireServer{})
			link <- p
			p.Serve() //nolint:errcheck // until the client closes
			links.Delete(h.ID)
		}
	})
}

// wireServer answers by the method of the route.
type wireServer struct{}

func (wireServer) Route(r wire.Route) any { return r.Method }
func (wireServer) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, errors.New("none")
}
func (wireServer) Goaway(wire.Goaway) {}

func (wireServer) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	answer := func(b *call.Batch, data []byte) {
		in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: data}})
	}
	if in.Route == "echo" {
		answer(b, in.Encoded.Body)
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	switch in.Route {
	case "items":
		n := number(in.Encoded.Body)
		go func() {
			p := call.Payload{Codec: call.Raw, Data: []byte(Item)}
			for range n {
				if !in.Item(ctx, p) {
					break
				}
			}
			in.Complete(nil, call.Result{})
		}()
	case "hold":
		go func() {
			<-ctx.Done()
			answer(nil, numbered(int(time.Now().UnixNano())))
		}()
	default:
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonNoMethod, "none")})
	}
	return stop(cancel)
}

type stop context.CancelFunc

func (s stop) Cancel(*call.Batch, error) { s() }

// Wire is a bare connection, or a pair of them.
type Wire struct {
	p         *wire.Peer
	echoRoute uint32
}

// DialWire opens a connection as a worker does, and then a second one, for which only large values wait.
func DialWire(ctx context.Context, e End) (Client, error) {
	h := wire.Hello{Kind: "worker", Language: "go", ID: rand.Text(), Features: []string{wire.FeatureBulk}}
	p, err := openPeer(ctx, e, h)
	if err != nil {
		return nil, err
	}
	go func() {
		h.Connection = wire.ConnBulk
		c, _, err := openWire(ctx, e, h)
		if err == nil {
			err = p.p.Attach(c)
		}
		if err != nil {
			p.p.Close(err)
		}
	}()
	return p, nil
}

// DialSmall opens one connection.
func DialSmall(ctx context.Context, e End) (Client, error) {
	return openPeer(ctx, e, wire.Hello{Kind: "worker", Language: "go", ID: rand.Text()})
}

func openPeer(ctx context.Context, e End, h wire.Hello) (*Wire, error) {
	c, terms, err := openWire(ctx, e, h)
	if err != nil {
		return nil, err
	}
	p := &Wire{p: wire.NewPeer(wire.NewLink(wire.NewConn(c), terms), wireServer{})}
	go p.p.Serve() //nolint:errcheck // until it is closed
	p.echoRoute, err = p.p.Declare(wire.Route{Method: "echo"})
	return p, err
}

func openWire(ctx context.Context, e End, h wire.Hello) (net.Conn, wire.Terms, error) {
	c, err := e.Dial(ctx)
	if err != nil {
		return nil, wire.Terms{}, err
	}
	w, err := wire.Open(c, token, h)
	if err != nil {
		c.Close()
	}
	return c, w.Terms, err
}

// Close closes both connections.
func (p *Wire) Close() { p.p.Close(errors.New("done")) }

// start starts a call; Items of k are set where it is a stream.
func (p *Wire) start(ctx context.Context, route uint32, k *call.Call, data []byte, sink call.Sink) canceler {
	k.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: data}})
	var left time.Duration
	if until, ok := ctx.Deadline(); ok {
		left = time.Until(until)
	}
	return canceler{p.p, p.p.Start(nil, route, k, left, sink)}
}

// Echo is [Client].Echo.
func (p *Wire) Echo(ctx context.Context, data []byte) error {
	w := call.NewWaiter()
	answer, e := w.Wait(ctx, p.start(ctx, p.echoRoute, &call.Call{}, data, w))
	if e != nil {
		return e
	}
	return CheckSize(data, answer.Data)
}

// Items is [Client].Items.
func (p *Wire) Items(ctx context.Context, n int) error {
	route, err := p.p.Declare(wire.Route{Method: "items"})
	if err != nil {
		return err
	}
	w, r := call.NewWaiter(), &reader{}
	if _, e := w.Wait(ctx, p.start(ctx, route, &call.Call{Items: r, Window: call.Room}, numbered(n), w)); e != nil {
		return e
	}
	return CheckCount(n, r.taken)
}

// reader takes items at once, and lets the other side send on as readers do: in halves of the window.
type reader struct {
	taken int
	read  call.Window // since the last credit
}

func (*reader) Item(context.Context, call.Payload) bool { return false } // what comes over a wire comes in frames

func (r *reader) Frame(b *call.Batch, from call.Source, frame []byte) {
	for p, rest, ok := call.NextItem(frame); ok; p, rest, ok = call.NextItem(rest) {
		r.taken++
		r.read.Items++
		r.read.Bytes += uint32(len(p.Data))
	}
	if r.read.Items >= call.Room.Items/2 || r.read.Bytes >= call.Room.Bytes/2 {
		from.Credit(b, r.read)
		r.read = call.Window{}
	}
}

// CancelCall is [Client].CancelCall.
func (p *Wire) CancelCall(ctx context.Context) (float64, error) {
	route, err := p.p.Declare(wire.Route{Method: "hold"})
	if err != nil {
		return 0, err
	}
	w := call.NewWaiter()
	c := p.start(ctx, route, &call.Call{}, nil, w)
	if err := p.Echo(ctx, []byte(Item)); err != nil { // frames keep their order: the handler waits by now
		return 0, err
	}
	at := int(time.Now().UnixNano())
	c.Cancel(nil, context.Canceled)
	answer, e := w.Wait(ctx, c)
	if e != nil {
		return 0, e
	}
	return float64(number(answer.Data) - at), nil
}

type canceler struct {
	p  *wire.Peer
	id uint64
}

func (c canceler) Cancel(b *call.Batch, _ error) { c.p.Cancel(b, c.id) }

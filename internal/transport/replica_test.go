package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net"
	"os"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// kind is a way in which a node reaches a replica.
type kind struct {
	name string
	pair func(t testing.TB) (a, b net.Conn) // of a connection to a worker; nil: the replica is in the node
}

func kinds() []kind {
	return []kind{{"local", nil}, {"encoded", nil}, {"pipe", pipe}, {"unix", socketPair}}
}

func pipe(testing.TB) (a, b net.Conn) { return net.Pipe() }

func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := kernel.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	var out [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		out[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}

// everyKind runs a test over every kind, in subtests. Over pipes it runs in a bubble, which finds goroutines that are left behind.
func everyKind(t *testing.T, body func(t *testing.T, k kind)) {
	t.Parallel()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if k.name == "pipe" {
				synctest.Test(t, func(t *testing.T) { body(t, k) })
				return
			}
			body(t, k)
		})
	}
}

// replica is one replica with its gate. It checks that no more calls run at once than the gate has slots, and that none runs twice.
type replica struct {
	t         testing.TB
	gate      *gate.Gate
	transport transport.Transport
	method    func(ctx context.Context, name string, body []byte) ([]byte, error) // nil: an echo
	end       func()                                                              // ends the worker that the replica is in

	mu      sync.Mutex
	runs    map[string]int
	running int
	most    int
}

// newReplica makes a replica of a kind. At the end of the test its connection is closed, and the test ends when every slot is free and no call runs.
func newReplica(t testing.TB, k kind, slots int) *replica {
	t.Helper()
	r := &replica{t: t, gate: gate.New(slots), runs: map[string]int{}}
	bytes := reflect.TypeFor[[]byte]()
	class := &instance.Class{App: "app", Deployment: "d", Methods: map[string]*instance.Method{
		"Do": {Name: "Do", Shape: instance.Unary, In: bytes, Out: bytes, Invoke: func(ctx context.Context, _, in any) (any, error) {
			return r.run(ctx, in.([]byte))
		}},
		"Items": {Name: "Items", Shape: instance.Stream, In: bytes, Out: bytes, Stream: func(context.Context, any, any) iter.Seq2[any, error] {
			return func(yield func(any, error) bool) {
				for _, item := range []string{"one", "two", "three"} {
					if !yield([]byte(item), nil) {
						return
					}
				}
			}
		}},
	}}
	local := &transport.Local{Replica: instance.New("d#1", class), Codec: codec.New()}
	t.Cleanup(func() { // the method of a worker that has ended returns when it sees the end of its context: later than the node frees the slot
		until(func() bool { return r.gate.Load() == 0 && r.idle() })
	})
	switch {
	case k.name == "encoded":
		r.transport = &transport.Encoded{Local: local, Default: call.Msgpack}
	case k.pair == nil:
		r.transport = local
	default:
		node, worker := connect(t, k, relay{}, relay{to: local})
		r.transport = &transport.Wire{Peer: node, Replica: "d#1", Codec: codec.New()}
		r.end = func() { worker.Close(wire.ErrClosed) }
	}
	return r
}

func (r *replica) ID() string        { return "d#1" }
func (r *replica) Node() string      { return "here" }
func (r *replica) Gate() router.Gate { return r.gate }

// run counts a call and runs the test's method.
func (r *replica) run(ctx context.Context, body []byte) ([]byte, error) {
	name := call.InfoFrom(ctx).Request.Text()
	r.mu.Lock()
	r.runs[name]++
	r.running++
	r.most = max(r.most, r.running)
	if r.running > r.gate.Max() || r.runs[name] > 1 {
		r.t.Errorf("%d calls in %d slots, %s for the %d. time", r.running, r.gate.Max(), name, r.runs[name])
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.running--
		r.mu.Unlock()
	}()
	if r.method == nil {
		return body, nil
	}
	return r.method(ctx, name, body)
}

// ran is how many calls have begun.
func (r *replica) ran() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.runs)
}

// idle says whether no call runs.
func (r *replica) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running == 0
}

// connect makes two peers that are joined by two connections. When the test ends, both are closed, and nothing of them is left.
func connect(t testing.TB, k kind, here, there wire.Server) (x, y *wire.Peer) {
	t.Helper()
	terms := wire.Terms{Protocol: 2, Bulk: true}
	a, b := k.pair(t)
	x, y = wire.NewPeer(wire.NewLink(wire.NewConn(a), terms), here), wire.NewPeer(wire.NewLink(wire.NewConn(b), terms), there)
	a, b = k.pair(t)
	if err := errors.Join(x.Attach(a), y.Attach(b)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.Close(wire.ErrClosed)
		y.Close(wire.ErrClosed)
		<-x.Done()
		<-y.Done()
	})
	go x.Serve() //nolint:errcheck // it is closed
	go y.Serve() //nolint:errcheck // as above
	return x, y
}

// relay is a wire.Server whose calls go on to a transport.
type relay struct{ to transport.Transport }

func (r relay) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	if r.to == nil {
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonInternal, "not here")})
		return nil
	}
	if r.to.Keeps() {
		in.Keep()
	}
	in.Info.Place = &call.Place{App: "app", Deployment: "d", Method: in.Route.(wire.Route).Method}
	return r.to.Start(b, &in.Call, in)
}

func (relay) Route(r wire.Route) any { return r }
func (relay) Goaway(wire.Goaway)     {}
func (relay) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, errors.New("not here")
}

// client is a router of a node, over some replicas.
type client struct{ router *router.Router }

func newClient(replicas ...*replica) *client {
	c := &client{router.New("here")}
	var set []router.Replica
	for _, r := range replicas {
		set = append(set, r)
	}
	c.router.Update(nil, set)
	return c
}

// flight is a call from its submission to its end, as the node has it.
type flight struct {
	ticket router.Ticket
	client *client
	call   *call.Call
	done   chan struct{} // closed when result is there
	result call.Result

	mu       sync.Mutex
	answered bool
	waiting  bool // in the router's queue
	replica  *replica
	handle   transport.Handle
}

// submit calls the method Do with a body, under a name, which is the request id.
func (c *client) submit(name string, body []byte) *flight {
	k := &call.Call{Want: call.Raw}
	k.Info.Request = call.IDFrom(name)
	k.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: body}})
	return c.send("Do", k)
}

func (c *client) send(method string, k *call.Call) *flight {
	f := &flight{client: c, call: k, done: make(chan struct{}), waiting: true}
	k.Info.Place = &call.Place{App: "app", Deployment: "d", Method: method}
	c.router.Submit(nil, &f.ticket, k.Origin, &k.Info, f)
	return f
}

func (f *flight) Assigned(b *call.Batch, to router.Replica) {
	r := to.(*replica)
	f.mu.Lock()
	f.waiting, f.replica = false, r
	answered := f.answered
	f.mu.Unlock()
	if answered {
		r.gate.Release(b)
		return
	}
	h := r.transport.Start(b, f.call, f)
	f.mu.Lock()
	f.handle = h
	answered = f.answered
	f.mu.Unlock()
	if answered {
		h.Cancel(b, context.Canceled)
	}
}

func (f *flight) Failed(_ *call.Batch, cause *call.Error) { f.answer(call.Result{Err: cause}) }

// Complete ends the call, or has the router send it elsewhere if it has not started.
func (f *flight) Complete(b *call.Batch, r call.Result) {
	f.mu.Lock()
	again := r.NotStarted && !f.answered
	f.waiting, f.handle = again, transport.Handle{}
	rep := f.replica
	f.mu.Unlock()
	if r.NotStarted || r.Lost {
		rep.gate.Close()
	}
	rep.gate.Release(b)
	if again {
		f.client.router.Requeue(b, &f.ticket, f.call.Origin, &f.call.Info, f)
		return
	}
	f.answer(r)
}

func (f *flight) answer(r call.Result) {
	f.mu.Lock()
	answered := f.answered
	f.answered = true
	f.mu.Unlock()
	if !answered {
		r.Data = append([]byte(nil), r.Data...)
		f.result = r
		close(f.done)
	}
}

// cancel ends the call for its caller, wherever it is.
func (f *flight) cancel() {
	f.answer(call.Result{Err: call.FromCause(context.Canceled)})
	f.mu.Lock()
	waiting, h := f.waiting, f.handle
	f.mu.Unlock()
	if waiting {
		f.client.router.Cancel(&f.ticket)
	}
	h.Cancel(nil, context.Canceled)
}

// await waits for the end, and checks that the argument came back.
func (f *flight) await(t *testing.T) {
	t.Helper()
	if <-f.done; f.result.Err != nil || string(f.result.Data) != string(f.call.Slots[0].Data) {
		t.Errorf("%s ended with %d bytes and %v", f.call.Info.Request, len(f.result.Data), f.result.Err)
	}
}

// until waits until a condition is true that other goroutines are about to make true.
func until(done func() bool) {
	for !done() {
		runtime.Gosched()
	}
}

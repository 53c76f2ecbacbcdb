package serving

import (
	"context"
	"net/http"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/exchange"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/transport"
)

// Clients outside ask for streams and for handlers of HTTP beside single results. Both hold a goroutine, the request's.

// input is the kind of input of an ingress method by the name that package host has for it. Another name, for example of a worker of another version,
// is an input that an ingress cannot send.
func input(name string) proxy.InKind {
	switch name {
	case "none":
		return proxy.InNone
	case "string":
		return proxy.InString
	case "bytes":
		return proxy.InBytes
	case "json":
		return proxy.InJSON
	}
	return proxy.InUnsupported
}

// Route is the route of an application whose ingress is the deployment. Calls are at the place; their method takes the input that in
// names, and answers as kind says.
func (d *Deployment) Route(place *call.Place, in string, kind spec.IngressKind) proxy.Route {
	r := proxy.Route{Prefix: place.Prefix, App: place.App, In: input(in)}
	r.Refuses = func(c *call.Call) *call.Error {
		c.Info.Place = place
		return d.Full(c)
	}
	switch kind {
	case spec.IngressHTTP:
		r.ReadsFirst = !d.InProcess()
		r.Handle = func(ctx context.Context, c *call.Call, serve proxy.Serve) *call.Error {
			c.Info.Place = place
			return d.Handle(ctx, c, serve)
		}
	case spec.IngressStream:
		r.Stream = func(ctx context.Context, c *call.Call, item proxy.Item) *call.Error {
			c.Info.Place = place
			return d.Stream(ctx, c, item)
		}
	case spec.IngressMethod:
		r.Call = func(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
			c.Info.Place = place
			return d.Do(ctx, c)
		}
	}
	return r
}

// slot takes a slot for a call of a client outside, and waits for one if need be: the one way for results, streams and handlers.
func (d *Deployment) slot(ctx context.Context, c *call.Call) (Replica, *call.Error) {
	c.Deadline, _ = ctx.Deadline() // a worker takes the end of the call for its deadline then
	if d.refuses(&c.Info) == nil && c.Info.Affinity == nil {
		if r := d.TryAcquireRecent(); r != nil {
			return r, nil
		}
	}
	if d.ReadsInput() {
		AttachInput(&c.Info, c)
	}
	return d.Acquire(ctx, &c.Info, c.Origin)
}

// untilDone gives a context that ends with ctx, and when the time of the replica that has the call has ended. The function at says which replica
// that is. For example, a call is given to a replica whose process has just died: it waits for another replica, and the end of the first is not
// its own.
func untilDone(ctx context.Context, r Replica, at func() Replica) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.Done(), func() {
		if at() == r {
			cancel(context.Cause(r.Done()))
		}
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Stream makes a call that streams and gives its items to item, on the caller's goroutine, until that returns false or ctx
// ends. A replica in this process runs the method there too, so that nothing is buffered. A method that ignores its context can
// keep the caller waiting, as in Do.
func (d *Deployment) Stream(ctx context.Context, c *call.Call, item proxy.Item) *call.Error {
	r, e := d.slot(ctx, c)
	if e != nil {
		return e
	}
	local, ok := r.Transport().(*transport.Local)
	if _, limited := ctx.Deadline(); !ok || limited {
		p := &pipe{wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
		f := &Flight{dep: d, call: c, sink: p}
		ctx, done := untilDone(ctx, r, f.at)
		defer done()
		c.Items, c.Unread, c.Values = p, &p.unread, requestFor(r, ctx)
		f.Assigned(nil, r)
		return p.drain(ctx, f, item)
	}
	ctx, done := untilDone(ctx, r, func() Replica { return r })
	defer done()
	defer r.Gate().Release(nil)
	c.Info.Replica, c.Items = r.ID(), inlineItems(item)
	if _, e = local.Inline(ctx, c); e != nil {
		e = e.At(&c.Info)
	}
	return e
}

// requestFor gives the HTTP request in ctx to a call that another goroutine or process runs. Ingress methods in Python have a request of their own.
func requestFor(r Replica, ctx context.Context) (values context.Context) {
	if t, ok := r.Transport().(*transport.Wire); ok && t.Python {
		return nil
	}
	return ctx
}

// inlineItems takes the items of a method on the method's goroutine.
type inlineItems proxy.Item

func (f inlineItems) Item(_ context.Context, p call.Payload) bool { return f(p, false) }
func (inlineItems) Frame(*call.Batch, call.Source, []byte)        {} // no item comes over a wire

// pipe is a stream whose items come on other goroutines than they are taken on.
type pipe struct {
	wake chan struct{} // there is something to take
	room chan struct{} // there is room again

	mu     sync.Mutex
	frames [][]byte
	bytes  int
	from   call.Source // of items that came over a wire
	ended  bool
	end    *call.Error

	unread call.Unread
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Item takes an item of a method in this process, and waits while there are too many.
func (p *pipe) Item(ctx context.Context, item call.Payload) bool {
	for {
		p.mu.Lock()
		full := len(p.frames) >= int(call.Room.Items) || p.bytes >= int(call.Room.Bytes)
		if !full && !p.ended {
			p.frames = append(p.frames, call.AppendItem(nil, item))
			p.bytes += len(item.Data)
		}
		ended := p.ended
		p.mu.Unlock()
		switch {
		case ended:
			return false
		case !full:
			signal(p.wake)
			return true
		}
		p.unread.Full(call.Now())
		select {
		case <-p.room:
			p.unread.Room()
		case <-ctx.Done():
			return false
		}
	}
}

// Frame takes items that came over a wire, which their window bounds.
func (p *pipe) Frame(_ *call.Batch, from call.Source, frame []byte) {
	p.mu.Lock()
	p.frames = append(p.frames, append([]byte(nil), frame...))
	p.from = from
	p.mu.Unlock()
	signal(p.wake)
}

// Progressed says whether an item has come from another process.
func (p *pipe) Progressed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from != nil
}

// Complete is told the end.
func (p *pipe) Complete(_ *call.Batch, r call.Result) {
	p.mu.Lock()
	p.ended, p.end = true, r.Err
	p.mu.Unlock()
	signal(p.wake)
	signal(p.room)
}

// drain passes the items on until the stream, ctx or the interest in it ends.
func (p *pipe) drain(ctx context.Context, flight *Flight, item proxy.Item) *call.Error {
	var owed call.Window
	for {
		p.mu.Lock()
		frames, from, ended, end := p.frames, p.from, p.ended, p.end
		p.frames, p.bytes = nil, 0
		p.mu.Unlock()
		for i, frame := range frames {
			for len(frame) > 0 {
				v, rest, ok := call.NextItem(frame)
				if !ok { // the connection has looked through it
					break
				}
				frame = rest
				if ctx.Err() != nil && !ended || !item(v, len(rest) > 0 || i < len(frames)-1) {
					cause := call.Cause(ctx)
					if cause == nil {
						cause = context.Canceled
					}
					flight.Cancel(nil, cause)
					return call.FromCause(cause).At(&flight.call.Info)
				}
				owed.Items++
				owed.Bytes += uint32(len(v.Data)) // at most as many as a frame holds
				if from != nil && (owed.Items >= call.Room.Items/2 || owed.Bytes >= call.Room.Bytes/2) {
					from.Credit(nil, owed)
					owed = call.Window{}
				}
			}
		}
		signal(p.room)
		if len(frames) > 0 {
			continue
		}
		if ended {
			return end
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			p.mu.Lock()
			ended = p.ended // the replica may stop as soon as the stream has ended, and that ends ctx
			p.mu.Unlock()
			if ended {
				continue
			}
			flight.Cancel(nil, call.Cause(ctx))
			return call.FromContext(ctx).At(&flight.call.Info)
		}
	}
}

// localInstance is the instance of a replica in this process, also where calls to it are encoded; nil for a replica elsewhere.
func localInstance(r Replica) *instance.Instance {
	switch t := r.Transport().(type) {
	case *transport.Local:
		return t.Replica
	case *transport.Encoded:
		return t.Local.Replica
	}
	return nil
}

// Handle waits for a slot and lets the replica serve: an http.Handler in this process, or code in a worker, to which the request travels.
func (d *Deployment) Handle(ctx context.Context, c *call.Call, serve proxy.Serve) (failure *call.Error) {
	r, e := d.slot(ctx, c)
	if e != nil {
		return e
	}
	if t, ok := r.Transport().(*transport.Wire); ok {
		if t.NextNode() {
			return passOn(r, c)
		}
		return d.exchange(ctx, c, r, t.Python, serve)
	}
	c.Info.Replica = r.ID()
	i := localInstance(r)
	var h http.Handler
	if i != nil {
		h, _ = i.Value.(http.Handler)
	}
	if h == nil { // of a revision that had another ingress
		r.Gate().Release(nil)
		return call.NewError(helvetype.ReasonNoMethod, "replica "+r.ID()+" is no http.Handler").At(&c.Info)
	}
	ctx, done := untilDone(ctx, r, func() Replica { return r })
	in := &call.Inline{Caller: ctx, Info: c.Info}
	x := instance.Execution{Of: i, Call: &in.Info, Streams: true, Unread: c.Unread}
	defer func() {
		in.End()
		done()
		r.Gate().Release(nil)
		if err, ok := x.Panic.(error); ok && call.Is(err, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler) // as net/http knows it
		}
		if x.Failure != nil {
			failure = x.Failure.At(&c.Info)
		}
	}()
	var end error
	x.Run(func() error {
		taken := serve(in, h, false)
		if !taken && in.Err() != nil {
			end = call.Cause(in)
		}
		return nil
	})
	// A handler that returns because its time is over, or that of its replica, has written no whole answer. The server ends a context also where
	// only a deadline of the handler's reads has passed: such an end is plain, and that of a client that leaves needs no error.
	if end != nil && end != context.Canceled { //nolint:errorlint // as the server has it
		return call.FromCause(end).At(&c.Info)
	}
	return nil
}

// relay is a request on its way to a replica in a worker. The flight and the node's end of the exchange are in it, because they cost one
// allocation together.
type relay struct {
	dep      *Deployment
	ctx      context.Context
	call     *call.Call
	replica  Replica // whose slot the request has
	python   bool
	begun    bool // the flight has the slot
	failure  *call.Error
	flight   Flight
	exchange exchange.Call
}

// exchange has a replica in a worker answer a request: r, unless it is lost before the call has started. Replicas in Python get the whole path.
func (d *Deployment) exchange(ctx context.Context, c *call.Call, r Replica, python bool, serve proxy.Serve) *call.Error {
	x := &relay{dep: d, ctx: ctx, call: c, replica: r, python: python}
	defer x.end()
	c.Info.Replica = r.ID()
	serve(ctx, x, python)
	return x.failure
}

// end gives the slot back, or cancels the call, which does nothing if the replica has answered.
func (x *relay) end() {
	if !x.begun {
		x.replica.Gate().Release(nil)
		return
	}
	cause := call.Cause(x.ctx)
	if cause == nil {
		cause = context.Cause(x.replica.Done())
	}
	if cause == nil {
		cause = context.Canceled
	}
	x.flight.Cancel(nil, cause)
}

// Holds implements [exchange.Holder].
func (x *relay) Holds() bool { return x.flight.at() == x.replica }

// ServeHTTP implements http.Handler.
func (x *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c, r := x.call, x.replica
	kind := uint8(exchange.Request)
	if x.python && exchange.IsWebSocket(req) {
		if exchange.RefuseHandshake(w, req) {
			return
		}
		kind = exchange.WebSocket
	}
	e := x.exchange.Prepare(c, kind, req)
	if e != nil {
		x.failure = e.At(&c.Info)
		return
	}
	f := &x.flight
	f.dep, f.call, f.sink = x.dep, c, &x.exchange
	x.begun = true
	if kind == exchange.WebSocket {
		bounded, done := untilDone(x.ctx, r, f.at)
		defer done()
		f.Assigned(nil, r)
		e = exchange.ServeWebSocket(w, req.WithContext(bounded), &x.exchange, exchange.WebSocketLimits{})
	} else {
		x.exchange.Until(r.Done(), x)
		f.Assigned(nil, r)
		e = x.exchange.Answer(w, req)
	}
	if e == nil {
		return
	}
	if stopped, ok := call.Own(context.Cause(r.Done())); ok && stopped == e { // its time was over, and another replica may serve the next request
		e = call.NewError(helvetype.ReasonDeploymentUnavailable, "the request was cut off: "+e.Message)
	}
	x.failure = e.At(&c.Info)
	if x.python && e.Remote && e.Reason == helvetype.ReasonUser {
		logged := *x.failure
		logged.Logged = true
		x.failure = &logged
	}
}

package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// The limits of what one side may have in progress on a connection. Over a limit the other side ends the connection,
// with a GOAWAY that names the limit; a sender keeps within them, see docs/wire.md, "Limits".
const (
	maxIncoming   = 1 << 20  // calls
	maxControls   = 4096     // control requests
	maxRouteBytes = 16 << 20 // of the JSON of all routes that have a number
)

// Route is the destination of calls: a method of a deployment (in calls from a worker or driver) or of a replica (in
// calls from the node).
type Route struct {
	App        string `json:"app,omitempty"`
	Deployment string `json:"deployment,omitempty"`
	Replica    string `json:"replica,omitempty"`
	Method     string `json:"method"`
}

// Server handles the calls and requests of the other side. Its methods run on a reader goroutine, one at a time, and
// must not block; only Control has a goroutine of its own.
type Server interface {
	// Call handles a call, which ends with in.Complete, exactly once, during Call or later. The arguments of in are
	// valid until Call returns; [Incoming.Keep] copies them. The result is the receiver of a CANCEL of the call, or nil.
	Call(b *call.Batch, in *Incoming) call.Canceler
	// Route handles the declaration of a route. handle becomes [Incoming.Route] of the calls on this route.
	Route(r Route) (handle any)
	// Control answers a control request. reply is marshalled to JSON. ctx ends with the connection.
	Control(ctx context.Context, op string, body json.RawMessage) (reply any, err error)
	// Goaway handles the message that the other side takes no more calls.
	Goaway(g Goaway)
}

// Orderer is a [Server] some of whose control requests are answered before the next frame is read, because later frames rely on them. For example, a
// replica reports the model that a call has loaded, and then ends the call: the router must know of the model before the caller has the answer. Such a
// request must not wait for the connection. The other requests have goroutines of their own, since to start a replica may take minutes.
type Orderer interface{ InOrder(op string) bool }

// Incoming is a call that the other side has sent, and the sink of its result.
type Incoming struct {
	call.Call
	Route any           // the handle from Server.Route; nil if the number was not declared
	Left  time.Duration // time until the deadline when the call arrived, 0 for no deadline; Deadline is computed from it
	// OnEnd is called when the call has ended, also if the connection has ended before. May be nil.
	OnEnd interface{ Ended() }
	// References keeps a result of more than Over bytes in this process, and the caller gets a reference instead. If it
	// is nil, every result is sent to the caller.
	References References
	Over       int

	peer *Peer
	id   uint64
	size int      // bytes that count in Peer.inFlight
	out  *outflow // nil if the call is no stream
	up   *inflow  // of the parts of an exchange; nil for other calls

	mu          sync.Mutex
	ended       bool
	earlyCancel error // a cancel that arrived before Server.Call had returned
	cancel      call.Canceler
}

// Keep copies the arguments, so that they stay valid after Server.Call.
func (in *Incoming) Keep() {
	e := &in.Encoded
	n := len(e.Table)
	if len(e.Body) > maxCopied { // it is not part of the read buffer
		e.Table = append([]byte(nil), e.Table...)
		if e.Table == nil {
			e.Table = []byte{}
		}
		return
	}
	own := make([]byte, n+len(e.Body))
	copy(own, e.Table)
	copy(own[n:], e.Body)
	e.Table, e.Body = own[:n:n], own[n:]
}

// MarkSampled has the call go on as one whose spans are exported.
func (in *Incoming) MarkSampled() {
	e := &in.Encoded
	e.Table = appendSampled(append(make([]byte, 0, len(e.Table)+sampledLen), e.Table...)) // it may lie in the read buffer
}

// Complete sends the END of the call.
func (in *Incoming) Complete(b *call.Batch, r call.Result) {
	defer in.drained()
	in.mu.Lock()
	ended := in.ended
	in.ended, in.cancel = true, nil
	in.mu.Unlock()
	if ended {
		return
	}
	if in.OnEnd != nil {
		in.OnEnd.Ended()
	}
	for _, s := range in.Encoded.Shared { // readers that are left in the method have been cancelled
		s.Release()
	}
	p := in.peer
	p.mu.Lock()
	delete(p.incoming, in.id)
	p.inFlight.calls -= in.size
	busy := len(p.incoming) > 0
	p.mu.Unlock()
	if r.Err == nil && (r.Parts != nil || in.References != nil || p.memory != nil && len(r.Data) >= SharedLeast) {
		in.completeInSegments(b, r, busy)
		return
	}
	var meta [endLen]byte
	h := Header{Type: TypeEnd, ID: in.id}
	body := r.Data
	if r.Err != nil {
		h.Flags, body = FlagError, codec.AppendError(nil, r.Err)
	} else {
		meta[0] = byte(r.Codec)
	}
	if o := in.out; o != nil {
		if e := in.flushItems(); e != nil {
			meta[0], h.Flags, body = 0, FlagError, codec.AppendError(nil, e)
		}
	}
	if _, err := p.conn.Append(h, meta[:], body); err != nil {
		if p.conn.Err() != nil || errors.Is(err, ErrClosed) {
			return
		}
		what := "the result is "
		if r.Err != nil {
			what = "the error of the method is "
		}
		e := call.NewError(helvetype.ReasonTooLarge, what+err.Error())
		h.Flags = FlagError
		if _, err := p.conn.Append(h, meta[:], codec.AppendError(nil, e)); err != nil {
			return
		}
	}
	if b == nil {
		p.conn.FlushSoon(busy)
	} else {
		b.Touch(p.conn)
	}
}

func (in *Incoming) cancelCall(b *call.Batch, cause error) {
	in.mu.Lock()
	c := in.cancel
	if c == nil && !in.ended {
		in.earlyCancel = cause
	}
	in.mu.Unlock()
	if c != nil {
		c.Cancel(b, cause)
	}
}

// cancelSlack is how long before the deadline a CANCEL still counts as caused by the deadline. Each side counts the time
// left from the moment in which it got the call, so the caller's deadline is a little earlier than the one here. For a
// short time left the slack is an eighth of it.
const cancelSlack = 20 * time.Millisecond

// cancelCause returns the reason of a CANCEL that has just arrived. The frame has no reason in it, so the time decides.
// For example, a call came with 10 s left: a CANCEL after 9.99 s means that the deadline has passed, one after 5 s that
// the caller has given up.
func (in *Incoming) cancelCause() error {
	if d := in.Deadline; !d.IsZero() && time.Until(d) < min(cancelSlack, in.Left/8) {
		return context.DeadlineExceeded
	}
	return context.Canceled
}

type outgoing struct {
	sink     call.Sink
	pos      uint64
	flow     *inflow     // nil if the call is no stream
	up       *outflow    // of the parts of an exchange; nil for other calls
	segments *segments   // nil if the arguments are in the frame
	route    *BoundRoute // nil for a route that keeps its number, see Declare
}

// forget is called, with Peer.mu held, when a call has ended.
func (o outgoing) forget() {
	if o.route != nil {
		o.route.inFlight--
	}
}

// Peer is one end of a connection. It carries calls, streams and control requests in both directions. Its methods may be
// called from any goroutine.
type Peer struct {
	conn   *Link
	server Server
	memory Memory // nil if the sides share no memory

	mu           sync.Mutex
	calls        map[uint64]outgoing
	nextCall     uint64
	incoming     map[uint64]*Incoming
	maxCalls     int // the largest number of calls in flight
	controls     map[uint64]sentControl
	controlQueue controlQueue
	nextControl  uint64
	boundRoutes  boundRoutes
	inFlight     inFlight
	ended        bool
	retired      atomic.Bool // see Retire

	peerRoutes       []peerRoute  // routes of the other side, by number; only the reader that hands frames over touches them
	routeBytes       int          // bytes of their JSON
	handlingControls atomic.Int32 // control requests of the other side that are not answered

	ctx      context.Context // of control requests; ends with the connection
	stop     context.CancelCauseFunc
	handlers sync.WaitGroup // goroutines of control requests that may be answered in any order
	done     chan struct{}
}

type reply struct {
	body json.RawMessage
	err  error
}

// peerRoute is a route that the other side has declared.
type peerRoute struct {
	handle any
	bytes  int // of its JSON
}

// NewPeer makes a peer of a link after the opening. The peer reads nothing before [Peer.Serve].
func NewPeer(conn *Link, server Server) *Peer {
	ctx, stop := context.WithCancelCause(context.Background())
	p := &Peer{
		conn: conn, server: server, ctx: ctx, stop: stop,
		calls: map[uint64]outgoing{}, incoming: map[uint64]*Incoming{}, controls: map[uint64]sentControl{}, maxCalls: maxIncoming,
		done: make(chan struct{}),
	}
	conn.small.readsParts = p.readsParts
	return p
}

// UseMemory sets the memory that both sides share. It is called before [Peer.Serve].
func (p *Peer) UseMemory(m Memory) { p.memory = m }

// Done returns a channel that is closed when the connection has ended and every call and request on it was answered.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Attach gives the peer its second connection: see [Link.Attach].
func (p *Peer) Attach(nc net.Conn) error { return p.conn.Attach(nc) }

// Close ends the connection. cause becomes the result of [Peer.Serve].
func (p *Peer) Close(cause error) { p.conn.Close(cause) }

// Retire ends the connection as soon as no call and no control request of this side is in flight. The caller makes no more of them.
func (p *Peer) Retire() {
	p.retired.Store(true)
	p.endRetired()
}

// endRetired ends a retired connection that has no use any more.
func (p *Peer) endRetired() {
	p.mu.Lock()
	over := len(p.calls) == 0 && len(p.controls) == 0
	p.mu.Unlock()
	if over {
		p.Close(ErrClosed)
	}
}

// Serve reads until the connection ends, and returns the cause. Then it completes every call that is in flight: with
// NotStarted if no byte of the call has reached the kernel, with the reason replica_died otherwise. Calls of the other
// side are cancelled.
func (p *Peer) Serve() error {
	err := p.conn.Read(p.frame)
	p.stop(errEnded)
	p.conn.awaitWriters()
	p.mu.Lock()
	p.ended = true
	calls, controls := p.calls, p.controls
	p.calls, p.controls = map[uint64]outgoing{}, map[uint64]sentControl{}
	incoming := make([]*Incoming, 0, len(p.incoming))
	for _, in := range p.incoming {
		incoming = append(incoming, in)
	}
	p.mu.Unlock()
	var b call.Batch
	for _, o := range calls {
		o.up.end()
		o.segments.release()
		o.sink.Complete(&b, p.connectionLost(o.pos))
	}
	for _, a := range controls {
		a.deliver(reply{err: errEnded})
	}
	for _, in := range incoming {
		in.cancelCall(&b, errCallerGone)
	}
	b.End()
	p.handlers.Wait()
	close(p.done)
	return err
}

var errEnded = errors.New("the other process has gone away")

// ErrEnded is the error of a control request whose connection ends before the reply, and of a route that is declared
// after the end.
var ErrEnded = errEnded

var errCallerGone = call.NewError(helvetype.ReasonCancelled, "the caller's process has gone away")

func (p *Peer) connectionLost(pos uint64) call.Result {
	if !p.conn.Sent(pos) {
		r := call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "the replica's process ended before the call was sent"), NotStarted: true}
		// The arguments of a relayed call were only in this buffer. They are not copied when a call is relayed, because
		// a connection ends once and relaying is frequent.
		if _, meta, body, ok := p.conn.unsentFrame(pos); ok {
			var c call.Call
			// The caller still has arguments in segments. The references to the other side's memory are of no use any
			// more.
			if _, _, err := parseCallMeta(meta, body, &c); err == nil && len(c.Encoded.Shared) == 0 && !c.Encoded.Held {
				r.Unsent = &c.Encoded
			}
		}
		return r
	}
	return call.Result{Err: call.NewError(helvetype.ReasonReplicaDied, "the replica's process ended while it was running the call"), Lost: true}
}

// Start sends a call on a route that was declared. sink.Complete is called exactly once, during Start or later. The
// arguments of c must be encoded. If b is nil, Start flushes; otherwise the batch does at its end. The result is the id
// for [Peer.Cancel], or 0 if the call has ended.
func (p *Peer) Start(b *call.Batch, route uint32, c *call.Call, left time.Duration, sink call.Sink) (id uint64) {
	return p.start(b, nil, route, c, left, sink)
}

func (p *Peer) start(b *call.Batch, w *BoundRoute, route uint32, c *call.Call, left time.Duration, sink call.Sink) (id uint64) {
	if c.Exchange != nil && !p.conn.terms.HTTP {
		sink.Complete(b, call.Result{Err: errNoHTTP})
		return 0
	}
	var scratch [256]byte
	var apart *segments
	var err error
	if p.needsSegments(c) {
		apart, err = p.argumentSegments(c)
	}
	meta := scratch[:0]
	if err == nil {
		meta, err = appendCall(meta, route, c, left, apart)
		if err != nil && apart != nil {
			apart.undo()
		}
	}
	if err != nil {
		sink.Complete(b, call.Result{Err: callError(err)})
		return 0
	}
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		apart.release() // the other side has ended and holds no reference
		sink.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "the replica's process has ended"), NotStarted: true})
		return 0
	}
	if failed := p.checkCallLocked(w, meta); failed != nil {
		p.mu.Unlock()
		if apart != nil {
			apart.undo()
		}
		sink.Complete(b, *failed)
		return 0
	}
	p.nextCall++
	id = p.nextCall
	h := Header{Type: TypeCall, ID: id}
	var pos uint64
	switch {
	case apart != nil:
		pos, err = p.conn.Append(h, meta, apart.body...)
	case c.Encoded.Table != nil:
		pos, err = p.conn.Append(h, meta, c.Encoded.Body)
	case len(c.Slots) == 1:
		pos, err = p.conn.Append(h, meta, c.Slots[0].Data)
	default:
		segs := make([][]byte, len(c.Slots))
		for i := range c.Slots {
			segs[i] = c.Slots[i].Data
		}
		pos, err = p.conn.Append(h, meta, segs...)
	}
	if err != nil {
		p.mu.Unlock()
		if apart != nil {
			apart.undo()
		}
		r := call.Result{Err: call.NewError(helvetype.ReasonTooLarge, "the arguments are "+err.Error())}
		switch {
		case p.conn.Err() != nil || errors.Is(err, ErrClosed):
			r = call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "the replica's process has ended"), NotStarted: true}
		case errors.Is(err, errBacklog):
			r.Err = call.NewError(helvetype.ReasonReplicaUnavailable, err.Error())
		}
		sink.Complete(b, r)
		return 0
	}
	o := outgoing{sink: sink, pos: pos, segments: apart, route: w}
	if w != nil {
		w.inFlight++
	}
	if c.Items != nil {
		o.flow = newInflow(p, id, c)
	}
	if c.Exchange != nil {
		o.up = newOutflow(p, TypeUpload, id, call.Window{})
	}
	p.calls[id] = o
	busy := len(p.calls) > 1
	if o.up != nil { // before the end of the call can come, after which the call may be sent elsewhere
		c.Exchange.Begun.Begin(o.up)
	}
	p.mu.Unlock()
	if b == nil {
		p.conn.FlushSoon(busy)
	} else {
		b.Touch(p.conn)
	}
	return id
}

// Cancel ends a call. If its arguments have not been sent completely, the call is withdrawn, and its sink is completed
// at once. Otherwise the other side gets a CANCEL, and the sink is completed by the END.
func (p *Peer) Cancel(b *call.Batch, id uint64) {
	p.mu.Lock()
	o, live := p.calls[id]
	back := live && p.conn.withdraw(o.pos)
	if back {
		delete(p.calls, id)
		o.forget()
	}
	p.mu.Unlock()
	if !live {
		return
	}
	if back {
		b.Touch(p.conn)
		if o.segments != nil {
			o.segments.undo()
		}
		o.up.end()
		o.sink.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonCancelled, "the call was cancelled before it was sent")})
		return
	}
	if _, err := p.conn.Append(Header{Type: TypeCancel, ID: id}, nil); err == nil {
		b.Touch(p.conn)
	}
}

// Goaway tells the other side to send no more calls.
func (p *Peer) Goaway(g Goaway) {
	body, err := json.Marshal(g)
	if err != nil {
		return
	}
	if _, err := p.conn.Append(Header{Type: TypeGoaway}, nil, body); err == nil {
		p.conn.Flush()
	}
}

func (p *Peer) frame(b *call.Batch, h Header, meta, body []byte) error {
	switch h.Type {
	case TypeCall:
		return p.onCall(b, h, meta, body)
	case TypeEnd:
		err := p.onEnd(b, h, meta, body)
		if p.retired.Load() {
			p.endRetired()
		}
		return err
	case TypeCancel:
		p.mu.Lock()
		in := p.incoming[h.ID]
		p.mu.Unlock()
		if in != nil {
			in.cancelCall(b, in.cancelCause())
		}
	case TypeItems:
		return p.onItems(b, h, body)
	case TypeCredit:
		if len(meta) != creditLen {
			return errors.New("malformed credit")
		}
		p.mu.Lock()
		in := p.incoming[h.ID]
		p.mu.Unlock()
		if in != nil {
			if in.out == nil {
				return errors.New("credit for a call that is no stream")
			}
			return in.out.addCredit(b, windowIn(meta))
		}
	case TypeUpload, TypeAllow:
		return p.onParts(b, h, meta, body)
	case TypeRoute:
		var r Route
		if err := json.Unmarshal(body, &r); err != nil {
			return fmt.Errorf("route: %w", err)
		}
		if h.ID > maxRoute {
			return fmt.Errorf("route number %d, at most %d are possible", h.ID, maxRoute)
		}
		for uint64(len(p.peerRoutes)) <= h.ID {
			p.peerRoutes = append(p.peerRoutes, peerRoute{})
		}
		if p.routeBytes += len(body) - p.peerRoutes[h.ID].bytes; p.routeBytes > maxRouteBytes {
			return fmt.Errorf("routes of %d bytes, at most %d are possible", p.routeBytes, maxRouteBytes)
		}
		p.peerRoutes[h.ID] = peerRoute{p.server.Route(r), len(body)}
	case TypeControl:
		return p.onControl(h, body)
	case TypeReply:
		err := p.onReply(h, body)
		if p.retired.Load() {
			p.endRetired()
		}
		return err
	case TypeGoaway:
		var g Goaway
		if err := json.Unmarshal(body, &g); err != nil {
			return fmt.Errorf("goaway: %w", err)
		}
		if g.Reason == goawayProtocol { // the connection has ended: the server has nothing to finish
			return fmt.Errorf("%w: %s", errRemote, g.Message)
		}
		p.server.Goaway(g)
	case TypeLease, TypeRelease, TypeUnlease:
		if p.memory == nil {
			return fmt.Errorf("frame of type %d, and no memory is shared", h.Type)
		}
		return p.memory.Frame(h.Type, body)
	case TypeDrop:
		if d, ok := p.server.(interface{ Drop(number uint64) }); ok {
			d.Drop(h.ID)
		}
	default:
		return fmt.Errorf("frame of unknown type %d", h.Type)
	}
	return nil
}

func (p *Peer) onCall(b *call.Batch, h Header, meta, body []byte) error {
	in := &Incoming{peer: p, id: h.ID}
	route, left, err := parseCallMeta(meta, body, &in.Call)
	if err == nil {
		err = p.receiveArguments(&in.Encoded)
	}
	if err != nil {
		return err
	}
	if route < uint32(len(p.peerRoutes)) {
		in.Route = p.peerRoutes[route].handle
	}
	if left > 0 {
		in.Left, in.Deadline = left, time.Now().Add(left)
	}
	if in.Window.Items > 0 {
		in.Items, in.out = in, newOutflow(p, TypeItems, h.ID, in.Window)
		in.Unread = &in.out.unread
	}
	if in.Exchange != nil {
		in.up = newUploads(p, h.ID, in.Exchange)
	}
	p.mu.Lock()
	if _, dup := p.incoming[h.ID]; dup {
		p.mu.Unlock()
		return fmt.Errorf("call id %d is in use", h.ID)
	}
	if len(p.incoming) == maxIncoming {
		p.mu.Unlock()
		return fmt.Errorf("over %d calls at once on one connection", maxIncoming)
	}
	in.size = len(meta) + len(body)
	if e := p.admitCall(in.size); e != nil {
		p.mu.Unlock()
		in.Encoded.Release()
		p.refuseCall(b, h.ID, e)
		return nil
	}
	p.incoming[h.ID] = in
	p.mu.Unlock()
	c := p.server.Call(b, in)
	if c == nil {
		return nil
	}
	in.mu.Lock()
	gone := in.earlyCancel
	if !in.ended {
		in.cancel = c
	}
	in.mu.Unlock()
	if gone != nil {
		c.Cancel(b, gone)
	}
	return nil
}

func (p *Peer) onEnd(b *call.Batch, h Header, meta, body []byte) error {
	if len(meta) < endLen {
		return errors.New("malformed end meta")
	}
	p.mu.Lock()
	o, ok := p.calls[h.ID]
	delete(p.calls, h.ID)
	o.forget()
	p.mu.Unlock()
	var r call.Result
	if h.Flags&FlagError != 0 {
		e, err := codec.ParseError(body)
		if err != nil {
			e = call.NewError(helvetype.ReasonInternal, "an error that does not parse: "+err.Error())
		}
		r.Err = e
	} else {
		payload, err := p.parseEnd(h.Flags, meta, body)
		if err != nil {
			o.up.end()
			if ok { // this result is the last word that the caller gets
				o.sink.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaDied, "the answer does not parse: "+err.Error()), Lost: true})
			}
			return err
		}
		r.Payload = payload
	}
	o.segments.release()
	o.up.end()
	if !ok {
		r.Release()
		return nil
	}
	r.Fit(o.sink)
	o.sink.Complete(b, r)
	return nil
}

func (p *Peer) onItems(b *call.Batch, h Header, body []byte) error {
	p.mu.Lock()
	o, ok := p.calls[h.ID]
	p.mu.Unlock()
	if !ok {
		return nil
	}
	if o.flow == nil {
		return errors.New("items for a call that is no stream")
	}
	return o.flow.frame(b, body)
}

type replyBody struct {
	Error *replyError `json:"error,omitempty"`
}

type replyError struct {
	Reason    helvetype.Reason `json:"reason"`
	Step      string           `json:"step,omitempty"` // of a start_replica: the step that failed
	Type      string           `json:"type,omitempty"`
	Message   string           `json:"message"`
	Traceback string           `json:"traceback,omitempty"`
	Causes    []byte           `json:"causes,omitempty"` // as in an error envelope
}

func (p *Peer) onControl(h Header, body []byte) error {
	var head struct {
		Op string `json:"op"`
	}
	own := append(json.RawMessage(nil), body...)
	if err := json.Unmarshal(own, &head); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if p.handlingControls.Add(1) > maxControls {
		p.handlingControls.Add(-1)
		return fmt.Errorf("over %d control requests at once on one connection", maxControls)
	}
	if err := p.admitControl(len(own)); err != nil {
		p.handlingControls.Add(-1)
		return err
	}
	answer := func() {
		defer p.handlingControls.Add(-1)
		defer p.controlEnded(len(own))
		out, err := p.server.Control(p.ctx, head.Op, own)
		if err != nil {
			e := call.AsError(err)
			failed := &replyError{Reason: e.Reason, Type: call.Cut(e.Type), Message: call.Cut(e.Message), Traceback: call.Cut(e.Traceback), Causes: codec.AppendCauses(nil, e.Known)}
			if head.Op == "start_replica" {
				failed.Step = e.Method
			}
			out = replyBody{failed}
		} else if out == nil {
			out = struct{}{}
		}
		b, err := json.Marshal(out)
		if err != nil {
			b, _ = json.Marshal(replyBody{&replyError{Reason: helvetype.ReasonInternal, Message: err.Error()}})
		}
		p.reply(h.ID, b)
	}
	if o, ok := p.server.(Orderer); ok && o.InOrder(head.Op) {
		answer()
	} else {
		p.handlers.Go(answer)
	}
	return nil
}

func (p *Peer) onReply(h Header, body []byte) error {
	p.mu.Lock()
	a, ok := p.controls[h.ID]
	delete(p.controls, h.ID)
	if ok {
		p.controlQueue.remove(a.size)
		p.controlQueue.admitNext(p.controlLimit())
	}
	p.mu.Unlock()
	if !ok {
		return nil
	}
	r := reply{body: append(json.RawMessage(nil), body...)}
	var e replyBody
	if err := json.Unmarshal(r.body, &e); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	if e.Error != nil {
		err := call.NewError(e.Error.Reason, e.Error.Message)
		err.Type, err.Traceback, err.Remote, err.Method = e.Error.Type, e.Error.Traceback, true, e.Error.Step
		if known, bad := codec.ParseCauses(e.Error.Causes); bad == nil { // without causes it is the same error
			err.Known = known
		}
		r.err = err
	}
	a.deliver(r)
	return nil
}

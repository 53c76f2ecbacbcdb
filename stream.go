package helve

import (
	"context"
	"iter"
	"math"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// Stream is a bound method that gives a sequence of values: a small value, safe for concurrent use. The zero Stream gives
// an error.
type Stream[In, Out any] struct{ s *stream[In, Out] }

type stream[In, Out any] struct {
	binding
	invoke func(recv any, ctx context.Context, in In) iter.Seq2[Out, error] // as in method
}

func (s Stream[In, Out]) target() *deployment {
	if s.s == nil {
		return nil
	}
	return s.s.d
}

// StreamOf binds a method expression whose method returns an iter.Seq2[Out, error]: StreamOf(h, (*D).Tokens). It checks
// what [MethodOf] does.
func StreamOf[R, In, Out any](h Handle[R], f func(R, context.Context, In) iter.Seq2[Out, error]) Stream[In, Out] {
	s := &stream[In, Out]{invoke: func(recv any, ctx context.Context, in In) iter.Seq2[Out, error] { return f(recv.(R), ctx, in) }}
	s.binding = bind(h, reflect.ValueOf(f), "StreamOf", func(r *instance.Method) {
		r.Stream = func(ctx context.Context, recv, in any) iter.Seq2[any, error] {
			return func(yield func(any, error) bool) {
				v, _ := in.(In)
				for out, err := range f(recv.(R), ctx, v) {
					if !yield(out, err) {
						return
					}
				}
			}
		}
	})
	return Stream[In, Out]{s}
}

// StreamNamed binds a method that streams by name, as [MethodNamed] does.
func StreamNamed[In, Out any](h AnyHandle, name string) Stream[In, Out] {
	s := &stream[In, Out]{binding: named(h, name)}
	s.types = &types{reflect.TypeFor[In](), reflect.TypeFor[Out](), true}
	return Stream[In, Out]{s}
}

func (s Stream[In, Out]) ingress() (*binding, spec.IngressKind) { return s.bound(), spec.IngressStream }

func (s Stream[In, Out]) bound() *binding {
	if s.s == nil {
		return nil
	}
	return &s.s.binding
}

// failure is why a stream cannot be called at all.
func (b *stream[In, Out]) failure() *call.Error {
	if b == nil {
		return call.NewError(call.BadInput, "a zero Stream: bind one with StreamOf")
	}
	return b.unusable()
}

// Call gives the sequence without starting anything: the method runs while the sequence is ranged over, for a replica in
// this process on the caller's goroutine, and holds its slot until then. An error is yielded last and once. Breaking out
// of the loop cancels the method. The sequence can be ranged over once; a second range yields an error.
func (s Stream[In, Out]) Call(ctx context.Context, in In) iter.Seq2[Out, error] {
	b := s.s
	var ranged atomic.Bool
	return func(yield func(Out, error) bool) {
		fail := func(e *call.Error) {
			var none Out
			yield(none, public(e))
		}
		switch {
		case b == nil || b.err != nil:
			fail(b.failure())
			return
		case ranged.Swap(true):
			fail(rangedTwice())
			return
		}
		c := &call.Inline{Caller: ctx, Breaks: true}
		b.fill(ctx, &c.Info)
		c.Info.Link = call.Awaited
		switch {
		case ctx.Err() != nil:
			fail(call.FromContext(ctx).At(&c.Info))
			return
		case c.Info.Depth >= maxDepth:
			fail(call.TooDeep(&c.Info))
			return
		}
		slot, rep, e := b.find(ctx, c, in)
		switch {
		case e != nil:
			fail(e)
		case rep == nil: // not a function call: take the items from a buffer
			r := s.remote(ctx, in, &c.Info, slot)
			defer r.Close()
			r.All()(yield)
		default:
			if e := b.inline(c, slot, rep, in, yield); e != nil {
				fail(e.At(&c.Info))
			}
		}
	}
}

func rangedTwice() *call.Error {
	return call.NewError(call.BadInput, "the stream was ranged over before; call it again for another")
}

// find waits for a slot. rep is nil if the method cannot run on the caller's goroutine; so is slot in a worker.
func (b *stream[In, Out]) find(ctx context.Context, c *call.Inline, in In) (slot serving.Replica, rep *instance.Instance, e *call.Error) {
	if b.fake != nil {
		return b.fake, b.fake.replica, nil
	}
	d := b.d.serving()
	if d == nil {
		if b.invoke != nil && b.o == nil && c.Info.Depth < maxDepth {
			if slot = b.near(); slot != nil {
				return slot, slot.Instance(), nil
			}
		}
		return nil, nil, nil
	}
	if b.o == nil {
		slot = d.TryAcquireRecent()
	}
	if slot == nil {
		if d.ReadsInput() {
			shown(&c.Info, in)
		}
		if slot, e = d.Acquire(ctx, &c.Info, origin(ctx)); e != nil {
			return nil, nil, e
		}
	}
	if b.invoke != nil {
		rep = slot.Instance()
	}
	return slot, rep, nil
}

// inline runs the method on the caller's goroutine, with a slot that it gives back. The failure is not yet yielded.
func (b *stream[In, Out]) inline(c *call.Inline, slot serving.Replica, rep *instance.Instance, in In, yield func(Out, error) bool) *call.Error {
	c.Info.Replica = slot.ID()
	x := instance.Execution{Of: rep, Caller: c.Caller, Inline: true}
	defer func() {
		c.End()
		slot.Gate().Release(nil)
	}()
	done := c.Caller.Done()
	x.Run(func() error {
		for v, err := range b.invoke(rep.Value, c, in) {
			if done != nil && c.Caller.Err() != nil {
				return call.FromContext(c.Caller)
			}
			if err != nil {
				x.Stop(err)
				break
			}
			x.Outside = true
			more := yield(v, nil)
			x.Outside = false
			if !more {
				x.Stop(nil)
				c.Cancel(context.Canceled)
				break
			}
		}
		return nil
	})
	return x.Failure
}

// ResponseStream is the sequence of a stream that is under way. The method runs at once, up to 64 items or 1 MB of strings or bytes
// ahead of the reader. All, Cancel and Close may be called from any goroutine.
type ResponseStream[T any] struct {
	*flow[T]
	ranged atomic.Bool
}

// Remote starts the stream and returns at once. It is cancelled when ctx ends, with Cancel or Close, when its deadline
// passes, and when the ResponseStream is forgotten without having been read.
func (s Stream[In, Out]) Remote(ctx context.Context, in In) *ResponseStream[Out] {
	return s.remote(ctx, in, nil, nil)
}

// remote starts the stream; info and slot are set if the caller has them already.
func (s Stream[In, Out]) remote(ctx context.Context, in In, info *call.Info, slot serving.Replica) *ResponseStream[Out] {
	f := newFlow[Out]()
	r := &ResponseStream[Out]{flow: f}
	b := s.s
	if b == nil || b.err != nil {
		f.b = &binding{d: noDeployment}
		f.finish(b.failure())
		return r
	}
	f.b = &b.binding
	if info != nil {
		f.own = *info
	} else {
		b.fill(ctx, &f.own)
	}
	if ctx.Err() != nil {
		f.finish(call.FromContext(ctx))
		if slot != nil {
			slot.Gate().Release(nil)
		}
		return r
	}
	if slot == nil && f.own.Depth >= maxDepth {
		f.finish(call.TooDeep(&f.own))
		return r
	}
	b.start(ctx, f, in, slot)
	f.watch(ctx)
	// f does not lead to r, so r can be collected while the method runs.
	runtime.AddCleanup(r, func(f *flow[Out]) { f.Close() }, f)
	return r
}

// All gives the items as they come. An error is yielded last and once; breaking out of the loop cancels the stream. It can
// be ranged over once; a second range yields an error.
func (r *ResponseStream[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if r.ranged.Swap(true) {
			yield(none, public(rangedTwice()))
			return
		}
		defer r.Close()
		for {
			v, ok := r.take()
			switch {
			case ok:
				if !yield(v, nil) {
					return
				}
				continue
			case r.bad != nil:
				yield(none, public(r.bad))
			case r.last != nil:
				yield(none, public(r.b.arrived(r.last)))
			}
			return
		}
	}
}

// flow is a stream that is under way: the call, and the ring of items between the method, which writes, and the one reader.
// The two synchronise with one atomic store an item; only who finds the ring empty or full waits at a channel.
type flow[T any] struct {
	pending
	own  call.Info
	size func(T) int // bytes of an item; nil if they do not count

	// The two sides do not write to one cache line, and look at what the other has written only when they must.
	written  atomic.Uint64 // items so far; the method's
	readSeen uint64        // what the method last saw of read
	_        [48]byte
	read     atomic.Uint64 // the reader's
	toRead   uint64        // what the reader last saw of written
	_        [48]byte
	bytes    atomic.Int64 // in the ring
	hungry   atomic.Bool  // the reader waits at more
	stuck    atomic.Bool  // the method waits at room
	more     chan struct{}
	room     chan struct{}
	over     atomic.Uint32 // of the states below
	last     *call.Error   // how it ended; set before over
	gone     chan struct{} // closed when nobody reads any more
	leaving  sync.Once
	received received
	bad      *call.Error // the reader's: an item that does not decode
	ring     [flowItems]T
}

// The states of a flow for its reader.
const (
	flowing uint32 = iota
	drained        // nothing more behind what is in the ring
	cut            // nothing more, and nobody wants what is in the ring
)

// The bounds of the items that wait for the reader.
const (
	flowItems = 64
	flowBytes = 1 << 20
)

func newFlow[T any]() *flow[T] {
	f := &flow[T]{more: make(chan struct{}, 1), room: make(chan struct{}, 1), gone: make(chan struct{})}
	f.info = &f.own
	t := reflect.TypeFor[T]()
	if t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		f.size = func(v T) int { // by value, or every item would be on the heap
			switch v := any(v).(type) {
			case string:
				return len(v)
			case []byte:
				return len(v)
			}
			return reflect.ValueOf(v).Len()
		}
	}
	return f
}

// put waits for room, until ctx ends, and adds an item. It returns false if the stream has no reader any more. Only the goroutine
// of the method calls it.
func (f *flow[T]) put(ctx context.Context, v T) bool {
	n := 0
	if f.size != nil {
		n = f.size(v)
	}
	w := f.written.Load()
	for !f.fits(w, n) {
		f.stuck.Store(true)
		if f.fits(w, n) { // the reader may not have seen that it should say so
			f.stuck.Store(false)
			break
		}
		select {
		case <-f.room:
		case <-f.gone:
			return false
		case <-ctx.Done():
			return false
		}
	}
	if f.over.Load() != flowing {
		return false
	}
	f.ring[w%flowItems] = v
	if n > 0 {
		f.bytes.Add(int64(n))
	}
	f.written.Store(w + 1)
	f.wake()
	return true
}

// wake wakes a reader that waits.
func (f *flow[T]) wake() {
	if f.hungry.Load() && f.hungry.Swap(false) {
		signal(f.more)
	}
}

func (f *flow[T]) fits(w uint64, n int) bool {
	if n == 0 && w-f.readSeen < flowItems {
		return true
	}
	f.readSeen = f.read.Load()
	ahead := w - f.readSeen
	return ahead == 0 || ahead < flowItems && (n == 0 || f.bytes.Load()+int64(n) <= flowBytes)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take waits for an item (true) or the end. It belongs to the reader.
func (f *flow[T]) take() (v T, ok bool) {
	r := f.read.Load()
	for f.over.Load() != cut {
		if f.toRead == r {
			f.toRead = f.written.Load()
		}
		if p, ok := f.received.take(); ok {
			v, err := decode[T](f.b, p)
			if err != nil {
				f.bad = call.AsError(err).At(&f.own)
				f.Close()
			}
			return v, err == nil
		}
		if f.toRead != r {
			slot := &f.ring[r%flowItems]
			v = *slot
			var none T
			*slot = none
			if f.size != nil {
				f.bytes.Add(-int64(f.size(v)))
			}
			f.read.Store(r + 1)
			// A method that waits is woken when half of the ring is free, so that it does not wait again at once.
			if f.stuck.Load() && f.written.Load()-r <= flowItems/2+1 && f.stuck.Swap(false) {
				signal(f.room)
			}
			return v, true
		}
		if f.over.Load() == drained && f.written.Load() == r && f.received.empty() {
			break
		}
		f.hungry.Store(true)
		if f.written.Load() != r || f.over.Load() != flowing || !f.received.empty() {
			f.hungry.Store(false)
			continue
		}
		<-f.more
	}
	return v, false
}

// finish ends the stream for its reader, behind what is in the ring.
func (f *flow[T]) finish(failure *call.Error) {
	if failure != nil {
		failure = failure.At(&f.own)
	}
	f.end(failure, func() { f.stopped(failure, drained) })
}

// stopped says that nothing more comes; f.mu is held, and it is called once.
func (f *flow[T]) stopped(failure *call.Error, how uint32) {
	f.last = failure
	f.over.Store(how)
	signal(f.more)
}

// cancel ends the stream for its reader at once, and asks the method to end.
func (f *flow[T]) cancel(cause error) {
	flight, e := f.cancelling(cause)
	if f.end(e, func() { f.stopped(e, cut) }) && flight != nil {
		flight.Cancel(nil, cause)
	}
}

// watch is as in pending.
func (f *flow[T]) watch(ctx context.Context) {
	if ctx.Done() == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.stop = call.AfterFunc(ctx, func() { f.cancel(call.Cause(ctx)) })
	}
}

// Cancel ends the stream: a reader gets an error with reason cancelled, and the method's context ends. A call that waits
// for a slot never starts. It does nothing to a stream that has ended.
func (f *flow[T]) Cancel() { f.cancel(context.Canceled) }

// Close ends the reading. The stream is cancelled if it has not ended, and items that wait are dropped.
func (f *flow[T]) Close() {
	f.leaving.Do(func() { close(f.gone) })
	f.Cancel()
}

// start sends the call on its way, with a slot if the caller has one.
func (b *stream[In, Out]) start(ctx context.Context, f *flow[Out], in In, slot serving.Replica) {
	if b.fake != nil {
		b.run(ctx, f, in, b.fake, b.fake.replica)
		return
	}
	d := b.d.dep.Load()
	if d != nil && slot == nil {
		if d.ReadsInput() {
			shown(&f.own, in)
		}
		slot = d.TryAcquire(&f.own)
	}
	if d == nil && slot == nil && b.invoke != nil && b.o == nil && f.own.Depth < maxDepth {
		slot = b.near()
	}
	if slot != nil && b.invoke != nil {
		if rep := slot.Instance(); rep != nil {
			b.run(ctx, f, in, slot, rep)
			return
		}
	}
	if next := b.d.serving(); slot == nil && next != nil && b.invoke != nil && next.InProcess() {
		p := next.NewPlace(&f.own, queuedStream[In, Out]{b, f, next, ctx, in})
		f.carry(p)
		p.Enter(origin(ctx))
		return
	}
	b.send(ctx, f, in, d, slot)
}

// send sends the call away without its types, with a slot if the caller has one.
func (b *stream[In, Out]) send(ctx context.Context, f *flow[Out], in In, d *serving.Deployment, slot serving.Replica) {
	c := b.untyped(ctx, f.own, in)
	sink := flowSink[Out]{f}
	c.Items = sink
	if slot != nil {
		f.carry(d.SubmitAssigned(slot, c, sink))
	} else {
		f.carry(b.submit(c, sink))
	}
}

// queuedStream is a stream that waits in this process for its slot, as queued is a call.
type queuedStream[In, Out any] struct {
	b   *stream[In, Out]
	f   *flow[Out]
	d   *serving.Deployment
	ctx context.Context // of the caller
	in  In
}

// Assigned runs the stream.
func (q queuedStream[In, Out]) Assigned(s serving.Replica) {
	if e := endOf(q.ctx); e != nil {
		s.Gate().Release(nil)
		q.Failed(e)
		return
	}
	if rep := s.Instance(); rep != nil {
		q.b.run(q.ctx, q.f, q.in, s, rep)
		return
	}
	q.b.send(q.ctx, q.f, q.in, q.d, s)
}

// Failed ends the stream.
func (q queuedStream[In, Out]) Failed(e *call.Error) { q.f.finish(e) }

// flowSink is given the items and the end of a stream that took another way than a function call.
type flowSink[T any] struct{ f *flow[T] }

// Item takes an item of a method in this process that was called without its types.
func (s flowSink[T]) Item(ctx context.Context, p call.Payload) bool {
	v, err := decode[T](s.f.b, p)
	if err != nil {
		s.f.finish(call.AsError(err))
		return false
	}
	return s.f.put(ctx, v)
}

// Frame takes items of a method in another process. The reader decodes them: this goroutine reads the connection.
func (s flowSink[T]) Frame(_ *call.Batch, from call.Source, frame []byte) {
	s.f.received.put(s.f, from, frame)
}

// Wanted is false once the stream was cancelled.
func (s flowSink[T]) Wanted() bool { return s.f.wanted() }

func (s flowSink[T]) Complete(_ *call.Batch, r call.Result) { s.f.finish(r.Err) }

// received has the items that came over a wire and were not read yet. The window of the stream bounds their number.
type received struct {
	arrived atomic.Uint64 // frames so far
	mu      sync.Mutex
	frames  [][]byte
	from    call.Source

	// The reader's.
	taken uint64
	now   []byte // the rest of the frame that is being read
	owed  call.Window
}

func (a *received) put(f interface{ wake() }, from call.Source, frame []byte) {
	a.mu.Lock()
	a.frames = append(a.frames, append([]byte(nil), frame...))
	a.from = from
	a.mu.Unlock()
	a.arrived.Add(1)
	f.wake()
}

func (a *received) empty() bool { return len(a.now) == 0 && a.arrived.Load() == a.taken }

// take gives the next item, which stays valid, and lets the method go on when half of the window was read.
func (a *received) take() (call.Payload, bool) {
	if len(a.now) == 0 {
		if a.arrived.Load() == a.taken {
			return call.Payload{}, false
		}
		a.mu.Lock()
		a.now, a.frames = a.frames[0], a.frames[1:]
		a.mu.Unlock()
		a.taken++
	}
	p, rest, ok := call.NextItem(a.now)
	if !ok { // the connection has looked through it
		a.now = nil
		return p, false
	}
	a.now = rest
	a.owed.Items++
	a.owed.Bytes += uint32(min(len(p.Data), math.MaxUint32/2))
	if room := call.Room; a.owed.Items >= room.Items/2 || a.owed.Bytes >= room.Bytes/2 {
		a.mu.Lock()
		from := a.from
		a.mu.Unlock()
		from.Credit(nil, a.owed)
		a.owed = call.Window{}
	}
	return p, true
}

// run runs the method on a goroutine of its own, with a slot that it gives back.
func (b *stream[In, Out]) run(caller context.Context, f *flow[Out], in In, slot serving.Replica, rep *instance.Instance) {
	ctx := &call.Context{}
	if !f.runAt(slot.ID()) {
		slot.Gate().Release(nil)
		return
	}
	deadline, _ := caller.Deadline()
	ctx.Init(caller, &f.own, deadline)
	f.carry(canceler{ctx})
	go func() {
		x := instance.Execution{Of: rep, Call: &f.own, Caller: caller}
		defer func() {
			ctx.End()
			slot.Gate().Release(nil)
			f.finish(x.Failure)
		}()
		x.Run(func() error {
			for v, err := range b.invoke(rep.Value, ctx, in) {
				if err != nil {
					x.Stop(err)
					break
				}
				if !f.put(ctx, v) {
					if caller.Err() == nil {
						x.Stop(nil)
					}
					break
				}
			}
			return nil
		})
	}()
}

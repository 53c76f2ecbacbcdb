package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// holding is a server that keeps calls until they are asked for.
func holding() (*server, chan *Incoming) {
	ins := make(chan *Incoming, 1<<17)
	return &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
		in.Keep()
		ins <- in
		return nil
	}}, ins
}

func reasonOf(r call.Result) helvetype.Reason {
	if r.Err == nil {
		return ""
	}
	return r.Err.Reason
}

// TestCallsOverTheLimit: a sender has at most as many calls in flight as the other side takes. A call that was cancelled
// or given up counts until its END has come. One more call is an error of that call.
func TestCallsOverTheLimit(t *testing.T) {
	t.Parallel()
	s, ins := holding()
	p, _ := connect(t, &server{}, s)
	p.maxCalls = 3
	var fs []*future
	for range 3 {
		f := newFuture()
		p.Start(nil, 0, raw(nil), 0, f)
		fs = append(fs, f)
	}
	refused := func() bool {
		f := newFuture()
		id := p.Start(nil, 0, raw(nil), 0, f)
		select {
		case <-f.done:
			return id == 0 && reasonOf(f.r) == helvetype.ReasonBackpressure
		default:
			return false
		}
	}
	p.Cancel(nil, 1)
	fetchCancel{p, 2, fs[1]}.Cancel(nil, context.Canceled)
	if <-fs[1].done; !refused() {
		t.Error("a call too many was sent")
	}
	for range 3 {
		(<-ins).Complete(nil, call.Result{})
	}
	<-fs[0].done
	<-fs[2].done
	for len(ins) == 0 { // their ends are read in order
		f := newFuture()
		if p.Start(nil, 0, raw(nil), 0, f); reasonOf(f.r) == "" {
			break
		}
	}
	(<-ins).Complete(nil, call.Result{})
	if err := p.conn.Err(); err != nil {
		t.Error(err)
	}
}

// TestUnusedRoutesLoseTheirNumbers: names that are called once use up no numbers at the sender and no memory at the
// receiver, and every call reaches its method. A route keeps its number while a call on it is in flight.
func TestUnusedRoutesLoseTheirNumbers(t *testing.T) {
	t.Parallel()
	var held *Incoming
	s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		m := in.Route.(Route).Method
		if m == "held" {
			held = in
			return nil
		}
		in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: []byte(m)}})
		return nil
	}}
	p, q := linked(t, &server{}, s, bulkTerms, bulkTerms)
	way := func(method string) *BoundRoute {
		w, e := p.Bind(Route{App: "a", Deployment: "d", Method: method})
		if e != nil {
			t.Fatal(e)
		}
		return w
	}
	h, end := way("held"), newFuture()
	h.Start(nil, raw(nil), 0, end)
	number := h.number
	known := way("known")
	for i := range 3 * maxIdleRoutes {
		w := way(fmt.Sprint("x", i))
		for _, w := range []*BoundRoute{w, known} {
			n := 0
			if i%1000 == 0 {
				n = maxChunk + 1 // announced: its call is read later than the next route
			}
			f := newFuture()
			w.Start(nil, raw(pattern(n)), 0, f)
			if <-f.done; string(f.r.Data) != w.route.Method {
				t.Fatalf("%s came out at %q, %v", w.route.Method, f.r.Data, f.r.Err)
			}
		}
	}
	if n := len(p.boundRoutes.numbered); n > maxIdleRoutes || h.number != number {
		t.Errorf("%d numbers; that of a call under way was %d and is %d", n, number, h.number)
	}
	held.Complete(nil, call.Result{})
	<-end.done
	if len(q.peerRoutes) > maxIdleRoutes+1 || q.routeBytes > 1<<20 {
		t.Errorf("%d routes of %d bytes", len(q.peerRoutes), q.routeBytes)
	}
}

// TestEveryRouteInUse: if every number is in use, a call to one more method is an error of that call. When a call has
// ended, its number is free.
func TestEveryRouteInUse(t *testing.T) {
	t.Parallel()
	s, ins := holding()
	p, _ := connect(t, &server{}, s)
	start := func(method string) *future {
		w, e := p.Bind(Route{Method: method})
		if e != nil {
			t.Fatal(e)
		}
		f := newFuture()
		w.Start(nil, raw(nil), 0, f)
		return f
	}
	var fs []*future
	for i := range maxRoute {
		fs = append(fs, start(fmt.Sprint(i)))
	}
	if f := start("one more"); reasonOf(f.r) != helvetype.ReasonBackpressure || !strings.Contains(f.r.Err.Message, "65535 different methods") {
		t.Errorf("%+v", f.r)
	}
	for range 2 {
		(<-ins).Complete(nil, call.Result{})
	}
	<-fs[0].done
	f := start("one more")
	for range maxRoute - 1 {
		(<-ins).Complete(nil, call.Result{})
	}
	if <-f.done; f.r.Err != nil || p.conn.Err() != nil {
		t.Errorf("%+v, %v", f.r, p.conn.Err())
	}
}

// TestNamesTooLong: names that are longer than any real name are refused, and not sent.
func TestNamesTooLong(t *testing.T) {
	t.Parallel()
	p, _ := connect(t, &server{}, &server{})
	for reason, routes := range map[helvetype.Reason][]Route{
		helvetype.ReasonNoMethod:              {{Method: strings.Repeat("x", 17<<20)}, {Method: strings.Repeat("x", maxMethod+1)}, {Method: "\xff"}},
		helvetype.ReasonDeploymentUnavailable: {{App: strings.Repeat("x", call.MaxName+1)}, {Deployment: strings.Repeat("x", 1<<20)}},
	} {
		for _, r := range routes {
			if w, e := p.Bind(r); w != nil || e == nil || e.Reason != reason || len(e.Message) > 400 {
				t.Errorf("%.100v", e)
			}
		}
	}
}

// TestControlsOverTheLimit: control requests wait for their turn when the other side has as many as it takes, in number
// and in bytes. Requests whose callers have given up count too. No request ends the connection.
func TestControlsOverTheLimit(t *testing.T) {
	t.Parallel()
	const size, takes = 1 << 10, 16 << 10
	for name, requests := range map[string]int{"number": maxControls + 100, "bytes": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			come, handled := make(chan struct{}), make(chan struct{}, requests)
			s := &server{control: func(string, json.RawMessage) (any, error) {
				handled <- struct{}{}
				<-come
				return nil, nil
			}}
			terms := Terms{Protocol: 2, Bulk: true, MaxIn: takes, MaxOut: takes}
			request := map[string]any{"op": "x"}
			if name == "bytes" {
				request["with"] = strings.Repeat("x", size)
			}
			p, q := linked(t, &server{}, s, terms, terms)
			most := maxControls
			if name == "bytes" {
				most = 2 * takes / (size + 21)
				p.controlQueue.limit = 2 * takes
				q.conn.terms.Controls = 2 * takes
			}
			var wg sync.WaitGroup
			given, giveUp := context.WithCancel(t.Context())
			for i := range requests {
				ctx := t.Context()
				if i%2 == 0 {
					ctx = given
				}
				wg.Go(func() {
					if err := p.Control(ctx, request, nil); err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
			}
			for range most {
				<-handled
			}
			giveUp()
			select {
			case <-handled:
				t.Error("one more than there is room for")
			default:
			}
			close(come)
			wg.Wait()
			if err := p.Control(t.Context(), request, nil); err != nil || p.conn.Err() != nil {
				t.Errorf("%v, %v", err, p.conn.Err())
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.controlQueue.inFlight != len(p.controls) || len(p.controlQueue.waiting) != 0 {
				t.Errorf("%d are counted, %d are under way, %d wait", p.controlQueue.inFlight, len(p.controls), len(p.controlQueue.waiting))
			}
		})
	}
}

// TestControlsWaitUntilTheEnd: control requests that wait for their turn fail when the connection ends.
func TestControlsWaitUntilTheEnd(t *testing.T) {
	t.Parallel()
	come := make(chan struct{})
	s := &server{control: func(string, json.RawMessage) (any, error) { <-come; return nil, nil }}
	p, _ := connect(t, &server{}, s)
	var wg sync.WaitGroup
	for range maxControls + 10 {
		wg.Go(func() {
			if err := p.Control(t.Context(), map[string]string{"op": "x"}, nil); !errors.Is(err, ErrEnded) {
				t.Error(err)
			}
		})
	}
	until(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.controlQueue.waiting) == 10 })
	p.Close(ErrClosed)
	wg.Wait()
	close(come)
}

func until(t *testing.T, f func() bool) {
	t.Helper()
	for !f() {
		if t.Context().Err() != nil {
			return
		}
		runtime.Gosched()
	}
}

// TestItemsBehindBodies: the sender limits the items that the other side must hold because a larger item before them has
// not arrived. Streams of methods wait, and the connection lives.
func TestItemsBehindBodies(t *testing.T) {
	t.Parallel()
	s, _ := halfLinked(t, &server{}, bulkTerms)
	l := s.conn
	l.Append(Header{Type: TypeItems, ID: 1}, nil, pattern(maxChunk+1)) //nolint:errcheck // looked at below
	if n := l.send.streams.Load(); n != 1 {
		t.Fatalf("%d streams have an item announced", n)
	}
	small, sent := pattern(maxCopied), 0
	for ; ; sent++ {
		if _, err := l.Append(Header{Type: TypeItems, ID: 1}, nil, small); err != nil {
			if !errors.Is(err, errBacklog) {
				t.Error(err)
			}
			break
		}
		if over := l.send.congestion.congested.Load(); over != (sent+1 > maxHeldBytes/2/(len(small)+heldOverhead)) {
			t.Fatalf("after %d: %v", sent, over)
		}
	}
	if held := sent * (len(small) + heldOverhead); held > maxHeldBytes || held < maxHeldBytes/10*9 {
		t.Errorf("%d bytes wait behind the item", held)
	}
	if _, err := l.Append(Header{Type: TypeItems, ID: 2}, nil, small); err != nil { // of another stream
		t.Error(err)
	}
	l.send.mu.Lock()
	l.send.forget(l.send.bodies[1])
	after, streams := l.send.heldBytes, l.send.streams.Load()
	l.send.mu.Unlock()
	if after != 0 || streams != 0 || l.send.congestion.congested.Load() {
		t.Errorf("%d bytes, %d streams are left", after, streams)
	}
}

// TestMetasOfAnnouncements: the sender limits the metas of announced bodies; over the limit the call fails.
func TestMetasOfAnnouncements(t *testing.T) {
	t.Parallel()
	p, _ := halfLinked(t, &server{}, bulkTerms)
	meta, body := make([]byte, 60<<10), pattern(maxChunk+1)
	for i := 0; ; i++ {
		if _, err := p.conn.Append(Header{Type: TypeCall, ID: uint64(i + 1)}, meta, body); err != nil {
			if !errors.Is(err, errBacklog) || i*len(meta) > maxAnnouncedMeta || i < 700 {
				t.Errorf("after %d: %v", i, err)
			}
			return
		}
	}
}

// TestMetaTooLarge: no frame says another length of its meta than it has.
func TestMetaTooLarge(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	if _, err := NewConn(a).Append(Header{Type: TypeEnd}, make([]byte, maxMeta+1)); err == nil {
		t.Error("a meta of 64 KiB was written")
	}
}

// TestNothingThatIsSentEndsTheConnection: a peer takes every frame that another peer of this package sends, for any
// call, item or request of a program; if it is not possible, the call, item or request is an error of its own. The cases
// are random by seeds, over one connection and over two, with small and large limits.
func TestNothingThatIsSentEndsTheConnection(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &wild{rand.New(rand.NewPCG(seed, 1))}
			terms := Terms{Protocol: 2, Bulk: seed%2 == 0, MaxIn: 1 << 20 << (seed % 4), MaxOut: 1 << 20 << (seed % 4)}
			back := &wild{rand.New(rand.NewPCG(seed, 2))}
			s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler { return back.serve(b, in) }}
			var mu sync.Mutex
			replies := &wild{rand.New(rand.NewPCG(seed, 3))}
			s.control = func(string, json.RawMessage) (any, error) {
				mu.Lock()
				defer mu.Unlock()
				return map[string]any{"with": replies.json()}, nil
			}
			var p, q *Peer
			if terms.Bulk {
				p, q = linked(t, &server{}, s, terms, terms)
			} else {
				x, y := pair(t)
				p, q = NewPeer(NewLink(NewConn(x), terms), &server{}), NewPeer(NewLink(NewConn(y), terms), s)
				serve(t, p)
				serve(t, q)
			}
			var fs []*future
			var wg sync.WaitGroup
			for range 200 {
				switch g.IntN(10) {
				case 0:
					request := map[string]any{"op": g.text(), "with": g.json()}
					wg.Go(func() { p.Control(t.Context(), request, nil) }) //nolint:errcheck // whatever it is
				default:
					w, e := p.Bind(Route{App: g.text(), Deployment: g.text(), Method: g.text()})
					if e != nil {
						continue
					}
					f := newFuture()
					id := w.Start(nil, g.call(), g.left(), f)
					fs = append(fs, f)
					if id != 0 && g.IntN(5) == 0 {
						p.Cancel(nil, id)
					}
				}
			}
			for _, f := range fs {
				<-f.done
			}
			wg.Wait()
			f := newFuture()
			c := raw([]byte("last"))
			c.Info.Affinity = &call.Affinity{Session: "last"}
			p.Start(nil, 0, c, 0, f)
			if <-f.done; string(f.r.Data) != "last" || p.conn.Err() != nil || q.conn.Err() != nil {
				t.Errorf("%v; %v; %v", f.r.Err, p.conn.Err(), q.conn.Err())
			}
		})
	}
}

// wild makes random calls, also with values that no sensible program has.
type wild struct{ *rand.Rand }

func (g *wild) text() string {
	return []string{
		"", "x", "echo", "\xff\xfe", "a\x00b", "é", strings.Repeat("y", 200), strings.Repeat("z", 17_000), strings.Repeat("é", 40_000),
		strings.Repeat("\x01", 1000), fmt.Sprint(g.Uint64()), "\u2028<>&", strings.Repeat("w", 70_000),
	}[g.IntN(13)]
}

func (g *wild) json() any {
	return []any{nil, g.text(), math.Inf(1), math.NaN(), json.RawMessage("{"), json.RawMessage(""), []any{g.text()}, uint64(math.MaxUint64), strings.Repeat("x", 100<<10), func() {}}[g.IntN(10)]
}

func (g *wild) data() []byte {
	return pattern([]int{0, 1, 100, 5_000, maxCopied + 1, 70_000, maxChunk + 1, defaultCredit + 1, 3 << 20}[min(g.IntN(9), g.IntN(9))])
}

func (g *wild) left() time.Duration {
	return []time.Duration{0, -1, 1, time.Nanosecond, time.Second, math.MaxInt64, math.MinInt64, 400 * 24 * time.Hour}[g.IntN(8)]
}

func (g *wild) codec() call.Codec { return call.Codec(g.IntN(256)) }

func (g *wild) call() *call.Call {
	c := &call.Call{Want: g.codec()}
	c.Info = call.Info{Call: g.Uint64(), Depth: uint8(g.IntN(256)), Sampled: g.IntN(2) == 0}
	if g.IntN(4) == 0 {
		c.Info.Request = call.IDFrom(g.text())
	}
	if g.IntN(2) == 0 {
		c.Info.Affinity = &call.Affinity{Model: g.text(), Session: g.text()}
	}
	n := []int{0, 1, 1, 2, 300, 9_000, 66_000}[min(g.IntN(7), g.IntN(7))]
	for i := range n {
		s := call.Slot{Kind: call.Positional, Index: uint16(i), Payload: call.Payload{Codec: g.codec()}}
		if i < 3 {
			s.Data = g.data()
		}
		if g.IntN(3) == 0 && n < 300 {
			s.Kind, s.Name = call.Named, g.text()
		}
		c.Slots = append(c.Slots, s)
	}
	if g.IntN(3) == 0 {
		c.Items, c.Window = &collector{}, call.Window{Items: uint32(g.IntN(3)) * 100, Bytes: uint32(g.IntN(3)) * 100_000}
	}
	c.Options = &call.Options{Idempotent: g.IntN(2) == 0}
	return c
}

// serve answers a call with anything.
func (g *wild) serve(b *call.Batch, in *Incoming) call.Canceler {
	if a := in.Info.Affinity; a != nil && a.Session == "last" {
		in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
		return nil
	}
	r := call.Result{Payload: call.Payload{Codec: g.codec(), Data: g.data()}}
	if g.IntN(3) == 0 {
		r = call.Result{Err: &call.Error{
			Reason: helvetype.Reason(g.text()), Code: helvetype.Code(g.Uint32()), Message: strings.Repeat(g.text(), g.IntN(100)), App: g.text(), Deployment: g.text(),
			Method: g.text(), RequestID: g.text(), Type: g.text(), Traceback: strings.Repeat(g.text(), g.IntN(100)), Pickle: g.data(), Public: g.text(),
		}}
	}
	if in.Items == nil {
		in.Complete(b, r)
		return nil
	}
	in.Keep()
	items := make([][]byte, g.IntN(30))
	for i := range items {
		items[i] = g.data()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		for _, data := range items {
			if !in.Item(ctx, call.Payload{Codec: call.Raw, Data: data}) {
				break
			}
		}
		in.Drain(ctx)
		in.Complete(nil, r)
	}()
	return cancelFunc(func(_ *call.Batch, cause error) { cancel(cause) })
}

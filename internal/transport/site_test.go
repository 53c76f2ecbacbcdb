package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// site is a node with one replica, whose method the test writes. It holds what must hold wherever its callers are: no more calls
// at once than the gate has slots, and none twice.
type site struct {
	t      testing.TB
	gate   *gate.Gate
	shared *transport.Shared
	method func(e *execution) // it ends e, now or later; nil echoes

	strangers bool // callers are anybody, and what they call may be called twice

	mu      sync.Mutex
	runs    map[string]int
	order   []string
	running int
	most    int
}

// execution is one run of the method.
type execution struct {
	site *site
	name string
	body []byte
	in   *wire.Incoming // nil for a caller in the same node

	once   sync.Once
	result func(b *call.Batch, r call.Result)
}

func newSite(t testing.TB, name string, slots int, method func(e *execution)) *site {
	s := &site{t: t, gate: gate.New(slots), method: method, runs: map[string]int{}}
	s.shared = transport.NewShared(
		wire.Member{Replica: name, App: "app", Deployment: "d", Slots: slots, Load: 0},
		func(to wire.Granter) wire.Admission { return s.gate.Remote(to) },
		func(b *call.Batch, in *wire.Incoming) call.Canceler {
			if r, ok := in.Route.(wire.Route); !s.strangers && (!ok || r.Deployment != "d" || r.App != "app" || r.Method != in.Info.Request.Text()[:1]) {
				t.Errorf("a call on route %+v", in.Route)
			}
			return s.begin(b, &execution{body: in.Encoded.Body, name: in.Info.Request.Text(), in: in, result: in.Complete})
		})
	s.gate.WhenFull(s.shared.Changed)
	return s
}

func (s *site) begin(b *call.Batch, e *execution) call.Canceler {
	e.site = s
	s.mu.Lock()
	s.runs[e.name]++
	s.running++
	s.most = max(s.most, s.running)
	if s.running > s.gate.Max() || s.runs[e.name] > 1 && !s.strangers {
		s.t.Errorf("%d calls in %d slots, %s for the %d. time", s.running, s.gate.Max(), e.name, s.runs[e.name])
	}
	s.order = append(s.order, e.name)
	s.mu.Unlock()
	if s.method == nil {
		e.end(b, nil)
		return nil
	}
	s.method(e)
	return e
}

func (s *site) ran() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.order...)
}

// end answers with the argument, or an error.
func (e *execution) end(b *call.Batch, failure *call.Error) {
	e.once.Do(func() {
		e.site.mu.Lock()
		e.site.running--
		e.site.mu.Unlock()
		e.site.gate.Release(b)
		r := call.Result{Payload: call.Payload{Codec: call.Raw, Data: e.body}, Err: failure}
		if failure != nil {
			r.Payload = call.Payload{}
		}
		e.result(b, r)
	})
}

// Cancel ends the method at once.
func (e *execution) Cancel(b *call.Batch, cause error) { e.end(b, call.FromCause(cause)) }

// client is a node with a router, and calls of its own.
type client struct {
	t      testing.TB
	router *router.Router
	joined chan *transport.Far

	mu       sync.Mutex
	replicas []router.Replica
	models   map[string][]string
}

// member is a replica in the router of a client.
type member struct {
	id    string
	gate  router.Gate
	value any
}

func (m *member) ID() string        { return m.id }
func (m *member) Node() string      { return "" }
func (m *member) Gate() router.Gate { return m.gate }

func newClient(t testing.TB) *client {
	return &client{t: t, router: router.New("here"), joined: make(chan *transport.Far, 100), models: map[string][]string{}}
}

// add has the router use a replica: a *site in the same node, or a *transport.Far.
func (c *client) add(b *call.Batch, id string, g router.Gate, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replicas = append(c.replicas, &member{id, g, value})
	c.router.Update(b, c.replicas)
}

func (c *client) Joined(b *call.Batch, f *transport.Far) {
	c.add(b, f.Member.Replica, f, f)
	c.joined <- f
}

func (c *client) Left(b *call.Batch, f *transport.Far) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.replicas {
		if r.(*member).value == any(f) {
			c.replicas = append(c.replicas[:i:i], c.replicas[i+1:]...)
			break
		}
	}
	c.router.Update(b, c.replicas)
}

func (c *client) Models(f *transport.Far, ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.models[f.Member.Replica] = ids
}

// Call, Route, Control and Goaway are of peers that send what these tests do not.
func (*client) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Complete(b, call.Result{Err: call.NewError(call.Fault, "not here")})
	return nil
}

func (*client) Route(r wire.Route) any { return r }
func (*client) Goaway(wire.Goaway)     {}
func (*client) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, errors.New("not here")
}

// journey is a call from its submission to its end, as node.Flight has it.
type journey struct {
	ticket router.Ticket
	c      *client
	call   *call.Call
	done   chan struct{}
	result call.Result

	mu       sync.Mutex
	state    string // "" waits
	answered bool
	replica  router.Replica
	cancel   func(b *call.Batch)
	attempts int
	rejected int
}

// submit sends a call with a name, which is its request id, and a body.
func (c *client) submit(name, origin string, body []byte) *journey {
	k := &call.Call{Want: call.Raw, Origin: origin}
	k.Info.Request = call.IDFrom(name)
	k.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: body}})
	return c.send(nil, k)
}

// send sends a call on its way, whose method is the first letter of its name.
func (c *client) send(b *call.Batch, k *call.Call) *journey {
	j := &journey{c: c, call: k, done: make(chan struct{})}
	k.Info.Place = &call.Place{App: "app", Deployment: "d", Method: k.Info.Request.Text()[:1]}
	c.router.Submit(b, &j.ticket, k.Origin, &k.Info, j)
	return j
}

func (j *journey) Assigned(b *call.Batch, r router.Replica) {
	j.mu.Lock()
	if j.answered {
		j.state = "done"
		j.mu.Unlock()
		r.Gate().Release(b)
		return
	}
	j.state, j.replica = "starting", r
	j.attempts++
	attempt := j.attempts
	j.mu.Unlock()
	var cancel func(b *call.Batch)
	switch v := r.(*member).value.(type) {
	case *transport.Far:
		h := v.Start(b, j.call, j)
		cancel = func(b *call.Batch) { h.Cancel(b, context.Canceled) }
	case *site:
		e := v.begin(b, &execution{name: j.call.Info.Request.Text(), body: j.call.Slots[0].Data, result: func(b *call.Batch, r call.Result) {
			j.end(b, r, true)
		}})
		cancel = func(b *call.Batch) {
			if e != nil {
				e.Cancel(b, context.Canceled)
			}
		}
	}
	j.mu.Lock()
	gone := j.answered
	if j.state == "starting" && j.attempts == attempt {
		j.state, j.cancel = "running", cancel
	}
	j.mu.Unlock()
	if gone {
		cancel(b)
	}
}

func (j *journey) Failed(_ *call.Batch, cause *call.Error) { j.answer(call.Result{Err: cause}) }

func (j *journey) Complete(b *call.Batch, r call.Result) { j.end(b, r, false) }

// end is told how an attempt ended; of one in the same node the slot was released.
func (j *journey) end(b *call.Batch, r call.Result, released bool) {
	r.Data = append([]byte(nil), r.Data...)
	j.mu.Lock()
	rep := j.replica
	again := r.NotStarted && !j.answered
	if r.Rejected {
		j.rejected++
	}
	j.cancel = nil
	if j.state = "done"; again {
		j.state = ""
	}
	j.mu.Unlock()
	if !released {
		rep.Gate().Release(b)
	}
	if again {
		j.c.router.Requeue(b, &j.ticket, j.call.Origin, &j.call.Info, j)
		return
	}
	j.answer(r)
}

func (j *journey) answer(r call.Result) {
	j.mu.Lock()
	answered := j.answered
	j.answered = true
	j.mu.Unlock()
	if !answered {
		j.result = r
		close(j.done)
	}
}

// stop cancels the call.
func (j *journey) stop() {
	j.mu.Lock()
	if j.answered {
		j.mu.Unlock()
		return
	}
	j.answered = true
	state, cancel := j.state, j.cancel
	j.mu.Unlock()
	j.result = call.Result{Err: call.FromCause(context.Canceled)}
	close(j.done)
	if state == "" {
		j.c.router.Cancel(&j.ticket)
	}
	if cancel != nil {
		cancel(nil)
	}
}

// await waits for the end and checks it.
func (j *journey) await(t *testing.T) {
	t.Helper()
	if <-j.done; j.result.Err != nil || string(j.result.Data) != string(j.call.Slots[0].Data) {
		t.Errorf("%s ended with %d bytes and %v", j.call.Info.Request, len(j.result.Data), j.result.Err)
	}
}

// until waits for something that others are about to do.
func until(what func() bool) {
	for !what() {
		runtime.Gosched()
	}
}

func name(parts ...any) string { return fmt.Sprint(parts...) }

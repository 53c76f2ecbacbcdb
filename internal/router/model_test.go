package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
)

// model is the specification of a router in the simplest form: a list of origins, each a list of calls. It knows the
// next call. The replica is the router's choice, and is checked against the free ones.
type model struct {
	*subqueue
	t      *testing.T
	ring   []*line
	member map[*gate.Gate]bool
	all    map[*gate.Gate]Replica
	calls  []*modelCall
}

type line struct {
	origin string
	calls  []*modelCall
}

type modelCall struct {
	ticket   Ticket
	m        *model
	number   int
	origin   string
	brief    bool // ends while it is being delivered
	queued   bool
	replica  Replica
	held     map[*gate.Gate]int // the world's
	assigned int
}

func (m *model) queue(c *modelCall) {
	c.queued = true
	i := slices.IndexFunc(m.ring, func(l *line) bool { return l.origin == c.origin })
	if i < 0 {
		m.ring, i = append(m.ring, &line{origin: c.origin}), len(m.ring)
	}
	l := m.ring[i]
	l.calls = append(l.calls, c)
	slices.SortStableFunc(l.calls, func(a, b *modelCall) int { return a.number - b.number })
}

func (m *model) dequeue(c *modelCall) {
	c.queued = false
	i := slices.IndexFunc(m.ring, func(l *line) bool { return l.origin == c.origin })
	l := m.ring[i]
	l.calls = slices.DeleteFunc(l.calls, func(o *modelCall) bool { return o == c })
	if len(l.calls) == 0 {
		m.ring = slices.Delete(m.ring, i, i+1)
	}
}

func (m *model) length() (n int) {
	for _, l := range m.ring {
		n += len(l.calls)
	}
	return n
}

func (c *modelCall) Assigned(_ *call.Batch, r Replica) {
	m := c.m
	if !c.queued {
		m.t.Fatalf("call %d was assigned and does not wait", c.number)
	}
	if next := m.ring[0].calls[0]; next != c {
		m.t.Fatalf("call %d of %s was assigned, %d of %s is next", c.number, c.origin, next.number, next.origin)
	}
	l := m.ring[0]
	m.dequeue(c)
	if len(l.calls) > 0 {
		m.ring = append(m.ring[1:], l)
	}
	g := r.Gate().(*gate.Gate)
	if !m.member[g] || m.all[g] != r {
		m.t.Fatalf("call %d was assigned to %s, which was removed", c.number, r.ID())
	}
	c.replica = r
	c.held[g]++
	if c.held[g] > g.Max() {
		m.t.Fatalf("%s has %d calls in %d slots", r.ID(), c.held[g], g.Max())
	}
	c.assigned++
	if c.brief {
		c.end()
	}
}

func (c *modelCall) Failed(*call.Batch, *call.Error) { c.m.t.Fatal("failed") }

func (c *modelCall) end() {
	g := c.replica.Gate().(*gate.Gate)
	c.replica = nil
	c.held[g]--
	g.Release(nil)
}

// TestModel drives two routers that share gates. After every step each gate's load is the number of calls that hold a
// slot there, and no slot is free where a call waits for it.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runModel(t, rand.New(rand.NewPCG(seed, 3)))
		})
	}
}

func runModel(t *testing.T, rng *rand.Rand) {
	t.Helper()
	held := map[*gate.Gate]int{}
	closed := map[*gate.Gate]bool{}
	gates := make([]*gate.Gate, 1+rng.IntN(6))
	for i := range gates {
		gates[i] = gate.New(1 + rng.IntN(3))
	}
	models := make([]*model, 2)
	for i := range models {
		m := &model{subqueue: newSubqueue(newAdmission()), t: t, all: map[*gate.Gate]Replica{}}
		for k, g := range gates {
			m.all[g] = &member{fmt.Sprint(i, "/", k), "", g}
		}
		models[i] = m
	}
	update := func(m *model) {
		m.member = map[*gate.Gate]bool{}
		var set []Replica
		for _, k := range rng.Perm(len(gates)) {
			if g := gates[k]; rng.IntN(4) > 0 {
				m.member[g] = true
				set = append(set, m.all[g])
			}
		}
		m.Update(nil, set)
	}
	some := func(m *model, ok func(*modelCall) bool) *modelCall {
		var found []*modelCall
		for _, c := range m.calls {
			if ok(c) {
				found = append(found, c)
			}
		}
		if len(found) == 0 {
			return nil
		}
		return found[rng.IntN(len(found))]
	}
	holds := func(c *modelCall) bool { return c.replica != nil }
	waits := func(c *modelCall) bool { return c.queued }
	step := func(m *model) {
		switch op := rng.IntN(100); {
		case op < 40:
			c := &modelCall{
				m: m, number: len(m.calls), origin: string(rune('a' + rng.IntN(4))), brief: rng.IntN(4) == 0, held: held,
			}
			m.calls = append(m.calls, c)
			m.queue(c)
			m.Submit(nil, &c.ticket, c.origin, c)
		case op < 50:
			r := m.TryAcquire()
			if r == nil {
				return
			}
			if m.length() > 0 {
				t.Fatal("TryAcquire overtook the queue")
			}
			g := r.Gate().(*gate.Gate)
			if !m.member[g] {
				t.Fatal("TryAcquire gave a removed replica")
			}
			held[g]++
			c := &modelCall{m: m, number: len(m.calls), replica: r, held: held, assigned: 1}
			m.calls = append(m.calls, c)
		case op < 75:
			if c := some(m, holds); c != nil {
				if m.Cancel(&c.ticket) {
					t.Fatal("cancelled a call that holds a slot")
				}
				c.end()
			}
		case op < 85:
			if c := some(m, waits); c != nil {
				m.dequeue(c)
				if !m.Cancel(&c.ticket) {
					t.Fatal("did not cancel a queued call")
				}
			}
		case op < 92:
			if c := some(m, holds); c != nil && c.origin != "" {
				c.end()
				m.queue(c)
				m.Requeue(nil, &c.ticket, c.origin, c)
			}
		case op < 99:
			update(m)
		default:
			if g := gates[rng.IntN(len(gates))]; rng.IntN(8) == 0 {
				closed[g] = true
				g.Close()
			}
		}
	}
	for range 600 {
		step(models[rng.IntN(len(models))])
		for _, g := range gates {
			if g.Load() != held[g] {
				t.Fatalf("load %d, %d calls hold a slot", g.Load(), held[g])
			}
		}
		for _, m := range models {
			if m.Queued() != m.length() {
				t.Fatalf("%d queued, want %d", m.Queued(), m.length())
			}
			for g := range m.member {
				if m.length() > 0 && !closed[g] && held[g] < g.Max() {
					t.Fatalf("%d calls wait beside a free slot", m.length())
				}
			}
			m.check(t)
		}
	}
	// With a replica that stays, everything ends.
	for _, m := range models {
		g := gate.New(1)
		m.all[g], m.member[g] = &member{"last", "", g}, true
		m.Update(nil, []Replica{m.all[g]})
		for c := some(m, holds); c != nil; c = some(m, holds) {
			c.end()
		}
		if m.Queued() != 0 {
			t.Fatalf("%d calls left", m.Queued())
		}
	}
	for _, g := range gates {
		if g.Load() != 0 {
			t.Fatalf("load %d at the end", g.Load())
		}
	}
}

// check tests the conditions that hold whenever the lock is free.
func (s *subqueue) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	set := *s.set.Load()
	if len(s.waiters) != len(set) {
		t.Fatal("waiters and replicas differ")
	}
	for i, w := range s.waiters {
		if w.removed || w.index != i || w.registered != (i >= s.unregistered) || !slices.Contains(set, w.replica) {
			t.Fatalf("waiter %d of %d, of which %d are not registered: %+v", i, len(set), s.unregistered, w)
		}
	}
	if s.queues.turn != nil && s.unregistered != 0 {
		t.Fatalf("calls wait, not registered at %d of %d gates", s.unregistered, len(s.waiters))
	}
	if s.ready.head != nil || s.delivering != 0 {
		t.Fatalf("%d deliveries", s.delivering)
	}
	if (s.queues.turn == nil) != (len(s.queues.byOrigin) == 0) {
		t.Fatal("the ring and the map differ")
	}
}

// TestQueuePlaces inserts and removes at random and compares with a sorted list.
func TestQueuePlaces(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		s := queues{byOrigin: map[string]*queue{}}
		var want []*Ticket
		for range 200 {
			if rng.IntN(3) > 0 {
				x := &Ticket{seq: uint64(rng.IntN(40))}
				s.push(x)
				want = append(want, x)
				slices.SortStableFunc(want, func(a, b *Ticket) int { return int(a.seq) - int(b.seq) })
			} else if len(want) > 0 {
				i := rng.IntN(len(want))
				s.remove(want[i])
				want = slices.Delete(want, i, i+1)
			}
			var got []*Ticket
			if s.turn != nil {
				for x := s.turn.head; x != nil; x = x.next {
					got = append(got, x)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: order differs", seed)
			}
		}
	}
}

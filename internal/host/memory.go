package host

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/arena"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// sharedMemory is the memory that a node and the workers of one application share, for large buffers (internal/arena).
type sharedMemory struct {
	table   *arena.Table
	mapping *arena.Memory
	self    arena.Holder // the node
	again   func()       // sweeps

	mu     sync.Mutex // guards the fields below
	sweep  *time.Timer
	closed bool
}

// The size of an application's arena where nothing is configured, which takes memory only as far as it is used; the part of it that one
// worker may have leased at a time; and the number of buffers that it may have.
const (
	arenaSize    = 1 << 30
	arenaLease   = 64 << 20
	arenaBuffers = 1 << 16
	sweepTime    = 10 * time.Second
	sweepMost    = 256 << 20
)

// arenaSize is that of each application's; less than 0: there are none.
func (ws *Workers) arenaSizeLocked() int64 {
	switch {
	case ws.noArena:
		return -1
	case ws.set.ArenaSize == 0:
		return arenaSize
	}
	return ws.set.ArenaSize
}

// memoryLocked is the application's arena, which is made for its first worker; nil without. Workers.mu is held.
func (ws *Workers) memoryLocked(a *App) *sharedMemory {
	size := ws.arenaSizeLocked()
	if a.memory != nil || size < 0 || a.closed || ws.closing {
		return a.memory
	}
	var mem *arena.Memory
	err := errors.New("the address space is limited (RLIMIT_AS)")
	if arena.Fits(size) {
		mem, err = arena.New(a.name, rand.Uint64(), uint64(size))
	}
	if err != nil {
		ws.log.Warn("there is no shared memory for large values: they travel over sockets", "app", a.name, "error", err)
		ws.noArena = true
		return nil
	}
	o := mem.Offer()
	m := &sharedMemory{mapping: mem}
	m.table = arena.NewTable(o.Arena, o.Size, arena.Limits{Lease: min(arenaLease, o.Size/2), Buffers: arenaBuffers})
	m.self = m.table.Join()
	m.again = func() {
		if err := m.mapping.Reclaim(m.table, sweepMost); err != nil && !errors.Is(err, arena.ErrClosed) {
			ws.log.Warn("shared memory cannot be given back", "app", a.name, "error", err)
		}
		m.schedule()
	}
	m.schedule()
	a.memory = m
	return m
}

// schedule has the memory that is free swept after a while.
func (m *sharedMemory) schedule() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.sweep = time.AfterFunc(sweepTime, m.again)
	}
}

// close ends the arena. A buffer that a reader still uses stays mapped until then.
func (m *sharedMemory) close() {
	if m != nil {
		m.mu.Lock()
		m.closed = true
		m.sweep.Stop()
		m.mu.Unlock()
		m.mapping.Close() //nolint:errcheck // what is viewed stays, and nothing was written
	}
}

// status is the account of the arena as users see it.
func (m *sharedMemory) status() *helvetype.SharedMemory {
	if m == nil {
		return nil
	}
	s := m.table.Stats()
	return &helvetype.SharedMemory{
		Size: s.Size, Leased: s.Leased, Published: s.Published, Filled: s.Filled,
		Buffers: s.Buffers, References: s.References, Full: s.Full, Rejected: s.Rejected,
	}
}

// memoryShare is one worker's part in an arena: the node's side of wire.Memory.
type memoryShare struct {
	*sharedMemory
	workers  *Workers
	holder   arena.Holder // the worker
	peer     *wire.Peer   // set before anything is read
	granting atomic.Bool
}

// share lets a worker take part in its application's arena; nil if there is none.
func (ws *Workers) share(w *Worker) *wire.Arena {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	m := ws.memoryLocked(w.app)
	if m == nil || w.memory != nil {
		return nil
	}
	w.memory = &memoryShare{sharedMemory: m, workers: ws, holder: m.table.Join()}
	o := m.mapping.Offer()
	return &wire.Arena{ID: o.Arena, Size: o.Size, Most: min(arenaLease, o.Size/2), File: m.mapping.File()}
}

// unshare takes back the memory that a worker held. Its process has ended.
func (ws *Workers) unshare(w *Worker) {
	if w.memory != nil {
		w.memory.table.Drop(w.memory.holder)
	}
}

// Receive gives the node a reference to a buffer that the worker has sent.
func (s *memoryShare) Receive(r wire.Ref) (*call.Shared, error) {
	ref := arena.DecodeRef(r)
	if err := s.table.Receive(s.holder, s.self, ref); err != nil {
		return nil, err
	}
	v, err := s.mapping.View(ref, func(r arena.Ref) {
		s.table.Release(s.self, r) //nolint:errcheck // it is held until here
	})
	if err != nil { // the application is going
		s.table.Release(s.self, ref) //nolint:errcheck // as above
		return nil, err
	}
	return call.NewShared(v), nil
}

// Send gives the worker a reference to a buffer that the node holds.
func (s *memoryShare) Send(of *call.Shared) (wire.Ref, bool) {
	v, ok := of.View().(*arena.View)
	if !ok || v.Ref().Arena != s.mapping.Offer().Arena || s.table.Share(s.self, s.holder, v.Ref()) != nil {
		return wire.Ref{}, false
	}
	return v.Ref().Encode(), true
}

// Put copies a buffer of the node's own, and gives the worker a reference to it.
func (s *memoryShare) Put(b []byte) (wire.Ref, bool) {
	g, err := s.mapping.Lease(s.table, s.self, uint64(len(b)))
	if err != nil {
		return wire.Ref{}, false
	}
	ref := arena.Ref{Arena: s.mapping.Offer().Arena, Generation: g.Generation, Offset: g.Offset, Length: uint64(len(b))}
	if s.mapping.Write(g.Offset, b) != nil || s.table.Receive(s.self, s.holder, ref) != nil {
		s.table.Return(s.self, g) //nolint:errcheck // it is leased
		return wire.Ref{}, false
	}
	return ref.Encode(), true
}

// Unsent takes a reference back from the worker.
func (s *memoryShare) Unsent(r wire.Ref, _ bool) {
	s.table.Release(s.holder, arena.DecodeRef(r)) //nolint:errcheck // the worker may have ended
}

// Frame answers a request for memory, and takes memory that the worker gives back.
func (s *memoryShare) Frame(t wire.Type, body []byte) error {
	id := s.mapping.Offer().Arena
	switch t {
	case wire.TypeRelease:
		return arena.EachRef(body, func(r arena.Ref) error {
			if r.Arena != id {
				return nil
			}
			return s.table.Release(s.holder, r)
		})
	case wire.TypeUnlease:
		return arena.EachGrant(body, id, func(g arena.Grant) error { return s.table.Return(s.holder, g) })
	}
	if len(body) != 8 {
		return errors.New("malformed lease")
	}
	if !s.granting.CompareAndSwap(false, true) {
		return errors.New("a second lease is asked for before the first was given")
	}
	n := binary.LittleEndian.Uint64(body)
	s.workers.wg.Go(func() { // memory that was never used is filled first, which takes a moment
		g, err := s.mapping.Lease(s.table, s.holder, n)
		if err != nil { // refused: no length
			g = arena.Grant{}
		}
		s.granting.Store(false)
		s.peer.SendMemoryFrame(wire.TypeLease, arena.AppendGrants(nil, id, g))
	})
	return nil
}

// Package shm is the node's side of the memory that a node and the workers of one application share, for large values. [Memory] is that of
// one application, and [Share] the part of one worker in it: the memory that the worker has leased, and its references to buffers.
//
// For example, worker A writes an array of 8 MiB into memory that it has leased, and sends a call with a reference to it. The node receives
// the reference and gives worker B one of its own. The buffer is free when A, the node and B have released theirs; if B ends before that,
// [Share.Drop] releases all that B had.
package shm

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/arena"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// Memory is the memory that a node and the workers of one application share.
type Memory struct {
	table   *arena.Table
	mapping *arena.Memory
	self    arena.Holder // the node
	again   func()       // sweeps

	mu     sync.Mutex // guards the fields below
	sweep  *time.Timer
	closed bool
}

// DefaultSize is the size of an application's memory where nothing is configured. Memory is used only as far as values are in it.
const DefaultSize = 1 << 30

// The part of the memory that one worker may have leased at a time, the number of buffers, and the time and the size of one sweep.
const (
	leaseMost   = 64 << 20
	buffersMost = 1 << 16
	sweepTime   = 10 * time.Second
	sweepMost   = 256 << 20
)

// New makes the memory of an application. Close it.
func New(app string, size int64, log *slog.Logger) (*Memory, error) {
	if !arena.Fits(size) {
		return nil, errors.New("the address space is limited (RLIMIT_AS)")
	}
	mapping, err := arena.New(app, rand.Uint64(), uint64(size))
	if err != nil {
		return nil, err
	}
	o := mapping.Offer()
	m := &Memory{mapping: mapping}
	m.table = arena.NewTable(o.Arena, o.Size, arena.Limits{Lease: min(leaseMost, o.Size/2), Buffers: buffersMost})
	m.self = m.table.Join()
	m.again = func() {
		if err := m.mapping.Reclaim(m.table, sweepMost); err != nil && !errors.Is(err, arena.ErrClosed) {
			log.Warn("shared memory cannot be given back", "app", app, "error", err)
		}
		m.schedule()
	}
	m.schedule()
	return m, nil
}

// schedule has the memory that is free swept after a while.
func (m *Memory) schedule() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.sweep = time.AfterFunc(sweepTime, m.again)
	}
}

// Close ends the arena. A buffer that a reader still uses stays mapped until then.
func (m *Memory) Close() {
	if m != nil {
		m.mu.Lock()
		m.closed = true
		m.sweep.Stop()
		m.mu.Unlock()
		m.mapping.Close() //nolint:errcheck // what is viewed stays, and nothing was written
	}
}

// Status is the account of the arena as users see it.
func (m *Memory) Status() *helvetype.SharedMemory {
	if m == nil {
		return nil
	}
	s := m.table.Stats()
	return &helvetype.SharedMemory{
		Size: s.Size, Leased: s.Leased, Published: s.Published, Filled: s.Filled,
		Buffers: s.Buffers, References: s.References, Full: s.Full, Rejected: s.Rejected,
	}
}

// Share is one worker's part in a memory: the node's side of [wire.Memory].
type Share struct {
	*Memory
	spawn    func(func())
	holder   arena.Holder // the worker
	peer     *wire.Peer   // set before anything is read
	granting atomic.Bool
}

// Join gives another worker a part. spawn runs a function on a goroutine of its own.
func (m *Memory) Join(spawn func(func())) *Share {
	return &Share{Memory: m, spawn: spawn, holder: m.table.Join()}
}

// Offer describes the memory to the worker.
func (s *Share) Offer() *wire.Arena {
	o := s.mapping.Offer()
	return &wire.Arena{ID: o.Arena, Size: o.Size, Most: min(leaseMost, o.Size/2), File: s.mapping.File()}
}

// Use has a connection to the worker send large values through the memory. It is called before the connection reads anything.
func (s *Share) Use(peer *wire.Peer) {
	s.peer = peer
	peer.UseMemory(s)
}

// Drop takes back the memory that the worker held. Its process has ended. nil has none.
func (s *Share) Drop() {
	if s != nil {
		s.table.Drop(s.holder)
	}
}

// Receive gives the node a reference to a buffer that the worker has sent.
func (s *Share) Receive(r wire.Ref) (*call.Shared, error) {
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
func (s *Share) Send(of *call.Shared) (wire.Ref, bool) {
	v, ok := of.View().(*arena.View)
	if !ok || v.Ref().Arena != s.mapping.Offer().Arena || s.table.Share(s.self, s.holder, v.Ref()) != nil {
		return wire.Ref{}, false
	}
	return v.Ref().Encode(), true
}

// Put copies a buffer of the node's own, and gives the worker a reference to it.
func (s *Share) Put(b []byte) (wire.Ref, bool) {
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
func (s *Share) Unsent(r wire.Ref, _ bool) {
	s.table.Release(s.holder, arena.DecodeRef(r)) //nolint:errcheck // the worker may have ended
}

// Frame answers a request for memory, and takes memory that the worker gives back.
func (s *Share) Frame(t wire.Type, body []byte) error {
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
	s.spawn(func() { // memory that was never used is filled first, which takes a moment
		g, err := s.mapping.Lease(s.table, s.holder, n)
		if err != nil { // refused: no length
			g = arena.Grant{}
		}
		s.granting.Store(false)
		s.peer.SendMemoryFrame(wire.TypeLease, arena.AppendGrants(nil, id, g))
	})
	return nil
}

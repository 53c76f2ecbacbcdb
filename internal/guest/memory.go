package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/arena"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// memory is the part of a worker in its application's arena (internal/arena). It implements wire.Memory.
//
// The node owns the memory and leases pieces of it. For example, the worker has to send 200 KiB: it takes a place from its
// stock of leased pieces, copies the bytes there and sends offset and length. When the stock is low it asks for more in time,
// so that the next value need not wait.
type memory struct {
	memory *arena.Memory
	stock  *arena.Stock
	peer   *wire.Peer

	mu    sync.Mutex
	idle  *time.Timer
	ended bool
}

// stockTime is how long the worker keeps leased memory without use.
const stockTime = 10 * time.Second

// openMemory maps the memory that the node offers. It gives nil if the node offers none.
func openMemory(a *wire.Arena) (*memory, error) {
	if a == nil {
		return nil, nil
	}
	m, err := arena.Open(a.File, arena.Offer{Arena: a.ID, Size: a.Size})
	if err != nil {
		return nil, fmt.Errorf("the node's shared memory of %d bytes cannot be mapped (a smaller one: ArenaSize of the node's configuration, --arena-size): %w", a.Size, err)
	}
	return &memory{memory: m, stock: arena.NewStock(a.ID, a.Most)}, nil
}

func (m *memory) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.ended = true
	if m.idle != nil {
		m.idle.Stop()
	}
	m.mu.Unlock()
	m.memory.Close() //nolint:errcheck // the mapping goes with its last view
}

// Receive gives a view of the memory that a reference from the node names.
func (m *memory) Receive(r wire.Ref) (*call.Shared, error) {
	v, err := m.memory.View(arena.DecodeRef(r), m.release)
	if err != nil {
		return nil, err
	}
	return call.NewShared(v), nil
}

// release tells the node that a view has ended. It runs on the goroutine of the last reader.
func (m *memory) release(r arena.Ref) {
	m.peer.SendMemoryFrame(wire.TypeRelease, arena.AppendRefs(nil, r))
}

// Send gives the reference of memory that came from the node, so that its bytes are not copied on their way back. The
// reference stays this worker's until the node has read the frame.
func (m *memory) Send(s *call.Shared) (wire.Ref, bool) {
	v, ok := s.View().(*arena.View)
	if !ok || v.Ref().Arena != m.memory.Offer().Arena {
		return wire.Ref{}, false
	}
	return v.Ref().Encode(), true
}

// Put copies a buffer into memory of the stock.
func (m *memory) Put(b []byte) (wire.Ref, bool) {
	ref, ok := m.stock.Take(uint64(len(b)))
	if ok && m.memory.Write(ref.Offset, b) != nil {
		m.stock.PutBack(ref)
		ok = false
	}
	m.order()
	return ref.Encode(), ok
}

// Unsent gives a place back to the stock.
func (m *memory) Unsent(r wire.Ref, put bool) {
	if put {
		m.stock.PutBack(arena.DecodeRef(r))
	}
}

// order asks the node for more memory if the stock is low, and gives back the surplus.
func (m *memory) order() {
	if n := m.stock.NextRequest(); n > 0 {
		m.peer.SendMemoryFrame(wire.TypeLease, binary.LittleEndian.AppendUint64(nil, n))
	}
	m.give(m.stock.Surplus(false))
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
	case m.idle == nil:
		m.idle = time.AfterFunc(stockTime, func() { m.give(m.stock.Surplus(true)) })
	default:
		m.idle.Reset(stockTime)
	}
}

func (m *memory) give(gs []arena.Grant) {
	if len(gs) > 0 {
		m.peer.SendMemoryFrame(wire.TypeUnlease, arena.AppendGrants(nil, m.memory.Offer().Arena, gs...))
	}
}

// Frame takes a LEASE from the node: memory for the stock.
func (m *memory) Frame(t wire.Type, body []byte) error {
	if t != wire.TypeLease || len(body) != arena.GrantLen {
		return errors.New("malformed lease")
	}
	return arena.EachGrant(body, m.memory.Offer().Arena, func(g arena.Grant) error {
		m.stock.AddGrant(g)
		return nil
	})
}

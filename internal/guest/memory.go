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

// memory is a worker's part in its application's arena (internal/arena): its side of wire.Memory.
type memory struct {
	memory *arena.Memory
	stock  *arena.Stock
	peer   *wire.Peer

	mu    sync.Mutex
	idle  *time.Timer
	ended bool
}

// stockTime is how long leased memory is kept that nobody uses.
const stockTime = 10 * time.Second

// openMemory maps what the node offers; nil if it offers nothing.
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

// Receive is a view of what the node has sent a reference to.
func (m *memory) Receive(r wire.Ref) (*call.Shared, error) {
	v, err := m.memory.View(arena.DecodeRef(r), m.release)
	if err != nil {
		return nil, err
	}
	return call.NewShared(v), nil
}

// release tells the node that a view has ended. It runs wherever that happens.
func (m *memory) release(r arena.Ref) {
	m.peer.SendMemoryFrame(wire.TypeRelease, arena.AppendRefs(nil, r))
}

// Send refers to what the node has sent: the reference is this worker's until the node has read the frame.
func (m *memory) Send(s *call.Shared) (wire.Ref, bool) {
	v, ok := s.View().(*arena.View)
	if !ok || v.Ref().Arena != m.memory.Offer().Arena {
		return wire.Ref{}, false
	}
	return v.Ref().Encode(), true
}

// Put copies a buffer to memory in stock.
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

// order asks the node for more where the stock is low, and gives it what is of no use.
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

// Frame takes what the node leases.
func (m *memory) Frame(t wire.Type, body []byte) error {
	if t != wire.TypeLease || len(body) != arena.GrantLen {
		return errors.New("malformed lease")
	}
	return arena.EachGrant(body, m.memory.Offer().Arena, func(g arena.Grant) error {
		m.stock.AddGrant(g)
		return nil
	})
}

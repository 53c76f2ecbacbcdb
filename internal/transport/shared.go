package transport

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// Shared is a replica of this node that other nodes call too. Its methods may be called from any goroutine.
type Shared struct {
	member wire.Member
	join   func(to wire.Granter) wire.Admission
	start  wire.Starter

	mu     sync.Mutex
	to     map[*wire.Peer]*wire.Served
	models []string
	over   bool
	all    atomic.Pointer[[]*wire.Served] // of to
}

// NewShared describes a replica, which nobody may call yet. join makes its gate's side of a router elsewhere (gate.Gate.Remote);
// start begins a call that it admitted. [Shared.Changed] is told when the gate becomes full, or is full no more.
func NewShared(m wire.Member, join func(to wire.Granter) wire.Admission, start wire.Starter) *Shared {
	return &Shared{member: m, join: join, start: start, to: map[*wire.Peer]*wire.Served{}}
}

// Share lets the node at the other end of peer call the replica, until the connection ends or the replica is withdrawn. It fails
// if either has happened.
func (s *Shared) Share(peer *wire.Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errors.New("the replica takes no more calls")
	}
	if s.to[peer] != nil {
		return nil
	}
	served, err := peer.AddMember(s.member, s.join, s.start)
	if err != nil {
		return err
	}
	s.to[peer] = served
	s.changedLocked()
	if s.models != nil {
		err = served.SetModels(s.models)
	}
	served.Changed() // it may have changed before it was told
	return err
}

func (s *Shared) changedLocked() { s.all.Store(new(slices.Collect(maps.Values(s.to)))) }

// Forget is told that the connection of peer has ended.
func (s *Shared) Forget(peer *wire.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.to, peer)
	s.changedLocked()
}

// Changed is told that the gate has become full, or is full no more (gate.Gate.WhenFull). It does not block, and takes no lock
// but those of connections.
func (s *Shared) Changed() {
	if all := s.all.Load(); all != nil {
		for _, served := range *all {
			served.Changed()
		}
	}
}

// SetModels tells which models the replica has or is loading, all of them.
func (s *Shared) SetModels(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models = append([]string{}, ids...)
	for _, served := range s.to {
		served.SetModels(s.models) //nolint:errcheck // of a connection that has ended
	}
}

// Withdraw says that the replica takes no more calls. Those that were accepted end as usual.
func (s *Shared) Withdraw(b *call.Batch) {
	s.mu.Lock()
	s.over = true
	to := s.to
	s.to = map[*wire.Peer]*wire.Served{}
	s.changedLocked()
	s.mu.Unlock()
	for _, served := range to {
		served.Remove(b)
	}
}

package transport

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/wire"
)

// Members is told which replicas another node has. Its methods run on a reader goroutine, one at a time for a connection, and must
// not block.
type Members interface {
	// Joined is told a replica that may be called from now on.
	Joined(b *call.Batch, f *Far)
	// Left is told that it gets no new calls: its gate is closed, and calls that wait for it must be given others. At the end of
	// a connection that is said of all, before the calls under way are told.
	Left(b *call.Batch, f *Far)
	// Models is told which models it has or is loading, all of them.
	Models(f *Far, ids []string)
}

// Neighbour is another node at the end of a connection: the replicas that it has, as [Far].
type Neighbour struct {
	peer    *wire.Peer
	codec   *codec.Codec
	members Members

	mu  sync.Mutex // guards far, for Replicas
	far map[uint32]*Far
}

// NewNeighbour has members told what replicas the node at the other end of peer has. It is called before peer is served; the
// opening has agreed on [wire.FeatureNodes].
func NewNeighbour(peer *wire.Peer, cd *codec.Codec, members Members) *Neighbour {
	n := &Neighbour{peer: peer, codec: cd, members: members, far: map[uint32]*Far{}}
	peer.Between(incoming{n})
	return n
}

// Replicas are those that may be called now, in the order in which they were announced. It may be called from any goroutine.
func (n *Neighbour) Replicas() []*Far {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*Far
	for _, number := range slices.Sorted(maps.Keys(n.far)) {
		all = append(all, n.far[number])
	}
	return all
}

// incoming is what a neighbour is told by its connection ([wire.Neighbour]).
type incoming struct{ n *Neighbour }

func (i incoming) Joined(b *call.Batch, number uint32, m wire.Member) {
	f := &Far{Member: m, n: i.n, number: number, told: m.Load}
	f.changedLocked()
	i.n.mu.Lock()
	i.n.far[number] = f
	i.n.mu.Unlock()
	i.n.members.Joined(b, f)
}

func (i incoming) Gone(b *call.Batch, number uint32) {
	f := i.n.far[number] // only this goroutine writes
	i.n.mu.Lock()
	delete(i.n.far, number)
	i.n.mu.Unlock()
	f.close()
	i.n.members.Left(b, f)
}

func (i incoming) Slot(b *call.Batch, number uint32, id uint64, _ time.Duration, load int) error {
	return i.n.far[number].slot(b, id, load)
}

func (i incoming) Load(number uint32, load int) { i.n.far[number].setLoad(load) }

func (i incoming) Models(number uint32, ids []string) { i.n.members.Models(i.n.far[number], ids) }

func (i incoming) Ended(b *call.Batch) {
	all := i.n.Replicas()
	for _, f := range all {
		f.close()
	}
	i.n.mu.Lock()
	clear(i.n.far)
	i.n.mu.Unlock()
	for _, f := range all {
		i.n.members.Left(b, f)
	}
}

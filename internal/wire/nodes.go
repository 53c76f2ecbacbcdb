package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// FeatureNodes says that a side is a node, whose replicas have gates of their own and whose routers have queues of their own.
const FeatureNodes = "nodes"

// The frame types between nodes. They exist only where [Terms.Nodes] was agreed on.
const (
	TypeArrival Type = 32 // a CALL at one replica, under a slot or to be admitted
	TypeAccept  Type = 33 // it has a slot
	TypeReject  Type = 34 // it has none, and is the caller's again
	TypeWant    Type = 35 // how many slots a router could use
	TypeSlot    Type = 36 // a slot is kept for it
	TypeReturn  Type = 37 // and not needed
	TypeLoad    Type = 38 // a gate is full, or full no more
	TypeModels  Type = 39 // the models of a replica
	TypeMember  Type = 40 // a replica that may be called
)

// FlagGone marks a REJECT by, and a MEMBER that is, a replica that takes no more calls.
const FlagGone = 1

// The fixed parts of their metas.
const (
	arrivalLen = 24
	verdictLen = 4
	wantLen    = 8
	slotLen    = 20
	returnLen  = 16
)

// What a node may have announced on one connection at once; over it the connection ends.
const (
	maxMembers     = 1 << 16
	maxMemberBytes = 16 << 20 // of their descriptions and models
	maxOneMember   = 32 << 10 // bytes of one MEMBER, and of one MODELS
)

// Member describes a replica of a node to another node.
type Member struct {
	Replica    string `json:"replica"`
	App        string `json:"app"`
	Deployment string `json:"deployment"`
	Language   string `json:"language,omitempty"` // python, else Go: how a caller's values become arguments
	Slots      int    `json:"slots"`              // of its gate
	Load       int    `json:"load"`               // of these taken
}

// Neighbour is told what the node on the other side says of its replicas, which have the numbers that it gave them. Its methods
// run on a reader goroutine, one at a time, and must not block.
type Neighbour interface {
	// Joined is told a replica that may be called. Numbers are not used again on a connection.
	Joined(b *call.Batch, number uint32, m Member)
	// Gone is told that it takes no more calls. Those that it has accepted end as usual.
	Gone(b *call.Batch, number uint32)
	// Slot is told that a slot of it is kept for a call that waits here, under an id, for ttl; load is the gate's. Each is
	// answered with an arrival or with [Peer.Return]. An error, because nobody has asked for it, ends the connection.
	Slot(b *call.Batch, number uint32, id uint64, ttl time.Duration, load int) error
	// Load is told how many of its slots are taken.
	Load(number uint32, load int)
	// Models is told which models it has or is loading, all of them.
	Models(number uint32, ids []string)
	// Ended is told the end of the connection, before the calls on it are: none of its replicas may be called again.
	Ended(b *call.Batch)
}

// nodes is what a peer has beyond others if the other side is a node. Each side has replicas, and calls those of the other.
type nodes struct {
	peer *Peer
	far  Neighbour

	members     map[uint32]member // of the other side; only a reader touches it, one at a time
	lastMember  uint32
	memberBytes int
	wanted      atomic.Bool // a flush is on its way

	mu     sync.Mutex         // guards what follows
	served map[uint32]*Served // replicas of this side
	last   uint32             // number given
	early  map[uint64]*Incoming
	over   bool

	starts starts
}

type member struct{ info, models int } // bytes

// Between says that the other side is a node too, and who is told what it says. It is called once, before Serve, on a peer whose
// terms have [Terms.Nodes].
func (p *Peer) Between(far Neighbour) {
	n := &nodes{peer: p, far: far, members: map[uint32]member{}, served: map[uint32]*Served{}, early: map[uint64]*Incoming{}}
	n.starts.init(p.conn.small)
	p.nodes = n
	p.conn.recv.early = n
}

func notBetweenNodes(t Type) error {
	if t > TypeMember {
		return fmt.Errorf("frame of unknown type %d", t)
	}
	return fmt.Errorf("frame of type %d, which nodes send to each other: the feature %s was not agreed on", t, FeatureNodes)
}

var errNodes = errors.New("malformed meta of a frame between nodes")

// frame takes the frames that only nodes send.
func (n *nodes) frame(b *call.Batch, h Header, meta, body []byte) error {
	if h.Type < TypeArrival || h.Type > TypeMember {
		return fmt.Errorf("frame of unknown type %d", h.Type)
	}
	if n == nil {
		return notBetweenNodes(h.Type)
	}
	if len(meta) < metaLen[h.Type-TypeArrival] {
		return errNodes
	}
	switch h.Type {
	case TypeArrival:
		return n.onArrival(b, h, meta, body)
	case TypeAccept, TypeReject:
		return n.onVerdict(b, h, int(le.Uint32(meta)))
	case TypeWant:
		s, err := n.find(h.ID)
		if s != nil {
			s.gate.Want(b, le.Uint64(meta))
		}
		return err
	case TypeReturn:
		s, err := n.find(h.ID)
		if s != nil {
			s.gate.Return(b, le.Uint64(meta))
			s.gate.Want(b, le.Uint64(meta[8:]))
		}
		return err
	case TypeMember:
		return n.onMember(b, h, body)
	}
	m, live := n.members[uint32(h.ID)]
	switch {
	case h.ID > uint64(n.lastMember):
		return fmt.Errorf("a frame of type %d about replica %d, which was never announced", h.Type, h.ID)
	case !live: // it was on its way
	case h.Type == TypeSlot:
		ttl := min(le.Uint64(meta[8:]), uint64(time.Hour/time.Microsecond))
		return n.far.Slot(b, uint32(h.ID), le.Uint64(meta), time.Duration(ttl)*time.Microsecond, int(le.Uint32(meta[16:])))
	case h.Type == TypeLoad:
		n.far.Load(uint32(h.ID), int(le.Uint32(meta)))
	case h.Type == TypeModels:
		return n.onModels(uint32(h.ID), m, body)
	}
	return nil
}

var metaLen = [...]int{arrivalLen, verdictLen, verdictLen, wantLen, slotLen, returnLen, verdictLen, 0, 0} //nolint:gochecknoglobals // a constant

func (n *nodes) onMember(b *call.Batch, h Header, body []byte) error {
	number := uint32(h.ID)
	old, live := n.members[number]
	switch {
	case h.ID == 0 || h.ID > 1<<32-1:
		return fmt.Errorf("a replica with the number %d", h.ID)
	case h.Flags&FlagGone != 0:
		n.lastMember = max(n.lastMember, number)
		if live {
			n.memberBytes -= old.info + old.models
			delete(n.members, number)
			n.far.Gone(b, number)
		}
		return nil
	case number <= n.lastMember:
		return fmt.Errorf("replica %d is announced after %d: they count up", number, n.lastMember)
	}
	var m Member
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("member: %w", err)
	}
	if m.Slots < 1 || m.Load < 0 {
		return fmt.Errorf("a replica with %d slots, of which %d are taken", m.Slots, m.Load)
	}
	n.lastMember = number
	n.members[number] = member{info: len(body)}
	n.memberBytes += len(body)
	if len(body) > maxOneMember || n.memberBytes > maxMemberBytes || len(n.members) > maxMembers {
		return fmt.Errorf("a replica described in %d bytes, %d replicas in %d", len(body), len(n.members), n.memberBytes)
	}
	n.far.Joined(b, number, m)
	return nil
}

func (n *nodes) onModels(number uint32, m member, body []byte) error {
	var ids []string
	if err := json.Unmarshal(body, &ids); err != nil {
		return fmt.Errorf("models: %w", err)
	}
	n.memberBytes += len(body) - m.models
	m.models = len(body)
	n.members[number] = m
	if len(body) > maxOneMember || n.memberBytes > maxMemberBytes {
		return fmt.Errorf("models in %d bytes, replicas described in %d", len(body), n.memberBytes)
	}
	n.far.Models(number, ids)
	return nil
}

// soon flushes, on a goroutine of its own: for those who hold locks.
func (n *nodes) soon() {
	if n.wanted.CompareAndSwap(false, true) {
		go func() {
			n.wanted.Store(false)
			n.peer.conn.Flush()
		}()
	}
}

// end is told that nothing comes any more, before the calls under way are.
func (n *nodes) end(b *call.Batch) {
	if n == nil {
		return
	}
	n.far.Ended(b)
	n.mu.Lock()
	n.over = true
	early, served := n.early, n.served
	n.early, n.served = map[uint64]*Incoming{}, map[uint32]*Served{}
	n.mu.Unlock()
	for _, in := range early {
		in.unstarted(b, errGone)
	}
	for _, in := range n.starts.end() {
		in.unstarted(b, errGone)
	}
	for _, s := range served {
		s.gate.Lost(b)
	}
}

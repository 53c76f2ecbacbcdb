// Package call holds the untyped core of a handle call: its information, arguments, result, errors and context.
//
// The typed API, the router, the gate, the transports, the wire and the proxy share these types. The package imports the
// standard library and helvetype only.
package call

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"github.com/helve-serve/helve/helvetype"
)

// ID is a request id: 128 random bits written as a UUIDv4, or the text that a client outside gave.
// The text of a random id is made when it is read, because most ids never are.
type ID struct {
	hi, lo uint64
	text   *string
}

// NewID draws a random id. math/rand/v2's top-level generator is ChaCha8, seeded by the runtime:
// ids are unguessable enough for correlation, and never a secret.
func NewID() ID {
	return ID{hi: rand.Uint64()&^0xf000 | 0x4000, lo: rand.Uint64()&^(3<<62) | 1<<63}
}

// IDFrom makes an id of the text that a client gave.
func IDFrom(text string) ID { return ID{text: &text} }

// ValidID reports whether s may be the id of a client: 1 to 256 printable ASCII characters.
func ValidID(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// ParseID is the inverse of [ID.String]: a text in the form of a random id is one, and another text is a client's own.
func ParseID(s string) ID {
	var b [16]byte
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return IDFrom(s)
	}
	if _, err := hex.Decode(b[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return IDFrom(s)
	}
	if id := IDFromBytes(b); id.String() == s && b[6]>>4 == 4 && b[8]>>6 == 2 {
		return id
	}
	return IDFrom(s)
}

// IDFromBytes is the inverse of [ID.Bytes].
func IDFromBytes(b [16]byte) ID {
	return ID{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

// IsZero reports whether no id was set.
func (id ID) IsZero() bool { return id == ID{} }

// Text is the client's own id, or "" for a random one.
func (id ID) Text() string {
	if id.text == nil {
		return ""
	}
	return *id.text
}

// Bytes are the 16 bytes of a random id (zero for a client's own).
func (id ID) Bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], id.hi)
	binary.BigEndian.PutUint64(b[8:], id.lo)
	return b
}

// Trace is the trace id of a request whose client has none: the bytes of a random id, and of a client's own id a digest.
func (id ID) Trace() (b [16]byte) {
	if id.text == nil {
		return id.Bytes()
	}
	h := fnv.New128a()
	h.Write([]byte(*id.text)) //nolint:errcheck // it never fails
	h.Sum(b[:0])
	return b
}

// String is the id as users and logs see it.
func (id ID) String() string {
	if id.text != nil || id.IsZero() {
		return id.Text()
	}
	b := id.Bytes()
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// Place is the method that a call goes to. All calls of a bound method or route share one Place, so it is not written to any
// more once a call refers to it.
type Place struct {
	App, Deployment, Method string
	Prefix                  string // the route's prefix, for calls that came by HTTP
	Home                    any    // the *helve.App of the deployment, which the root finds by a context
	Link                    any    // in a worker, the connection over which calls come to this place; nil for others
}

// Affinity names the replicas that a call prefers. Few calls have one.
type Affinity struct {
	Model, Session string
	Local          bool  // prefers the caller's node
	Of             *Call // the call itself, for a policy that looks at its arguments; nil for others
}

// Link is the relation of a call to the call whose method made it.
type Link uint8

// The links. The method that made an Awaited call waits for it. The method that made a Loose call may return before it.
const (
	Loose Link = iota
	Awaited
)

// Info has the data of a call beside its arguments. One request (one Request id) spans all the calls of a composition; each call
// has an id of its own and knows its parent's.
//
// An Info is written before the call is submitted and read-only afterwards. Every call in process allocates one, so it is
// small: data that many calls share, and data that few calls have, is behind pointers. An Info of twice the size cost a third of
// the throughput of two cores, in garbage collections.
type Info struct {
	Request  ID
	Call     uint64   // this call; random, so unique for all purposes of a log
	Parent   uint64   // the call whose method made this one, 0 for none
	Trace    [16]byte // W3C trace id of the client; zero stands for [ID.Trace]
	Span     [8]byte  // W3C parent span id: the call above this one, or the span of a client or of user code that has made it
	Sampled  bool
	Depth    uint8  // number of calls above this one
	Link     Link   // the relation to the parent
	Control  bool   // the call is part of a broadcast, and holds no slot
	Frame    uint32 // in a worker, the low half of the id of the node's frame that brought the call; 0 for others
	*Place          // never nil in a call that was submitted
	Replica  string // the replica that runs the call, set on admission
	Affinity *Affinity
	Above    *Info // the call whose method made this one, if that runs in this process
}

// Child sets the fields of a call that the method of parent makes: request id, trace, depth, and the parent's id. Model and
// session ids are not inherited, as in Ray Serve: they come from the handle.
func (i *Info) Child(parent *Info) {
	i.Request, i.Parent, i.Depth = parent.Request, parent.Call, parent.Depth+1
	if i.Depth == 0 { // a counter that wraps would bound nothing
		i.Depth = parent.Depth
	}
	i.Trace, i.Sampled = parent.Trace, parent.Sampled
	binary.BigEndian.PutUint64(i.Span[:], parent.Call)
	i.Above = parent
}

// TraceID is the id of the trace that the call belongs to.
func (i *Info) TraceID() [16]byte {
	if i.Trace != ([16]byte{}) {
		return i.Trace
	}
	return i.Request.Trace()
}

// Model returns the model id of the call. It is empty if the call has none.
func (i *Info) Model() string {
	if i.Affinity == nil {
		return ""
	}
	return i.Affinity.Model
}

// Chain lists the calls from the first known one down to this, for messages.
func (i *Info) Chain() string {
	s := i.target()
	for a := i.Above; a != nil; a = a.Above {
		s = a.target() + " -> " + s
	}
	return s
}

// target names the method that is called. The default method of a deployment has no name.
func (i *Info) target() string {
	if i.Method == "" {
		return i.Deployment
	}
	return i.Deployment + "." + i.Method
}

// TooDeep returns the error of a call that is nested deeper than calls may be.
func TooDeep(i *Info) *Error {
	return NewError(helvetype.ReasonDepth, fmt.Sprintf("calls are nested %d deep: %s", i.Depth, i.Chain())).At(i)
}

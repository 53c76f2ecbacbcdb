// Package wire is the framed, multiplexed protocol between a node and its workers and drivers. docs/wire.md specifies it. The
// package has four layers:
//
//   - Frames (frame.go) are the units on a connection: a header, a meta and a body.
//   - Open and Offer.Accept (opening.go) authenticate both sides of a new connection and agree on its Terms.
//   - Conn writes and reads the frames of one connection. Link adds the second connection, on which large bodies travel in
//     chunks, so that a small frame never waits behind a large body.
//   - Peer carries calls, streams and control requests in both directions over a Link.
//
// Example: the node calls the method SayHi of a replica in a worker. Peer.Bind makes a BoundRoute to the method. Its first
// Start sends two frames in one write, a ROUTE that gives the route a number, and a CALL with this number and the argument.
// The worker's Peer hands the call to its Server as an Incoming. When the method has returned, Incoming.Complete sends an
// END, and the node's Peer completes the sink of the call. An argument of 5 MB would travel as well, in 20 CHUNK frames on
// the second connection, while other calls go on beside it.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Type is the type of a frame.
type Type uint8

// The frame types.
const (
	TypeHello   Type = 1
	TypeProof   Type = 2
	TypeGoaway  Type = 3
	TypeControl Type = 4
	TypeReply   Type = 5
	TypeRoute   Type = 6
	TypeReady   Type = 7 // the last frame of an opening
	TypeCall    Type = 16
	TypeCancel  Type = 17
	TypeEnd     Type = 18
	TypeItems   Type = 19
	TypeCredit  Type = 20
	TypeLease   Type = 23 // a request for shared memory, or its answer: see [Memory]
	TypeRelease Type = 24 // gives references to shared memory back
	TypeUnlease Type = 25 // gives leased memory back
	TypeDrop    Type = 26 // gives a kept result up
	TypeUpload  Type = 27 // parts of an exchange, from its caller
	TypeAllow   Type = 28 // widens the window of UPLOAD
)

// The flags of an END. FlagError says that the body is an error envelope, FlagReference that the node keeps the result and the
// body is empty.
const (
	FlagError     = 1
	FlagReference = 2
)

const (
	headerLen   = 16
	callLen     = 64
	endLen      = 2
	maxMeta     = 1<<16 - 1
	maxRoute    = 1<<16 - 1
	maxSlots    = 1<<16 - 1
	openingBody = 1 << 20
	// MaxBody is the largest body, in bytes, that a side takes by default.
	MaxBody = 256 << 20
	// MaxDepth is the depth of nested calls at which a call fails.
	MaxDepth = 64
)

// Header is the first 16 bytes of a frame.
type Header struct {
	Body  uint32
	Meta  uint16
	Type  Type
	Flags uint8
	ID    uint64
}

var le = binary.LittleEndian

func appendHeader(b []byte, h Header) []byte {
	b = le.AppendUint32(b, h.Body)
	b = le.AppendUint16(b, h.Meta)
	b = append(b, byte(h.Type), h.Flags)
	return le.AppendUint64(b, h.ID)
}

func parseHeader(b []byte) Header {
	return Header{le.Uint32(b), le.Uint16(b[4:]), Type(b[6]), b[7], le.Uint64(b[8:])}
}

// WriteFrame writes one frame of the opening, before frames are multiplexed.
func WriteFrame(w io.Writer, t Type, id uint64, body []byte) error {
	b := appendHeader(make([]byte, 0, headerLen+len(body)), Header{uint32(len(body)), 0, t, 0, id})
	_, err := w.Write(append(b, body...))
	return err
}

// ReadFrame reads one frame of the opening. It refuses a body over 1 MiB before it allocates memory for it.
func ReadFrame(r io.Reader) (Header, []byte, error) {
	var hb [headerLen]byte
	if _, err := io.ReadFull(r, hb[:]); err != nil {
		return Header{}, nil, err
	}
	h := parseHeader(hb[:])
	if h.Body > openingBody || h.Meta != 0 {
		return h, nil, fmt.Errorf("frame of %d bytes during the opening, at most %d are allowed", h.Body, openingBody)
	}
	body := make([]byte, h.Body)
	_, err := io.ReadFull(r, body)
	return h, body, err
}

var errMeta = errors.New("malformed call meta")

// sampledLen is the number of bytes that appendSampled adds.
const sampledLen = 10

// appendSampled appends the tail entry "sampled", which has no value.
func appendSampled(b []byte) []byte {
	b = append(b, 7)
	return append(b, "sampled\x00\x00"...)
}

// appendCall appends the meta of a CALL to b. The slots of c must be encoded; their data follows as the body of the frame. If
// apart is not nil, it has the slot table of the arguments instead of c.
func appendCall(b []byte, route uint32, c *call.Call, left time.Duration, apart *segments) ([]byte, error) {
	n := len(c.Slots)
	switch {
	case apart != nil:
		n = apart.slots
	case c.Encoded.Table != nil:
		n = c.Encoded.Slots
	}
	if n > maxSlots {
		return b, fmt.Errorf("%d arguments, at most %d are possible", n, maxSlots)
	}
	i := &c.Info
	start := len(b)
	b = le.AppendUint32(b, route)
	b = append(b, byte(c.Want), i.Depth)
	b = le.AppendUint16(b, uint16(n))
	us := uint64(left / time.Microsecond)
	if left > 0 && us == 0 {
		us = 1
	}
	b = le.AppendUint64(b, us)
	id := i.Request.Bytes()
	b = append(b, id[:]...)
	b = append(b, i.Trace[:]...)
	b = append(b, i.Span[:]...)
	b = le.AppendUint64(b, i.Call)
	switch {
	case apart != nil && c.Encoded.Table != nil:
		b = append(b, apart.table...)
		b = append(b, tailOf(c.Encoded)...)
	case c.Encoded.Table != nil:
		b = append(b, c.Encoded.Table...)
	default:
		if apart != nil {
			b = append(b, apart.table...)
		} else {
			for k := range c.Slots {
				s := &c.Slots[k]
				key := s.Index
				if s.Kind == call.Named {
					if len(s.Name) > maxMeta || !utf8.ValidString(s.Name) {
						return b, call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("the name of an argument must be UTF-8 of at most %d bytes, is %s", maxMeta, call.Quoted(s.Name)))
					}
					key = uint16(len(s.Name))
				}
				b = append(b, byte(s.Kind), byte(s.Codec))
				b = le.AppendUint16(b, key)
				b = le.AppendUint32(b, uint32(len(s.Data)))
				b = append(b, s.Name...)
			}
		}
		rid := i.Request.Text()
		if rid != "" && !call.ValidID(rid) {
			return b, call.NewError(helvetype.ReasonBadInput, "the request id must be 1 to 256 printable ASCII characters, is "+call.Quoted(rid))
		}
		b = appendTail(b, "rid", rid)
		if a := i.Affinity; a != nil {
			if err := checkAffinity(a); err != nil {
				return b, err
			}
			b = appendTail(b, "model", a.Model)
			b = appendTail(b, "session", a.Session)
		}
		if i.Sampled {
			b = appendSampled(b)
		}
		if c.Open {
			b = append(b, 6)
			b = append(b, "sample\x00\x00"...)
		}
		if c.Items != nil {
			b = append(b, 6)
			b = append(b, "window\x08\x00"...)
			w := windowOf(c)
			b = le.AppendUint32(b, w.Items)
			b = le.AppendUint32(b, w.Bytes)
		}
		if x := c.Exchange; x != nil {
			b = append(b, 4)
			b = append(b, "http\x02\x00"...)
			flags := byte(0)
			if x.More {
				flags = exchangeMore
			}
			b = append(b, x.Kind, flags)
		}
		if c.Lease != 0 {
			b = append(b, 5)
			b = append(b, "lease\x08\x00"...)
			b = le.AppendUint64(b, c.Lease)
		}
		if c.Options != nil && c.Options.Idempotent {
			b = append(b, 10)
			b = append(b, "idempotent\x00\x00"...)
		}
		if c.Options != nil && c.Options.ByReference {
			b = append(b, 9)
			b = append(b, "reference\x00\x00"...)
		}
		switch c.Mode {
		case call.Broadcast:
			b = append(b, 9)
			b = append(b, "broadcast\x00\x00"...)
		case call.Reserve:
			b = append(b, 7)
			b = append(b, "reserve\x00\x00"...)
		case call.Fetch:
			b = append(b, 5)
			b = append(b, "fetch\x08\x00"...)
			b = le.AppendUint64(b, c.Kept)
		case call.Run:
		}
		if h := call.HTTPOf(c); h != nil {
			head := call.AppendHTTPRequest(nil, h.HTTPRequest())
			if len(head) > maxMeta-callLen-4096 { // beside the other entries
				return b, call.NewError(helvetype.ReasonTooLarge, fmt.Sprintf("the head of the request has %d bytes, too many for an ingress method in another process", len(head)))
			}
			b = appendTail(b, "request", string(head))
		}
		if i.Above != nil {
			b = appendAbove(b, i) // the last entry, so that a node can cut it off
		}
	}
	if len(b)-start > maxMeta {
		return b, fmt.Errorf("names and metadata of a call take %d bytes, at most %d are possible", len(b)-start, maxMeta)
	}
	return b, nil
}

// windowOf returns the window of a stream, with at least one item and one byte: an empty window is an error on the wire.
func windowOf(c *call.Call) call.Window {
	return call.Window{Items: max(c.Window.Items, 1), Bytes: max(c.Window.Bytes, 1)}
}

// checkAffinity checks the model id and the session id of a call, which a Python worker reads as UTF-8.
func checkAffinity(a *call.Affinity) error {
	for _, id := range []struct{ what, id string }{{"the model id", a.Model}, {"the session id", a.Session}} {
		if err := call.CheckID(id.id); err != nil {
			return call.NewError(helvetype.ReasonBadInput, id.what+" "+err.Error())
		}
	}
	return nil
}

func appendTail(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, byte(len(key)))
	b = append(b, key...)
	b = le.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// parseCallMeta reads the meta of a CALL into c. c.Encoded points into meta and body afterwards.
func parseCallMeta(meta, body []byte, c *call.Call) (route uint32, left time.Duration, err error) {
	if len(meta) < callLen {
		return 0, 0, errMeta
	}
	i := &c.Info
	route = le.Uint32(meta)
	c.Want, i.Depth = call.Codec(meta[4]), meta[5]
	n := int(le.Uint16(meta[6:]))
	us := le.Uint64(meta[8:])
	if us > uint64(365*24*time.Hour/time.Microsecond) { // treated as no limit, which avoids an overflow
		us = 0
	}
	left = time.Duration(us) * time.Microsecond
	i.Request = call.IDFromBytes([16]byte(meta[16:32]))
	i.Trace, i.Span = [16]byte(meta[32:48]), [8]byte(meta[48:56])
	i.Call = le.Uint64(meta[56:])
	table := meta[callLen:]
	c.Encoded = call.Encoded{Slots: n, Table: table, Body: body}
	rest, total, shared, packed := table, 0, 0, false
	for k := range n {
		if len(rest) < 8 {
			return 0, 0, errMeta
		}
		kind, where, key, size := call.SlotKind(rest[0]&kindMask), rest[0]&^kindMask, int(le.Uint16(rest[2:])), int(le.Uint32(rest[4:]))
		rest = rest[8:]
		// A packed slot is the first and only value; a buffer belongs to the value before it.
		if kind > call.Buffer || kind == call.Packed && k > 0 || kind != call.Buffer && packed || kind == call.Buffer && k == 0 {
			return 0, 0, errMeta
		}
		packed = packed || kind == call.Packed
		switch {
		case where == 0:
		case where == segmentInMemory && size == RefLen:
			shared++
		case where == segmentKept && size == numberLen && kind != call.Buffer:
			c.Encoded.Held = true
		default:
			return 0, 0, errMeta
		}
		if kind == call.Named {
			if len(rest) < key || !utf8.Valid(rest[:key]) {
				return 0, 0, errMeta
			}
			rest = rest[key:]
		}
		if total += size; total > len(body) {
			return 0, 0, errMeta
		}
	}
	if total != len(body) {
		return 0, 0, errMeta
	}
	if shared > 0 {
		c.Encoded.Shared = make([]*call.Shared, shared) // for Peer.receive to fill
	}
	for len(rest) > 0 {
		at := len(table) - len(rest)
		key, value, next, ok := nextTail(rest)
		if !ok {
			return 0, 0, errMeta
		}
		rest = next
		switch string(key) {
		case "rid":
			if !call.ValidID(string(value)) {
				return 0, 0, errMeta
			}
			i.Request = call.IDFrom(string(value))
		case "model", "session":
			if !utf8.Valid(value) { // a node relays the bytes as they are
				return 0, 0, errMeta
			}
			if string(key) == "session" {
				affinityOf(i).Session = string(value)
				break
			}
			affinityOf(i).Model = string(value)
		case "idempotent":
			optionsOf(c).Idempotent = true
		case "reference":
			optionsOf(c).ByReference = true
		case "value":
			optionsOf(c).ByValue = true
		case "fetch":
			if len(value) != numberLen {
				return 0, 0, errMeta
			}
			c.Mode, c.Kept = call.Fetch, le.Uint64(value)
		case "sampled":
			i.Sampled = true
		case "sample":
			c.Open = true
		case "window":
			if len(value) != 8 {
				return 0, 0, errMeta
			}
			c.Window = call.Window{Items: le.Uint32(value), Bytes: le.Uint32(value[4:])}
			if c.Window.Items == 0 || c.Window.Bytes == 0 {
				return 0, 0, errMeta
			}
		case "http":
			if len(value) != 2 {
				return 0, 0, errMeta
			}
			c.Exchange = &call.Exchange{Kind: value[0], More: value[1]&exchangeMore != 0}
		case "request":
			if !call.ValidHTTPRequest(value) {
				return 0, 0, errMeta
			}
			c.Values = call.NewRemoteHTTP(value)
		case "lease":
			if len(value) != 8 {
				return 0, 0, errMeta
			}
			c.Lease = le.Uint64(value)
		case "above":
			if c.Above, i.Link, ok = parseAbove(value); !ok {
				return 0, 0, errMeta
			}
			if len(rest) == 0 { // the entry is for this side: a node relays the call without it
				c.Encoded.Table = table[:at:at]
			}
		case "broadcast":
			c.Mode = call.Broadcast
		case "reserve":
			c.Mode = call.Reserve
		}
	}
	if c.Exchange != nil && c.Window.Items == 0 {
		return 0, 0, errMeta
	}
	if i.Request.IsZero() {
		i.Request = call.NewID()
	}
	return route, left, nil
}

// nextTail reads the first entry of a tail. ok is false if the entry is malformed.
func nextTail(tail []byte) (key, value, rest []byte, ok bool) {
	kl := int(tail[0])
	if len(tail) < 1+kl+2 {
		return nil, nil, nil, false
	}
	vl := int(le.Uint16(tail[1+kl:]))
	rest = tail[1+kl+2:]
	if len(rest) < vl {
		return nil, nil, nil, false
	}
	return tail[1 : 1+kl], rest[:vl], rest[vl:], true
}

func affinityOf(i *call.Info) *call.Affinity {
	if i.Affinity == nil {
		i.Affinity = &call.Affinity{}
	}
	return i.Affinity
}

func optionsOf(c *call.Call) *call.Options {
	if c.Options == nil {
		c.Options = &call.Options{}
	}
	return c.Options
}

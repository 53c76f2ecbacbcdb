package wire

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// The versions of docs/wire.md that this code speaks: this one and the one before.
const (
	ProtocolMin = 1 // one connection, bodies in their frames
	Protocol    = 2 // a second connection for large bodies, where both sides want it
)

// FeatureBulk says that a side can have a second connection, for large bodies. FeatureSegments: that it takes values in
// parts, as buffers out of band or as results that the node keeps. FeatureArena: that it can share memory with the node.
// FeatureReady: that the node's READY ends the opening, which has what only a peer with the token may have.
const (
	FeatureBulk     = "bulk"
	FeatureSegments = "segments"
	FeatureArena    = "arena"
	FeatureReady    = "ready"
)

// What the connection of a hello is for.
const (
	ConnSmall = "small"
	ConnBulk  = "bulk"
	ConnAsk   = "ask" // a worker's, beside its first: for what code there asks that would hold up the other's reader
)

// openingTime bounds the whole opening, so that a peer that says nothing holds nothing.
const openingTime = 10 * time.Second

// Token is the secret that a worker or driver got by an inherited descriptor. It never travels.
type Token [32]byte

// NewToken draws a token.
func NewToken() (t Token) {
	rand.Read(t[:]) //nolint:errcheck // never fails since Go 1.24
	return t
}

// Hello is the dialler's first frame. [Open] fills in what has no value.
type Hello struct {
	Protocol   [2]int   `json:"protocol"`   // lowest, highest
	Kind       string   `json:"kind"`       // "worker" or "driver"
	Connection string   `json:"connection"` // ConnSmall, ConnBulk or ConnAsk
	Language   string   `json:"language"`
	Version    string   `json:"version"`
	ID         string   `json:"id"`
	PID        int      `json:"pid"`
	Nonce      string   `json:"nonce"`
	Features   []string `json:"features"` // what the dialler can do; protocol 2 only
	MaxBody    int      `json:"max_body,omitempty"`
	// ReferenceOver is the size in bytes over which the node keeps results for the dialler, unless a call says otherwise;
	// with [FeatureSegments]. 0: it keeps none.
	ReferenceOver int             `json:"reference_over,omitempty"`
	Graph         json.RawMessage `json:"graph,omitempty"`
	// GraphDigest stands for a graph whose description would be too large.
	GraphDigest string `json:"graph_digest,omitempty"`
	// Resume is set by a worker that lost its node and looks for the next: what it still has.
	Resume *Resume `json:"resume,omitempty"`

	Terms Terms `json:"-"` // what was agreed on; set by [Accept]
}

// Welcome is the node's answer.
type Welcome struct {
	Protocol int      `json:"protocol"`
	Version  string   `json:"version"`
	Nonce    string   `json:"nonce"`
	Proof    string   `json:"proof"`
	Features []string `json:"features"` // those of the hello that the node can do too
	MaxBody  int      `json:"max_body,omitempty"`
	Node     string   `json:"node"`
	// Arena is the memory that the node shares with the dialler; with [FeatureArena]. [Open] has it from the READY.
	Arena *Arena `json:"-"`

	Terms Terms `json:"-"` // what was agreed on; set by [Open]
}

// ready is the node's last word in an opening, when the dialler has proved its token.
type ready struct {
	Arena *Arena `json:"arena,omitempty"` // its descriptor comes with the frame
}

// Arena tells a worker of the memory that it shares with its node.
type Arena struct {
	ID   uint64 `json:"id"`
	Size uint64 `json:"size"` // in bytes
	Most uint64 `json:"most"` // bytes that one worker may have leased at a time

	File *os.File `json:"-"` // in a [Welcome] the receiver's to close; in what an [Offer] gives the node's
}

// Offer is what the accepting side says of itself.
type Offer struct {
	Version  string
	Node     string
	Features []string // nil: none
	MaxBody  int      // 0 for the default
	// Admit looks at a hello again, when its dialler has proved its token: nothing that has an effect on others is done before. Its
	// error is sent as GOAWAY. May be nil.
	Admit func(Hello) error
	// Arena gives the memory for a dialler that was admitted and has [FeatureArena] and [FeatureReady]; nil, or a nil result:
	// none. It needs a unix socket.
	Arena func(Hello) *Arena
}

// features are those that are offered, and READY, which every opening has if the dialler knows it.
func (o Offer) features() []string { return append([]string{FeatureReady}, o.Features...) }

// versions are the lowest and the highest protocol that a side speaks.
type versions [2]int

func (v versions) String() string {
	if v[0] == v[1] {
		return fmt.Sprintf("protocol %d", v[0])
	}
	return fmt.Sprintf("protocol %d to %d", v[0], v[1])
}

// Goaway says that no more calls are taken, and why.
type Goaway struct {
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// RefusedError is an opening that the node refused: the text is for the user.
type RefusedError struct{ Goaway }

func (e *RefusedError) Error() string { return e.Message }

func proofOf(t Token, role string, dialler, node []byte) []byte {
	m := hmac.New(sha256.New, t[:])
	m.Write([]byte(role))
	m.Write(dialler)
	m.Write(node)
	return m.Sum(nil)
}

// Open is the dialler's side of the opening. It proves the token both ways and leaves nc ready for [NewConn] or, if h says
// that it is the bulk connection, for [Link.Attach]. Whoever offers [FeatureBulk] and finds it in the terms opens a second
// connection with the same id and token, within ten seconds.
func Open(nc net.Conn, token Token, h Hello) (Welcome, error) {
	return open(nc, token, h, localVersions)
}

func open(nc net.Conn, token Token, h Hello, v versions) (Welcome, error) {
	if err := nc.SetDeadline(time.Now().Add(openingTime)); err != nil {
		return Welcome{}, err
	}
	var mine [16]byte
	rand.Read(mine[:]) //nolint:errcheck // never fails
	h.Protocol, h.Nonce = v, hex.EncodeToString(mine[:])
	if h.Connection == "" {
		h.Connection = ConnSmall
	}
	h.Features = append([]string{FeatureReady}, h.Features...)
	body, err := json.Marshal(h)
	if err != nil {
		return Welcome{}, err
	}
	if err := WriteFrame(nc, TypeHello, 0, body); err != nil {
		return Welcome{}, err
	}
	var w Welcome
	if err := readOpening(nc, TypeHello, &w); err != nil {
		return w, err
	}
	if err := w.check(h, v, token, mine[:]); err != nil {
		return w, err
	}
	theirs, _ := hex.DecodeString(w.Nonce)
	if err := WriteFrame(nc, TypeProof, 0, proofOf(token, "dialler", mine[:], theirs)); err != nil {
		return w, err
	}
	if w.Protocol >= 2 && slices.Contains(w.Features, FeatureReady) {
		if err := w.awaitReady(nc, slices.Contains(h.Features, FeatureArena)); err != nil {
			return w, err
		}
	}
	w.Terms = negotiate(w.Protocol, h.Features, w.Features, h.MaxBody, w.MaxBody)
	return w, nc.SetDeadline(time.Time{})
}

// awaitReady reads the node's READY, and the descriptor that may come with it.
func (w *Welcome) awaitReady(nc net.Conn, files bool) error {
	var end ready
	uc, unix := nc.(*net.UnixConn)
	if !files || !unix {
		return readOpening(nc, TypeReady, &end)
	}
	r := &fileReader{conn: uc}
	err := readOpening(r, TypeReady, &end)
	if err == nil && end.Arena != nil && r.file == nil {
		err = errors.New("opening: the node tells of shared memory and has sent none")
	}
	if err != nil || end.Arena == nil {
		if r.file != nil {
			r.file.Close()
		}
		return err
	}
	w.Arena = end.Arena
	w.Arena.File = r.file
	return nil
}

// check sees that the node speaks a protocol that the dialler does, and knows the token.
func (w *Welcome) check(h Hello, v versions, token Token, mine []byte) error {
	if w.Protocol < v[0] || w.Protocol > v[1] {
		return fmt.Errorf("the node wants protocol %d, this %s speaks %v: use builds of one version", w.Protocol, h.Kind, v)
	}
	theirs, err := hex.DecodeString(w.Nonce)
	if err != nil || len(theirs) != 16 {
		return errors.New("the node's nonce is not 16 bytes of hex")
	}
	proof, err := hex.DecodeString(w.Proof)
	if err != nil || !hmac.Equal(proof, proofOf(token, "node", mine, theirs)) {
		return errors.New("the node did not prove that it knows this worker's token")
	}
	return nil
}

func negotiate(protocol int, mine, theirs []string, in, out int) Terms {
	if protocol < 2 { // neither side can say
		in, out = 0, 0
	}
	return Terms{
		Protocol: protocol,
		Bulk:     protocol >= 2 && slices.Contains(mine, FeatureBulk) && slices.Contains(theirs, FeatureBulk),
		Segments: protocol >= 2 && slices.Contains(mine, FeatureSegments) && slices.Contains(theirs, FeatureSegments),
		MaxIn:    in,
		MaxOut:   out,
	}
}

func readOpening(r io.Reader, want Type, into any) error {
	h, body, err := ReadFrame(r)
	switch {
	case err != nil:
		return fmt.Errorf("opening: %w", err)
	case h.Type == TypeGoaway:
		e := &RefusedError{}
		if err := json.Unmarshal(body, &e.Goaway); err != nil {
			return fmt.Errorf("opening: refused, and the reason does not parse: %w", err)
		}
		return e
	case h.Type != want:
		return fmt.Errorf("opening: frame of type %d where %d was due", h.Type, want)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	return nil
}

// Accept is the node's side of the opening. check gives the token that belongs to the id of a hello, whose dialler may be anybody
// yet; its error, a common protocol version that does not exist, a wrong proof and the error of Admit are sent as GOAWAY and returned.
func (o Offer) Accept(nc net.Conn, check func(Hello) (Token, error)) (Hello, error) {
	return o.accept(nc, localVersions, check)
}

func (o Offer) accept(nc net.Conn, v versions, check func(Hello) (Token, error)) (Hello, error) {
	var h Hello
	err := o.answer(nc, v, check, &h)
	if err != nil {
		if _, sent := errors.AsType[net.Error](err); !sent {
			Refuse(nc, err.Error())
		}
		return h, err
	}
	return h, nc.SetDeadline(time.Time{})
}

// Refuse writes a GOAWAY, on a connection whose opening is not complete.
func Refuse(nc net.Conn, message string) {
	body, _ := json.Marshal(Goaway{Code: call.FailedPrecondition.String(), Reason: "refused", Message: call.Cut(message)})
	WriteFrame(nc, TypeGoaway, 0, body) //nolint:errcheck // the peer may be gone
}

func (o Offer) answer(nc net.Conn, v versions, check func(Hello) (Token, error), h *Hello) error {
	if err := nc.SetDeadline(time.Now().Add(openingTime)); err != nil {
		return err
	}
	if err := readOpening(nc, TypeHello, h); err != nil {
		return err
	}
	protocol := min(h.Protocol[1], v[1])
	if protocol < max(h.Protocol[0], v[0]) {
		return fmt.Errorf("the %s speaks %v, this node speaks %v: use builds of one version", h.Kind, versions(h.Protocol), v)
	}
	if !slices.Contains([]string{ConnSmall, ConnBulk, ConnAsk}, h.Connection) || h.Connection != ConnSmall && protocol < 2 {
		return fmt.Errorf("a connection for %q, which protocol %d does not have", h.Connection, protocol)
	}
	theirs, err := hex.DecodeString(h.Nonce)
	if err != nil || len(theirs) != 16 {
		return errors.New("nonce is not 16 bytes of hex")
	}
	token, err := check(*h)
	if err != nil {
		return err
	}
	var mine [16]byte
	rand.Read(mine[:]) //nolint:errcheck // never fails
	w := Welcome{
		Protocol: protocol, Version: o.Version, Node: o.Node, Nonce: hex.EncodeToString(mine[:]),
		Proof: hex.EncodeToString(proofOf(token, "node", theirs, mine[:])), Features: []string{},
	}
	if protocol >= 2 {
		w.MaxBody = o.MaxBody
		for _, f := range o.features() {
			if slices.Contains(h.Features, f) {
				w.Features = append(w.Features, f)
			}
		}
	}
	h.Terms = negotiate(protocol, w.Features, h.Features, o.MaxBody, h.MaxBody)
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := WriteFrame(nc, TypeHello, 0, body); err != nil {
		return err
	}
	fh, proof, err := ReadFrame(nc)
	if err != nil {
		return err
	}
	if fh.Type != TypeProof || !hmac.Equal(proof, proofOf(token, "dialler", theirs, mine[:])) {
		return errors.New("wrong token")
	}
	if o.Admit != nil {
		if err := o.Admit(*h); err != nil {
			return err
		}
	}
	if !slices.Contains(w.Features, FeatureReady) {
		return nil
	}
	return o.ready(nc, *h, slices.Contains(w.Features, FeatureArena))
}

// ready ends the opening.
func (o Offer) ready(nc net.Conn, h Hello, files bool) error {
	var end ready
	uc, unix := nc.(*net.UnixConn)
	if unix && files && o.Arena != nil && h.Connection == ConnSmall {
		end.Arena = o.Arena(h)
	}
	body, err := json.Marshal(end)
	if err != nil {
		return err
	}
	if end.Arena == nil {
		return WriteFrame(nc, TypeReady, 0, body)
	}
	frame := appendHeader(nil, Header{Type: TypeReady, Body: uint32(len(body))})
	return sendFiles(uc, append(frame, body...), end.Arena.File)
}

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

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// The versions of docs/wire.md that this code speaks. A release speaks its own version and the one before.
const (
	ProtocolMin = 1 // one connection, every body in its frame
	Protocol    = 2 // a second connection for large bodies, if both sides want it
)

// The features of a side. FeatureBulk: it can have a second connection, for large bodies. FeatureSegments: it takes
// values in several parts, with buffers out of band, and results that the node keeps. FeatureArena: it can share memory
// with the node. FeatureReady: the opening ends with a READY of the node, which can carry data that only a peer with the
// token may have. FeatureHTTP: the node may send it HTTP requests.
const (
	FeatureBulk     = "bulk"
	FeatureSegments = "segments"
	FeatureArena    = "arena"
	FeatureReady    = "ready"
	FeatureHTTP     = "http"
)

// The purposes of a connection, in the dialler's hello.
const (
	ConnSmall = "small"
	ConnBulk  = "bulk"
	ConnAsk   = "ask" // further connections of a worker, for control requests of code that would block the reader of the first
)

// KindFormer is the kind of a node that has handed over to the node that it dials, and that passes its late calls on.
const KindFormer = "former"

// GoawayHandover is the reason of the GOAWAY by which a node sends its drivers to the next node.
const GoawayHandover = "handover"

// openingTime is the time limit of an opening. A peer that sends nothing holds a connection for at most this long.
const openingTime = 10 * time.Second

// Token is the secret of a worker or driver. It gets the token by an inherited descriptor; the token is never sent over
// the connection.
type Token [32]byte

// NewToken makes a random token.
func NewToken() (t Token) {
	rand.Read(t[:]) //nolint:errcheck // never fails since Go 1.24
	return t
}

// Hello is the first frame of the side that dials. [Open] sets the protocol, the nonce and the default connection.
type Hello struct {
	Protocol   [2]int   `json:"protocol"`   // lowest and highest version
	Kind       string   `json:"kind"`       // "worker", "driver", or KindFormer
	Connection string   `json:"connection"` // ConnSmall, ConnBulk or ConnAsk
	Language   string   `json:"language"`
	Version    string   `json:"version"`
	ID         string   `json:"id"`
	PID        int      `json:"pid"`
	Nonce      string   `json:"nonce"`
	Features   []string `json:"features"` // features of the dialler; from protocol 2 on
	MaxBody    int      `json:"max_body,omitempty"`
	// ReferenceOver is the size in bytes over which the node keeps a result and sends a reference, if the call has no
	// option for it. 0 means that it keeps none. It needs [FeatureSegments].
	ReferenceOver int             `json:"reference_over,omitempty"`
	Graph         json.RawMessage `json:"graph,omitempty"`
	// GraphDigest is set instead of Graph if the description of the graph is too large.
	GraphDigest string `json:"graph_digest,omitempty"`
	// Resume is set by a worker that has lost its node.
	Resume *Resume `json:"resume,omitempty"`

	Terms Terms `json:"-"` // the result of the opening; set by [Offer.Accept]
}

// Welcome is the answer of the node to a Hello.
type Welcome struct {
	Protocol int      `json:"protocol"`
	Version  string   `json:"version"`
	Nonce    string   `json:"nonce"`
	Proof    string   `json:"proof"`
	Features []string `json:"features"` // features of the Hello that the node has too
	MaxBody  int      `json:"max_body,omitempty"`
	Node     string   `json:"node"`
	// State is the state directory of the node, in which drivers find the nodes that follow it; "" for none.
	State string `json:"state,omitempty"`
	// Durable says that the applications of the node outlive it. It is told to drivers.
	Durable bool `json:"durable,omitempty"`
	// Arena is the memory that the node shares with the dialler. It comes with the READY, if both sides have
	// [FeatureArena].
	Arena *Arena `json:"-"`

	Terms Terms `json:"-"` // the result of the opening; set by [Open]
}

// ready is the last frame of an opening, which the node sends when the dialler has proved that it has the token.
type ready struct {
	Arena *Arena `json:"arena,omitempty"` // the descriptor comes with the frame
}

// Arena describes the memory that a node shares with a worker.
type Arena struct {
	ID   uint64 `json:"id"`
	Size uint64 `json:"size"` // in bytes
	Most uint64 `json:"most"` // bytes that one worker may lease at a time

	File *os.File `json:"-"` // in a [Welcome] it belongs to the receiver; in an [Offer] it stays the node's
}

// Offer is the node's part of an opening.
type Offer struct {
	Version  string
	Node     string
	State    string   // the state directory of the node; "" for none, and for workers
	Durable  bool     // see [Welcome]
	Features []string // may be nil
	MaxBody  int      // 0 for the default
	// Admit checks a hello again after its dialler has proved that it has the token. An action that affects other
	// processes belongs here and not in check: until the proof, the dialler may be any process. The text of an error is
	// sent in a GOAWAY. May be nil.
	Admit func(Hello) error
	// Arena returns the memory for a dialler that was admitted and that has [FeatureArena] and [FeatureReady]; the
	// result may be nil. It needs a unix socket. May be nil.
	Arena func(Hello) *Arena
}

// features are the features of the offer, and FeatureReady, which every offer has.
func (o Offer) features() []string { return append([]string{FeatureReady}, o.Features...) }

// versions are the lowest and the highest protocol version of a side.
type versions [2]int

func (v versions) String() string {
	if v[0] == v[1] {
		return fmt.Sprintf("protocol %d", v[0])
	}
	return fmt.Sprintf("protocol %d to %d", v[0], v[1])
}

// Goaway is the body of a GOAWAY: the sender takes no more calls, or has ended the connection.
type Goaway struct {
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Node is the directory in which drivers find the next node, to which this one has handed over; "" in other messages.
	Node string `json:"node,omitempty"`
}

// RefusedError is the error of an opening that the node has refused. Its text is for the user.
type RefusedError struct{ Goaway }

func (e *RefusedError) Error() string { return e.Message }

func proofOf(t Token, role string, dialler, node []byte) []byte {
	m := hmac.New(sha256.New, t[:])
	m.Write([]byte(role))
	m.Write(dialler)
	m.Write(node)
	return m.Sum(nil)
}

// Open makes the opening of a connection on the side that dials. Each side proves to the other that it has the token.
// Then nc is ready for [NewConn], or for [Link.Attach] if h is the hello of a bulk connection. If the terms have Bulk,
// the dialler opens a second connection with the same id and token within ten seconds.
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

// awaitReady reads the READY of the node, and the descriptor that may come with it.
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

// check checks that the protocol version of the node is possible, and that the node has the token.
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
	if protocol < 2 { // version 1 has no field for it
		in, out = 0, 0
	}
	return Terms{
		Protocol: protocol,
		Bulk:     protocol >= 2 && slices.Contains(mine, FeatureBulk) && slices.Contains(theirs, FeatureBulk),
		Segments: protocol >= 2 && slices.Contains(mine, FeatureSegments) && slices.Contains(theirs, FeatureSegments),
		HTTP:     protocol >= 2 && slices.Contains(mine, FeatureHTTP) && slices.Contains(theirs, FeatureHTTP),
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

// Accept makes the opening of a connection on the node's side. check returns the token that belongs to the id of a
// hello; at this point the dialler may still be any process. The opening fails on an error of check or Admit, without a
// common protocol version, and on a wrong proof. The error is returned, and sent in a GOAWAY.
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

// Refuse sends a GOAWAY on a connection whose opening is not complete.
func Refuse(nc net.Conn, message string) {
	body, _ := json.Marshal(Goaway{Code: helvetype.CodeFailedPrecondition.String(), Reason: "refused", Message: call.Cut(message)})
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
		Protocol: protocol, Version: o.Version, Node: o.Node, State: o.State, Nonce: hex.EncodeToString(mine[:]),
		Proof: hex.EncodeToString(proofOf(token, "node", theirs, mine[:])), Features: []string{}, Durable: o.Durable,
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

// ready sends the READY.
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

package wire

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Protocol is the version of docs/wire.md that this code speaks.
const Protocol = 1

// openingTime bounds the whole opening, so that a peer that says nothing holds nothing.
const openingTime = 10 * time.Second

// Token is the secret that a worker or driver got by an inherited descriptor. It never travels.
type Token [32]byte

// NewToken draws a token.
func NewToken() (t Token) {
	rand.Read(t[:]) //nolint:errcheck // never fails since Go 1.24
	return t
}

// Hello is the dialler's first frame.
type Hello struct {
	Protocol   [2]int          `json:"protocol"` // lowest, highest
	Kind       string          `json:"kind"`     // "worker" or "driver"
	Connection string          `json:"connection"`
	Language   string          `json:"language"`
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	PID        int             `json:"pid"`
	Nonce      string          `json:"nonce"`
	Features   []string        `json:"features"`
	Graph      json.RawMessage `json:"graph,omitempty"`
}

// Welcome is the node's answer.
type Welcome struct {
	Protocol int      `json:"protocol"`
	Version  string   `json:"version"`
	Nonce    string   `json:"nonce"`
	Proof    string   `json:"proof"`
	Features []string `json:"features"`
	Node     string   `json:"node"`
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

func prove(t Token, role string, dialler, node []byte) []byte {
	m := hmac.New(sha256.New, t[:])
	m.Write([]byte(role))
	m.Write(dialler)
	m.Write(node)
	return m.Sum(nil)
}

// Open is the dialler's side of the opening. It proves the token both ways and leaves nc ready for [NewConn].
func Open(nc net.Conn, token Token, h Hello) (Welcome, error) {
	if err := nc.SetDeadline(time.Now().Add(openingTime)); err != nil {
		return Welcome{}, err
	}
	var mine [16]byte
	rand.Read(mine[:]) //nolint:errcheck // never fails
	h.Protocol, h.Connection, h.Nonce = [2]int{Protocol, Protocol}, "small", hex.EncodeToString(mine[:])
	if h.Features == nil {
		h.Features = []string{}
	}
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
	theirs, err := hex.DecodeString(w.Nonce)
	if err != nil || len(theirs) != 16 {
		return w, errors.New("the node's nonce is not 16 bytes of hex")
	}
	proof, err := hex.DecodeString(w.Proof)
	if err != nil || !hmac.Equal(proof, prove(token, "node", mine[:], theirs)) {
		return w, errors.New("the node did not prove that it knows this worker's token")
	}
	if err := WriteFrame(nc, TypeProof, 0, prove(token, "dialler", mine[:], theirs)); err != nil {
		return w, err
	}
	return w, nc.SetDeadline(time.Time{})
}

func readOpening(nc net.Conn, want Type, into any) error {
	h, body, err := ReadFrame(nc)
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

// Accept is the node's side of the opening. check looks at the hello and gives the token that belongs to its id;
// its error, a common protocol version that does not exist and a wrong proof are sent as GOAWAY and returned.
func Accept(nc net.Conn, version, node string, check func(Hello) (Token, error)) (Hello, error) {
	var h Hello
	err := accept(nc, version, node, check, &h)
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
	body, _ := json.Marshal(Goaway{Code: call.FailedPrecondition.String(), Reason: "refused", Message: message})
	WriteFrame(nc, TypeGoaway, 0, body) //nolint:errcheck // the peer may be gone
}

func accept(nc net.Conn, version, node string, check func(Hello) (Token, error), h *Hello) error {
	if err := nc.SetDeadline(time.Now().Add(openingTime)); err != nil {
		return err
	}
	if err := readOpening(nc, TypeHello, h); err != nil {
		return err
	}
	if h.Protocol[0] > Protocol || h.Protocol[1] < Protocol {
		return fmt.Errorf("the %s speaks protocol %d to %d, this node speaks %d: use builds of one version",
			h.Kind, h.Protocol[0], h.Protocol[1], Protocol)
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
	w := Welcome{Protocol, version, hex.EncodeToString(mine[:]), hex.EncodeToString(prove(token, "node", theirs, mine[:])), []string{}, node}
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
	if fh.Type != TypeProof || !hmac.Equal(proof, prove(token, "dialler", theirs, mine[:])) {
		return errors.New("wrong token")
	}
	return nil
}

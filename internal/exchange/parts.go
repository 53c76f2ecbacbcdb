// Package exchange carries HTTP between a node and a replica in a worker: one request (or WebSocket connection) and its answer. HTTP is
// parsed once, by the proxy of the node; the worker gets parts. docs/wire.md, "HTTP", specifies them.
//
// Example: a client sends "GET /x" to an application whose ingress is an http.Handler in a Go worker. The proxy has a slot of the replica.
// The node sends a CALL whose argument is the request head, and the worker runs the handler. The handler writes "hi" and returns:
// the worker sends the parts Head and Body and the END in one write, and the node writes them to the client as one answer. A handler that
// reads its body makes the worker send an ALLOW, and only then the node reads the body from the client and sends it in UPLOAD frames.
package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Kind is the kind of a part.
type Kind uint8

// The kinds of parts. The comment of each names its sender and its data.
const (
	Head     Kind = 32 // from the worker: status and fields of the answer ([ParseHead])
	Inform   Kind = 33 // from the worker: an informational head (1xx), in the same form
	Body     Kind = 34 // from both: bytes of the body; after Takeover bytes of the connection
	Trailers Kind = 35 // from both: fields ([Fields])
	Takeover Kind = 36 // from the worker: the handler has taken the connection over
	Last     Kind = 37 // from the node: the body is complete, or the client has closed its half of a connection that was taken over
	Broken   Kind = 38 // from both: the rest does not come; status and text ([ParseBroken])
	Accept   Kind = 40 // from the worker: the WebSocket is accepted; fields
	Text     Kind = 41 // from both: the last piece of a text message
	Binary   Kind = 42 // from both: the last piece of a binary message
	Piece    Kind = 43 // from both: a piece of a binary message that goes on
	Close    Kind = 44 // from both: code and reason ([ParseClose])
	// TextPiece, from both, is a piece of a text message that goes on. The first frame of a WebSocket message names its type, so the
	// kind of each piece does so too, and the node need not hold a message until its last piece has come.
	TextPiece Kind = 45
)

// The kinds of exchanges.
const (
	Request   = 1
	WebSocket = 2
)

// MaxPart is the largest data of a part that the node sends in UPLOAD, in bytes; longer bodies and messages are divided.
const MaxPart = 128 << 10

// MaxHead is the largest head of an answer, in bytes: a worker fails an answer with more, and a node refuses it.
const MaxHead = 1 << 20

// Stream is the node's end of an exchange. One goroutine may send while another receives.
type Stream interface {
	// Send sends a part to the replica. It waits for credit, until ctx ends or the exchange is over (then it returns an error).
	// data is not kept.
	Send(ctx context.Context, kind Kind, data []byte) error
	// Receive waits for the next part. data is valid until the next Receive. The error is io.EOF if the replica has ended the
	// exchange without an error, and a *call.Error if the exchange has failed. The result more is true if the next part, or the end, is
	// there already.
	Receive(ctx context.Context) (kind Kind, data []byte, more bool, err error)
	// Wanted waits until the replica asks for parts for the first time: its code reads the body, or it has accepted a WebSocket. Before
	// that the exchange may begin anew at another replica, so nothing may be sent. The error is as that of Send.
	Wanted(ctx context.Context) error
}

// RequestHead is the head of a request. RawPath is percent-encoded, as the client sent it. Root is the prefix of the application in front
// of the path, "" for "/". Scheme is "http" or "https", and Version is "1.0", "1.1" or "2".
type RequestHead struct {
	Method, Scheme, Version, RawPath, Query, Root  string
	ClientHost, ClientPort, ServerHost, ServerPort string
	Fields                                         []string // name, value, name, value; the names are in lower case
}

const headFields = 10

var (
	errNUL  = errors.New("a NUL in the head of a request")
	errHead = errors.New("malformed head of a request")
)

// AppendRequestHead appends the encoded form of h to b. A NUL in a field is an error.
func AppendRequestHead(b []byte, h *RequestHead) ([]byte, error) {
	for i, f := range [headFields]string{h.Method, h.Scheme, h.Version, h.RawPath, h.Query, h.Root, h.ClientHost, h.ClientPort, h.ServerHost, h.ServerPort} {
		if strings.IndexByte(f, 0) >= 0 {
			return b, errNUL
		}
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, f...)
	}
	for _, f := range h.Fields {
		if strings.IndexByte(f, 0) >= 0 {
			return b, errNUL
		}
		b = append(append(b, 0), f...)
	}
	return b, nil
}

// ParseRequestHead decodes a head. The fields of h are parts of one copy of data.
func ParseRequestHead(data []byte) (h RequestHead, err error) {
	all := string(data)
	n := strings.Count(all, "\x00") + 1
	if n < headFields || n%2 != 0 {
		return h, errHead
	}
	next := func() (f string) {
		f, all, _ = strings.Cut(all, "\x00")
		return f
	}
	for _, f := range [headFields]*string{&h.Method, &h.Scheme, &h.Version, &h.RawPath, &h.Query, &h.Root, &h.ClientHost, &h.ClientPort, &h.ServerHost, &h.ServerPort} {
		*f = next()
	}
	if n > headFields {
		h.Fields = make([]string, n-headFields)
		for i := range h.Fields {
			h.Fields[i] = next()
		}
	}
	return h, nil
}

// AppendField appends a field to the fields of a head (which begins at b[start]) or of trailers. A NUL in it becomes a space, so that a
// field cannot turn into two.
func AppendField(b []byte, start int, name, value string) []byte {
	if len(b) > start {
		b = append(b, 0)
	}
	at := len(b)
	b = append(b, name...)
	middle := len(b)
	b = append(b, 0)
	b = append(b, value...)
	for i := at; i < len(b); i++ {
		if b[i] == 0 && i != middle {
			b[i] = ' '
		}
	}
	return b
}

// CheckFields returns an error if data is not a row of fields.
func CheckFields(data []byte) error {
	n := 0
	for _, c := range data {
		if c == 0 {
			n++
		}
	}
	if len(data) > 0 && n%2 == 0 {
		return errors.New("fields without a value")
	}
	return nil
}

// Fields gives the names and values of fields that [CheckFields] has found well-formed.
func Fields(fields string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := fields; rest != ""; {
			var name, value string
			name, rest, _ = strings.Cut(rest, "\x00")
			value, rest, _ = strings.Cut(rest, "\x00")
			if !yield(name, value) {
				return
			}
		}
	}
}

// AppendHead appends the beginning of a head, to which [AppendField] adds fields at start.
func AppendHead(b []byte, status int) (head []byte, start int) {
	b = binary.LittleEndian.AppendUint16(b, uint16(status))
	return b, len(b)
}

// ParseHead decodes a head (Head, Inform). The fields are for [Fields]. A status that HTTP does not have is an error.
func ParseHead(kind Kind, data []byte) (status int, fields string, err error) {
	if len(data) < 2 || len(data) > MaxHead {
		return 0, "", fmt.Errorf("a head of %d bytes, at most %d are possible", len(data), MaxHead)
	}
	status = int(binary.LittleEndian.Uint16(data))
	inform := status < 200 && status != 101 // a handler that takes the connection over may write 101 before
	if status < 100 || status > 999 || inform != (kind == Inform) {
		return 0, "", fmt.Errorf("a head with the status %d", status)
	}
	return status, string(data[2:]), CheckFields(data[2:])
}

// AppendBroken appends the data of a Broken. The status 0 stands for none.
func AppendBroken(b []byte, status int, text string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(status)), text...)
}

// ParseBroken decodes the data of a Broken.
func ParseBroken(data []byte) (status int, text string, err error) {
	if len(data) < 2 {
		return 0, "", errors.New("malformed part of the kind broken")
	}
	return int(binary.LittleEndian.Uint16(data)), strings.ToValidUTF8(string(data[2:]), "\uFFFD"), nil
}

// AppendClose appends the data of a Close.
func AppendClose(b []byte, code int, reason string) []byte { return AppendBroken(b, code, reason) }

// ParseClose decodes the data of a Close.
func ParseClose(data []byte) (code int, reason string, err error) { return ParseBroken(data) }

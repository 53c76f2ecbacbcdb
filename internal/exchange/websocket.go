package exchange

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// A WebSocket is an exchange of the kind WebSocket. The node speaks RFC 6455 with the client (package websocket does the frames), and
// parts with the replica: Accept or a refusal, then messages in both directions, then a Close from each side.
//
// Each direction has its own goroutine, and each waits for its slower end: while the replica gives no credit, the node does not read from
// the client, and TCP stops it; while the client does not read, the node takes no parts, and so gives the replica no credit. For example,
// a replica that sends 100 MB to a client that sleeps is stopped after the kernel's buffer and the window of 1 MiB.
//
// Messages pass in pieces, so that a connection without traffic holds no buffer, and one with traffic holds at most a piece.
// Compression (permessage-deflate) is not offered: it would hold up to 32 KiB for every connection. The header Origin is the
// application's matter, as in ASGI servers.

// The close codes of RFC 6455 that the node itself uses. codeNone and codeLost are never sent in a frame.
const (
	codeAway     = 1001 // the deployment or the node goes away
	codeProtocol = 1002
	codeNone     = 1005 // the client has sent a close frame without a code
	codeLost     = 1006 // the connection has ended without a close frame
	codeText     = 1007 // a text message that is not UTF-8
	codeTooBig   = 1009
	codeFailed   = 1011
	codeRestart  = 1012 // the replica has died; another connection gets another replica
)

// maxReason is the longest reason of a close frame, in bytes.
const maxReason = 123

// WebSocketLimits limit a WebSocket. A field that is zero has its default.
type WebSocketLimits struct {
	// Message is the largest message of a client, in bytes. The client of a larger one gets the close code 1009. The default is 16 MiB.
	Message int64
	// Ping is the time after which the node sends a ping to a client from which nothing has come, and the time that the client has for its
	// answer. The default is 20 s, and a negative time stands for no pings.
	Ping time.Duration
	// Grace is the time that the replica has for its own end after the connection has ended. The default is 30 s.
	Grace time.Duration
}

func (l WebSocketLimits) withDefaults() WebSocketLimits {
	return WebSocketLimits{cmp.Or(l.Message, 16<<20), cmp.Or(l.Ping, 20*time.Second), cmp.Or(l.Grace, 30*time.Second)}
}

// IsWebSocket reports whether a request asks for a WebSocket, correctly or not: an exchange of the kind WebSocket. A request with the header
// Upgrade but without Connection: upgrade asks for none, because a proxy on its way has taken the latter out.
func IsWebSocket(r *http.Request) bool {
	if r.ProtoMajor > 1 {
		return len(r.Header[":protocol"]) > 0 && strings.EqualFold(r.Header[":protocol"][0], "websocket") // RFC 8441
	}
	return hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// RefuseHandshake answers a request for a WebSocket that does not follow RFC 6455, and returns true. It is for the time before the call,
// so that such a request does not reach a replica.
func RefuseHandshake(w http.ResponseWriter, r *http.Request) bool {
	status, problem := http.StatusBadRequest, ""
	keys := r.Header["Sec-Websocket-Key"]
	switch {
	case r.ProtoMajor > 1:
		status, problem = http.StatusNotImplemented, "WebSockets over HTTP/2 are not supported here: connect with HTTP/1.1"
	case !r.ProtoAtLeast(1, 1):
		w.Header().Set("Upgrade", "websocket")
		status, problem = http.StatusUpgradeRequired, "a WebSocket needs HTTP/1.1"
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		status, problem = http.StatusMethodNotAllowed, "the handshake of a WebSocket is a GET"
	case r.ContentLength != 0: // its bytes would be taken for frames
		w.Header().Set("Connection", "close") // so that they are not read at all
		problem = "the handshake of a WebSocket has no body"
	case !hasToken(r.Header["Sec-Websocket-Version"], "13") || len(r.Header["Sec-Websocket-Version"]) > 1:
		w.Header().Set("Sec-WebSocket-Version", "13")
		status, problem = http.StatusUpgradeRequired, "the version of a WebSocket must be 13 (header Sec-WebSocket-Version)"
	case len(keys) != 1 || !validKey(keys[0]):
		problem = "the handshake of a WebSocket needs one header Sec-WebSocket-Key with 16 bytes in base64"
	default:
		return false
	}
	http.Error(w, problem, status)
	return true
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	return err == nil && len(b) == 16
}

// ServeWebSocket passes a WebSocket between a client, whose handshake [RefuseHandshake] has found correct, and a replica. It returns when
// the connection has ended and the replica too, or when the replica has not ended within the grace. The context of r bounds it: at its
// end the client gets a close code by the cause.
//
// The error is the replica's, or says how the replica has broken the protocol. If no answer was written before, the caller writes it.
func ServeWebSocket(w http.ResponseWriter, r *http.Request, s Stream, l WebSocketLimits) *call.Error {
	ctx := r.Context()
	for {
		kind, data, more, err := s.Receive(ctx)
		switch {
		case err == io.EOF: //nolint:errorlint // as Stream has it
			return fault("the replica has ended a WebSocket without accepting or refusing it")
		case err != nil:
			return exchangeEnd(ctx, err)
		case kind == Inform:
			if e := inform(w, r, data); e != nil {
				return e
			}
		case kind == Accept:
			x, e := accept(w, r, s, l.withDefaults(), data)
			if e != nil {
				return e
			}
			return x.run()
		case kind == Close:
			http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
			return afterEnd(ctx, s, l.withDefaults().Grace)
		case kind == Head:
			return deny(ctx, w, s, data, more)
		default:
			return fault("the replica has sent a part of the kind %d before it accepted a WebSocket", kind)
		}
	}
}

func fault(format string, args ...any) *call.Error {
	return call.NewError(helvetype.ReasonInternal, fmt.Sprintf(format, args...))
}

// inform writes an informational head. Clients that speak HTTP/1.0 do not know such heads, and would take it for the answer.
func inform(w http.ResponseWriter, r *http.Request, data []byte) *call.Error {
	status, fields, err := ParseHead(Inform, data)
	if err != nil || status == http.StatusSwitchingProtocols {
		return fault("the replica has sent a malformed informational head: %v", err)
	}
	if !r.ProtoAtLeast(1, 1) {
		return nil
	}
	h := w.Header()
	before := maps.Clone(h)
	setFields(h, fields)
	w.WriteHeader(status)
	clear(h)
	maps.Copy(h, before)
	return nil
}

// setFields adds the fields of a replica to the header of an informational head, or of the answer to a handshake. The node itself says where
// these messages end.
func setFields(h http.Header, fields string) {
	for name, value := range Fields(fields) {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !framing(name) && name != "Sec-Websocket-Accept" && name != "Sec-Websocket-Extensions" {
			h[name] = append(h[name], value)
		}
	}
}

// deny writes an answer of HTTP in the place of the handshake's: the denial response of ASGI.
func deny(ctx context.Context, w http.ResponseWriter, s Stream, head []byte, more bool) *call.Error {
	status, fields, err := ParseHead(Head, head)
	if err != nil {
		return fault("the replica has sent a malformed head: %v", err)
	}
	setFields(w.Header(), fields)
	w.WriteHeader(status)
	for {
		if !more {
			http.NewResponseController(w).Flush() //nolint:errcheck // the next write tells
		}
		var kind Kind
		var data []byte
		kind, data, more, err = s.Receive(ctx)
		switch {
		case err != nil:
			return exchangeEnd(ctx, err)
		case kind != Body:
			return fault("the replica has sent a part of the kind %d in an answer that refuses a WebSocket", kind)
		}
		if _, err := w.Write(data); err != nil {
			return call.NewError(helvetype.ReasonCancelled, "the client has gone")
		}
	}
}

// afterEnd waits for the replica's end when the connection is over, and ignores its parts.
func afterEnd(ctx context.Context, s Stream, grace time.Duration) *call.Error {
	ctx, cancel := context.WithTimeoutCause(ctx, grace, errGrace)
	defer cancel()
	for {
		if _, _, _, err := s.Receive(ctx); err != nil {
			return exchangeEnd(ctx, err)
		}
	}
}

var errGrace = errors.New("the connection has ended, and the application has not ended in the time that it had for it") //nolint:gochecknoglobals // a constant

// exchangeEnd is the error of the exchange for an error of Receive.
func exchangeEnd(ctx context.Context, err error) *call.Error {
	if err == io.EOF { //nolint:errorlint // as Stream has it
		return nil
	}
	if e, ok := call.Own(err); ok {
		return e
	}
	if ctx.Err() != nil {
		return call.FromContext(ctx)
	}
	return call.AsError(err)
}

// socket is an accepted WebSocket.
type socket struct {
	conn   *websocket.Conn
	stream Stream
	limits WebSocketLimits

	// ctx bounds the waits for the replica. It ends with call, and earlier: when the connection has been closed by the node, so that
	// the client's messages wait no longer for credit, or when the grace after the client's end is over.
	ctx    context.Context
	cancel context.CancelCauseFunc
	call   context.Context // of the request

	timer   *time.Timer // of the pings; nil without pings
	waiting atomic.Bool // the node waits for bytes of the client
	heard   atomic.Bool // something has come from the client since the timer fired last

	closing atomic.Bool   // the replica has closed the connection, so that copyFromReplica tells it the client's code
	done    chan struct{} // is closed when copyFromClient has ended
	code    int           // of the connection's end, as copyFromClient has seen it
	told    bool          // copyFromClient has told the replica the end
}

// accept answers the handshake. It is apart from run, because its frame is large, and the stack of a goroutine that waits in run is kept.
func accept(w http.ResponseWriter, r *http.Request, s Stream, l WebSocketLimits, fields []byte) (*socket, *call.Error) {
	if err := CheckFields(fields); err != nil {
		return nil, fault("the replica has sent a malformed accept: %v", err)
	}
	setFields(w.Header(), string(fields))
	x := &socket{stream: s, limits: l, call: r.Context(), done: make(chan struct{})}
	var err error
	x.conn, err = websocket.Accept(smallBuffers{w}, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // of Origin
		OnPingReceived: func(context.Context, []byte) bool {
			x.heard.Store(true)
			return true
		},
		OnPongReceived: func(context.Context, []byte) { x.heard.Store(true) },
	})
	if err != nil {
		return nil, call.NewError(helvetype.ReasonCancelled, "the connection of a WebSocket could not be taken over: "+err.Error())
	}
	x.conn.SetReadLimit(l.Message)
	return x, nil
}

// run passes messages until the end.
func (x *socket) run() *call.Error {
	x.ctx, x.cancel = context.WithCancelCause(x.call)
	stop := context.AfterFunc(x.call, func() { x.closeBy(call.FromContext(x.call)) })
	if x.limits.Ping > 0 {
		x.timer = time.AfterFunc(math.MaxInt64, x.keepAlive) // begins with the next line, because keepAlive uses x.timer
		x.timer.Reset(x.limits.Ping)
	}
	defer func() {
		if x.timer != nil {
			x.timer.Stop()
		}
		stop()
		x.conn.CloseNow() //nolint:errcheck // after a panic
		x.cancel(nil)
		<-x.done
	}()
	go x.copyFromClient()
	return x.copyFromReplica()
}

// smallBuffers is the ResponseWriter for an accepted WebSocket. net/http has two buffers of 4 KiB for a connection, which live as long as
// the handler; with 10,000 connections that would be 80 MB. smallBuffers empties them and gives the library small ones. A longer frame
// passes by them without a copy.
type smallBuffers struct{ http.ResponseWriter }

const bufferSize = 512

// Hijack implements http.Hijacker.
func (s smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if w, ok := s.ResponseWriter.(interface{ KeepConnection() }); ok { // the end of the call is run's matter
		w.KeepConnection()
	}
	first, err := rw.Reader.Peek(rw.Reader.Buffered()) // frames that came with the handshake
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	conn = &clientConn{conn, append([]byte(nil), first...)}
	*rw.Reader, *rw.Writer = bufio.Reader{}, bufio.Writer{}
	return conn, bufio.NewReadWriter(bufio.NewReaderSize(conn, bufferSize), bufio.NewWriterSize(conn, bufferSize)), nil
}

// Unwrap is for http.ResponseController.
func (s smallBuffers) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// clientConn is a connection as the library sees it: it begins with bytes that were read already, and ends with io.ErrUnexpectedEOF. The
// library takes io.EOF between two fragments for the end of their message, and so a message that was cut off for a whole one.
type clientConn struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *clientConn) Read(b []byte) (n int, err error) {
	if len(c.first) > 0 {
		n = copy(b, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
		return n, nil
	}
	if n, err = c.Conn.Read(b); err == io.EOF { //nolint:errorlint // a net.Conn
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// errOver is the error of a message that the replica takes no more: the exchange has ended, or the node has closed the connection.
var errOver = errors.New("the replica takes no message any more") //nolint:gochecknoglobals // a constant

// copyFromClient passes the client's messages to the replica until the connection ends, and tells the replica the end.
func (x *socket) copyFromClient() {
	defer close(x.done)
	err := x.copyMessages()
	if err == errOver { //nolint:errorlint // own
		return // copyFromReplica learns of it too, and closes the connection
	}
	var reason string
	if x.code, reason = clientEnd(err); x.closing.Load() {
		return // copyFromReplica tells the replica
	}
	x.told = true
	x.stream.Send(x.call, Close, AppendClose(nil, x.code, reason)) //nolint:errcheck // the exchange may be over
	if x.code == codeLost {
		x.conn.CloseNow() //nolint:errcheck // it is over
	} else {
		x.close(x.code, reason) // has an effect only after a mistake of the client: the library answers a close frame
	}
	grace := time.AfterFunc(x.limits.Grace, func() { x.cancel(errGrace) })
	context.AfterFunc(x.ctx, func() { grace.Stop() })
}

// copyMessages returns the error that ended the connection or errOver.
func (x *socket) copyMessages() error {
	for {
		x.waiting.Store(true)
		typ, r, err := x.conn.Reader(context.Background())
		x.waiting.Store(false)
		x.heard.Store(true)
		if err == nil {
			err = x.copyMessage(typ, r)
		}
		if err != nil && !isPongTimeout(err) {
			return err
		}
	}
}

// isPongTimeout reports whether a read ended because a pong could not be sent, which a client that does not read causes by a ping. The
// read can go on.
func isPongTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// errText is the error of a client's text message that is not UTF-8.
var errText = errors.New("a text message that is not UTF-8") //nolint:gochecknoglobals // a constant

// clientEnd is the close code and reason of the client's end of a connection, by the error of a read or of copyMessage.
func clientEnd(err error) (code int, reason string) {
	var closed websocket.CloseError
	var failed net.Error
	switch {
	case errors.As(err, &closed):
		return int(closed.Code), strings.ToValidUTF8(closed.Reason, "\uFFFD")
	case errors.Is(err, websocket.ErrMessageTooBig):
		return codeTooBig, "message too big"
	case errors.Is(err, errText):
		return codeText, errText.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed),
		errors.As(err, &failed):
		return codeLost, ""
	}
	return codeProtocol, "protocol error"
}

// pieces are buffers of pieces.
var pieces = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }} //nolint:gochecknoglobals // a pool of buffers is not state

// copyMessage passes one message of the client to the replica.
func (x *socket) copyMessage(typ websocket.MessageType, r io.Reader) error {
	last, piece := Binary, Piece
	if typ == websocket.MessageText {
		last, piece = Text, TextPiece
	}
	b := pieces.Get().(*[]byte)
	defer pieces.Put(b)
	var text textCheck
	for ended := false; !ended; {
		n, err := x.fill(b, r)
		kind := piece
		if ended = err == io.EOF; ended { //nolint:errorlint // an io.Reader
			kind = last
		} else if err != nil {
			return err
		}
		if last == Text && !text.next((*b)[:n], ended) {
			return errText
		}
		if err := x.stream.Send(x.ctx, kind, (*b)[:n]); err != nil {
			return errOver
		}
	}
	return nil
}

// sentPiece is the largest piece of a message that is sent. It is smaller than a part of a body, because every connection has a buffer of that size while
// long messages come.
const sentPiece = 32<<10 - call.ItemOverhead - 64

// fill reads into a buffer, which grows up to the size of a piece, until it is full or r ends (io.EOF).
func (x *socket) fill(b *[]byte, r io.Reader) (n int, err error) {
	for n < sentPiece {
		if n == len(*b) {
			*b = append(*b, make([]byte, min(len(*b), sentPiece-len(*b)))...)
		}
		x.waiting.Store(true)
		m, err := r.Read((*b)[n:])
		x.waiting.Store(false)
		x.heard.Store(true)
		n += m
		if err != nil && !isPongTimeout(err) {
			return n, err
		}
	}
	return n, nil
}

// textCheck checks the UTF-8 of a text in pieces. A character may begin in one piece and end in the next.
type textCheck struct {
	begun [utf8.UTFMax]byte // the beginning of a character
	n     int
}

// next checks the next piece. The result is false if the text is not UTF-8; last says that it ends with this piece.
func (t *textCheck) next(p []byte, last bool) bool {
	for t.n > 0 && len(p) > 0 {
		t.begun[t.n] = p[0]
		t.n++
		p = p[1:]
		if utf8.FullRune(t.begun[:t.n]) { // or it can be none, whatever follows
			if !utf8.Valid(t.begun[:t.n]) {
				return false
			}
			t.n = 0
		}
	}
	end := len(p)
	for i := end - 1; i >= max(0, end-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				t.n = copy(t.begun[:], p[i:])
				p = p[:i]
			}
			break
		}
	}
	return utf8.Valid(p) && (t.n == 0 || !last)
}

// copyFromReplica passes the replica's messages to the client until the exchange ends.
func (x *socket) copyFromReplica() *call.Error {
	message := outMessage{conn: x.conn}
	for {
		kind, data, _, err := x.stream.Receive(x.ctx)
		if err != nil {
			e := exchangeEnd(x.ctx, err)
			x.closeBy(e)
			return e
		}
		switch kind {
		case Text, Binary, TextPiece, Piece:
			if problem := message.add(kind, data); problem != "" {
				return x.violation(problem)
			}
		case Close:
			code, reason, err := ParseClose(data)
			if err != nil || !validCode(code) {
				return x.violation(fmt.Sprintf("the replica has closed a WebSocket with the code %d", code))
			}
			return x.replicaCloses(code, reason)
		default:
			return x.violation(fmt.Sprintf("the replica has sent a part of the kind %d in a WebSocket", kind))
		}
	}
}

// replicaCloses closes the connection for the replica, tells it the code that the client has answered with, and waits for its end.
func (x *socket) replicaCloses(code int, reason string) *call.Error {
	x.closing.Store(true)
	answered := x.close(code, reason)
	x.cancel(nil)
	<-x.done
	if !x.told {
		if x.code != 0 && x.code != codeLost { // one of the two goroutines has read the client's close frame
			answered = x.code
		}
		x.stream.Send(x.call, Close, AppendClose(nil, answered, reason)) //nolint:errcheck // the exchange may be over
	}
	return afterEnd(x.call, x.stream, x.limits.Grace)
}

// validCode reports whether an application may close with a code. 1005 is a close frame without a code.
func validCode(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999 || code == codeNone
}

// violation ends a connection whose replica has broken the protocol.
func (x *socket) violation(problem string) *call.Error {
	x.close(codeFailed, "internal error")
	return fault("%s", problem)
}

// outMessage is the message that is being sent to the client.
type outMessage struct {
	conn *websocket.Conn
	open io.WriteCloser // nil between messages
	text bool
	gone bool // the client takes no messages any more
	utf8 textCheck
}

// add sends a piece of a message. The result is the problem with a piece that does not fit to the one before, or "".
func (m *outMessage) add(kind Kind, data []byte) (problem string) {
	text, last := kind == Text || kind == TextPiece, kind == Text || kind == Binary
	if m.open != nil && m.text != text {
		return "the replica has sent a message that is text and binary"
	}
	if text && !m.utf8.next(data, last) {
		return "the replica has sent a text message that is not UTF-8"
	}
	if m.gone {
		return ""
	}
	typ := websocket.MessageBinary
	if text {
		typ = websocket.MessageText
	}
	var err error
	switch {
	case m.open == nil && last:
		err = m.conn.Write(context.Background(), typ, data)
	case m.open == nil:
		m.text = text
		m.open, err = m.conn.Writer(context.Background(), typ)
		fallthrough
	default:
		if err == nil {
			_, err = m.open.Write(data)
		}
		if err == nil && last {
			err = m.open.Close()
		}
	}
	if last {
		m.open = nil
	}
	m.gone = err != nil // the client's goroutine learns of it too, and tells the replica
	return ""
}

// close sends a close frame, and waits for the client's, which has some seconds for it. The result is the client's code. The first close
// of a connection holds.
func (x *socket) close(code int, reason string) (answered int) {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	for len(reason) > maxReason { // whole characters
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	err := x.conn.Close(websocket.StatusCode(code), reason)
	if err == nil {
		return code
	}
	if client := websocket.CloseStatus(err); client >= 0 {
		return int(client)
	}
	return codeLost
}

// closeBy closes the connection with the code that an error of the call has.
func (x *socket) closeBy(e *call.Error) {
	code, reason := closeOf(e)
	x.close(code, reason)
}

// closeOf is the close code and reason for the end of an exchange, by its error. The reason says nothing private. An application that returns
// closes its WebSocket; an end without an error and without a close is of an application that left because its replica stops.
func closeOf(e *call.Error) (code int, reason string) {
	if e == nil {
		return codeAway, "going away"
	}
	switch e.Reason {
	case helvetype.ReasonReplicaDied, helvetype.ReasonMayHaveRun, helvetype.ReasonDataLoss:
		return codeRestart, "the replica has ended"
	case helvetype.ReasonDeploymentUnavailable, helvetype.ReasonReplicaUnavailable, helvetype.ReasonCancelled:
		return codeAway, "going away"
	case helvetype.ReasonDeadline:
		return codeFailed, string(helvetype.ReasonDeadline)
	}
	return codeFailed, cmp.Or(e.Public, "internal error")
}

// keepAlive sends a ping to a client from which nothing has come, and closes the connection if it does not answer. It runs when the timer
// fires, on a goroutine that lives for the time of an answer. While the node itself does not read, because the replica gives no credit, an
// answer could not arrive: such a connection has no pings.
func (x *socket) keepAlive() {
	silent := func() bool { return !x.heard.Load() && x.waiting.Load() }
	if !x.heard.Swap(false) && silent() {
		ctx, cancel := context.WithTimeout(context.Background(), x.limits.Ping)
		err := x.conn.Ping(ctx)
		cancel()
		if err != nil && ctx.Err() != nil && silent() {
			x.close(codeFailed, "keepalive ping timeout")
			return
		}
	}
	select {
	case <-x.done:
	default:
		x.timer.Reset(x.limits.Ping)
	}
}

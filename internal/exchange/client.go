package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Call is the node's end of one exchange: the sink of its call, the receiver of its parts, and a [Stream].
type Call struct {
	inbox
	exchange call.Exchange
	slots    [2]call.Slot
	room     [256]byte // for the head of the request, if it fits
	values   [4]string // for the header of the answer

	mu        sync.Mutex
	up        call.Uplink   // of the attempt that is under way; nil before the first
	attempted chan struct{} // of one: up or completed has changed; nil while nobody waits
	completed bool
}

var _ Stream = (*Call)(nil)

// Prepare makes c the exchange that carries r, and x its node's end, which is the sink of c. The path of r is as the replica wants it. A body
// that has been read has a method Bytes. An error is about the request.
func (x *Call) Prepare(c *call.Call, kind uint8, r *http.Request) *call.Error {
	root := ""
	if p := c.Info.Place; p != nil && p.Prefix != "/" {
		root = p.Prefix
	}
	head, err := appendRequest(x.room[:0], r, root)
	if err != nil {
		return call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	x.exchange.Kind = kind
	x.init()
	x.exchange.Begun = x
	x.slots[0] = call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: head}}
	c.Slots = x.slots[:1]
	switch body, read := r.Body.(interface{ Bytes() []byte }); {
	case read && len(body.Bytes()) > 0:
		x.slots[1] = call.Slot{Kind: call.Positional, Index: 1, Payload: call.Payload{Codec: call.Raw, Data: body.Bytes()}}
		c.Slots = x.slots[:2]
	case !read:
		x.exchange.More = r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
	}
	c.Exchange, c.Items, c.Window, c.Unread = &x.exchange, x, call.Room, &x.unread
	return nil
}

// appendRequest appends the encoded head of a request.
func appendRequest(b []byte, r *http.Request, root string) ([]byte, error) {
	h := RequestHead{Method: r.Method, Scheme: "http", Version: "1.1", RawPath: r.URL.EscapedPath(), Query: r.URL.RawQuery, Root: root}
	if r.URL.Scheme == "https" || r.URL.Scheme == "" && r.TLS != nil { // the scheme is there if a proxy in front says it, whatever its own connection is
		h.Scheme = "https"
	}
	switch {
	case r.ProtoMajor == 2:
		h.Version = "2"
	case !r.ProtoAtLeast(1, 1):
		h.Version = "1.0"
	}
	h.ClientHost, h.ClientPort = addressOf(r.RemoteAddr)
	switch a := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr: // without an allocation: the texts stay on the stack
		at, host, port := a.AddrPort(), [64]byte{}, [8]byte{}
		h.ServerHost, h.ServerPort = string(at.Addr().Unmap().AppendTo(host[:0])), string(strconv.AppendUint(port[:0], uint64(at.Port()), 10))
	case net.Addr:
		h.ServerHost, h.ServerPort = addressOf(a.String())
	}
	b, err := AppendRequestHead(b, &h)
	if err == nil && r.Host != "" { // HTTP/1.0 has requests without
		b, err = appendRequestField(b, "host", r.Host)
	}
	for name, values := range r.Header {
		for _, v := range values {
			if err != nil {
				return b, err
			}
			b, err = appendRequestField(b, name, v)
		}
	}
	if err == nil && r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
		b, err = appendRequestField(b, "transfer-encoding", "chunked")
	}
	for name := range r.Trailer {
		if err == nil {
			b, err = appendRequestField(b, "trailer", name)
		}
	}
	return b, err
}

// addressOf divides an address. The address of a client on a unix socket has neither host nor port.
func addressOf(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", ""
	}
	return host, port
}

// appendRequestField appends a field, its name in lower case.
func appendRequestField(b []byte, name, value string) ([]byte, error) {
	if strings.IndexByte(name, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
		return b, errNUL
	}
	b = append(b, 0)
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return append(append(b, 0), value...), nil
}

// Until has Receive fail when the replica's time, the context, has ended, with its cause. The holder says whether the replica has the call
// still: a call that was lost with its replica before it was sent goes on at another. Until is called before the first Receive. A context of the
// exchange's own would cost every request five allocations.
func (x *Call) Until(time context.Context, holder Holder) { x.until, x.holder = time, holder }

// Holder has the call of an exchange.
type Holder interface {
	// Holds reports whether the replica whose time is given to [Call.Until] has the call.
	Holds() bool
}

// Begin implements the hook of call.Exchange.
func (x *Call) Begin(up call.Uplink) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.up = up
	if x.attempted != nil {
		signal(x.attempted)
	}
}

// Complete implements call.Sink.
func (x *Call) Complete(b *call.Batch, r call.Result) {
	x.mu.Lock()
	x.completed = true
	if x.attempted != nil {
		signal(x.attempted)
	}
	x.mu.Unlock()
	r.Release()
	var err error
	if r.Err != nil {
		err = r.Err
	}
	x.end(b, err)
}

// Over says that the call has ended.
func (x *Call) Over() bool { return x.over() }

var errNoCall = errors.New("the call of the exchange has ended")

// uplink waits for an attempt other than the one before.
func (x *Call) uplink(ctx context.Context, before call.Uplink) (call.Uplink, error) {
	for {
		x.mu.Lock()
		up, completed := x.up, x.completed
		if x.attempted == nil {
			x.attempted = make(chan struct{}, 1)
		}
		x.mu.Unlock()
		switch {
		case completed:
			return nil, errNoCall
		case up != before:
			return up, nil
		}
		select {
		case <-x.attempted:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Wanted implements [Stream].
func (x *Call) Wanted(ctx context.Context) error {
	var up call.Uplink
	for {
		var err error
		if up, err = x.uplink(ctx, up); err != nil {
			return err
		}
		// An attempt that was not started ends here, and the call is made anew.
		if err := up.Wanted(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// Send implements [Stream].
func (x *Call) Send(ctx context.Context, kind Kind, data []byte) error {
	x.mu.Lock()
	up, completed := x.up, x.completed
	x.mu.Unlock()
	if up == nil || completed {
		return errNoCall
	}
	for len(data) > sentPart && (kind == Body) {
		if err := up.Part(ctx, call.Codec(kind), data[:sentPart], false); err != nil {
			return err
		}
		data = data[sentPart:]
	}
	return up.Part(ctx, call.Codec(kind), data, false)
}

// sentPart is the largest part of a body that is sent. It crosses the socket with one system call and one change of goroutines at each end. Parts of
// 32 KiB took twice the time.
const sentPart = MaxPart

// answer is the answer to one request while it is written.
type answer struct {
	x      *Call
	w      http.ResponseWriter
	r      *http.Request
	rc     http.ResponseController
	status int  // of the head that has come; 0 before
	begun  bool // the head is written
	pump   *pump
}

// Answer answers r with the parts of the replica. The context of r is that of the call. The error is the replica's, or says how the replica has broken
// the protocol; if nothing was written before, the caller answers it. An answer that the replica has broken off on purpose panics with
// http.ErrAbortHandler.
func (x *Call) Answer(w http.ResponseWriter, r *http.Request) *call.Error {
	a := &answer{x: x, w: w, r: r, rc: *http.NewResponseController(w)} // a copy costs no allocation
	ctx := r.Context()
	if x.exchange.More { // the replica decides when the body is read
		a.pump = startPump(ctx, x, r)
		defer a.leaveBody()
	}
	for {
		kind, data, more, err := x.Receive(ctx)
		switch {
		case err == io.EOF: //nolint:errorlint // as Stream has it
			if a.status == 0 {
				return fault("the replica has not answered the request")
			}
			a.begin()
			return nil
		case err != nil:
			a.cut()
			return exchangeEnd(ctx, err)
		}
		if done, e := a.part(ctx, kind, data, more); done || e != nil {
			return e
		}
	}
}

// part handles one part. done says that the answer has ended before the exchange has.
func (a *answer) part(ctx context.Context, kind Kind, data []byte, more bool) (done bool, failure *call.Error) {
	if a.status == 0 && kind != Head && kind != Inform && kind != Takeover && kind != Broken {
		return false, fault("the replica has sent a part of the kind %d before the head of its answer", kind)
	}
	switch kind {
	case Inform:
		if a.status != 0 {
			return false, fault("the replica has sent an informational head after the head of its answer")
		}
		return false, inform(a.w, a.r, data)
	case Head:
		return false, a.head(data, more)
	case Body:
		return false, a.body(ctx, data, more)
	case Trailers:
		return false, a.trailers(data)
	case Takeover:
		return true, a.takeOver(ctx)
	case Broken:
		a.cut()
		panic(http.ErrAbortHandler)
	default:
		return false, fault("the replica has sent a part of the kind %d as an answer to a request", kind)
	}
}

func (a *answer) head(data []byte, more bool) *call.Error {
	if a.status != 0 {
		return fault("the replica has sent two heads for one answer")
	}
	status, fields, err := ParseHead(Head, data)
	if err != nil {
		return fault("the replica has sent a malformed head: %v", err)
	}
	if strings.ContainsAny(fields, "\r\n") { // the server makes spaces of them, and the access log would have two lines
		return fault("the replica has sent a malformed head: a field with a line break")
	}
	h := a.w.Header()
	for name := range Fields(fields) {
		if name = canonical(name); name != "Vary" { // the proxy may have set it too, and both hold
			delete(h, name)
		}
	}
	free := a.x.values[:]
	for name, value := range Fields(fields) {
		name = canonical(name)
		if before := h[name]; len(before) > 0 || len(free) == 0 {
			h[name] = append(before, value)
			continue
		}
		free[0] = value
		h[name], free = free[:1:1], free[1:]
	}
	if err := checkFraming(h); err != nil {
		delete(h, "Content-Length") // the header is that of the error's answer now
		delete(h, "Transfer-Encoding")
		return fault("the replica has sent a malformed head: %v", err)
	}
	if a.r.ProtoMajor == 2 { // whose messages have none of these; the server takes the others out
		delete(h, "Keep-Alive")
		delete(h, "Proxy-Connection")
		delete(h, "Upgrade")
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // the replica has decided: the server must not guess
	}
	a.status = status
	if !more {
		a.begin()
		a.flush()
	}
	return nil
}

// canonical is the usual form of a name that begins with a lower-case letter, and of names by which the server divides messages. Other names are as a
// handler in Go has chosen them.
func canonical(name string) string {
	switch name { // of nearly every answer
	case "content-type":
		return "Content-Type"
	case "content-length":
		return "Content-Length"
	}
	if name != "" && 'a' <= name[0] && name[0] <= 'z' {
		return textproto.CanonicalMIMEHeaderKey(name)
	}
	if usual := textproto.CanonicalMIMEHeaderKey(name); framing(usual) {
		return usual
	}
	return name
}

// framing reports whether a field says where a message ends, or is about the connection.
func framing(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// checkFraming refuses a head of which two readers could believe two lengths. For example, with two lengths a cache before the node could take the
// end of this answer for the beginning of the next.
func checkFraming(h http.Header) error {
	if lengths := h["Content-Length"]; len(lengths) > 0 {
		for _, v := range lengths {
			if v != lengths[0] || !validLength(v) {
				return fmt.Errorf("Content-Length is %q", lengths)
			}
		}
		h["Content-Length"] = lengths[:1]
	}
	if codings := h["Transfer-Encoding"]; len(codings) > 1 || len(codings) == 1 && codings[0] != "chunked" && codings[0] != "identity" {
		return fmt.Errorf("Transfer-Encoding is %q, which the node alone chooses", codings)
	}
	return nil
}

// validLength reports whether a Content-Length is a number as HTTP writes it.
func validLength(v string) bool {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
	}
	return v != "" && len(v) <= 18
}

// begin writes the head, once.
func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	if p := a.pump; p != nil && !p.read.Load() && !(a.x.Over() && p.forbid()) {
		// Without full duplex the server would read the rest of the body, and throw it away, before the answer begins.
		a.rc.EnableFullDuplex() //nolint:errcheck // HTTP/2 is full duplex
		a.closeAfter()
	}
	a.w.WriteHeader(a.status)
}

// closeAfter has the connection end after the answer, because a part of the body was read and the end was not. The server would take the bytes that
// are left for the next request: a client, or a page in its browser, could send a request in the body of another.
func (a *answer) closeAfter() {
	if a.r.ProtoMajor == 1 {
		a.w.Header()["Connection"] = []string{"close"}
	}
}

// lingerTime is the time in which the rest of a body may come after the answer. A connection that is closed with bytes that were not read is reset,
// and a client may lose the end of the answer by that. It is the time that net/http has.
const lingerTime = 500 * time.Millisecond

// leaveBody ends the pump, which must not use the body when the server has it back. A read that the pump left behind would swallow the beginning of
// the next request.
func (a *answer) leaveBody() {
	p := a.pump
	if p.forbid() {
		return // the server reads the rest of a short body, and ends the connection after a long one
	}
	p.stop(errStopped)
	if p.read.Load() { // the server reads ahead: a deadline would end the connection for it, and cancel each request that follows
		<-p.done
		return
	}
	if !a.begun {
		a.closeAfter()
	}
	if a.rc.SetReadDeadline(time.Unix(1, 0)) != nil {
		return // the connection was taken over, or the time of the request is over: the server has no more requests on it
	}
	<-p.done
	a.rc.SetReadDeadline(time.Now().Add(lingerTime)) //nolint:errcheck // as above
}

// cut sends the part of the answer that has come before the replica has failed: its client may have use for it.
func (a *answer) cut() {
	if a.status != 0 {
		a.begin()
		a.flush()
	}
}

func (a *answer) flush() { a.rc.Flush() } //nolint:errcheck // the next write tells

func (a *answer) body(ctx context.Context, data []byte, more bool) *call.Error {
	complete := false
	if !a.begun {
		if complete = a.x.complete(); complete && len(data) > 0 {
			if h := a.w.Header(); len(h["Content-Length"]) == 0 && len(h["Transfer-Encoding"]) == 0 {
				h["Content-Length"] = []string{strconv.Itoa(len(data))}
			}
		}
	}
	a.begin()
	switch _, err := a.w.Write(data); {
	case err == nil, errors.Is(err, http.ErrBodyNotAllowed):
	case errors.Is(err, http.ErrContentLength):
		return fault("the answer of the replica is longer than its Content-Length")
	case ctx.Err() != nil:
		return call.FromContext(ctx)
	default:
		return call.NewError(helvetype.ReasonCancelled, "the client does not take the answer: "+err.Error())
	}
	if !more {
		a.flush()
	}
	return nil
}

// trailers keeps the trailers for the server, which sends them behind the body.
func (a *answer) trailers(data []byte) *call.Error {
	if err := CheckFields(data); err != nil {
		return fault("the replica has sent malformed trailers: %v", err)
	}
	a.begin()
	a.flush() // the server would give the answer a length otherwise, and then has no place for trailers that were not declared
	h := a.w.Header()
	for name, value := range Fields(string(data)) {
		if name = canonical(name); framing(name) { // a reader that joins trailers with the header would believe it
			continue
		}
		name = http.TrailerPrefix + name
		h[name] = append(h[name], value)
	}
	return nil
}

// pump passes the body of a request to the replica, as soon as that asks for it.
type pump struct {
	stop  func(error)
	done  chan struct{}
	state atomic.Int32
	read  atomic.Bool // the body was read to its end; set before the replica can have the last bytes
	ended bool        // the end of the body was sent; set before done is closed
}

// The states of a pump.
const (
	pumpWaits     int32 = iota // for the replica to ask
	pumpReads                  // or has read
	pumpForbidden              // the pump never reads
)

// forbid forbids the pump to read. It returns false if the pump has begun.
func (p *pump) forbid() bool {
	if !p.state.CompareAndSwap(pumpWaits, pumpForbidden) {
		return p.state.Load() == pumpForbidden
	}
	p.stop(errStopped)
	return true
}

var errStopped = errors.New("the body is not wanted any more")

func startPump(ctx context.Context, x *Call, r *http.Request) *pump {
	ctx, stop := context.WithCancelCause(ctx)
	p := &pump{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer stop(nil)
		if x.Wanted(ctx) != nil || !p.state.CompareAndSwap(pumpWaits, pumpReads) {
			return
		}
		status, text, err := p.copyBody(ctx, x, r)
		switch {
		case err != nil: // the exchange is over
		case status != 0:
			p.ended = true
			x.Send(ctx, Broken, AppendBroken(nil, status, text)) //nolint:errcheck // the exchange is over then
		default:
			p.ended = true
			x.Send(ctx, Last, nil) //nolint:errcheck // as above
		}
	}()
	return p
}

// copyBody passes the body and its trailers. status is not 0 if the body could not be read to its end; err is the end of the exchange.
func (p *pump) copyBody(ctx context.Context, x *Call, r *http.Request) (status int, text string, err error) {
	var b readBuffer
	defer b.free()
	for n := 0; ; {
		var failed error
		buf := b.next(n)
		n, failed = r.Body.Read(buf)
		p.read.Store(failed == io.EOF) //nolint:errorlint // as io.Reader has it
		if n > 0 {
			if err := x.Send(ctx, Body, buf[:n]); err != nil {
				return 0, "", err
			}
		}
		switch {
		case failed == io.EOF: //nolint:errorlint // as io.Reader has it
			return 0, "", sendTrailers(ctx, x, r.Trailer)
		case failed != nil:
			status, text = brokenBody(failed)
			return status, text, nil
		}
	}
}

func sendTrailers(ctx context.Context, x *Call, trailers http.Header) error {
	var b []byte
	for name, values := range trailers {
		for _, v := range values {
			b = AppendField(b, 0, strings.ToLower(name), v)
		}
	}
	if len(b) == 0 {
		return nil
	}
	return x.Send(ctx, Trailers, b)
}

// brokenBody is why the rest of a body does not come.
func brokenBody(err error) (status int, text string) {
	switch _, large := errors.AsType[*http.MaxBytesError](err); {
	case large:
		return http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "the body did not arrive in time"
	}
	return http.StatusBadRequest, "the body ends too early: " + err.Error()
}

// takeOver joins the client's connection, which a handler in a Go worker has taken over, with the exchange until the handler has closed it.
func (a *answer) takeOver(ctx context.Context) *call.Error {
	x := a.x
	if a.status != 0 {
		a.begin()
		a.flush()
	}
	if p := a.pump; p != nil {
		p.stop(errStopped)
		a.rc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // Hijack takes it away
		<-p.done
		if !p.ended {
			x.Send(ctx, Broken, AppendBroken(nil, 0, "the connection was taken over")) //nolint:errcheck // the exchange is over then
		}
	}
	conn, rw, err := a.rc.Hijack()
	if err != nil {
		return fault("the connection of the client cannot be taken over: %v", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the connection
		if x.Wanted(ctx) != nil {
			return
		}
		var b readBuffer
		defer b.free()
		for n := 0; ; {
			var err error
			buf := b.next(n)
			n, err = rw.Read(buf)
			if n > 0 && x.Send(ctx, Body, buf[:n]) != nil {
				return
			}
			switch {
			case err == io.EOF: //nolint:errorlint // as io.Reader has it
				x.Send(ctx, Last, nil) //nolint:errcheck // the exchange is over then
				return
			case err != nil:
				x.Send(ctx, Broken, AppendBroken(nil, 0, err.Error())) //nolint:errcheck // as above
				return
			}
		}
	}()
	for {
		kind, data, _, err := x.Receive(ctx)
		switch {
		case err != nil:
			return exchangeEnd(ctx, err)
		case kind == Broken: // the handler has aborted
			return nil
		case kind != Body:
			return fault("the replica has sent a part of the kind %d on a connection that was taken over", kind)
		}
		if _, err := conn.Write(data); err != nil {
			return call.NewError(helvetype.ReasonCancelled, "the client does not take the bytes of its connection: "+err.Error())
		}
	}
}

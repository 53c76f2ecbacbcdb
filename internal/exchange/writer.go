package exchange

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// writer is the ResponseWriter of a handler in a worker. It behaves as the one of net/http does: it guesses a type, sets the length of a
// short answer, checks the length that the handler has set, and sends nothing before a buffer is full, a flush, or the end.
//
// Example: a handler writes "hi" and returns. The buffer has "hi"; at the end the writer makes the head with the Content-Type and the
// Content-Length, and sends Head, Body and the END in one write.
type writer struct {
	s      *server
	req    *http.Request
	values values
	body   body
	limit  limit // of writes

	header     http.Header
	head       []byte // the encoded head, from WriteHeader until it is sent
	fields     int    // where the fields of head begin
	status     int    // 0 before WriteHeader
	length     int64  // the Content-Length that the handler has set; -1 for none
	written    int64  // bytes that the handler has written
	buffer     []byte // that were not sent
	pooled     *[bufferLen]byte
	sent       bool // the head is sent
	trailers   []string
	typed      bool // the head has a Content-Type, or must not get one
	unlimited  bool // the head must not get a Content-Length
	err        error
	done       atomic.Bool // the handler has returned
	connection *connection // the connection that the handler has taken over; nil for none
}

// bufferLen is the size of the buffer of an answer: what a handler writes until then travels together.
const bufferLen = 4 << 10

var answerBuffers = sync.Pool{New: func() any { return new([bufferLen]byte) }} //nolint:gochecknoglobals // a pool of buffers is not state

// Header implements http.ResponseWriter.
func (w *writer) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("invalid WriteHeader code " + strconv.Itoa(status)) // as net/http has it
	}
	switch {
	case w.connection != nil:
		slog.Warn("http: response.WriteHeader on hijacked connection")
		return
	case w.status != 0:
		slog.Warn("http: superfluous response.WriteHeader call", "status", status, "before", w.status)
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		b, start := AppendHead(nil, status)
		for name, values := range w.header {
			if name == "Content-Length" || name == "Transfer-Encoding" {
				continue
			}
			for _, v := range values {
				b = AppendField(b, start, name, oneLine(v))
			}
		}
		w.part(Inform, b, false)
		return
	}
	w.status = status
	w.setLength()
	w.head, w.fields = AppendHead(make([]byte, 0, 256), status)
	for name, values := range w.header {
		switch name {
		case "Content-Type", "Content-Encoding":
			w.typed = true
		case "Transfer-Encoding":
			w.typed, w.unlimited = true, true
		case "Trailer":
			for _, v := range values {
				for t := range strings.SplitSeq(v, ",") {
					w.trailers = append(w.trailers, http.CanonicalHeaderKey(strings.TrimSpace(t)))
				}
			}
		default:
			if strings.HasPrefix(name, http.TrailerPrefix) {
				continue
			}
		}
		for _, v := range values {
			w.head = AppendField(w.head, w.fields, name, oneLine(v))
		}
	}
}

// setLength reads the Content-Length that the handler has set. One that is not a number is dropped, as in net/http.
func (w *writer) setLength() {
	v := w.header["Content-Length"]
	if len(v) == 0 {
		return
	}
	n, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil || !validLength(v[0]) {
		slog.Warn("http: invalid Content-Length", "value", v[0])
		delete(w.header, "Content-Length")
		return
	}
	w.length = n
}

// oneLine keeps a value from becoming a second field.
func oneLine(v string) string {
	if strings.ContainsAny(v, "\r\n") {
		return strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
	}
	return v
}

// begin has the head ready, and says why n more bytes cannot be written.
func (w *writer) begin(n int) error {
	switch {
	case w.connection != nil:
		return http.ErrHijacked
	case w.done.Load():
		return errors.New("http: a write after the handler has returned")
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case n == 0:
		return nil
	case !bodyAllowed(w.status):
		return http.ErrBodyNotAllowed
	}
	w.written += int64(n) // also of a write that fails, as in net/http: no answer looks complete of which a part was refused
	if w.length >= 0 && w.written > w.length {
		return http.ErrContentLength
	}
	return w.err
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.begin(len(p)); err != nil {
		return 0, err
	}
	return len(p), w.add(p)
}

// WriteString implements io.StringWriter.
func (w *writer) WriteString(p string) (int, error) {
	if err := w.begin(len(p)); err != nil {
		return 0, err
	}
	if w.req.Method != http.MethodHead && len(w.buffer)+len(p) <= bufferLen {
		w.reserve()
		w.buffer = append(w.buffer, p...)
		return len(p), nil
	}
	return len(p), w.add([]byte(p))
}

func (w *writer) reserve() {
	if w.pooled == nil {
		w.pooled = answerBuffers.Get().(*[bufferLen]byte) //nolint:forcetypeassert // the pool has nothing else
		w.buffer = w.pooled[:0]
	}
}

// add takes bytes of the body.
func (w *writer) add(p []byte) error {
	if w.req.Method == http.MethodHead {
		if w.written > bufferLen && !w.sent {
			w.unlimited = true // as if the body were on its way in chunks
		}
		if !w.sent && len(w.buffer) == 0 { // enough to guess the type
			w.reserve()
			w.buffer = append(w.buffer, p[:min(len(p), bufferLen)]...)
		}
		return nil
	}
	if len(w.buffer)+len(p) <= bufferLen {
		w.reserve()
		w.buffer = append(w.buffer, p...)
		return nil
	}
	if err := w.send(p, false); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), sentPart)
		w.part(Body, p[:n], len(p) < bufferLen)
		p = p[n:]
	}
	return w.err
}

// send sends the head, if it is not sent, and the buffer. next are the bytes that follow, from which the type is guessed if the buffer is empty.
// With hold the last part waits for the next one, or for the END.
func (w *writer) send(next []byte, hold bool) error {
	data := w.buffer
	if w.req.Method == http.MethodHead {
		data = nil
	}
	if !w.sent {
		w.sent = true
		sample := w.buffer
		if len(sample) == 0 {
			sample = next
		}
		if !w.typed && len(sample) > 0 && bodyAllowed(w.status) {
			w.head = AppendField(w.head, w.fields, "Content-Type", http.DetectContentType(sample))
		}
		if len(w.head) > MaxHead {
			w.err = fault("the header of the answer has %d bytes, at most %d are possible", len(w.head), MaxHead)
			return w.err
		}
		w.part(Head, w.head, hold || len(data) > 0 || len(next) > 0)
		w.head = nil
	}
	if len(data) > 0 {
		w.part(Body, data, hold || len(next) > 0)
	}
	w.buffer = w.buffer[:0]
	return w.err
}

// part sends one part. The first error stays: a part is missing then.
func (w *writer) part(kind Kind, data []byte, hold bool) {
	if w.err != nil {
		return
	}
	ctx := w.context()
	if err := failure(ctx, w.s.in.Part(ctx, call.Codec(kind), data, hold)); err != nil {
		w.err = err
	}
}

// context is the context of a write. Handlers that set no deadline have the one of the call.
func (w *writer) context() context.Context {
	w.limit.mu.Lock()
	defer w.limit.mu.Unlock()
	if w.limit.ctx == nil {
		return w.s.ctx
	}
	return w.limit.ctx
}

// Flush implements http.Flusher.
func (w *writer) Flush() { w.FlushError() } //nolint:errcheck // as http.Flusher has it

// FlushError is for http.ResponseController.
func (w *writer) FlushError() error {
	if err := w.begin(0); err != nil {
		return err
	}
	if w.sent && len(w.buffer) == 0 {
		w.s.in.SendHeld(w.context())
		return w.err
	}
	return w.send(nil, false)
}

// ReadFrom implements io.ReaderFrom.
func (w *writer) ReadFrom(r io.Reader) (n int64, err error) {
	var b readBuffer
	defer b.free()
	for m := 0; ; {
		var failed error
		buf := b.next(m)
		m, failed = r.Read(buf)
		if m > 0 {
			if _, err := w.Write(buf[:m]); err != nil {
				return n, err
			}
			n += int64(m)
		}
		switch {
		case failed == io.EOF: //nolint:errorlint // as io.Reader has it
			return n, nil
		case failed != nil:
			return n, failed
		}
	}
}

// EnableFullDuplex is for http.ResponseController: an exchange is full duplex.
func (w *writer) EnableFullDuplex() error { return nil }

// SetReadDeadline is for http.ResponseController.
func (w *writer) SetReadDeadline(t time.Time) error {
	w.body.limit.set(w.s.ctx, t)
	return nil
}

// SetWriteDeadline is for http.ResponseController.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.limit.set(w.s.ctx, t)
	return nil
}

// returned notes that the handler has returned, and waits for the end of a connection that it has taken over: the connection is the
// handler's, and its goroutines may use it after that, as with net/http. The slot is theirs as long.
func (w *writer) returned() {
	w.done.Store(true)
	w.body.closed.Store(true)
	if c := w.connection; c != nil {
		select {
		case <-c.closed:
		case <-w.s.ctx.Done():
			c.Close()
		}
	}
	w.body.limit.end(http.ErrBodyReadAfterClose)
	if w.req.MultipartForm != nil {
		w.req.MultipartForm.RemoveAll() //nolint:errcheck // nobody could do more
	}
}

// finish sends the rest of the answer, after the handler has returned. The result is the error with which the exchange ends.
func (w *writer) finish() *call.Error {
	defer w.free()
	if w.connection != nil {
		return nil
	}
	w.limit.end(nil)
	w.limit.mu.Lock()
	if w.limit.ctx != nil && context.Cause(w.limit.ctx) != os.ErrDeadlineExceeded { //nolint:errorlint // as set has it
		w.limit.ctx = nil // the answer goes on without the handler
	}
	w.limit.mu.Unlock()
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	trailers := w.finalTrailers()
	head := w.req.Method == http.MethodHead
	if !w.sent && w.length < 0 && !w.unlimited && len(trailers) == 0 && len(w.trailers) == 0 && bodyAllowed(w.status) && (!head || w.written > 0) {
		w.head = AppendField(w.head, w.fields, "Content-Length", strconv.FormatInt(w.written, 10))
	}
	w.send(nil, true) //nolint:errcheck // it stays in w.err
	if len(trailers) > 0 {
		w.part(Trailers, trailers, true)
	}
	if w.err == nil {
		return nil
	}
	return call.AsError(w.err)
}

// finalTrailers are the trailers that the handler has set.
func (w *writer) finalTrailers() (b []byte) {
	for _, name := range w.trailers {
		for _, v := range w.header[name] {
			b = AppendField(b, 0, name, oneLine(v))
		}
	}
	for name, values := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			for _, v := range values {
				b = AppendField(b, 0, bare, oneLine(v))
			}
		}
	}
	return b
}

// free gives the buffer back.
func (w *writer) free() {
	if w.pooled != nil {
		answerBuffers.Put(w.pooled)
		w.pooled, w.buffer = nil, nil
	}
}

// Hijack implements http.Hijacker: the connection of the client becomes the handler's, with parts for its bytes.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	switch {
	case w.req.ProtoMajor != 1:
		return nil, nil, http.ErrNotSupported
	case w.connection != nil:
		return nil, nil, http.ErrHijacked
	case w.done.Load():
		return nil, nil, errors.New("http: Hijack after the handler has returned")
	}
	if w.status != 0 {
		if err := w.FlushError(); err != nil {
			return nil, nil, err
		}
	}
	if err := w.s.in.Part(w.s.ctx, call.Codec(Takeover), nil, false); err != nil {
		return nil, nil, err
	}
	c := &connection{w: w, closed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(w.s.ctx)
	c.skip = w.body.more && w.body.err == nil
	w.connection = c
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}

// connection is the connection of a client that a handler has taken over. One goroutine reads at a time, and one writes.
type connection struct {
	w      *writer
	ctx    context.Context //nolint:containedctx // until Close
	cancel context.CancelCauseFunc
	skip   bool   // the end of the request's body has not come
	rest   []byte // of the part that came last
	err    error
	reads  limit
	writes limit
	once   sync.Once
	closed chan struct{}
}

// Read implements net.Conn.
func (c *connection) Read(p []byte) (n int, err error) {
	b := &c.w.body
	if len(b.first) > 0 {
		n = copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		ctx := c.reads.context(c.ctx)
		kind, data, err := c.w.s.receive(ctx)
		switch {
		case err != nil:
			return 0, failure(ctx, err)
		case c.skip:
			c.skip = kind != Last && kind != Broken
		case kind == Body:
			c.rest = data
		case kind == Last:
			c.err = io.EOF
		default:
			c.err = net.ErrClosed
			if kind == Broken {
				c.err = brokenError(data)
			}
		}
	}
	n = copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (n int, err error) {
	for n < len(p) {
		ctx := c.writes.context(c.ctx)
		m := min(len(p)-n, sentPart)
		if err := failure(ctx, c.w.s.in.Part(ctx, call.Codec(Body), p[n:n+m], false)); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// Close implements net.Conn.
func (c *connection) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.cancel(net.ErrClosed)
		close(c.closed)
		err = nil
	})
	return err
}

// LocalAddr implements net.Conn.
func (c *connection) LocalAddr() net.Addr { return c.w.values.local() }

// RemoteAddr implements net.Conn.
func (c *connection) RemoteAddr() net.Addr { return address(c.w.req.RemoteAddr) }

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *connection) SetReadDeadline(t time.Time) error {
	c.reads.set(c.ctx, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *connection) SetWriteDeadline(t time.Time) error {
	c.writes.set(c.ctx, t)
	return nil
}

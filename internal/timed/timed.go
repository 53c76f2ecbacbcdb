// Package timed has the ResponseWriter of a handler whose request has a limit of time. net/http's TimeoutHandler keeps a whole answer in memory; a [Writer] keeps its beginning
// alone, so that streams and large answers go through. For example, with a limit of 10 s a handler that has written nothing is answered for with 408, and one that has sent a
// megabyte is cut off.
package timed

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
)

// Late reports whether a request's time is over.
func Late(ctx context.Context) bool { return ctx.Err() == context.DeadlineExceeded } //nolint:errorlint // as context has it

// The states of a Writer.
const (
	fresh int32 = iota // the answer has not begun
	begun
	taken // the connection was taken over
	over  // the time is over
)

// Writer is the ResponseWriter of a handler whose time is limited. After the time every operation fails, so that the request's goroutine may
// answer and return while the handler still runs. The header is the handler's own until the answer begins.
//
// It keeps the beginning of an answer, up to [keptLen] bytes, until a flush or the handler's end, as a worker does. For example, a handler writes
// "working" and waits for the end of its context: nothing has gone to the client, which gets 408.
type Writer struct {
	ctx    context.Context //nolint:containedctx // of the request
	w      http.ResponseWriter
	rc     *http.ResponseController
	header http.Header
	state  atomic.Int32
	info   atomic.Pointer[call.Info] // a copy of the call's, from the time when it has a replica

	mu     sync.Mutex  // held while w is used
	status int         // that the handler has set; 0 for none
	head   http.Header // as it was when the handler set the status
	room   int         // number of bytes that may still be kept
	kept   []byte
}

// keptLen is the largest number of bytes that are kept.
const keptLen = 4 << 10

// New makes the writer of a handler, in front of w, for a request whose time ends with ctx. tw is the form for the handler: it has Hijack if w has it.
func New(ctx context.Context, w http.ResponseWriter) (t *Writer, tw http.ResponseWriter) {
	t = &Writer{ctx: ctx, w: w, rc: http.NewResponseController(w), header: w.Header().Clone()}
	if _, ok := w.(http.Hijacker); ok {
		return t, hijacker{t}
	}
	return t, t
}

// Info is a copy of the call's info as [Writer.Begins] has it; nil before.
func (t *Writer) Info() *call.Info { return t.info.Load() }

// Own gives the writer below to the owner for its own answer, until release is called: an informational header that is being written ends before. It is for a writer whose
// time is over ([Writer.Discard]).
func (t *Writer) Own() (release func()) {
	t.mu.Lock()
	return t.mu.Unlock
}

// Begins notes that the handler of a call is about to run. It is for all handlers: t may be nil.
func (t *Writer) Begins(i *call.Info) {
	if t != nil {
		info := *i
		t.info.Store(&info)
	}
}

// AnswersFor reports whether the owner answers for a handler that has failed with e, or has done so: the time of the request is over. An
// answer that has begun is cut off by the handler's goroutine if it is the first to end it.
func (t *Writer) AnswersFor(e *call.Error) bool {
	if t == nil || e.Reason != helvetype.ReasonDeadline {
		return false
	}
	state := t.state.Load()
	return state == over || state == fresh && Late(t.ctx)
}

// Discard ends the time of an answer of which nothing was sent, and drops it. It returns false if a part was sent.
func (t *Writer) Discard() bool { return t.state.CompareAndSwap(fresh, over) }

// Header implements http.ResponseWriter.
func (t *Writer) Header() http.Header { return t.header }

// begin begins the answer with the kept bytes, if the time is not over. The caller holds the mutex.
func (t *Writer) begin() bool {
	if !Late(t.ctx) {
		t.send()
	}
	return t.state.Load() == begun
}

// send sends the kept bytes, if the client has got none before.
func (t *Writer) send() {
	if !t.state.CompareAndSwap(fresh, begun) {
		return
	}
	if t.head == nil {
		t.head = t.header
	}
	t.copyHeader(t.head)
	if t.status != 0 {
		t.w.WriteHeader(t.status)
	}
	if len(t.kept) > 0 {
		t.w.Write(t.kept) //nolint:errcheck // the next write fails too
	}
	t.kept = nil
}

func (t *Writer) copyHeader(from http.Header) {
	to := t.w.Header()
	clear(to)
	maps.Copy(to, from)
}

// keep keeps n bytes that the handler writes, if it can. It returns false for bytes that must be given to the server now: they are too many, or the
// server refuses them.
func (t *Writer) keep(n int) bool {
	if t.state.Load() != fresh || Late(t.ctx) {
		return false
	}
	if t.status == 0 {
		t.setStatus(http.StatusOK)
	}
	t.room -= n
	return t.room >= 0
}

// setStatus notes the status and the header, which do not change any more.
func (t *Writer) setStatus(status int) {
	t.status, t.head, t.room = status, t.header.Clone(), keptLen
	if v := t.head["Content-Length"]; len(v) > 0 {
		if length, err := strconv.Atoi(v[0]); err == nil {
			t.room = min(t.room, length)
		}
	}
	if status < 200 || status == http.StatusNoContent || status == http.StatusNotModified { // without a body
		t.room = 0
	}
}

// WriteHeader implements http.ResponseWriter.
func (t *Writer) WriteHeader(status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if status < 200 && status != http.StatusSwitchingProtocols {
		if t.state.Load() == fresh && t.status == 0 {
			t.copyHeader(t.header)
			t.w.WriteHeader(status)
		}
		return
	}
	switch {
	case t.status == 0:
		t.setStatus(status)
	case t.state.Load() == begun:
		t.w.WriteHeader(status) // the server logs that it is superfluous
	}
}

// Write implements http.ResponseWriter.
func (t *Writer) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep(len(b)) {
		t.kept = append(t.kept, b...)
		return len(b), nil
	}
	if !t.begin() {
		return 0, http.ErrHandlerTimeout
	}
	return t.w.Write(b)
}

// WriteString implements io.StringWriter.
func (t *Writer) WriteString(s string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep(len(s)) {
		t.kept = append(t.kept, s...)
		return len(s), nil
	}
	if !t.begin() {
		return 0, http.ErrHandlerTimeout
	}
	return io.WriteString(t.w, s)
}

// Flush implements http.Flusher.
func (t *Writer) Flush() { t.FlushError() } //nolint:errcheck // as http.Flusher has it

// FlushError is for http.ResponseController, as the methods below are.
func (t *Writer) FlushError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begin() {
		return http.ErrHandlerTimeout
	}
	return t.rc.Flush()
}

// whileOpen does something with the connection as long as the time is not over.
func (t *Writer) whileOpen(do func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Load() == over {
		return http.ErrHandlerTimeout
	}
	return do()
}

// SetReadDeadline sets the deadline of reads.
func (t *Writer) SetReadDeadline(d time.Time) error {
	return t.whileOpen(func() error { return t.rc.SetReadDeadline(d) })
}

// SetWriteDeadline sets the deadline of writes.
func (t *Writer) SetWriteDeadline(d time.Time) error {
	return t.whileOpen(func() error { return t.rc.SetWriteDeadline(d) })
}

// EnableFullDuplex has the body readable after the answer has begun.
func (t *Writer) EnableFullDuplex() error { return t.whileOpen(t.rc.EnableFullDuplex) }

// Cut ends the time of an answer that has begun. A write that waits for the client ends. It returns false for a connection that was taken over.
func (t *Writer) Cut() bool {
	if t.state.Load() == taken {
		return false
	}
	t.rc.SetWriteDeadline(clients.Expired) //nolint:errcheck // the connection is cut off
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.CompareAndSwap(begun, over)
}

// Finish passes on how the handler has ended: its header and trailers, or its panic.
func (t *Writer) Finish(panicked any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if panicked != nil {
		panic(panicked)
	}
	t.send()
	if t.state.Load() == begun {
		maps.Copy(t.w.Header(), t.header)
	}
}

// hijacker is Writer for a connection that can be taken over.
type hijacker struct{ *Writer }

// Hijack implements http.Hijacker. The time is not limited any more.
func (t hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Load() == over {
		return nil, nil, http.ErrHandlerTimeout
	}
	if t.status != 0 { // 101, for example, which goes to the client before the bytes of its connection
		t.send()
	}
	conn, rw, err := t.rc.Hijack()
	if err == nil && !t.state.CompareAndSwap(fresh, taken) && !t.state.CompareAndSwap(begun, taken) {
		conn.Close()
		return nil, nil, http.ErrHandlerTimeout // the time has ended meanwhile
	}
	return conn, rw, err
}

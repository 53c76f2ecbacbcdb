package proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"maps"
	"math"
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

// timeoutHeader is the header by which a client shortens the time of its request, in seconds. For example, with a limit of 60 s the value
// "0.5" is half a second, and "90" is still 60 s.
const timeoutHeader = "X-Request-Timeout-Seconds"

// timeout is the time that a request may take; 0 for no limit.
func (p *Proxy) timeout(r *http.Request, route *served) (time.Duration, *call.Error) {
	limit := shorter(p.options.Load().RequestTimeout, route.timeout)
	values := r.Header[timeoutHeader]
	if len(values) == 0 {
		return limit, nil
	}
	s, err := strconv.ParseFloat(values[0], 64)
	if err != nil || len(values) > 1 || !(s > 0) || math.IsInf(s, 0) {
		return 0, call.NewError(helvetype.ReasonBadInput, timeoutHeader+" must be a number of seconds above 0")
	}
	if s > longest.Seconds() {
		return limit, nil
	}
	return shorter(limit, max(time.Duration(s*float64(time.Second)), 1)), nil
}

// longest is a time that is no limit.
const longest = 100 * 365 * 24 * time.Hour

// shorter is the shorter of two times, of which 0 is no limit.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// within answers a request that has a limit of time. Results and streams end with the context of their calls. A handler may ignore its context, so it
// has a goroutine of its own, and a [timedWriter], which refuses late writes. Its slot is free when it returns.
func (p *Proxy) within(limit time.Duration, w http.ResponseWriter, r *http.Request, route *served, x *exchange, held *clients.Hold) {
	x.limit = limit
	if route.Handle == nil {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		defer func() { x.answer.late = isLate(ctx) }()
		p.dispatch(w, r.WithContext(ctx), route, x, held)
		return
	}
	var ctx context.Context
	var cancel context.CancelFunc
	if len(r.Header["Upgrade"]) > 0 { // the limit is for the time until the connection is taken over
		of, end := context.WithCancelCause(r.Context())
		ctx, cancel = of, func() { end(context.DeadlineExceeded) }
	} else {
		ctx, cancel = context.WithTimeout(r.Context(), limit)
	}
	defer cancel()
	t := &timedWriter{ctx: ctx, w: w, rc: http.NewResponseController(w), header: w.Header().Clone()}
	x.timed = t
	tw := http.ResponseWriter(t)
	if _, ok := w.(http.Hijacker); ok {
		tw = timedHijacker{t}
	}
	ended := make(chan any, 1)
	go func() {
		returned := false
		defer func() {
			v := recover()
			if v == nil && !returned { // the handler has ended its goroutine
				v = http.ErrAbortHandler
			}
			ended <- v
		}()
		own := r.Clone(ctx)     // because handlers change headers, which are read below
		own.Trailer = r.Trailer // the server fills it at the end of the body
		p.handle(tw, own, &route.Route, x)
		returned = true
	}()
	e := call.FromCause(context.DeadlineExceeded)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case v := <-ended:
		if x.answer.late = isLate(ctx); x.answer.late && t.discard() {
			p.fail(w, expired(r), x, e)
			return
		}
		t.finish(v)
		return
	case <-timer.C:
	}
	if _, limited := ctx.Deadline(); limited {
		<-ctx.Done() // the same moment: the handler must not see a plain cancellation
	}
	x.answer.late = true
	if t.discard() {
		t.mu.Lock() // an informational header that is being written
		defer t.mu.Unlock()
		x.abandoned = true
		cancel()
		w.Header()["Connection"] = connectionClose // the handler may be reading the body
		p.fail(w, expired(r), x, e)
		return
	}
	timer.Reset(timeToEnd)
	select {
	case v := <-ended:
		t.finish(v)
		return
	case <-timer.C:
	}
	if !t.cut() { // the connection was taken over
		t.finish(<-ended)
		return
	}
	x.abandoned = true
	if info := x.info(); info != nil {
		e = e.At(info)
	}
	p.logFailure(r, slog.LevelError, "handler failed", &x.call, e)
	panic(http.ErrAbortHandler)
}

// timeToEnd is the time that a handler has to return after its request's time, if its answer has begun. The answer is cut off in any case: the wait
// is for the end of its writes and its line in the log.
const timeToEnd = 50 * time.Millisecond

// expired is a request whose time is over, for the text of its answer.
func expired(r *http.Request) *http.Request {
	ctx, cancel := context.WithDeadline(r.Context(), time.Unix(0, 0))
	cancel()
	return r.WithContext(ctx)
}

// isLate reports whether a request's time is over.
func isLate(ctx context.Context) bool { return ctx.Err() == context.DeadlineExceeded } //nolint:errorlint // as context has it

// limitBody ends the read of a body when the time of its request is over, until stop is called.
func limitBody(w http.ResponseWriter, r *http.Request) (stop func() bool) {
	if _, limited := r.Context().Deadline(); !limited || r.ContentLength == 0 {
		return func() bool { return true }
	}
	rc := http.NewResponseController(w)
	return context.AfterFunc(r.Context(), func() { rc.SetReadDeadline(clients.Expired) }) //nolint:errcheck // the read tells
}

// The states of a timedWriter.
const (
	timedFresh int32 = iota // the answer has not begun
	timedBegun
	timedTaken // the connection was taken over
	timedOver  // the time is over
)

// timedWriter is the ResponseWriter of a handler whose time is limited. After the time every operation fails, so that the request's goroutine may
// answer and return while the handler still runs. The header is the handler's own until the answer begins.
//
// It keeps the beginning of an answer, up to [keptLen] bytes, until a flush or the handler's end, as a worker does. For example, a handler writes
// "working" and waits for the end of its context: nothing has gone to the client, which gets 408.
type timedWriter struct {
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

// begins notes that the handler of a call is about to run. It is for all handlers: t may be nil.
func (t *timedWriter) begins(i *call.Info) {
	if t != nil {
		info := *i
		t.info.Store(&info)
	}
}

// answersFor reports whether [Proxy.within] answers for a handler that has failed with e, or has done so: the time of the request is over. An
// answer that has begun is cut off by the handler's goroutine if it is the first to end it.
func (t *timedWriter) answersFor(e *call.Error) bool {
	if t == nil || e.Reason != helvetype.ReasonDeadline {
		return false
	}
	state := t.state.Load()
	return state == timedOver || state == timedFresh && isLate(t.ctx)
}

// discard ends the time of an answer of which nothing was sent, and drops it. It returns false if a part was sent.
func (t *timedWriter) discard() bool { return t.state.CompareAndSwap(timedFresh, timedOver) }

// Header implements http.ResponseWriter.
func (t *timedWriter) Header() http.Header { return t.header }

// begin begins the answer with what was kept, if the time is not over. The caller holds the mutex.
func (t *timedWriter) begin() bool {
	if !isLate(t.ctx) {
		t.send()
	}
	return t.state.Load() == timedBegun
}

// send sends what was kept, if nothing was sent before.
func (t *timedWriter) send() {
	if !t.state.CompareAndSwap(timedFresh, timedBegun) {
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

func (t *timedWriter) copyHeader(from http.Header) {
	to := t.w.Header()
	clear(to)
	maps.Copy(to, from)
}

// keep keeps n bytes that the handler writes, if it can. It returns false for bytes that must be given to the server now: they are too many, or the
// server refuses them.
func (t *timedWriter) keep(n int) bool {
	if t.state.Load() != timedFresh || isLate(t.ctx) {
		return false
	}
	if t.status == 0 {
		t.setStatus(http.StatusOK)
	}
	t.room -= n
	return t.room >= 0
}

// setStatus notes the status and the header, which do not change any more.
func (t *timedWriter) setStatus(status int) {
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
func (t *timedWriter) WriteHeader(status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if status < 200 && status != http.StatusSwitchingProtocols {
		if t.state.Load() == timedFresh && t.status == 0 {
			t.copyHeader(t.header)
			t.w.WriteHeader(status)
		}
		return
	}
	switch {
	case t.status == 0:
		t.setStatus(status)
	case t.state.Load() == timedBegun:
		t.w.WriteHeader(status) // the server logs that it is superfluous
	}
}

// Write implements http.ResponseWriter.
func (t *timedWriter) Write(b []byte) (int, error) {
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
func (t *timedWriter) WriteString(s string) (int, error) {
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
func (t *timedWriter) Flush() { t.FlushError() } //nolint:errcheck // as http.Flusher has it

// FlushError is for http.ResponseController, as the methods below are.
func (t *timedWriter) FlushError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begin() {
		return http.ErrHandlerTimeout
	}
	return t.rc.Flush()
}

// whileOpen does something with the connection as long as the time is not over.
func (t *timedWriter) whileOpen(do func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Load() == timedOver {
		return http.ErrHandlerTimeout
	}
	return do()
}

// SetReadDeadline sets the deadline of reads.
func (t *timedWriter) SetReadDeadline(d time.Time) error {
	return t.whileOpen(func() error { return t.rc.SetReadDeadline(d) })
}

// SetWriteDeadline sets the deadline of writes.
func (t *timedWriter) SetWriteDeadline(d time.Time) error {
	return t.whileOpen(func() error { return t.rc.SetWriteDeadline(d) })
}

// EnableFullDuplex has the body readable after the answer has begun.
func (t *timedWriter) EnableFullDuplex() error { return t.whileOpen(t.rc.EnableFullDuplex) }

// cut ends the time of an answer that has begun. A write that waits for the client ends. It returns false for a connection that was taken over.
func (t *timedWriter) cut() bool {
	if t.state.Load() == timedTaken {
		return false
	}
	t.rc.SetWriteDeadline(clients.Expired) //nolint:errcheck // the connection is cut off
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.CompareAndSwap(timedBegun, timedOver)
}

// finish passes on how the handler has ended: its header and trailers, or its panic.
func (t *timedWriter) finish(panicked any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if panicked != nil {
		panic(panicked)
	}
	t.send()
	if t.state.Load() == timedBegun {
		maps.Copy(t.w.Header(), t.header)
	}
}

// timedHijacker is timedWriter for a connection that can be taken over.
type timedHijacker struct{ *timedWriter }

// Hijack implements http.Hijacker. The time is not limited any more.
func (t timedHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Load() == timedOver {
		return nil, nil, http.ErrHandlerTimeout
	}
	if t.status != 0 { // 101, for example, which goes to the client before the bytes of its connection
		t.send()
	}
	conn, rw, err := t.rc.Hijack()
	if err == nil && !t.state.CompareAndSwap(timedFresh, timedTaken) && !t.state.CompareAndSwap(timedBegun, timedTaken) {
		conn.Close()
		return nil, nil, http.ErrHandlerTimeout // the time has ended meanwhile
	}
	return conn, rw, err
}

package proxy

import (
	"bufio"
	"context"
	"io"
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
	limit := shorter(p.options.RequestTimeout, route.timeout)
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
	if route.Handle == nil {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
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
	t := &timedWriter{w: w, rc: http.NewResponseController(w), header: w.Header().Clone()}
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
		p.handle(tw, own, &route.Route, &x.call)
		returned = true
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case v := <-ended:
		t.finish(v)
		return
	case <-timer.C:
	}
	if t.state.CompareAndSwap(timedFresh, timedOver) {
		t.mu.Lock() // an informational header that is being written
		defer t.mu.Unlock()
		x.abandoned = true
		cancel()
		w.Header()["Connection"] = connectionClose // the handler may be reading the body
		p.fail(w, r, &x.call, call.FromCause(context.DeadlineExceeded))
		return
	}
	timer.Reset(timeToFinish)
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
	x.abandoned, x.answer.status = true, http.StatusRequestTimeout // the status under which the request is counted
	panic(http.ErrAbortHandler)
}

// timeToFinish is the time that an answer has after its request's time, if it has begun. It may be an answer about the end of the context, which comes at the
// same moment.
const timeToFinish = 50 * time.Millisecond

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
type timedWriter struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	header http.Header
	state  atomic.Int32

	mu sync.Mutex // held while w is used
}

// Header implements http.ResponseWriter.
func (t *timedWriter) Header() http.Header { return t.header }

// begin begins the answer, if that is still possible. The caller holds the mutex.
func (t *timedWriter) begin() bool {
	if t.state.CompareAndSwap(timedFresh, timedBegun) {
		t.copyHeader()
	}
	return t.state.Load() == timedBegun
}

func (t *timedWriter) copyHeader() {
	to := t.w.Header()
	clear(to)
	maps.Copy(to, t.header)
}

// WriteHeader implements http.ResponseWriter.
func (t *timedWriter) WriteHeader(status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if status < 200 && status != http.StatusSwitchingProtocols {
		if t.state.Load() == timedFresh {
			t.copyHeader()
			t.w.WriteHeader(status)
		}
		return
	}
	if t.begin() {
		t.w.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (t *timedWriter) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begin() {
		return 0, http.ErrHandlerTimeout
	}
	return t.w.Write(b)
}

// WriteString implements io.StringWriter.
func (t *timedWriter) WriteString(s string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
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
	if t.state.Load() == timedFresh {
		t.copyHeader()
	} else if t.state.Load() == timedBegun {
		maps.Copy(t.w.Header(), t.header)
	}
	if panicked != nil {
		panic(panicked)
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
	conn, rw, err := t.rc.Hijack()
	if err == nil && !t.state.CompareAndSwap(timedFresh, timedTaken) && !t.state.CompareAndSwap(timedBegun, timedTaken) {
		conn.Close()
		return nil, nil, http.ErrHandlerTimeout // the time has ended meanwhile
	}
	return conn, rw, err
}

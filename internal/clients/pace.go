package clients

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// An HTTP/2 client can stall one request while its connection goes on: it gives no window, or sends no data. The
// types paced and pacedBody limit the time of such a request, as [client] limits it for a connection. They do so for all requests of a
// server that is not the proxy's own, because the connection there is no [client].

// watch ends an operation that takes too long. For example, begin and end are around a Write: if end is not called
// within the stall time, expire is called.
type watch struct {
	stall  time.Duration
	expire func()

	mu    sync.Mutex
	timer *time.Timer
	until time.Time // zero while no operation runs
	over  bool      // the request has ended: expire must not be called any more
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.until = time.Now().Add(w.stall)
	if w.timer == nil {
		w.timer = time.AfterFunc(w.stall, w.fire)
	} else {
		w.timer.Reset(w.stall)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Time{}
	if w.timer != nil {
		w.timer.Stop()
	}
}

// stop is end for the last time.
func (w *watch) stop() {
	w.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// fire holds the lock while it calls expire, so that stop waits for it: the server takes a ResponseWriter apart at
// the request's end.
func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.until.IsZero() && !time.Now().Before(w.until) {
		w.until = time.Time{}
		w.expire()
	}
}

// Paced is the ResponseWriter of an HTTP/2 request, and of any request of another server.
type Paced struct {
	http.ResponseWriter
	rc     *http.ResponseController
	watch  watch
	body   *pacedBody  // nil if there is none
	chosen atomic.Bool // a handler has set a deadline by itself
	unread call.Unread
}

// Expired is a deadline that is over. It ends an operation that waits.
var Expired = time.Unix(1, 0) //nolint:gochecknoglobals // a constant

// Pace puts the time limits around a request.
func Pace(w http.ResponseWriter, r *http.Request, stall time.Duration) *Paced {
	rc := http.NewResponseController(w)
	p := &Paced{ResponseWriter: w, rc: rc}
	p.watch = watch{stall: stall, expire: func() { rc.SetWriteDeadline(Expired) }} //nolint:errcheck // it cannot fail
	if r.Body != nil && r.Body != http.NoBody {
		p.body = &pacedBody{r.Body, watch{stall: stall, expire: func() { rc.SetReadDeadline(Expired) }}} //nolint:errcheck // as above
		r.Body = p.body
	}
	return p
}

// Writer is p as handlers get it: one of a connection that can be taken over is an http.Hijacker.
func (p *Paced) Writer() http.ResponseWriter {
	if h, ok := p.ResponseWriter.(http.Hijacker); ok {
		return pacedHijacker{p, h}
	}
	return p
}

// pacedHijacker is paced for a connection that handlers can take over.
type pacedHijacker struct {
	*Paced
	hijacker http.Hijacker
}

// Hijack implements http.Hijacker. The times of the connection are the handler's then.
func (h pacedHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := h.hijacker.Hijack()
	if err == nil {
		h.chosen.Store(true)
	}
	return conn, rw, err
}

// whileWatched runs a function that may have to wait for the client.
func (p *Paced) whileWatched(do func() error) error {
	p.unread.Full(call.Now())
	defer p.unread.Room()
	if p.chosen.Load() {
		return do()
	}
	p.watch.begin()
	defer p.watch.end()
	return do()
}

// UnreadOf says since when a write to w waits for the client. client is the connection of the request, nil for none; one of HTTP/2 serves several requests, each of which has a [Paced]. The result is nil for a
// ResponseWriter that has none.
func UnreadOf(client *Conn, w http.ResponseWriter, r *http.Request) *call.Unread {
	if client != nil && r.ProtoMajor < 2 {
		return client.Unread()
	}
	for {
		switch of := w.(type) {
		case *Paced:
			return &of.unread
		case pacedHijacker:
			return &of.unread
		case interface{ Unwrap() http.ResponseWriter }:
			w = of.Unwrap()
		default:
			return nil
		}
	}
}

// Write implements http.ResponseWriter.
func (p *Paced) Write(b []byte) (n int, err error) {
	for {
		err = p.whileWatched(func() error {
			m, err := p.ResponseWriter.Write(b[n:min(len(b), n+leastTaken)])
			n += m
			return err
		})
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// WriteString implements io.StringWriter.
func (p *Paced) WriteString(s string) (int, error) { return p.Write([]byte(s)) }

// FlushError is for http.ResponseController.
func (p *Paced) FlushError() error { return p.whileWatched(p.rc.Flush) }

// Flush implements http.Flusher.
func (p *Paced) Flush() { p.FlushError() } //nolint:errcheck // as http.Flusher has it

// SetWriteDeadline is for http.ResponseController.
func (p *Paced) SetWriteDeadline(t time.Time) error {
	p.chosen.Store(!t.IsZero())
	return p.rc.SetWriteDeadline(t)
}

// Unwrap is for http.ResponseController.
func (p *Paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// AnswerComplete must be called when the answer is complete: the part of it in a buffer has the stall time too.
func (p *Paced) AnswerComplete() {
	p.watch.stop()
	if p.body != nil {
		p.body.watch.stop()
	}
	if !p.chosen.Load() {
		p.rc.SetWriteDeadline(time.Now().Add(p.watch.stall)) //nolint:errcheck // it cannot fail
	}
}

// pacedBody is the body of a request.
type pacedBody struct {
	io.ReadCloser
	watch watch
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.watch.begin()
	defer b.watch.end()
	return b.ReadCloser.Read(p)
}

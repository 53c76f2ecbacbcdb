package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/helve-serve/helve/internal/call"
)

// handle lets a handler of the application answer a request.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request, route *Route, c *call.Call) {
	a := &answering{ResponseWriter: w}
	aw := http.ResponseWriter(a)
	if _, ok := w.(http.Hijacker); ok { // HTTP/2 has none, and handlers ask
		aw = hijackable{a}
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		// The handler has ended its goroutine, or it aborts.
		if v := recover(); v != nil {
			panic(v)
		}
		if !a.begun {
			p.exited(w, r, c)
		}
	}()
	e := route.Handle(r.Context(), c, func(ctx context.Context, h http.Handler) {
		a.ctx = ctx
		defer a.left()
		h.ServeHTTP(aw, under(route.Prefix, r.WithContext(ctx)))
	})
	returned = true
	switch {
	case e == nil:
	case !a.begun:
		p.fail(w, r, c, e)
	default:
		p.logFailure(r, "handler failed", c, e)
		if !a.hijacked {
			panic(http.ErrAbortHandler) // nobody should take what was written for all there is
		}
	}
}

// under takes the application's prefix from the path of a request, which is the caller's own.
func under(prefix string, r *http.Request) *http.Request {
	if prefix == "/" {
		return r
	}
	u := new(url.URL)
	*u = *r.URL
	u.Path = rooted(strings.TrimPrefix(u.Path, prefix))
	if u.RawPath != "" {
		u.RawPath = rooted(strings.TrimPrefix(u.RawPath, prefix))
	}
	r.URL = u
	return r
}

func rooted(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// answering is the ResponseWriter of a handler: it knows whether anything was written, and everything else is the
// server's.
type answering struct {
	http.ResponseWriter
	ctx      context.Context
	begun    bool
	hijacked bool
	unwatch  func() bool
}

// WriteHeader implements http.ResponseWriter. Informational headers do not begin the answer.
func (a *answering) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.begun = true
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answering) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

// WriteString implements io.StringWriter.
func (a *answering) WriteString(s string) (int, error) {
	a.begun = true
	return io.WriteString(a.ResponseWriter, s)
}

// ReadFrom implements io.ReaderFrom, by which files are sent without being read.
func (a *answering) ReadFrom(r io.Reader) (int64, error) {
	a.begun = true
	return io.Copy(a.ResponseWriter, r)
}

// Flush implements http.Flusher.
func (a *answering) Flush() { a.FlushError() } //nolint:errcheck // as http.Flusher has it

// FlushError is for http.ResponseController.
func (a *answering) FlushError() error {
	a.begun = true
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController: deadlines and full duplex are the server's.
func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// left is called when the handler has returned: what it took over is its own from now on.
func (a *answering) left() {
	if a.unwatch != nil {
		a.unwatch()
	}
}

// hijackable is answering where the connection can be taken over.
type hijackable struct{ *answering }

// Hijack implements http.Hijacker. The end of the call closes the connection, as long as the handler has not returned.
func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		h.begun, h.hijacked = true, true
		h.unwatch = call.AfterFunc(h.ctx, func() { conn.Close() }) //nolint:errcheck // it is over
	}
	return conn, rw, err
}

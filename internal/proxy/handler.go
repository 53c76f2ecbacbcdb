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
	a := &answering{ResponseWriter: w, client: clientOf(r), prefix: route.Prefix}
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
		a.located() // of an answer that is only a header
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
		u.RawPath = u.RawPath[encodedLen(u.RawPath, len(prefix)):]
		if len(u.RawPath) > 2 && strings.EqualFold(u.RawPath[:3], "%2F") { // that ended the prefix, and is no part of a name
			u.RawPath = "/" + u.RawPath[3:]
		}
		if u.RawPath = rooted(u.RawPath); u.RawPath == u.Path { // as net/url leaves it
			u.RawPath = ""
		}
	}
	r.URL = u
	return r
}

// encodedLen is how long the first n bytes of a path are in its encoded form. For example, the six of "/a%2Fb" in "/a%2Fb/c" are the four of "/a/b".
func encodedLen(raw string, n int) int {
	i := 0
	for ; n > 0 && i < len(raw); n-- {
		if raw[i] == '%' {
			i += 3
		} else {
			i++
		}
	}
	return min(i, len(raw))
}

func rooted(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// answering is the ResponseWriter of a handler: it knows whether anything was written and puts the application's prefix in front of
// redirects. Everything else is the server's.
type answering struct {
	http.ResponseWriter
	client   *client // nil if there is none, as in tests
	prefix   string
	ctx      context.Context
	begun    bool
	hijacked bool
	unwatch  func() bool
}

// begin is called before the answer's header leaves.
func (a *answering) begin() {
	if a.begun {
		return
	}
	a.located()
	a.begun = true
	if te := a.Header()["Transfer-Encoding"]; len(te) > 0 && te[0] == "identity" && a.client != nil {
		a.client.endless.Store(true)
	}
}

// located makes the paths in the header ones that clients know.
func (a *answering) located() {
	if !a.begun && a.prefix != "/" {
		outside(a.Header(), "Location", a.prefix)
		outside(a.Header(), "Content-Location", a.prefix)
	}
}

// outside makes a path in a header one that clients know. The handler is asked for paths below its application's prefix, and so are
// the paths that it and http.ServeMux redirect to. A URL with a host is left alone, and so is a path that does not begin with a
// slash, which is relative to the one that the client asked for.
func outside(h http.Header, name, prefix string) {
	if v := h[name]; len(v) > 0 && strings.HasPrefix(v[0], "/") && !strings.HasPrefix(v[0], "//") {
		h[name] = []string{(&url.URL{Path: prefix}).EscapedPath() + v[0]}
	}
}

// WriteHeader implements http.ResponseWriter. Informational headers do not begin the answer.
func (a *answering) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answering) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b)
}

// WriteString implements io.StringWriter.
func (a *answering) WriteString(s string) (int, error) {
	a.begin()
	return io.WriteString(a.ResponseWriter, s)
}

// ReadFrom implements io.ReaderFrom, by which files are sent without being read.
func (a *answering) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	return io.Copy(a.ResponseWriter, r)
}

// Flush implements http.Flusher.
func (a *answering) Flush() { a.FlushError() } //nolint:errcheck // as http.Flusher has it

// FlushError is for http.ResponseController.
func (a *answering) FlushError() error {
	a.begin()
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
		if h.client != nil { // its end is the handler's business
			h.client.endless.Store(false)
		}
		h.unwatch = call.AfterFunc(h.ctx, func() { conn.Close() }) //nolint:errcheck // it is over
	}
	return conn, rw, err
}

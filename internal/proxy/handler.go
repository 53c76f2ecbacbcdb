package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/forwarded"
)

// handle lets a handler of the application answer a request.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request, route *Route, x *exchange) {
	c := &x.call
	a := &handlerWriter{
		ResponseWriter: w, client: x.client, prefix: p.External(route.Prefix), id: w.Header()["X-Request-Id"], held: p.memory.Hold(x.client),
	}
	defer a.held.End()
	read, e := p.firstBody(r, route, c, a)
	if e != nil {
		p.fail(w, r, x, e)
		return
	}
	aw := http.ResponseWriter(a)
	if _, ok := w.(http.Hijacker); ok { // HTTP/2 has no hijacking, and handlers ask by a type assertion
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
		if a.begun {
			p.logFailure(r, slog.LevelError, "handler failed", c, goexit(c))
			return
		}
		p.answerExit(w, r, x)
	}()
	e = route.Handle(r.Context(), c, func(ctx context.Context, h http.Handler, whole bool) (taken bool) {
		x.timed.Begins(&c.Info)
		a.ctx = ctx
		defer a.handlerReturned()
		in := r
		if ctx != r.Context() || !whole { // otherwise the request is as the handler wants it
			in = r.WithContext(ctx)
		}
		if read {
			in.Body = &a.body
		}
		defer removeForm(in)
		if whole {
			a.prefix = "/"
			in = p.wholePath(in)
		} else {
			in = stripPrefix(route.Prefix, in)
		}
		h.ServeHTTP(aw, in)
		a.completeHeader() // of an answer without a body
		return a.hijacked
	})
	returned = true
	switch {
	case e == nil:
	case !a.begun && e.Cause == ErrNextNode && p.handover.next.Load() != nil: //nolint:errorlint // as package serving gives it
		body := &a.body
		if !read {
			body = nil
		}
		p.passWaiting(w, r, body)
	case !a.begun:
		p.fail(w, r, x, e)
	case x.timed.AnswersFor(e):
	default:
		x.failure.Store(e)
		p.logFailure(r, slog.LevelError, "handler failed", c, e)
		if !a.hijacked {
			panic(http.ErrAbortHandler) // the client must not take the written part for the whole answer
		}
	}
}

// wholePath puts the root path of the proxy in front of the path again, as ASGI servers do.
func (p *Proxy) wholePath(r *http.Request) *http.Request {
	root := p.options.Load().RootPath
	if root == "" {
		return r
	}
	r = forwarded.Copy(r)
	if r.URL.RawPath != "" {
		r.URL.RawPath = (&url.URL{Path: root}).EscapedPath() + r.URL.RawPath
	}
	r.URL.Path = root + r.URL.Path
	return r
}

// removeForm removes the files of a form that a handler has parsed. The server does that for the requests that it makes, and a handler gets
// a copy.
func removeForm(r *http.Request) {
	if r.MultipartForm != nil {
		r.MultipartForm.RemoveAll() //nolint:errcheck // nobody could do more
	}
}

// readBody is a body that has been read.
type readBody struct {
	bytes.Reader
	data []byte
}

// Close implements io.Closer.
func (b *readBody) Close() error { return nil }

// Bytes is the whole body.
func (b *readBody) Bytes() []byte { return b.data }

// firstBody reads a small body of a request that goes to another process, so that no slot is held while a slow client sends it. The result is
// false for other requests. For example, a client sends 10 KB at 1 KB/s: the call waits for a slot after ten seconds, and not before.
func (p *Proxy) firstBody(r *http.Request, route *Route, c *call.Call, a *handlerWriter) (read bool, failure *call.Error) {
	if !route.ReadsFirst || r.ContentLength <= 0 || r.ContentLength > firstRead || len(r.Header["Expect"]) > 0 {
		return false, nil
	}
	if route.Refuses != nil {
		if e := route.Refuses(c); e != nil {
			return false, e
		}
	}
	data, e := p.body(r, nil, firstRead, &a.held)
	if e != nil {
		return false, e
	}
	a.body.data = data
	a.body.Reset(data)
	return true, nil
}

// stripPrefix removes the application's prefix from the path of a request, which belongs to the caller.
func stripPrefix(prefix string, r *http.Request) *http.Request {
	if prefix == "/" {
		return r
	}
	u := new(url.URL)
	*u = *r.URL
	u.Path = rooted(strings.TrimPrefix(u.Path, prefix))
	if u.RawPath != "" {
		u.RawPath = u.RawPath[encodedLen(u.RawPath, len(prefix)):]
		if len(u.RawPath) > 2 && strings.EqualFold(u.RawPath[:3], "%2F") { // a slash that ended the prefix, and is no part of a name
			u.RawPath = "/" + u.RawPath[3:]
		}
		if u.RawPath = rooted(u.RawPath); u.RawPath == u.Path { // net/url leaves RawPath empty then
			u.RawPath = ""
		}
	}
	r.URL = u
	return r
}

// encodedLen is the length of the encoded form of the first n bytes of a path. For example, the first four bytes of
// the path "/a/b" are the first six of its encoded form "/a%2Fb/c".
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

// handlerWriter is the ResponseWriter of a handler. It knows whether the answer has begun, and puts the application's
// prefix in front of redirects. The server does all else.
type handlerWriter struct {
	http.ResponseWriter
	client   *clients.Conn // nil in tests without a connection
	prefix   string
	id       []string // of the request, as a header
	ctx      context.Context
	begun    bool
	hijacked bool
	unwatch  func() bool
	body     readBody     // of a request whose body is read before it has a slot
	held     clients.Hold // of its own: with a timeout the request may end before the handler
}

// begin must be called before the answer's header is sent.
func (a *handlerWriter) begin() {
	if a.begun {
		return
	}
	a.completeHeader()
	a.begun = true
	if te := a.Header()["Transfer-Encoding"]; len(te) > 0 && te[0] == "identity" && a.client != nil {
		a.client.SetEndless(true)
	}
}

// completeHeader changes the paths in the header to paths that clients know. The request's id stays the node's, whatever the handler has set: the log
// has the request under it. For example, a handler that forwards to another server copies the id that this one has chosen.
func (a *handlerWriter) completeHeader() {
	if a.begun {
		return
	}
	a.Header()["X-Request-Id"] = a.id
	if a.prefix != "/" {
		externalPath(a.Header(), "Location", a.prefix)
		externalPath(a.Header(), "Content-Location", a.prefix)
	}
}

// externalPath changes a path in a header to a path that clients know. The handler sees paths below its application's
// prefix, and it and http.ServeMux redirect to such paths. A URL with a host stays unchanged, and so does a path that
// does not begin with a slash, which is relative to the client's path.
func externalPath(h http.Header, name, prefix string) {
	if v := h[name]; len(v) > 0 && strings.HasPrefix(v[0], "/") && !strings.HasPrefix(v[0], "//") {
		h[name] = []string{(&url.URL{Path: prefix}).EscapedPath() + v[0]}
	}
}

// WriteHeader implements http.ResponseWriter. Informational headers do not begin the answer.
func (a *handlerWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("invalid WriteHeader code " + strconv.Itoa(status)) // as the server does, which must not be asked: the answer has not begun
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *handlerWriter) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b)
}

// WriteString implements io.StringWriter.
func (a *handlerWriter) WriteString(s string) (int, error) {
	a.begin()
	return io.WriteString(a.ResponseWriter, s)
}

// ReadFrom implements io.ReaderFrom, with which files are sent without being read.
func (a *handlerWriter) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	return io.Copy(a.ResponseWriter, r)
}

// Flush implements http.Flusher.
func (a *handlerWriter) Flush() { a.FlushError() } //nolint:errcheck // as http.Flusher has it

// FlushError is for http.ResponseController.
func (a *handlerWriter) FlushError() error {
	a.begin()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController: deadlines and full duplex are the server's.
func (a *handlerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// handlerReturned must be called when the handler has returned. A connection that it took over belongs to it alone from now on.
func (a *handlerWriter) handlerReturned() {
	if a.unwatch != nil {
		a.unwatch()
	}
}

// KeepConnection lets a connection that was taken over outlive the end of its call: the handler closes it by itself, after the words that its
// protocol has for an end. For example, a WebSocket gets a close frame first.
func (a *handlerWriter) KeepConnection() {
	if a.unwatch != nil {
		a.unwatch()
	}
}

// hijackable is a handlerWriter on a connection that can be taken over.
type hijackable struct{ *handlerWriter }

// Hijack implements http.Hijacker. The end of the call closes the connection, as long as the handler has not
// returned.
func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		// The server's reader ends the context of the request when it sees the end of what the client sends. A client that has closed its
		// half can still read, so that the handler's reader must not be that one.
		first, _ := rw.Reader.Peek(rw.Reader.Buffered())
		in := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(first)), conn))
		in.Peek(len(first)) //nolint:errcheck // they are there
		rw.Reader = in
		h.begun, h.hijacked = true, true
		if h.client != nil { // the handler is responsible for the end of the connection
			h.client.SetEndless(false)
		}
		h.unwatch = call.AfterFunc(h.ctx, func() { conn.Close() }) //nolint:errcheck // it is over
	}
	return conn, rw, err
}

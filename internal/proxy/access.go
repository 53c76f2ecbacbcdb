package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/access"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/timed"
)

// logAccess writes the line of a request into the access log. The route is the prefix of the application, and not the path, which is the client's text. The status is the
// one under which the request is counted ([accessed.outcome]); 101 is a connection that the handler took over.
func (p *Proxy) logAccess(begun time.Time, took time.Duration, status int, r *http.Request, route *served, x *exchange) {
	line := access.Line{Begun: begun, Took: took, Client: r.RemoteAddr, Method: r.Method, Status: status, Bytes: x.answer.bytes}
	if ids := x.answer.Header()["X-Request-Id"]; len(ids) == 1 {
		line.Request = ids[0]
	}
	if route != nil {
		line.Route, line.App = route.Prefix, route.App
	}
	if info := x.info(); info != nil {
		line.Replica = info.Replica
	}
	p.access.Write(&line)
}

// exchange is the memory of one request to an application. The call and the answer are in one struct, because they cost one
// allocation together.
//
// It is also the context of the call, so that a method finds the request by it ([call.HTTPFrom]).
type exchange struct {
	context.Context
	client *clients.Conn // nil in tests without a connection
	call   call.Call
	answer accessed
	// abandoned says that a handler still runs after the time of its request: the call is its own then.
	abandoned bool
	limit     time.Duration // of the whole request; 0 for none
	timed     *timed.Writer // of a handler whose time is limited; nil for others
	request   *http.Request
	prefix    string // of the route
	head      call.Answer
	id        [1]string // of the request, as a header
	held      clients.Hold
	place     *call.Place                // of the route
	caller    uint64                     // the client's span, 0 without
	failure   atomic.Pointer[call.Error] // of the request, as the log has it; nil for none
}

// info has the replica of the request. It is nil if a handler still runs that has no replica yet, for example because all have too much to do.
func (x *exchange) info() *call.Info {
	if x.abandoned {
		return x.timed.Info()
	}
	return &x.call.Info
}

// trace is the id of the request's trace if that is sampled, else nil.
func (x *exchange) trace() *[16]byte {
	if i := x.info(); i != nil && i.Sampled {
		id := i.TraceID()
		return &id
	}
	return nil
}

// Value gives the exchange for [call.HTTPKey].
func (x *exchange) Value(key any) any {
	if key == (call.HTTPKey{}) {
		return x
	}
	return x.Context.Value(key)
}

// HTTPRequest makes a copy of the request's head.
func (x *exchange) HTTPRequest() call.HTTPRequest {
	prefix := x.call.Info.Prefix // with the root path, which the request's path has no more
	below := stripPrefix(x.prefix, x.request.WithContext(x.Context))
	return call.HTTPRequest{
		Method: below.Method, Path: below.URL.Path, Prefix: prefix, RawQuery: below.URL.RawQuery, Host: below.Host, Client: below.RemoteAddr,
		Header: below.Header.Clone(),
	}
}

// HTTPAnswer is the part of the answer's head that the method chooses.
func (x *exchange) HTTPAnswer() *call.Answer { return &x.head }

// serve answers a request to an application, counts it, and writes its line into the access log, also if the handler panics or ends its
// goroutine.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, client *clients.Conn) {
	begun := time.Now()
	x := &exchange{client: client}
	a := &x.answer
	a.ResponseWriter, a.handover = w, &p.handover
	w = a
	if _, ok := a.ResponseWriter.(http.Hijacker); ok {
		w = accessedHijacker{a}
	}
	method, requests, returned := r.Method, &p.unrouted, false
	route := p.find(r.URL.Path)
	if route != nil {
		requests, x.prefix = route.requests, route.Prefix
	}
	defer func() {
		took := time.Since(begun)
		status := a.outcome(r, client, returned, p.cut.Load())
		requests.End(method, status, took, x.trace())
		p.endSpan(x, r, status, took)
		if p.access != nil {
			p.logAccess(begun, took, status, r, route, x)
		}
	}()
	p.request(w, r, route, x)
	returned = true
}

// accessed notes the status of an answer.
type accessed struct {
	http.ResponseWriter
	handover *handover // of the proxy
	status   int       // 0 while the answer has not begun
	untaken  bool      // the client does not take the answer
	failed   bool      // the answer is complete, and its end says that the request has failed
	late     bool      // the time of the request has ended before the answer was complete
	bytes    int64     // of the body that were written
}

// statusClosed is the status of requests whose client is gone before the answer, as nginx has it.
const statusClosed = 499

// outcome is the status under which a request is counted; returned is false if the answer was cut off, and cut is true if the node has closed the
// connections of its clients. For example, a stream that fails after its first items has sent 200, and counts as 500; if it ends because its
// client has gone, it counts as 499; if its time is over, as 408; and if it ends because the node does, it counts as 503, the status of the requests that a node refuses
// before its end.
func (a *accessed) outcome(r *http.Request, client *clients.Conn, returned, cut bool) int {
	left := r.Context().Err() != nil && (client == nil || r.ProtoMajor == 2 || !client.ReadExpired())
	switch {
	case cut && a.status != http.StatusSwitchingProtocols: // also if the handler has returned: its last bytes had no connection
		return http.StatusServiceUnavailable
	case a.failed:
		return http.StatusInternalServerError
	case a.late && !returned:
		return http.StatusRequestTimeout
	case returned && left && a.begunOnly(r.Method):
		return statusClosed
	case returned && a.status != 0, a.status >= 400, a.status == http.StatusSwitchingProtocols:
		return a.status
	case r.Context().Err() != nil || a.untaken:
		return statusClosed
	case returned:
		return http.StatusOK // the server's answer when the handler has written nothing
	}
	return http.StatusInternalServerError
}

// begunOnly reports whether an answer without an error has begun, and its client cannot have had its end: it has no length, or not so many bytes.
func (a *accessed) begunOnly(method string) bool {
	if a.status == 0 || a.status >= 300 || a.status < 200 || a.status == http.StatusNoContent || method == http.MethodHead {
		return false
	}
	length := a.Header()["Content-Length"]
	return len(length) != 1 || length[0] != strconv.FormatInt(a.bytes, 10)
}

// WriteHeader implements http.ResponseWriter. The server panics if the status has not three digits: no other is noted.
func (a *accessed) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.handover.endConnection(a.Header())
	}
	a.ResponseWriter.WriteHeader(status)
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *accessed) Write(b []byte) (int, error) {
	a.begin()
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// WriteString implements io.StringWriter.
func (a *accessed) WriteString(s string) (int, error) {
	a.begin()
	n, err := io.WriteString(a.ResponseWriter, s)
	a.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, by which files are sent without being read.
func (a *accessed) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	n, err := io.Copy(a.ResponseWriter, r)
	a.bytes += n
	return n, err
}

// FlushError is for http.ResponseController.
func (a *accessed) FlushError() error {
	a.begin()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (a *accessed) Flush() { a.FlushError() } //nolint:errcheck // http.Flusher has no error

func (a *accessed) begin() {
	if a.status == 0 {
		a.handover.endConnection(a.Header())
		a.status = http.StatusOK
	}
}

// Unwrap is for http.ResponseController.
func (a *accessed) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// accessedHijacker is accessed for a connection that handlers can take over.
type accessedHijacker struct{ *accessed }

// Hijack implements http.Hijacker.
func (a accessedHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil && a.status == 0 {
		a.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/forwarded"
)

// A node that hands over to the next node closes its listeners. Requests that are under way end here. The connections of clients stay open,
// and a request that comes on one is passed on to the next node, over a unix socket; its answer says that the connection ends, so that the
// client's next request goes to the next node by itself. For example, a client with a connection that is kept alive sends a request in each second: the
// first after the handover is answered by the next node, through this one, and the second goes to the next node over a connection of its own.

// ErrNextNode is the cause of the failure of a request that waited for a replica when its node handed over: the next node answers it.
var ErrNextNode = errors.New("the next node answers the request")

// The fields by which the next node knows how the client of a request that is passed on sent it.
const (
	clientField = "Helve-Former-Client"
	schemeField = "Helve-Former-Scheme"
)

// handover is the part of a proxy that hands over.
type handover struct {
	mu        sync.Mutex
	listeners []net.Listener
	next      atomic.Pointer[httputil.ReverseProxy] // nil before the handover
	passing   atomic.Int64                          // requests that the next node answers
	awaited   map[string]bool                       // see [Proxy.AwaitStarts]; nil for none
	changed   chan struct{}                         // closed at the next change that a request may wait for; nil while none waits
}

// AwaitStarts has requests to these applications wait while they start, for a node that takes the place of one that serves: the former node has
// run them. For example, an upgrade changes the code of an application whose constructor takes 5 s: requests of these 5 s wait, and none is answered with 503. nil ends
// the wait of all. Requests to an application that cannot be loaded, or has failed to start, do not wait.
func (p *Proxy) AwaitStarts(apps map[string]bool) {
	p.handover.mu.Lock()
	p.handover.awaited = apps
	p.handover.mu.Unlock()
	p.handover.noteChange()
}

// change returns the channel of the next change; nil if requests to the application do not wait for its start.
func (h *handover) change(app string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.awaited[app]; !there {
		return nil
	}
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.changed
}

// noteChange lets requests look again that wait for a start.
func (h *handover) noteChange() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// awaitStart is the route of a request when its application has started, or when the request does not wait for that any more. passes says that the node has
// handed over meanwhile.
func (p *Proxy) awaitStart(r *http.Request, route *served) (now *served, passes bool) {
	var late <-chan time.Time
	if limit, e := p.timeout(r, route); e == nil && limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	for {
		changed := p.handover.change(route.App) // before the look, or a change between the two would be missed
		now = p.find(r.URL.Path)
		switch {
		case p.handover.next.Load() != nil:
			return route, true
		case changed == nil || p.draining.Load():
			return route, false
		case now == nil || !now.Starting || now.Lost || now.Failed:
			return now, false
		}
		select {
		case <-changed:
		case <-late:
			return route, false
		case <-r.Context().Done():
			return route, false
		}
	}
}

// listen notes a listener, which ends with the handover.
func (h *handover) listen(l net.Listener) (ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next.Load() != nil {
		return false
	}
	h.listeners = append(h.listeners, l)
	return true
}

// forget is told of the end of a listener.
func (h *handover) forget(l net.Listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners = slices.DeleteFunc(h.listeners, func(o net.Listener) bool { return o == l })
}

// HandOver closes the listeners, and passes on each request that comes from now on. next connects to the next node, and waits for it if need be.
func (p *Proxy) HandOver(next http.RoundTripper) {
	h := &p.handover
	h.mu.Lock()
	all := h.listeners
	h.next.CompareAndSwap(nil, &httputil.ReverseProxy{Rewrite: rewrite, Transport: next, FlushInterval: -1, ErrorHandler: p.notPassed})
	h.mu.Unlock()
	for _, l := range all {
		l.Close()
	}
	h.noteChange()
}

// Ongoing is the number of requests that are under way, with those that the next node answers, and Clients the number of connections.
func (p *Proxy) Ongoing() int64 { return p.active.Load() + p.handover.passing.Load() }

// Clients is the number of open connections of clients.
func (p *Proxy) Clients() int { return p.clients.Len() }

// pass has the next node answer a request.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request) {
	p.handover.passing.Add(1)
	defer p.handover.passing.Add(-1)
	if r.Header.Get("Upgrade") == "" { // the connection of a WebSocket ends with that
		w.Header()["Connection"] = connectionClose
	}
	p.handover.next.Load().ServeHTTP(w, r)
}

// passWaiting has the next node answer a request that has waited here. body is the part of it that was read; nil for none.
func (p *Proxy) passWaiting(w http.ResponseWriter, r *http.Request, body *readBody) {
	out := forwarded.Copy(r)
	out.Header = r.Header.Clone()
	out.Header["X-Request-Id"] = w.Header()["X-Request-Id"]
	delete(w.Header(), "X-Request-Id") // it comes back with the answer
	if body != nil {
		body.Seek(0, io.SeekStart) //nolint:errcheck // within the bytes
		out.Body = body
	}
	p.pass(w, out)
}

// rewrite makes the request to the next node, which is the client's own, with its address and scheme beside it.
func rewrite(r *httputil.ProxyRequest) {
	scheme := r.In.URL.Scheme
	if r.In.TLS != nil {
		scheme = "https"
	}
	out := r.Out
	out.URL.Scheme, out.URL.Host, out.Host = "http", "next-node", r.In.Host
	out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := r.In.Header[name]; ok {
			out.Header[name] = v
		}
	}
	out.Header.Set(clientField, r.In.RemoteAddr)
	out.Header.Set(schemeField, scheme)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // the client of net/http would add its own
	}
}

// notPassed answers a request whose answer from the next node failed.
func (p *Proxy) notPassed(w http.ResponseWriter, r *http.Request, err error) {
	p.log.Warn("a request was not passed on to the next node", "error", err)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	setRequestID(w, r)
	w.Header().Set("Retry-After", "1")
	plainError(w, r, http.StatusBadGateway, helvetype.CodeUnavailable, "the node has changed, and the next one ended before it had answered")
}

// Former is the handler for the requests that the former node passes on. It is only for a listener that no other process can reach.
func (p *Proxy) Former() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := forwarded.Copy(r)
		in.Header = r.Header.Clone()
		in.RemoteAddr = in.Header.Get(clientField)
		switch in.Header.Get(schemeField) {
		case "https":
			in.TLS = &tls.ConnectionState{HandshakeComplete: true}
		case "http":
			in.URL = &url.URL{}
			*in.URL = *r.URL
			in.URL.Scheme = "http"
		}
		in.Header.Del(clientField)
		in.Header.Del(schemeField)
		p.ServeHTTP(w, in)
	})
}

// endConnection has an answer say that its connection ends, if the node has handed over since the request came.
func (h *handover) endConnection(header http.Header) {
	if h != nil && h.next.Load() != nil {
		header["Connection"] = connectionClose
	}
}

// Package proxy is the HTTP ingress of a node. It trusts no byte that it reads.
//
// It finds the application by the longest route prefix, turns a request into a call of the ingress method, and the
// answer or error into a response. For example, with the routes "/" and "/shop", a POST of {"id": 1} to /shop/cart
// calls the ingress of the second with one JSON argument, and a result becomes JSON, text or bytes by its kind.
//
// The limits of connections, memory and time that clients can take are in package clients.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/access"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/coding"
	"github.com/helve-serve/helve/internal/cors"
	"github.com/helve-serve/helve/internal/forwarded"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/sse"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// InKind is the kind of input of an ingress method.
type InKind uint8

// The kinds. Unsupported is a signature that is not served over HTTP.
const (
	InNone InKind = iota
	InString
	InBytes
	InJSON
	InUnsupported
)

// Route is one application.
type Route struct {
	Prefix string // "/" or "/a/b", decoded
	App    string
	// Options are the application's own; nil for none.
	Options *spec.IngressOptions
	// Starting is set while the application starts: its requests are answered with 503, and the fields below are not read.
	Starting bool
	// Lost is set beside Starting for an application that cannot be loaded for now.
	Lost bool
	// Failed is set beside Starting for an application whose first deploy has failed.
	Failed bool
	In     InKind
	// Refuses returns the error with which a call would be refused now, before its body is read: for example, the
	// queue is full, or the application is not served. It returns nil if the call would not be refused, or if that is
	// not known yet. Refuses may be nil.
	Refuses func(c *call.Call) *call.Error
	// Call makes the call and waits for its result. It sets c's place (application, deployment, method), because the
	// place that c comes with is shared and names only the application. The context ends when the client is gone. The
	// payload's codec is None, Raw, Text or JSON; its memory belongs to the caller.
	Call func(ctx context.Context, c *call.Call) (call.Payload, *call.Error)
	// Stream is Call for an ingress that streams; it passes its items to item. Exactly one of Call, Stream and Handle
	// is set.
	Stream func(ctx context.Context, c *call.Call, item Item) *call.Error
	// Handle is Call for an ingress that is an http.Handler: it calls serve once it has a replica. It passes
	// http.ErrAbortHandler on.
	Handle func(ctx context.Context, c *call.Call, serve Serve) *call.Error
	// ReadsFirst says that Handle passes requests to other processes: a small body is read before Handle takes a slot.
	ReadsFirst bool
}

// Item gets one item of a stream, on the goroutine of the request. The parameter more is true if the next item is
// there already. The result false stops the stream. The payload is valid only during the call.
type Item func(p call.Payload, more bool) bool

// Serve lets h answer the request. The parameter ctx is the call's context: its end closes a connection that was
// taken over. With whole the path of the request has the prefix of the application, and redirects of h are not changed; otherwise the prefix is
// taken off the path and put in front of redirects. The result taken says that h has taken the connection over, so that no answer of it can be incomplete.
type Serve func(ctx context.Context, h http.Handler, whole bool) (taken bool)

// Settings are the parameters of [New].
type Settings struct {
	Logger  *slog.Logger
	Limits  clients.Limits
	Options Options // checked
	// AccessLog gets a line per request to an application. nil: there is no access log.
	AccessLog io.Writer
	// Trace takes a record of each request that was slow, has failed or is sampled, and decides which are. nil: there are none.
	Trace *trace.Recorder
	// Apps reports of every application whether it can answer requests. If it is nil, all applications with a route
	// can.
	Apps func() map[string]bool
}

// Proxy is an http.Handler and the server around it. All methods are safe for concurrent use.
type Proxy struct {
	log      *slog.Logger
	limits   clients.Limits
	options  atomic.Pointer[Options] // requests read it while SetOptions replaces it
	trusted  *forwarded.Trusted      // nil for no peer
	access   *access.Log             // nil for none
	trace    *trace.Recorder         // nil for none
	memory   *clients.Memory
	clients  *clients.Set
	apps     func() map[string]bool
	routes   atomic.Pointer[[]served] // longest prefix first
	opened   atomic.Bool              // an application has been ready
	draining atomic.Bool
	closed   atomic.Bool // new requests of a server that is not the proxy's own are refused
	cut      atomic.Bool // the connections of clients are closed, although requests are under way
	handover handover
	active   atomic.Int64       // number of requests to applications
	unrouted telemetry.Requests // requests whose path no application has
	server   *http.Server

	setting sync.Mutex     // held while the routes are replaced
	counted []*routeCounts // the routes that are served first, then those that are gone, the newest first
}

// New makes a proxy without routes.
func New(s Settings) *Proxy {
	p := &Proxy{log: s.Logger, limits: s.Limits.WithDefaults(), apps: s.Apps, trace: s.Trace}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if s.AccessLog != nil {
		p.access = access.New(s.AccessLog, s.Options.JSONLog)
	}
	p.setOptions(s.Options)
	p.memory = clients.NewMemory(p.limits.Memory)
	p.clients = clients.NewSet(p.limits.Connections, p.limits.StallTimeout)
	p.routes.Store(&[]served{})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP2(true)
	p.server = &http.Server{
		Handler: p, ReadHeaderTimeout: p.limits.HeaderTimeout, ReadTimeout: p.limits.BodyTimeout, IdleTimeout: p.limits.IdleTimeout,
		MaxHeaderBytes: p.limits.MaxHeader, Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: p.limits.Streams},
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), ConnContext: clients.Context,
		ConnState: clients.Note,
	}
	return p
}

// Configure replaces the options, before the first listener and the first route. An idle time above 0 replaces [Limits.IdleTimeout].
func (p *Proxy) Configure(o Options, idle time.Duration) {
	p.setOptions(o)
	if idle > 0 {
		p.limits.IdleTimeout, p.server.IdleTimeout = idle, idle
	}
}

func (p *Proxy) setOptions(o Options) {
	p.options.Store(&o)
	p.trusted = nil
	if t, err := forwarded.Networks(o.TrustForwarded); err == nil && len(o.TrustForwarded) > 0 {
		p.trusted = t
	}
}

// Options are the options that hold.
func (p *Proxy) Options() Options { return *p.options.Load() }

// IdleTime is the longest time that a connection may be without a request.
func (p *Proxy) IdleTime() time.Duration { return cmp.Or(p.clients.Idle(), p.limits.IdleTimeout) }

// SetOptions changes the options that can change while requests are served: the longest time of a request, the root path, and the idle time of connections of
// HTTP/1, where 0 is that of the server. Requests under way keep theirs.
func (p *Proxy) SetOptions(requestTimeout time.Duration, rootPath string, idle time.Duration) {
	o := p.Options()
	o.RequestTimeout, o.RootPath = requestTimeout, rootPath
	p.clients.SetIdle(idle)
	p.options.Store(&o)
}

// served is a route, with the data that is the same for all its calls.
type served struct {
	Route
	place    *call.Place
	requests *telemetry.Requests
	maxBody  int64         // of a method or stream; of a handler 0 is no limit
	timeout  time.Duration // 0 for none
	cors     *cors.Policy  // nil for none
}

// CheckPrefix returns an error if a prefix cannot be served.
func CheckPrefix(prefix string) error {
	if prefix != "/" && (!strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/")) {
		return fmt.Errorf("route_prefix %q: must begin with / and not end with it", prefix)
	}
	if prefix == "/-" || strings.HasPrefix(prefix, "/-/") {
		return fmt.Errorf("route_prefix %q: what begins with /- belongs to the proxy", prefix)
	}
	if decoded, err := url.PathUnescape(prefix); err == nil && decoded != prefix {
		if err := CheckPrefix(decoded); err != nil { // for example "/a%2f"
			return fmt.Errorf("route_prefix %q: is compared with decoded paths; decoded it is a wrong %w", prefix, err)
		}
		return fmt.Errorf("route_prefix %q: is compared with decoded paths, in which it cannot be: write %q", prefix, decoded)
	}
	return nil
}

// SetRoutes replaces the routes. Requests under way keep theirs. A prefix that occurs twice, that can match no path,
// or that is one of the proxy's own paths is an error, and changes nothing.
func (p *Proxy) SetRoutes(routes []Route) error {
	rs := make([]served, len(routes))
	for i, r := range routes {
		if err := CheckPrefix(r.Prefix); err != nil {
			return fmt.Errorf("application %q: %w", r.App, err)
		}
		rs[i] = served{Route: r, place: &call.Place{App: r.App}}
		if r.Handle == nil {
			rs[i].maxBody = p.limits.MaxBody
		}
		if o := r.Options; o != nil {
			if o.MaxBody > 0 {
				rs[i].maxBody = o.MaxBody
				if r.Handle == nil {
					rs[i].maxBody = min(o.MaxBody, p.limits.Memory/2) // as Limits.Check has it
				}
			}
			rs[i].timeout, rs[i].cors = o.RequestTimeout, cors.New(o.CORS, taken(&r))
		}
	}
	slices.SortFunc(rs, func(a, b served) int {
		if d := len(b.Prefix) - len(a.Prefix); d != 0 {
			return d
		}
		return strings.Compare(a.Prefix, b.Prefix)
	})
	for i := 1; i < len(rs); i++ {
		if rs[i].Prefix == rs[i-1].Prefix {
			return fmt.Errorf("route prefix %q belongs to applications %q and %q", rs[i].Prefix, rs[i-1].App, rs[i].App)
		}
	}
	p.setting.Lock()
	defer p.setting.Unlock()
	p.countLocked(rs)
	p.routes.Store(&rs)
	p.handover.noteChange()
	return nil
}

// Serve accepts HTTP/1.1 and HTTP/2 on l, until Drain or a failure. It closes l. With a TLS configuration the clients of l speak TLS; nil is
// for clients that do not.
func (p *Proxy) Serve(l net.Listener, secure *tls.Config) error {
	patient := listen.New(l, func(err error, times int) {
		p.log.Warn("clients cannot connect now, the node tries again", "error", err, "times", times)
	})
	l = p.clients.Listener(patient)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	if !p.handover.listen(l) {
		return l.Close()
	}
	defer p.handover.forget(l)
	err := p.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || p.handover.next.Load() != nil {
		return nil
	}
	return err
}

// Announce begins a drain: from now on the node calls itself unhealthy, and answers say that their connection ends. Nothing else changes until Drain.
func (p *Proxy) Announce() { p.draining.Store(true) }

// AwaitDelay waits for the time of the drain delay, or the end of ctx: load balancers send requests elsewhere before the listeners close.
func (p *Proxy) AwaitDelay(ctx context.Context) {
	if p.options.Load().DrainDelay <= 0 {
		return
	}
	delay := time.NewTimer(p.options.Load().DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}

// Drain closes the listeners and the connections without a request, and lets requests under way finish, with the requests that come on open
// connections meanwhile. When ctx ends first, the rest is cut off and ctx's error returned. A drain that was not announced begins here, without a
// delay. Once it returns, no line of the access log waits any more.
func (p *Proxy) Drain(ctx context.Context) error {
	p.draining.Store(true)
	p.closed.Store(true)
	err := p.server.Shutdown(ctx)
	if err != nil {
		p.cut.Store(true) // before the requests notice
		p.server.Close()
	}
	p.clients.EndLingering()
	tick := time.NewTicker(2 * time.Millisecond) // a poll, because the alternative is a signal at the end of every request, for a wait once in a process's life
	defer tick.Stop()
	for p.active.Load() > 0 && ctx.Err() == nil { // connections that were taken over, and requests of other servers
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if p.access != nil {
		p.access.End()
	}
	return cmp.Or(err, ctx.Err())
}

func (p *Proxy) find(path string) *served {
	rs := *p.routes.Load()
	for i := range rs {
		if under(rs[i].Prefix, path) {
			return &rs[i]
		}
	}
	return nil
}

// ServeHTTP answers one request. It may be of another server than the proxy's own: then that server has the limits of connections, headers and
// idle time, and all others hold here.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client := clients.Of(r)
	last := false
	switch {
	case client == nil || r.ProtoMajor == 2:
		paced := clients.Pace(w, r, p.limits.StallTimeout)
		defer paced.AnswerComplete()
		w = paced.Writer()
	default:
		last = client.BeginRequest(r)
		if r.ContentLength != 0 {
			client.BeginBody(len(r.Header["Expect"]) > 0)
		}
		if !r.ProtoAtLeast(1, 1) {
			client.SetEndless(true) // until the answer is complete
		}
	}
	if last || p.draining.Load() {
		w.Header()["Connection"] = connectionClose // over HTTP/2 the server makes a GOAWAY of it
	}
	switch own := p.external(r); {
	case p.handover.next.Load() != nil:
		p.pass(w, r)
	case strings.HasPrefix(own.URL.Path, "/-/"):
		p.serveNodePaths(w, own)
	default:
		p.serve(w, own, client)
	}
	if client != nil && r.ProtoMajor == 1 {
		client.SetEndless(false)
	}
}

var connectionClose = []string{"close"} //nolint:gochecknoglobals // a constant

// request answers one request to an application. The route is nil if no application has the path. The method panics with
// http.ErrAbortHandler to cut an answer off.
func (p *Proxy) request(w http.ResponseWriter, r *http.Request, route *served, x *exchange) {
	p.active.Add(1)
	defer p.active.Add(-1)
	if x.client == nil && p.closed.Load() {
		setRequestID(w, r)
		w.Header().Set("Retry-After", "1")
		plainError(w, r, http.StatusServiceUnavailable, helvetype.CodeUnavailable, "this node is shutting down")
		return
	}
	c := &x.call
	c.Want, c.Origin = call.Plain, "proxy"
	if e := p.info(r, &c.Info); e != nil {
		p.fail(w, r, x, e)
		return
	}
	p.beginSpan(x)
	x.id[0] = c.Info.Request.String()
	w.Header()["X-Request-Id"] = x.id[:]
	if r.Method == http.MethodConnect { // no application is a tunnel, and the path of "CONNECT host:80" is empty
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		plainError(w, r, http.StatusMethodNotAllowed, helvetype.CodeUnimplemented, "CONNECT is not allowed here: applications answer requests for paths")
		return
	}
	if route != nil && route.Starting {
		var passes bool
		if route, passes = p.awaitStart(r, route); passes {
			p.passWaiting(w, r, nil)
			return
		}
	}
	if route != nil && route.cors != nil && route.cors.Answer(w, r) {
		return
	}
	x.held = p.memory.Hold(x.client)
	if !x.held.Begin(r) {
		p.fail(w, r, x, clients.NoRoom())
		return
	}
	defer x.held.End()
	if route == nil {
		p.notFound(w, r)
		return
	}
	if route.Starting {
		w.Header().Set("Retry-After", "1")
		why := "is starting"
		switch {
		case route.Lost:
			why = "cannot be loaded; its status says why"
		case route.Failed:
			why = "has failed to start; its status says why"
		}
		plainError(w, r, http.StatusServiceUnavailable, helvetype.CodeUnavailable, fmt.Sprintf("application %q %s", route.App, why))
		return
	}
	x.place, c.Info.Place = route.place, route.place
	if route.Handle != nil && route.maxBody > 0 {
		if r.ContentLength > route.maxBody {
			p.fail(w, r, x, tooLarge(route.maxBody))
			return
		}
		r = r.WithContext(r.Context()) // a copy: by the body of its own one the server knows that a client waits for "100 Continue"
		r.Body = http.MaxBytesReader(w, r.Body, route.maxBody)
	}
	limit, e := p.timeout(r, route)
	switch {
	case e != nil:
		p.fail(w, r, x, e)
	case limit > 0:
		p.within(limit, w, r, route, x, &x.held)
	default:
		p.dispatch(w, r, route, x, &x.held)
	}
}

// dispatch makes the call of a request, and answers with its result.
func (p *Proxy) dispatch(w http.ResponseWriter, r *http.Request, route *served, x *exchange, held *clients.Hold) {
	c := &x.call
	if route.Handle != nil || route.Stream != nil {
		c.Unread = clients.UnreadOf(x.client, w, r)
	}
	if route.Handle != nil {
		p.handle(w, r, &route.Route, x)
		return
	}
	x.Context, x.request = r.Context(), r
	stop := limitBody(w, r)
	e := p.input(r, route, c, held)
	stop()
	if e != nil {
		switch {
		case e.Reason == helvetype.ReasonMethodNotAllowed:
			w.Header().Set("Allow", allowed(route.In))
		case errors.Is(e, errCoding):
			w.Header().Set("Accept-Encoding", coding.Names)
		}
		p.fail(w, r, x, e)
		return
	}
	if route.Stream != nil {
		if sse.Wanted(r) {
			p.events(w, r, &route.Route, x)
		} else {
			p.stream(w, r, &route.Route, x)
		}
		return
	}
	returned := false
	defer func() {
		if !returned {
			p.answerExit(w, r, x)
		}
	}()
	out, e := route.Call(x, c)
	returned = true
	if e == nil && out.Parts != nil && out.Parts.Head != nil {
		e = decodeHead(&x.head, out.Parts.Head)
	}
	if e == nil {
		e = held.Result(int64(len(out.Data)))
	} else {
		held.ReleaseBody()
	}
	if e != nil {
		p.fail(w, r, x, e)
		return
	}
	p.answer(w, r, x, out)
}

// answerExit answers a request whose method ended its goroutine. The method ran on the goroutine of this connection,
// which is unwinding.
func (p *Proxy) answerExit(w http.ResponseWriter, r *http.Request, x *exchange) {
	p.fail(w, r, x, goexit(&x.call))
	http.NewResponseController(w).Flush() //nolint:errcheck // the client may be gone
}

func goexit(c *call.Call) *call.Error {
	return call.NewError(helvetype.ReasonUser, "the method ended its goroutine with runtime.Goexit").At(&c.Info)
}

func (p *Proxy) notFound(w http.ResponseWriter, r *http.Request) {
	plainError(w, r, http.StatusNotFound, helvetype.CodeNotFound,
		fmt.Sprintf("Path '%s' not found. Ping http://.../-/routes for available routes.", r.URL.Path))
}

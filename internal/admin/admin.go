// Package admin is the REST API of a node for its operators: status, calls that wait and run, events, logs, metrics and profiles, and the operations of
// [Operator]. A route is a row of one table (routes.go), from which the OpenAPI document comes too.
//
// A request comes over a unix socket in a directory that belongs to the user of the node, where the file system keeps other users out, or over TCP. On the loopback
// interface every user of the machine gets in, and a browser too if a web page asks it to: so requests must name a loopback host, must not come
// from a web page of another site, and need a token for every change. For example, a page at http://evil.example whose name suddenly leads to
// 127.0.0.1 sends "Host: evil.example", and is refused. Off the loopback interface there is TLS, and every request needs a token.
package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/audit"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/token"
	"github.com/helve-serve/helve/internal/updates"
)

// Node is the node behind the handlers, which only read. All methods are safe for concurrent use.
type Node interface {
	// Status is a copy of the present state.
	Status() helvetype.Status
	// Applications has the applications of Status as they were deployed, by name.
	Applications() map[string]deploy.DeployedApp
	// HTTP is the URL of the ingress, "" without one.
	HTTP() string
	// URLs are the URLs of all listeners of the ingress.
	URLs() []string
	// Draining says that the node is closing, and waits for the calls that run.
	Draining() bool
	Events() *telemetry.Events
	// Calls lists the calls that wait and run at an application, a deployment or a replica; with empty names at all.
	Calls(at helvetype.Object, limit int) helvetype.CallList
	// Metrics are the numbers that are counted.
	Metrics() telemetry.Snapshot
}

// Settings are the arguments of [New].
type Settings struct {
	Node    Node
	Version string
	Logger  *slog.Logger
	// Metrics answers GET /metrics. nil: this program has no metrics.
	Metrics http.Handler
	// Dashboard answers the requests below /ui/. nil: there is no dashboard.
	Dashboard http.Handler
	// Operator does the operations; nil: this node only answers questions.
	Operator Operator
	// Tokens has the tokens of requests over TCP; nil: such requests may only read. Audit gets the changes; nil for memory alone.
	Tokens *token.Tokens
	Audit  *audit.Log
	// Updates tell readers what changes, and Series gives the numbers of the last time; nil: this node has neither.
	Updates *updates.Hub
	Series  func(of updates.View, last time.Duration) (helvetype.Series, bool)
	// Scrub takes the values of secrets out of a text; nil for a node without them.
	Scrub func(text string) string
	// TLS is the encryption of listeners of TCP. nil: these are on the loopback interface.
	TLS *tls.Config
	// State is the state directory of a durable node, whose applications outlive it; "" for another node.
	State string
}

// metricsKey finds the maker of the handler of metrics in a context.
type metricsKey struct{}

// WithMetrics gives a context with which a node is started that has metrics. The package of metrics is not imported here, nor by the root
// package, because it makes an executable a third larger: programs without a command line of Helve's do not link it.
func WithMetrics(ctx context.Context, make func(Node) http.Handler) context.Context {
	return context.WithValue(ctx, metricsKey{}, make)
}

// MetricsFrom is the function that [WithMetrics] put into the context, nil without.
func MetricsFrom(ctx context.Context) func(Node) http.Handler {
	f, _ := ctx.Value(metricsKey{}).(func(Node) http.Handler)
	return f
}

// connMax bounds the connections of a listener of TCP. Further clients wait.
const connMax = 512

// Server serves the handlers on any number of listeners. Its methods may be called from any goroutine.
type Server struct {
	set     Settings
	routes  []route
	started time.Time
	ctx     context.Context // ends with Close: readers that follow are told the end
	stop    context.CancelFunc
	streams chan struct{} // has an element for each reader that follows
	strange chan struct{} // and this one for each reader without a token
	unix    *http.Server
	tcp     *http.Server // on the loopback interface
	open    *http.Server // on other interfaces

	mu        sync.Mutex
	listening []string // URLs over TCP
}

// New makes a server that does not listen yet. Close it.
func New(s Settings) *Server {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Audit == nil {
		s.Audit = audit.Open("", s.Logger)
	}
	if s.Scrub == nil {
		s.Scrub = func(text string) string { return text }
	}
	a := &Server{set: s, routes: routes(), started: time.Now(), streams: make(chan struct{}, streamsMax), strange: make(chan struct{}, strangeMax)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	h := a.handler()
	a.unix, a.tcp, a.open = a.server(trusted(h)), a.server(a.local(h)), a.server(a.remote(h))
	return a
}

func (a *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: patient(h), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10, ConnContext: withConn,
		ErrorLog: slog.NewLogLogger(a.set.Logger.Handler(), slog.LevelDebug),
	}
}

// Serve answers requests on l, which it closes, until Close. A listener that ends by itself is an error.
func (a *Server) Serve(l net.Listener) error {
	s := a.tcp
	switch {
	case l.Addr().Network() == "unix":
		s = a.unix
	case !loopbackListener(l):
		s = a.open
		if a.set.TLS == nil {
			l.Close()
			return fmt.Errorf("%s is not on the loopback interface, and there is no TLS", l.Addr())
		}
	}
	if s != a.unix {
		scheme := "http://"
		if a.set.TLS != nil {
			scheme = "https://"
		}
		a.mu.Lock()
		a.listening = append(a.listening, scheme+l.Addr().String())
		a.mu.Unlock()
		l = listen.Limit(l, connMax)
		if a.set.TLS != nil {
			l = tls.NewListener(l, a.set.TLS)
		}
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends all requests and listeners.
func (a *Server) Close() {
	a.stop()
	a.unix.Close()
	a.tcp.Close()
	a.open.Close()
}

// CheckAddress gives an error for an address that is no host and port. Addresses off the loopback interface need a certificate: the tokens, requests and
// answers of operators would be open to everyone on the way.
func CheckAddress(addr string, certificate bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%w: give an address of this machine, such as 127.0.0.1:8265", err)
	}
	if !certificate && !listen.Loopback(host) {
		return fmt.Errorf("the host %q is not on the loopback interface: there the admin interface needs a certificate (helve start --admin-cert FILE "+
			"--admin-key FILE); without one it listens on 127.0.0.1, [::1] or localhost only, and an ssh tunnel leads there from other machines", host)
	}
	return nil
}

// ListenTCP listens on an address that [CheckAddress] takes.
func ListenTCP(addr string, certificate bool) (net.Listener, error) {
	if err := CheckAddress(addr, certificate); err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !certificate && !loopbackListener(l) { // localhost may lead anywhere
		l.Close()
		return nil, fmt.Errorf("the host %q is %s, which is not on the loopback interface", host, l.Addr())
	}
	return l, nil
}

func loopbackListener(l net.Listener) bool {
	at, ok := l.Addr().(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// Failure is the body of an answer that is an error.
type Failure = helvetype.OperationError

func fail(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, &Failure{Code: rest.CodeOf(status), Message: fmt.Sprintf(format, args...)})
}

// indentMax is the size of an answer, in bytes, up to which it is indented for people who read it. A larger one is for programs: with a thousand replicas the
// spaces would take as long as all the rest.
const indentMax = 64 << 10

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	var text bytes.Buffer
	switch {
	case err != nil:
		status, b = http.StatusInternalServerError, []byte(`{"error": "the answer does not encode"}`)
	case len(b) <= indentMax && json.Indent(&text, b, "", "  ") == nil:
		b = text.Bytes()
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) //nolint:errcheck // tests without a connection
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) //nolint:errcheck // the reader has gone
}

func (a *Server) metrics(c *ask) {
	if a.set.Metrics == nil {
		fail(c.w, http.StatusNotFound, "this program has no metrics: they come with cli.Main, or with metrics.Handler of package helve/metrics in helve.Config.Metrics")
		return
	}
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(answerTime)) //nolint:errcheck // tests without a connection
	a.set.Metrics.ServeHTTP(c.w, c.r)
}

// Package admin is the private side of a node over HTTP, for its operator: status, calls that wait and run, events,
// metrics and profiles. It only reads. The listener is a unix socket in a directory that belongs to the user of the node, where
// the file system keeps other users out, or a TCP address of the loopback interface, where every user of the machine gets in, and
// a browser too if a web page asks it to: so requests over TCP must name a loopback host and must not come from a web page of another site.
// For example, a page at http://evil.example whose name suddenly leads to 127.0.0.1 sends "Host: evil.example", and is refused.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Node is the node behind the handlers, which only read. All methods are safe for concurrent use.
type Node interface {
	// Status is a copy of the present state.
	Status() helvetype.Status
	// Applications has the applications of Status as they were deployed, by name.
	Applications() map[string]deploy.DeployedApp
	// HTTP is the URL of the ingress, "" without one.
	HTTP() string
	// Draining says that the node is closing, and waits for the calls that run.
	Draining() bool
	Events() *telemetry.Events
	// Calls lists the calls that wait and run, of one application and deployment where these are not "".
	Calls(app, deployment string, limit int) helvetype.CallList
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
	// Operator does the operations; nil: this node only answers questions.
	Operator Operator
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

// Server serves the handlers on any number of listeners. Its methods may be called from any goroutine.
type Server struct {
	set     Settings
	started time.Time
	ctx     context.Context // ends with Close: readers that follow are told the end
	stop    context.CancelFunc
	unix    *http.Server
	tcp     *http.Server
}

// New makes a server that does not listen yet. Close it.
func New(s Settings) *Server {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Server{set: s, started: time.Now()}
	a.ctx, a.stop = context.WithCancel(context.Background())
	h := a.handler()
	a.unix, a.tcp = a.server(h), a.server(local(h))
	return a
}

func (a *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(a.set.Logger.Handler(), slog.LevelDebug),
	}
}

// Serve answers requests on l, which it closes, until Close. A listener that ends by itself is an error.
func (a *Server) Serve(l net.Listener) error {
	s := a.tcp
	if l.Addr().Network() == "unix" {
		s = a.unix
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
}

// CheckAddress gives an error for an address that is no host and port of the loopback interface. Other addresses are refused: the admin
// interface has no authentication and no encryption.
func CheckAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%w: give an address of this machine, such as 127.0.0.1:8265", err)
	}
	if !loopback(host) {
		return fmt.Errorf("the host %q is not on the loopback interface: the admin interface has neither passwords nor encryption, "+
			"so it listens on 127.0.0.1, [::1] or localhost only; use an ssh tunnel from other machines", host)
	}
	return nil
}

// ListenTCP listens on an address that [CheckAddress] takes.
func ListenTCP(addr string) (net.Listener, error) {
	if err := CheckAddress(addr); err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() { // localhost may lead anywhere
		l.Close()
		return nil, fmt.Errorf("the host %q is %s, which is not on the loopback interface", host, l.Addr())
	}
	return l, nil
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// local lets requests through that come over the loopback interface from programs, and from pages of the admin interface itself.
func local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !loopback(strings.Trim(host, "[]")) {
			fail(w, http.StatusForbidden, "the host %q is not on the loopback interface", r.Host)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
				fail(w, http.StatusForbidden, "web pages of %q may not read this", origin)
				return
			}
		}
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
			fail(w, http.StatusForbidden, "web pages of another site may not read this")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// endpoint is one path.
type endpoint struct {
	serve  http.HandlerFunc
	params []string // of the query; nil: the handler looks at its query itself
}

func (a *Server) endpoints() map[string]endpoint {
	return map[string]endpoint{
		"/":                        {a.about, []string{}},
		"/api/serve/applications/": {a.applications, []string{"api_type"}},
		"/calls":                   {a.calls, []string{"limit", "app", "deployment"}},
		"/events":                  {a.events, []string{"after", "limit", "follow", "kind", "app", "deployment", "replica"}},
		"/metrics":                 {a.metrics, nil},
		"/debug/pprof/":            {profiles, []string{}},
		"/debug/pprof/{name}":      {profile, []string{"debug", "seconds", "gc"}},
	}
}

// handler answers GET for each endpoint, and everything else with an error in JSON.
func (a *Server) handler() http.Handler {
	all := a.endpoints()
	paths := slices.Sorted(maps.Keys(all))
	mux := http.NewServeMux()
	for path, e := range all {
		pattern := path
		if strings.HasSuffix(path, "/") {
			pattern += "{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				w.Header().Set("Allow", "GET, HEAD")
				fail(w, http.StatusMethodNotAllowed, "%s takes GET, not %s: this interface only reads", path, r.Method)
				return
			}
			if e.params != nil {
				query, err := url.ParseQuery(r.URL.RawQuery)
				if err != nil {
					fail(w, http.StatusBadRequest, "the query does not parse: %s", err)
					return
				}
				for _, name := range slices.Sorted(maps.Keys(query)) {
					if !slices.Contains(e.params, name) {
						takes := "no parameters"
						if len(e.params) > 0 {
							takes = strings.Join(e.params, ", ")
						}
						fail(w, http.StatusBadRequest, "%s has no parameter %q; it takes %s", path, name, takes)
						return
					}
				}
			}
			e.serve(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "there is no %s here; there is %s", r.URL.Path, strings.Join(paths, ", "))
	})
	return mux
}

// Failure is the body of an answer that is an error.
type Failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, Failure{fmt.Sprintf(format, args...)})
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error": "the answer does not encode"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) //nolint:errcheck // the reader has gone
}

// About is the answer to GET /: which node this is.
type About struct {
	PID          int       `json:"pid"`
	Version      string    `json:"version"`
	StartedAt    time.Time `json:"started_at"`
	HTTP         string    `json:"http,omitempty"`
	State        string    `json:"state_dir,omitempty"` // of a durable node
	Draining     bool      `json:"draining"`
	Applications []string  `json:"applications"`
	Paths        []string  `json:"paths"`
}

func (a *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if a.set.Metrics == nil {
		fail(w, http.StatusNotFound, "this program has no metrics: they come with cli.Main, or with metrics.Handler of package helve/metrics in helve.Config.Metrics")
		return
	}
	a.set.Metrics.ServeHTTP(w, r)
}

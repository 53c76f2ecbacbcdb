package ingress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// served starts a system with the ingress and gives its URL.
func served(t *testing.T, c helve.Config, builds ...helve.Build) (*helve.System, string) {
	t.Helper()
	s := helvetest.Start(t, c, builds[0])
	for _, b := range builds[1:] {
		if err := s.Deploy(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return s, url
}

// get asks without following redirects.
func get(t *testing.T, url string, header ...string) (status int, h http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = append(req.Header[header[i]], header[i+1])
	}
	r, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return r.StatusCode, r.Header, string(b)
}

// Breaker has answers that break off.
type Breaker struct{ http.ServeMux }

func (*Breaker) Items(ctx context.Context, how string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if !yield("one\n", nil) {
			return
		}
		switch how {
		case "fail":
			yield("", errors.New("the rest is lost"))
		case "panic":
			panic("the rest is lost")
		case "hang":
			<-ctx.Done()
		}
	}
}

func newBreaker(context.Context) (*Breaker, error) {
	b := &Breaker{}
	b.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if te := r.Header.Get("X-Answer-With"); te != "" {
			w.Header().Set("Transfer-Encoding", te)
		}
		how, _ := io.ReadAll(r.Body)
		io.WriteString(w, "one\n")
		w.(http.Flusher).Flush()
		switch string(how) {
		case "fail":
			panic(http.ErrAbortHandler)
		case "panic":
			panic("the rest is lost")
		}
	})
	return b, nil
}

// TestBrokenAnswersShow: a client sees whether an answer broke off or ended, in every protocol, also where the end of the
// connection is the end of the body.
func TestBrokenAnswersShow(t *testing.T) {
	t.Parallel()
	breaker := func(name string, ingress func(helve.Handle[*Breaker]) helve.Ingress) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp(name)
			app.RoutePrefix("/" + name)
			app.Ingress(ingress(helve.Deploy(app, "Breaker", newBreaker, helve.Options{GracefulShutdownTimeout: new(time.Duration(0))})))
			return app, nil
		}
	}
	s, err := helve.Config{Logger: slog.New(slog.DiscardHandler)}.Run(t.Context(), breaker("stream", func(h helve.Handle[*Breaker]) helve.Ingress { return helve.StreamOf(h, (*Breaker).Items) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Deploy(t.Context(), breaker("handler", func(h helve.Handle[*Breaker]) helve.Ingress { return helve.HTTP(h) })); err != nil {
		t.Fatal(err)
	}
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path, version, how, header string) net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST %s HTTP/%s\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", path, version, header, len(how), how)
		return c
	}
	for _, path := range []string{"/stream", "/handler"} {
		for _, version := range []string{"1.0", "1.1", "1.1 identity"} {
			version, header := strings.CutSuffix(version, " identity")
			with := ""
			if header {
				with = "X-Answer-With: identity\r\n"
				if path == "/stream" {
					continue
				}
			}
			for _, how := range []string{"good", "fail", "panic"} {
				b, err := io.ReadAll(ask(path, version, how, with))
				_, body, _ := strings.Cut(string(b), "\r\n\r\n")
				chunked := version == "1.1" && !header
				complete := err == nil && (!chunked || strings.HasSuffix(body, "\r\n0\r\n\r\n"))
				if !strings.Contains(body, "one\n") || complete != (how == "good") || !chunked && how != "good" && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s %s %s: %q, %v", path, version, how, body, err)
				}
			}
		}
	}
	c := ask("/stream", "1.0", "hang", "")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.Close(t.Context()) //nolint:errcheck // it says that a call was cut off
	if b, err := io.ReadAll(c); err == nil {
		t.Errorf("a node that closes: %q", b)
	}
}

// Modelled tells the model of its calls.
type Modelled struct{}

func (Modelled) Which(ctx context.Context, _ helve.None) (string, error) {
	return helve.ModelIDFrom(ctx), nil
}

// TestModelHeaders: the model's header in both spellings, and not two models at once.
func TestModelHeaders(t *testing.T) {
	t.Parallel()
	_, url := served(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("modelled")
		h := helve.Deploy(app, "Modelled", func(context.Context) (Modelled, error) { return Modelled{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, Modelled.Which))
		return app, nil
	})
	const under, hyphen = "serve_multiplexed_model_id", "serve-multiplexed-model-id"
	for _, test := range []struct {
		header []string
		status int
		model  string
	}{
		{nil, 200, ""},
		{[]string{under, "fr"}, 200, "fr"},
		{[]string{hyphen, "fr"}, 200, "fr"},
		{[]string{"SERVE-Multiplexed-MODEL-id", "fr"}, 200, "fr"},
		{[]string{under, "fr", hyphen, "fr"}, 200, "fr"},
		{[]string{under, "", hyphen, "fr"}, 200, "fr"},
		{[]string{under, "fr", hyphen, "de"}, 400, ""},
		{[]string{hyphen, "fr", hyphen, "de"}, 400, ""},
		{[]string{hyphen, strings.Repeat("x", 257)}, 400, ""},
	} {
		status, _, body := get(t, url, test.header...)
		if status != test.status || status == 200 && body != test.model {
			t.Errorf("%q: %d %q", test.header, status, body)
		}
	}
}

// Mounted is a handler that redirects.
type Mounted struct{ http.ServeMux }

func newMounted(context.Context) (*Mounted, error) {
	p := &Mounted{}
	p.HandleFunc("/tree/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q %q %q", r.URL.Path, r.URL.RawPath, r.URL.EscapedPath(), helve.RoutePrefixFrom(r.Context()))
	})
	to := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) }
	}
	p.HandleFunc("/login", to("next"))
	p.HandleFunc("/root", to("/"))
	p.HandleFunc("/query", to("/next?to=/page#x"))
	p.HandleFunc("/elsewhere", to("http://example.com/x"))
	p.HandleFunc("/schemeless", to("//example.com/x"))
	p.HandleFunc("/created", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/things/1")
		w.Header().Set("Content-Location", "/things/1")
		w.WriteHeader(http.StatusCreated)
	})
	p.HandleFunc("/only-a-header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/x") })
	p.HandleFunc("/raw", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "below")
		w.WriteHeader(http.StatusFound)
	})
	p.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/late")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusFound)
	})
	p.HandleFunc("/panic", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/x")
		w.Header().Set("Content-Length", "100")
		panic("no answer")
	})
	return p, nil
}

// TestPathsOfAMountedHandler: the paths that a handler under a prefix writes are paths that clients can ask for, and the
// path and the raw path that it reads fit together in every encoding.
func TestPathsOfAMountedHandler(t *testing.T) {
	t.Parallel()
	page := func(name, prefix string) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp(name)
			app.RoutePrefix(prefix)
			app.Ingress(helve.HTTP(helve.Deploy(app, "Mounted", newMounted, helve.Options{})))
			return app, nil
		}
	}
	s, url := served(t, helve.Config{}, page("page", "/page"), page("deep", "/a/page b"), page("root", "/"))
	for prefix, way := range map[string]string{"/page": "/page", "/a/page b": "/a/page%20b", "/": ""} {
		for path, want := range map[string]string{
			"/tree": way + "/tree/", "/login": way + "/next", "/root": way + "/", "/query": way + "/next?to=/page#x", "/tree//x": way + "/tree/x",
			"/elsewhere": "http://example.com/x", "/schemeless": "//example.com/x", "/created": way + "/things/1",
			"/only-a-header": way + "/x", "/raw": "below", "/early": way + "/late", "/panic": "", "/page": "",
		} {
			status, h, body := get(t, url+way+path)
			if got := h.Get("Location"); got != want || path == "/created" && h.Get("Content-Location") != want {
				t.Errorf("%s%s: %d, Location %q, want %q; %s", way, path, status, got, want, body)
			}
		}
		for path, want := range map[string]string{
			"/tree/x":      `"/tree/x" "" "/tree/x"`,
			"/tree/x%2Fy":  `"/tree/x/y" "/tree/x%2Fy" "/tree/x%2Fy"`,
			"/tree/%C3%A9": `"/tree/é" "" "/tree/%C3%A9"`,
			"/tree/%252F":  `"/tree/%2F" "" "/tree/%252F"`,
		} {
			if _, body := getRaw(t, url, way+path); body != want+fmt.Sprintf(" %q", prefix) {
				t.Errorf("%s%s: %s, want %s", way, path, body, want)
			}
		}
	}
	for path, want := range map[string]string{ // the prefix is that of the decoded path, as the reference has it
		"/%70age/tree/x%2Fy":       `"/tree/x/y" "/tree/x%2Fy" "/tree/x%2Fy" "/page"`,
		"/a%2Fpage%20b/tree/x%2Fy": `"/tree/x/y" "/tree/x%2Fy" "/tree/x%2Fy" "/a/page b"`,
		"/a%2fpage%20b%2ftree/x":   `"/tree/x" "" "/tree/x" "/a/page b"`,
		"/page%2Ftree%2Fx":         "404 page not found\n", // of http.ServeMux, to which an encoded slash is part of a name,
	} {
		if _, body := getRaw(t, url, path); body != want {
			t.Errorf("%s: %s, want %s", path, body, want)
		}
	}
	if err := s.Deploy(t.Context(), page("encoded", "/a%2Fb")); err == nil || !strings.Contains(err.Error(), `write "/a/b"`) {
		t.Errorf("an encoded prefix: %v", err)
	}
}

// getRaw asks for a path as it is written.
func getRaw(t *testing.T, url, path string) (status, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: x\r\n\r\n", path)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	status, _, _ = strings.Cut(strings.TrimPrefix(head, "HTTP/1.0 "), "\r\n")
	return status, body
}

// Patient has replicas that start and end as the test wants.
type Patient struct{}

func (Patient) Say(context.Context, helve.None) (string, error) { return "here", nil }

// TestHealth: a node is healthy from its first application on until it drains, also when other applications fail; readiness
// is that of the applications.
func TestHealth(t *testing.T) {
	t.Parallel()
	begin, release := make(chan struct{}, 10), make(chan error, 10)
	patient := func(name string) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp(name)
			app.RoutePrefix("/" + name)
			h := helve.Deploy(app, "Patient", func(ctx context.Context) (Patient, error) {
				begin <- struct{}{}
				select {
				case err := <-release:
					return Patient{}, err
				case <-ctx.Done():
					return Patient{}, ctx.Err()
				}
			}, helve.Options{})
			app.Ingress(helve.MethodOf(h, Patient.Say))
			return app, nil
		}
	}
	addr := fixture.FreeAddress(t)
	type started struct {
		s   *helve.System
		err error
	}
	first := make(chan started, 1)
	go func() {
		s, err := helve.Config{HTTP: addr, Logger: slog.New(slog.DiscardHandler)}.Run(t.Context(), patient("first"))
		first <- started{s, err}
	}()
	<-begin
	url := "http://" + addr
	all := func(when string, want map[string]int) {
		t.Helper()
		for path, status := range want {
			if got, _, body := get(t, url+"/-/"+path); got != status {
				t.Errorf("%s: %s is %d %s, want %d", when, path, got, body, status)
			}
		}
	}
	all("before the first", map[string]int{"healthz": 503, "readyz": 503, "readyz?app=first": 503, "readyz?app=second": 404})
	release <- nil
	f := <-first
	if f.err != nil {
		t.Fatal(f.err)
	}
	s := f.s
	all("with the first", map[string]int{"healthz": 200, "readyz": 200, "readyz?app=first": 200, "readyz?app=second": 404, "readyz?app=first&app=second": 404, "readyz?app=%zz": 400})
	second := make(chan error, 1)
	deploy := func(ctx context.Context) { second <- s.Deploy(ctx, patient("second")) }
	ctx, cancel := context.WithCancel(t.Context())
	go deploy(ctx)
	<-begin
	all("while the second starts", map[string]int{"healthz": 200, "readyz": 503, "readyz?app=first": 200, "readyz?app=second": 503, "readyz?app=first&app=second": 503})
	cancel()
	if err := <-second; err == nil {
		t.Error("the second runs")
	}
	all("after the second failed", map[string]int{"healthz": 200, "readyz": 200, "readyz?app=first": 200, "readyz?app=second": 404})
	go deploy(t.Context())
	<-begin
	release <- nil
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	all("with both", map[string]int{"healthz": 200, "readyz": 200, "readyz?app=first&app=second": 200})
	if err := s.Delete(t.Context(), "first"); err != nil {
		t.Error(err)
	}
	all("with the second alone", map[string]int{"healthz": 200, "readyz": 200, "readyz?app=first": 404, "readyz?app=second": 200})
	if err := s.Delete(t.Context(), "second"); err != nil {
		t.Error(err)
	}
	all("with none", map[string]int{"healthz": 200, "readyz": 503, "readyz?app=second": 404})
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// Mortal is a deployment whose replica is given up, and whose next one comes when the test wants.
type Mortal struct{ sick *atomic.Bool }

func (m Mortal) Say(context.Context, helve.None) (string, error) { return "here", nil }
func (m Mortal) CheckHealth(context.Context) error {
	if m.sick.Load() {
		return errors.New("sick")
	}
	return nil
}

// TestReadyHasReplicas: an application without a replica is not ready until it has one; its node is healthy.
func TestReadyHasReplicas(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	release := make(chan struct{}, 1)
	release <- struct{}{}
	_, url := served(t, helve.Config{Logger: slog.New(slog.DiscardHandler)}, func() (*helve.App, error) {
		app := helve.NewApp("mortal")
		h := helve.Deploy(app, "Mortal", func(ctx context.Context) (Mortal, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return Mortal{&sick}, ctx.Err()
		}, helve.Options{HealthCheckPeriod: new(time.Millisecond)})
		app.Ingress(helve.MethodOf(h, Mortal.Say))
		return app, nil
	})
	await := func(want int) {
		t.Helper()
		fixture.Eventually(t, func() string {
			if got, _, body := get(t, url+"/-/readyz?app=mortal"); got != want {
				return fmt.Sprintf("readyz is %d %s, want %d", got, body, want)
			}
			return ""
		})
	}
	await(200)
	sick.Store(true)
	await(503)
	if got, _, _ := get(t, url+"/-/healthz"); got != 200 {
		t.Errorf("healthz is %d", got)
	}
	sick.Store(false)
	release <- struct{}{}
	await(200)
}

// TestLargeResultIsNotTheClients: a result over a limit is a fault of the program, an argument over one the client's.
func TestLargeResultIsNotTheClients(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	_, url := served(t, helve.Config{Isolation: helve.Process, MaxBody: limit, Logger: slog.New(slog.DiscardHandler)}, buildMakes, buildTakes)
	for _, test := range []struct {
		path, body string
		status     int
		reason     string
	}{
		{"/makes", fmt.Sprint(2 * limit), 500, "internal"},
		{"/makes", fmt.Sprint(limit / 2), 200, ""},
		{"/takes", strings.Repeat("x", limit+1), 413, "too_large"},
		{"/takes", strings.Repeat("x", limit/2), 200, ""},
	} {
		r := postJSON(t, url+test.path, test.body)
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != test.status || test.reason != "" && !strings.Contains(string(b), `"reason":"`+test.reason+`"`) {
			t.Errorf("%s with %d bytes: %s %.200s, %v", test.path, len(test.body), r.Status, b, err)
		}
	}
}

func sizesWith(name string, ingress func(helve.Handle[*fixture.Sizes]) helve.Ingress) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		app.Ingress(ingress(helve.Deploy(app, "Sizes", func(context.Context) (*fixture.Sizes, error) { return &fixture.Sizes{}, nil }, helve.Options{})))
		return app, nil
	}
}

var (
	buildTakes = fixture.Register(sizesWith("takes", func(h helve.Handle[*fixture.Sizes]) helve.Ingress { return helve.MethodOf(h, (*fixture.Sizes).Take) }))
	buildMakes = fixture.Register(sizesWith("makes", func(h helve.Handle[*fixture.Sizes]) helve.Ingress { return helve.MethodOf(h, (*fixture.Sizes).Make) }))
)

func postJSON(t *testing.T, url, body string) *http.Response {
	t.Helper()
	return fixture.Request(t, t.Context(), http.MethodPost, url, body, "Accept", "application/json", "Content-Type", "application/octet-stream")
}

// TestHandlersEverywhere: a handler that calls another deployment answers in the node and in a worker.
func TestHandlersEverywhere(t *testing.T) {
	t.Parallel()
	fixture.EachOf(t, append(helvetest.All(), helvetest.Socket), func(t *testing.T, r helvetest.Runner) {
		s := helvetest.Start(t, r.Config, buildFacade)
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, body := get(t, url+"/facade/x"); status != 200 || body != "HELLO from /x" {
			t.Errorf("%d %s", status, body)
		}
		status := s.Status().Applications["facade"]
		if isolated := status.Deployments["Facade"].Replicas[0].PID != 0; isolated != (r.Name == "process") {
			t.Errorf("the handler has a process of its own: %v", isolated)
		}
		if status.RoutePrefix != "/facade" {
			t.Errorf("route prefix %q", status.RoutePrefix)
		}
	})
}

// Facade is a handler that calls another deployment.
type Facade struct{ shout helve.Method[string, string] }

func (f *Facade) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	loud, err := f.shout.Call(r.Context(), "hello")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintf(w, "%s from %s", loud, r.URL.Path)
}

type Back struct{}

func (Back) Shout(_ context.Context, text string) (string, error) { return strings.ToUpper(text), nil }

var buildFacade = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("facade")
	app.RoutePrefix("/facade")
	back := helve.Deploy(app, "Back", func(context.Context) (Back, error) { return Back{}, nil }, helve.Options{})
	shout := helve.MethodOf(back, Back.Shout)
	app.Ingress(helve.HTTP(helve.Deploy(app, "Facade", func(context.Context) (*Facade, error) { return &Facade{shout}, nil }, helve.Options{Uses: []helve.Target{shout}})))
	return app, nil
})

// TestFullQueueIsSaidBeforeTheBody: a request for which the queue has no place is refused before its body is sent. A request
// that finds a slot or a place is not.
func TestFullQueueIsSaidBeforeTheBody(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 10), make(chan struct{})
	s, url := served(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("narrow")
		h := helve.Deploy(app, "Narrow", func(context.Context) (Narrow, error) { return Narrow{entered, release}, nil },
			helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)})
		app.Ingress(helve.MethodOf(h, Narrow.Pass))
		return app, nil
	})
	offer := func() (net.Conn, *bufio.Reader, string) {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return c, in, line
	}
	answers := make(chan string, 2)
	take := func() {
		c, in, line := offer()
		if !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("offered: %q", line)
		}
		io.WriteString(c, "hi")
		go func() {
			in.ReadString('\n') //nolint:errcheck // the empty line after it
			line, _ := in.ReadString('\n')
			answers <- line
		}()
	}
	take()
	<-entered
	take()
	fixture.Eventually(t, func() string {
		if n := s.Status().Applications["narrow"].Deployments["Narrow"].Calls.Queued; n != 1 {
			return fmt.Sprintf("%d calls are queued", n)
		}
		return ""
	})
	if _, _, line := offer(); !strings.HasPrefix(line, "HTTP/1.1 503 ") {
		t.Errorf("one too many: %q", line)
	}
	close(release)
	for range 2 {
		if line := <-answers; !strings.HasPrefix(line, "HTTP/1.1 200 ") {
			t.Errorf("%q", line)
		}
	}
}

// Narrow has a method that waits for the test.
type Narrow struct {
	entered chan<- struct{}
	release <-chan struct{}
}

func (n Narrow) Pass(_ context.Context, text string) (string, error) {
	n.entered <- struct{}{}
	<-n.release
	return text, nil
}

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
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Teller streams to clients outside.
type Teller struct {
	proceed chan struct{}
	ended   chan struct{}
}

type Word struct {
	Word string `json:"word"`
}

func newTeller(context.Context) (*Teller, error) {
	return &Teller{make(chan struct{}), make(chan struct{}, 100)}, nil
}

// tell yields the words of a text. Some words do something instead.
func tell[T any](t *Teller, ctx context.Context, text string, as func(string) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		defer func() { t.ended <- struct{}{} }()
		var none T
		for w := range strings.FieldsSeq(text) {
			switch w {
			case "WAIT":
				select {
				case <-t.proceed:
				case <-ctx.Done():
					return
				}
				continue
			case "FAIL":
				yield(none, helve.Public(helve.NotFound, "no such word"))
				return
			case "PANIC":
				panic("a word too far")
			case "FOREVER":
				for yield(as("again"), nil) && ctx.Err() == nil {
				}
				return
			}
			if !yield(as(w), nil) {
				return
			}
		}
	}
}

func (t *Teller) Text(ctx context.Context, text string) iter.Seq2[string, error] {
	return tell(t, ctx, text, func(w string) string { return w })
}

func (t *Teller) Bytes(ctx context.Context, text string) iter.Seq2[[]byte, error] {
	return tell(t, ctx, text, func(w string) []byte { return []byte(w) })
}

func (t *Teller) Words(ctx context.Context, text string) iter.Seq2[Word, error] {
	return tell(t, ctx, text, func(w string) Word { return Word{w} })
}

func (t *Teller) Count(ctx context.Context, _ helve.None) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range 3 {
			if !yield(i, nil) {
				return
			}
		}
	}
}

func (t *Teller) Proceed(ctx context.Context, _ helve.None) error {
	select {
	case t.proceed <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Teller) AwaitEnd(ctx context.Context, _ helve.None) error {
	select {
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func teller(name string, ingress func(helve.Handle[*Teller]) helve.Ingress) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		h := helve.Deploy(app, "Teller", newTeller, helve.Options{MaxOngoingRequests: new(10)})
		app.Ingress(ingress(h))
		return app, nil
	}
}

var (
	buildText  = fixture.Register(teller("text", func(h helve.Handle[*Teller]) helve.Ingress { return helve.StreamOf(h, (*Teller).Text) }))
	buildBytes = fixture.Register(teller("bytes", func(h helve.Handle[*Teller]) helve.Ingress { return helve.StreamOf(h, (*Teller).Bytes) }))
	buildWords = fixture.Register(teller("words", func(h helve.Handle[*Teller]) helve.Ingress { return helve.StreamNamed[string, Word](h, "words") }))
	buildCount = fixture.Register(teller("count", func(h helve.Handle[*Teller]) helve.Ingress { return helve.StreamOf(h, (*Teller).Count) }))
)

func TestStreamsOverHTTP(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildText, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		for _, b := range []helve.Build{buildBytes, buildWords, buildCount} {
			if err := s.Deploy(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		const text, octets, lines = "text/plain; charset=utf-8", "application/octet-stream", "application/x-ndjson"
		for _, test := range []struct {
			method, path, body, accept string
			status                     int
			kind, want                 string
		}{
			{"POST", "/text", "one two", "", 200, text, "onetwo"},
			{"PUT", "/text/below", "one", "", 200, text, "one"},
			{"POST", "/text", "one two", "application/json", 200, lines, "\"one\"\n\"two\"\n"},
			{"POST", "/text", "", "", 200, "", ""},
			{"POST", "/text", "FAIL", "", 404, text, "NotFound: no such word"},
			{"GET", "/text", "", "", 405, text, "Unimplemented: GET is not allowed here, only POST, PUT, PATCH, and GET with Accept: text/event-stream"},
			{"POST", "/bytes", "one two", "", 200, octets, "onetwo"},
			{"POST", "/words", "one two", "", 200, lines, "{\"word\":\"one\"}\n{\"word\":\"two\"}\n"},
			{"GET", "/count", "", "", 200, lines, "0\n1\n2\n"},
			{"HEAD", "/count", "", "", 200, lines, ""},
			{"POST", "/count", "x", "", 400, text, "InvalidArgument: this method takes no input, the body must be empty"},
		} {
			r := fixture.Request(t, ctx, test.method, url+test.path, test.body, "Accept", test.accept)
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || r.StatusCode != test.status || r.Header.Get("Content-Type") != test.kind || string(body) != test.want || r.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s %s %q: %s %q %q, %v", test.method, test.path, test.body, r.Status, r.Header.Get("Content-Type"), body, err)
			}
		}
		for _, body := range []string{"one FAIL", "one PANIC"} {
			r := fixture.PostText(t, ctx, url+"/words", body)
			got, err := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 200 || string(got) != "{\"word\":\"one\"}\n" || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %s %q, %v; the connection should be cut off", body, r.Status, got, err)
			}
		}
		h, err := helve.HandleOf[*Teller](s, "words", "Teller")
		if err != nil {
			t.Fatal(err)
		}
		proceed := helve.ActionOf(h, (*Teller).Proceed)
		t.Run("items leave as they come", func(t *testing.T) {
			r := fixture.PostText(t, ctx, url+"/words", "one WAIT two")
			defer r.Body.Close()
			in := bufio.NewReader(r.Body)
			if line, err := in.ReadString('\n'); line != "{\"word\":\"one\"}\n" {
				t.Errorf("%q, %v", line, err)
			}
			if _, err := proceed.Call(ctx, helve.None{}); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(in); string(rest) != "{\"word\":\"two\"}\n" || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
		})
		t.Run("a client that has gone cancels the method", func(t *testing.T) {
			h, err := helve.HandleOf[*Teller](s, "text", "Teller")
			if err != nil {
				t.Fatal(err)
			}
			drained := helve.ActionOf(h, (*Teller).AwaitEnd)
			for range 4 { // the requests to it above that reached its method
				if _, err := drained.Call(ctx, helve.None{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, body := range []string{"one WAIT", "FOREVER"} {
				gone, cancel := context.WithCancel(ctx)
				r := fixture.PostText(t, gone, url+"/text", body)
				if _, err := r.Body.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
				cancel()
				r.Body.Close()
				if _, err := drained.Call(ctx, helve.None{}); err != nil {
					t.Errorf("%s: %v", body, err)
				}
			}
		})
	})
}

type pyShouter interface {
	Shout(ctx context.Context, text string) iter.Seq2[string, error]
}

// TestPythonStreamOverHTTP: the first item says what the body is.
func TestPythonStreamOverHTTP(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("shout")
		h := helve.Python[pyShouter](app, "Shouter", "testdata.shouter:Shouter", helve.Args{}, helve.Options{})
		app.Ingress(helve.StreamOf(h, pyShouter.Shout))
		return app, nil
	})
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{"one two": "ONETWO", "map two": "{\"a\":1}\n\"TWO\"\n", "one map": "ONE{\"a\":1}"} {
		r := fixture.PostText(t, t.Context(), url, body)
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if string(got) != want || err != nil || r.StatusCode != 200 {
			t.Errorf("%s: %s %q, %v", body, r.Status, got, err)
		}
	}
}

// TestStreamIsLoggedWhenItFails: an error after the first bytes of the answer is in the log, with the request's id.
func TestStreamIsLoggedWhenItFails(t *testing.T) {
	t.Parallel()
	log := fixture.NewLog()
	s := helvetest.Start(t, helve.Config{Logger: slog.New(log)}, buildText)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := fixture.PostText(t, t.Context(), url+"/text", "one PANIC", "X-Request-Id", "my-id")
	defer r.Body.Close()
	if _, err := io.ReadAll(r.Body); err == nil {
		t.Error("the body came to its end")
	}
	if got := log.String(); !strings.Contains(got, "stream failed") || !strings.Contains(got, "request_id=my-id") || !strings.Contains(got, "a word too far") {
		t.Errorf("the log has %s", got)
	}
}

// Site is an http.Handler.
type Site struct {
	mux     http.ServeMux
	entered chan string
	release fixture.Latch
	ended   chan error
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func newSite() *Site {
	s := &Site{entered: make(chan string, 10), release: make(fixture.Latch), ended: make(chan error, 10)}
	s.mux.HandleFunc("GET /who/{name}", func(w http.ResponseWriter, r *http.Request) {
		at := helve.ReplicaFrom(r.Context())
		io.WriteString(w, strings.Join([]string{r.PathValue("name"), at.App, at.Deployment, helve.RequestIDFrom(r.Context()), r.URL.RawQuery}, " "))
	})
	s.mux.HandleFunc("/panic", func(w http.ResponseWriter, r *http.Request) { panic("secret") })
	s.mux.HandleFunc("/late-panic", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		panic("secret")
	})
	s.mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	s.mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		s.entered <- r.URL.Path
		err := s.release.Wait(r.Context())
		s.ended <- err
	})
	s.mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer conn.Close()
		io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
		rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				s.ended <- context.Cause(r.Context())
				return
			}
			io.WriteString(rw, strings.ToUpper(line))
			rw.Flush()
		}
	})
	return s
}

func siteApp(site *Site, prefix string, o helve.Options) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("site")
		app.RoutePrefix(prefix)
		app.Ingress(helve.HTTP(helve.Deploy(app, "Site", func(context.Context) (*Site, error) { return site, nil }, o)))
		return app, nil
	}
}

func TestHandlerIngress(t *testing.T) {
	t.Parallel()
	fixture.EachOf(t, append(helvetest.InNode(), helvetest.Socket), func(t *testing.T, r helvetest.Runner) {
		site := newSite()
		s := helvetest.Start(t, r.Config, siteApp(site, "/site", helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)}))
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		for _, test := range []struct {
			path   string
			status int
			want   string
		}{
			{"/site/who/Ada?x=1", 200, "Ada site Site my-id x=1"},
			{"/site", 404, "404 page not found\n"},
			{"/site/panic", 500, "Internal Server Error"},
		} {
			resp := fixture.Request(t, ctx, "GET", url+test.path, "", "X-Request-Id", "my-id")
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != test.status || string(body) != test.want || err != nil {
				t.Errorf("%s: %s %q, %v", test.path, resp.Status, body, err)
			}
		}
		resp := fixture.Request(t, ctx, "GET", url+"/site/late-panic", "")
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "begun" || err == nil {
			t.Errorf("a panic after the first byte: %q, %v", body, err)
		}
		req, _ := http.NewRequestWithContext(ctx, "GET", url+"/site/abort", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("an aborted request has the answer %s", resp.Status)
		}
		// One runs, one of the other two waits, and the third is too many.
		answers := make(chan int, 3)
		get := func() {
			resp := fixture.Request(t, ctx, "GET", url+"/site/hold", "")
			resp.Body.Close()
			answers <- resp.StatusCode
		}
		go get()
		<-site.entered
		go get()
		go get()
		if status := <-answers; status != 503 {
			t.Errorf("one too many: %d", status)
		}
		close(site.release)
		for range 2 {
			if status := <-answers; status != 200 {
				t.Errorf("status %d", status)
			}
		}
	})
}

func TestHandlerTakesConnectionsOver(t *testing.T) {
	t.Parallel()
	site := newSite()
	s, err := helve.Config{}.Run(t.Context(), siteApp(site, "/", helve.Options{GracefulShutdownTimeout: new(time.Duration(0))}))
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: site\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nhello\n")
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close() // a switch has none
		if line, err := in.ReadString('\n'); line != "HELLO\n" {
			t.Fatalf("%q, %v", line, err)
		}
		return conn, in
	}
	conn, _ := dial()
	conn.Close()
	<-site.ended // the handler saw the client go
	_, in := dial()
	fixture.Eventually(t, func() string { // its slot comes back a moment after the handler has seen it
		if n := s.Status().Applications["site"].Deployments["Site"].Calls.Running; n != 1 {
			return fmt.Sprintf("%d calls run", n)
		}
		return ""
	})
	err = s.Close(t.Context()) // the request has no time to finish
	if err == nil || !strings.Contains(err.Error(), "1 call still ran") {
		t.Errorf("%v", err)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the connection outlives the system")
	}
	if err := <-site.ended; err == nil {
		t.Error("the handler's context has not ended")
	}
}

func TestHandlerDrains(t *testing.T) {
	t.Parallel()
	site := newSite()
	s, err := helve.Config{}.Run(t.Context(), siteApp(site, "/", helve.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	status := make(chan int, 1)
	go func() {
		resp := fixture.Request(t, t.Context(), "GET", url+"/hold", "")
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-site.entered
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	close(site.release)
	if got := <-status; got != 200 {
		t.Errorf("during the drain: %d", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestIngressMistakes(t *testing.T) {
	t.Parallel()
	site := newSite()
	other := helve.NewApp("other")
	foreign := helve.Deploy(other, "Site", func(context.Context) (*Site, error) { return site, nil }, helve.Options{})
	for want, build := range map[string]helve.Build{
		`ingress: deployment "Site" belongs to application "other"`: func() (*helve.App, error) {
			app := helve.NewApp("mine")
			app.Ingress(helve.HTTP(foreign))
			return app, nil
		},
		`ingress: a zero value`: func() (*helve.App, error) {
			app := helve.NewApp("mine")
			app.Ingress(helve.HTTP(helve.Handle[*Site]{}))
			app.Ingress(helve.Stream[string, string]{})
			app.Ingress(nil)
			return app, nil
		},
	} {
		if _, err := helve.Run(t.Context(), build); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nshould say: %s", err, want)
		}
	}
}

package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestAccessLog: one line per request to an application, with its status, whichever way the answer takes.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	p := New(Settings{AccessLog: w})
	handle := func(h http.HandlerFunc) func(context.Context, *call.Call, Serve) *call.Error {
		return func(ctx context.Context, _ *call.Call, serve Serve) *call.Error { serve(ctx, h, false); return nil }
	}
	if err := p.SetRoutes([]Route{
		{Prefix: "/say", App: "say", In: InString, Call: func(_ context.Context, c *call.Call) (call.Payload, *call.Error) {
			c.Info.Replica = "S#1"
			return call.Payload{Codec: call.Text, Data: []byte("hello")}, nil
		}},
		{Prefix: "/fail", App: "fail", In: InString, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
			return call.Payload{}, call.NewError(helvetype.ReasonBackpressure, "full")
		}},
		{Prefix: "/nothing", App: "nothing", Handle: handle(func(http.ResponseWriter, *http.Request) {})},
		{Prefix: "/flush", App: "flush", Handle: handle(func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() })},
		{Prefix: "/teapot", App: "teapot", Handle: handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) })},
		{Prefix: "/take", App: "take", Handle: handle(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n") //nolint:errcheck // the client says it
			conn.Close()
		})},
	}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve(l, nil)                  //nolint:errcheck // Drain ends it
	defer p.Drain(context.Background()) //nolint:errcheck // nothing runs
	lines := make(chan string)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := r.Read(b)
			if err != nil {
				return
			}
			lines <- string(b[:n])
		}
	}()
	for _, c := range []struct{ method, path, want string }{
		{"POST", "/say/x?secret", `POST /say 200 \d+\.\dms [0-9a-f-]{36} 5 say S#1\n$`},
		{"DELETE", "/say", `DELETE /say 405 \d+\.\dms [0-9a-f-]{36}`},
		{"POST", "/fail", `POST /fail 503 \d+\.\dms [0-9a-f-]{36}`},
		{"GET", "/none/of/these", `GET - 404 \d+\.\dms [0-9a-f-]{36} \d+ - -\n$`},
		{"GET", "/nothing", `GET /nothing 200 `},
		{"GET", "/flush", `GET /flush 200 `},
		{"GET", "/teapot", `GET /teapot 418 `},
		{"GET", "/take", `GET /take 101 `},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+l.Addr().String()+c.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body) //nolint:errcheck // a client that closes earlier has left
		resp.Body.Close()
		want := `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z 127\.0\.0\.1:\d+ ` + c.want
		if line := <-lines; !regexp.MustCompile(want).MatchString(line) || strings.Count(line, "\n") != 1 || strings.Contains(line, "secret") {
			t.Errorf("%s %s: %q, want %s", c.method, c.path, line, want)
		}
	}
	resp, err := http.Get("http://" + l.Addr().String() + "/-/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p.Drain(context.Background()) //nolint:errcheck // it writes the lines that wait
	select {
	case line := <-lines:
		t.Errorf("a path of the node's own has a line: %s", line)
	default:
	}
}

// TestAccessLogInJSON: a line has the same fields by their names.
func TestAccessLogInJSON(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	p := New(Settings{AccessLog: &log, Options: Options{JSONLog: true}})
	p.access.End() // each line is written at once from now on
	if err := p.SetRoutes([]Route{{Prefix: "/say", App: "app", In: InString, Call: func(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
		c.Info.Replica = "S#1"
		return echo(ctx, c)
	}}}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/say/x": `^{"time":"[^"]+","client":"192.0.2.1:1234","method":"POST","route":"/say","status":200,"duration_ms":[\d.]+,"request_id":"me","bytes":2,"app":"app","replica":"S#1"}\n$`,
		"/other": `^{"time":"[^"]+","client":"192.0.2.1:1234","method":"POST","route":"","status":404,"duration_ms":[\d.]+,"request_id":"me","bytes":\d+}\n$`,
	} {
		r := httptest.NewRequest("POST", path, strings.NewReader("hi"))
		r.Header.Set("X-Request-Id", "me")
		p.ServeHTTP(httptest.NewRecorder(), r)
		if !regexp.MustCompile(want).MatchString(log.String()) {
			t.Errorf("%s: %s, want %s", path, &log, want)
		}
		log.Reset()
	}
}

// TestAccessLogAtTheEnd: once Drain has returned, the lines of all requests are written, also those of requests that ended a moment before.
func TestAccessLogAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		p := New(Settings{AccessLog: &log})
		if err := p.SetRoutes([]Route{answers(1)}); err != nil {
			t.Fatal(err)
		}
		const requests = 5
		for range requests {
			ask(t.Context(), p, "GET", "/method")
		}
		if n := strings.Count(log.String(), "\n"); n != 1 { // the first line of a log does not wait
			t.Errorf("%d lines are written before the end", n)
		}
		if err := p.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), " GET /method 200 "); n != requests {
			t.Errorf("%d requests have a line, want %d:\n%s", n, requests, &log)
		}
	})
}

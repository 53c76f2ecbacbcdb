package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

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
		{Prefix: "/say", App: "say", In: InString, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
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
		{"POST", "/say/x?secret", `POST /say 200 \d+\.\dms [0-9a-f-]{36}`},
		{"DELETE", "/say", `DELETE /say 405 \d+\.\dms [0-9a-f-]{36}`},
		{"POST", "/fail", `POST /fail 503 \d+\.\dms [0-9a-f-]{36}`},
		{"GET", "/none/of/these", `GET - 404 \d+\.\dms [0-9a-f-]{36}`},
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
	select {
	case line := <-lines:
		t.Errorf("a path of the node's own has a line: %s", line)
	default:
	}
}

package proxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
)

// TestEveryAnswerHasAnID: also answers that are about no call have the id of their request, and errors in JSON a reason.
func TestEveryAnswerHasAnID(t *testing.T) {
	t.Parallel()
	p := New(Settings{})
	if err := p.SetRoutes([]Route{{Prefix: "/starting", Starting: true}}); err != nil {
		t.Fatal(err)
	}
	for target, reason := range map[string]string{
		"GET /-/healthz": "deployment_unavailable", "GET /-/readyz?app=x": "deployment_unavailable", "GET /-/routes": "deployment_unavailable", "GET /-/nothing": "deployment_unavailable",
		"POST /-/healthz": "method_not_allowed", "CONNECT ": "method_not_allowed", "GET /nothing": "deployment_unavailable", "GET /starting": "deployment_unavailable", "GET /-/readyz?%": "bad_input",
	} {
		for _, id := range []string{"", "mine", "not\x00valid"} {
			if id == "not\x00valid" && !strings.Contains(target, "/-/") { // is a mistake there
				continue
			}
			method, path, _ := strings.Cut(target, " ")
			r, w := httptest.NewRequest(method, "/", nil), httptest.NewRecorder()
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
			r.Header.Set("Accept", "application/json")
			if id != "" {
				r.Header.Set("X-Request-ID", id)
			}
			p.ServeHTTP(w, r)
			got := w.Header().Get("X-Request-ID")
			if id == "mine" && got != id || len(got) < 4 || strings.Contains(got, "\x00") {
				t.Errorf("%s: the id is %q", target, got)
			}
			if reason != "" && (!strings.Contains(w.Body.String(), `"reason":"`+reason+`"`) || !strings.Contains(w.Body.String(), `"request_id":"`+got+`"`)) {
				t.Errorf("%s: %s", target, w.Body)
			}
		}
	}
}

// TestHandlersKeepTheID: the id of a request is the node's in its answer, with a body and without, whatever the handler sets.
func TestHandlersKeepTheID(t *testing.T) {
	t.Parallel()
	p := with(t, handles("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-ID", "of the handler")
		if r.URL.Path == "/body" {
			w.Write([]byte("x")) //nolint:errcheck // a recorder
		}
	}))
	for _, path := range []string{"/body", "/nobody"} {
		r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
		r.Header.Set("X-Request-ID", "of the client")
		p.ServeHTTP(w, r)
		if got := w.Header()["X-Request-Id"]; len(got) != 1 || got[0] != "of the client" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// TestTextsOfTheReference: answers whose text programs compare with that of Ray Serve have it to the letter.
func TestTextsOfTheReference(t *testing.T) {
	t.Parallel()
	p := New(Settings{})
	ask := func(path string) string {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return strconv.Itoa(w.Code) + " " + w.Body.String()
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		for path, answer := range want {
			if got := ask(path); got != answer {
				t.Errorf("%s: %s: %q, want %q", when, path, got, answer)
			}
		}
	}
	const unpopulated = "503 Route table is not populated yet."
	check("before the first application", map[string]string{
		"/-/healthz": unpopulated, "/-/routes": unpopulated, "/x": "404 Path '/x' not found. Ping http://.../-/routes for available routes.",
	})
	if err := p.SetRoutes([]Route{{Prefix: "/starting", App: "s", Starting: true}}); err != nil {
		t.Fatal(err)
	}
	check("while it starts", map[string]string{"/-/healthz": unpopulated, "/-/routes": unpopulated, "/starting": `503 application "s" is starting`})
	if err := p.SetRoutes([]Route{{Prefix: "/a", App: "a"}}); err != nil {
		t.Fatal(err)
	}
	p.Open()
	check("when it is ready", map[string]string{"/-/healthz": "200 success", "/-/routes": `200 {"/a":"a"}`})
	if err := p.SetRoutes(nil); err != nil {
		t.Fatal(err)
	}
	check("when it was deleted", map[string]string{"/-/healthz": "200 success", "/-/routes": "200 {}"})
	p.Announce()
	check("while the node drains", map[string]string{"/-/healthz": "503 This node is being drained."})
}

// TestMethodsOfPreflights: a browser learns the methods that the application takes.
func TestMethodsOfPreflights(t *testing.T) {
	t.Parallel()
	options := &spec.IngressOptions{CORS: &spec.CORS{Origins: []string{"*"}}}
	stream := func(context.Context, *call.Call, Item) *call.Error { return nil }
	handler := handles("/handler", nil)
	handler.Options = options
	p := New(Settings{})
	if err := p.SetRoutes([]Route{
		{Prefix: "/json", In: InJSON, Call: echo, Options: options},
		{Prefix: "/none", In: InNone, Call: echo, Options: options},
		{Prefix: "/stream", In: InJSON, Stream: stream, Options: options},
		handler,
	}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/json": "POST, PUT, PATCH", "/none": "GET, HEAD, POST, PUT, PATCH", "/stream": "POST, PUT, PATCH, GET, HEAD", "/handler": "GET, HEAD, POST, PUT, PATCH, DELETE",
	} {
		r, w := httptest.NewRequest("OPTIONS", path, nil), httptest.NewRecorder()
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Access-Control-Request-Method", "POST")
		p.ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Methods"); got != want || w.Code != 204 {
			t.Errorf("%s: %d %q, want %q", path, w.Code, got, want)
		}
	}
}

package proxy

import (
	"context"
	"net/http/httptest"
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
		"GET /-/healthz": "deployment_unavailable", "GET /-/readyz?app=x": "deployment_unavailable", "GET /-/routes": "", "GET /-/nothing": "deployment_unavailable",
		"POST /-/healthz": "method_not_allowed", "GET /nothing": "deployment_unavailable", "GET /starting": "deployment_unavailable", "GET /-/readyz?%": "bad_input",
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

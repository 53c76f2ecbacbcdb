package mixed_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/e2e/mixed/echo"
	"github.com/helve-serve/helve/internal/rest"
)

// traced is a chain of deployments, each of which passes its calls on to the next: Top of Go, Front of Python, Upper and Lower of Go, which are in one worker, and Last of Python.
func traced(name string, ingress func(top helve.Handle[echo.Echoer]) helve.Method[string, string]) helve.Build {
	return fixture.Register(func() (*helve.App, error) {
		app := helve.NewApp(name)
		relay := func(name string, to helve.Handle[echo.Echoer]) helve.Handle[echo.Echoer] {
			construct := echo.NewRelayTo(to)
			return helve.Deploy(app, name, func(ctx context.Context) (echo.Echoer, error) { return construct(ctx) }, helve.Options{Uses: []helve.Target{to}})
		}
		last := helve.Python[echo.Echoer](app, "Last", "mixed_echo:Echo", helve.Args{}, helve.Options{})
		upper := relay("Upper", relay("Lower", last))
		front := helve.Python[echo.Echoer](app, "Front", "mixed_echo:Relay", helve.Args{Positional: []any{upper}}, helve.Options{Uses: []helve.Target{upper}})
		app.Ingress(ingress(relay("Top", front)))
		return app, nil
	})
}

var (
	buildText = traced("traced", func(top helve.Handle[echo.Echoer]) helve.Method[string, string] {
		return helve.MethodOf(top, echo.Echoer.Text)
	})
	buildFail = traced("failing", func(top helve.Handle[echo.Echoer]) helve.Method[string, string] {
		return helve.MethodOf(top, echo.Echoer.Fail)
	})
)

// ask posts a text to the application, with a request id and perhaps a span of the client, and returns the status of the answer.
func ask(t *testing.T, s *helve.System, id, traceparent string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("x"))
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("X-Request-Id", id)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Code
}

// path is the way from the first span of a trace down to its last call, such as "http call/Top.text call/Front.text call/Upper.Text". A span whose parent is not the one before it is not on it.
func path(v helvetype.RequestTrace, parent string) string {
	for _, s := range v.Spans {
		if s.Parent == parent && s.Kind != "wait" {
			name := s.Kind
			if s.Kind != "http" {
				name += "/" + s.Deployment + "." + strings.ToLower(s.Method)
			}
			return strings.TrimSpace(name + " " + path(v, s.ID))
		}
	}
	return ""
}

// find awaits that the node keeps a request with that path.
func find(t *testing.T, s *helve.System, id, parent, want string) (v helvetype.RequestTrace) {
	t.Helper()
	c, err := rest.Dial(filepath.Join(s.Address(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, func() string {
		v = helvetype.RequestTrace{}
		if err := c.Get(t.Context(), "/api/v1/requests/"+url.PathEscape(id), nil, &v); err != nil {
			return err.Error()
		}
		if got := path(v, parent); got != want {
			return fmt.Sprintf("the spans are %q, want %q: %+v", got, want, v.Spans)
		}
		return ""
	})
	return v
}

// observed runs a test for each process of the Go deployments, with an admin interface.
func observed(t *testing.T, build helve.Build, body func(t *testing.T, s *helve.System)) {
	t.Helper()
	runners := []helvetest.Runner{helvetest.Local, helvetest.Process}
	for i := range runners {
		runners[i].Config.Admin = "private"
	}
	helvetest.Run(t, build, body, runners...)
}

// TestTraceOfASampledRequest: a request that its client samples is one trace, over HTTP and through Python, Go and a call inside a worker, also where it is fast.
func TestTraceOfASampledRequest(t *testing.T) {
	t.Parallel()
	observed(t, buildText, func(t *testing.T, s *helve.System) {
		if got := ask(t, s, "sampled-1", "00-0123456789abcdef0123456789abcdef-00000000000000a1-01"); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
		v := find(t, s, "sampled-1", "00000000000000a1", "http call/Top.text call/Front.text call/Upper.text call/Lower.text call/Last.text")
		if v.Kept == "" || v.TraceID != "0123456789abcdef0123456789abcdef" || v.Deployment != "Top" {
			t.Errorf("%+v", v.Request)
		}
	})
}

// TestTraceOfAFailure: a request that has failed below is kept without a sampler, with the call that has failed first.
func TestTraceOfAFailure(t *testing.T) {
	t.Parallel()
	observed(t, buildFail, func(t *testing.T, s *helve.System) {
		if got := ask(t, s, "failed-1", ""); got != http.StatusInternalServerError {
			t.Fatalf("status %d", got)
		}
		v := find(t, s, "failed-1", "", "http call/Top.fail call/Front.fail call/Upper.fail call/Lower.fail call/Last.fail")
		if v.Kept != helvetype.KeptFailed || v.Reason != "user" {
			t.Errorf("%+v", v.Request)
		}
		for _, span := range v.Spans {
			if span.Reason != "user" {
				t.Errorf("%+v", span)
			}
		}
		h, err := helve.HandleOf[echo.Echoer](s, "failing", "Front")
		if err != nil {
			t.Fatal(err)
		}
		r := helve.MethodOf(h, echo.Echoer.Fail).Remote(t.Context(), "x") // outside of HTTP
		if _, err := r.Result(t.Context()); err == nil {
			t.Fatal("no error")
		}
		if v := find(t, s, r.RequestID(), "", "call/Front.fail call/Upper.fail call/Lower.fail call/Last.fail"); v.Kept != helvetype.KeptFailed {
			t.Errorf("%+v", v.Request)
		}
	})
}

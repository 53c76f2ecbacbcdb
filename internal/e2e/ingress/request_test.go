package ingress_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Clerk is a deployment whose methods read the head of their request and choose that of their answer.
type Clerk struct{ inner helve.Method[string, string] }

// describe writes the head of the request, and sets the head of the answer as the query says.
func describe(ctx context.Context) (string, error) {
	r, ok := helve.RequestFrom(ctx)
	head, also := helve.ResponseFrom(ctx)
	if !ok || !also {
		return "no request", nil
	}
	for _, f := range r.Query()["set"] {
		name, value, _ := strings.Cut(f, ":")
		if err := head.Add(name, value); err != nil {
			return "", helve.Public(helve.InvalidArgument, err.Error())
		}
	}
	if s := r.Query().Get("status"); s != "" {
		status := 0
		fmt.Sscan(s, &status)
		if err := head.SetStatus(status); err != nil {
			return "", helve.Public(helve.InvalidArgument, err.Error())
		}
	}
	addr := strings.HasPrefix(r.ClientAddr, "127.0.0.1:")
	return fmt.Sprintf("%s %s %s %s %s %v %s", r.Method, r.Path, r.Prefix, helve.RoutePrefixFrom(ctx), r.Header.Values("X-Twice"), addr, r.Host), nil
}

func (c *Clerk) Inner(ctx context.Context, _ string) (string, error) { return describe(ctx) }

func (c *Clerk) Describe(ctx context.Context, text string) (string, error) {
	mine, err := describe(ctx)
	if err != nil || text == "" {
		return mine, err
	}
	inner, err := c.inner.Call(ctx, text)
	return mine + "; inner: " + inner, err
}

func (c *Clerk) Items(ctx context.Context, text string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		mine, err := describe(ctx)
		if text == "nothing" {
			if err != nil {
				yield("", err)
			}
			return
		}
		if !yield(mine, err) {
			return
		}
		if head, _ := helve.ResponseFrom(ctx); head.SetStatus(201) == nil || head.Set("X-Late", "1") == nil {
			yield("the head was changed after the first item", nil)
		}
	}
}

func clerks(stream bool) helve.Build {
	return fixture.Register(func() (*helve.App, error) {
		name := "clerk"
		if stream {
			name = "clerks"
		}
		app := helve.NewApp(name)
		app.RoutePrefix("/a b")
		inner := helve.Deploy(app, "Inner", func(context.Context) (*Clerk, error) { return &Clerk{}, nil }, helve.Options{})
		m := helve.MethodOf(inner, (*Clerk).Inner)
		h := helve.Deploy(app, "Clerk", func(context.Context) (*Clerk, error) { return &Clerk{m}, nil }, helve.Options{Uses: []helve.Target{m}})
		if stream {
			app.Ingress(helve.StreamOf(h, (*Clerk).Items))
		} else {
			app.Ingress(helve.MethodOf(h, (*Clerk).Describe))
		}
		return app, nil
	})
}

var buildClerk, buildClerks = clerks(false), clerks(true)

// TestRequestAndResponse: an ingress method or stream reads its request and chooses status and header, wherever its replica runs. The calls
// that it makes have no request.
func TestRequestAndResponse(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]helve.Build{"method": buildClerk, "stream": buildClerks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			helvetest.Run(t, build, func(t *testing.T, s *helve.System) {
				url, _, err := s.Serve("127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				host := strings.TrimPrefix(strings.Split(url, "/a")[0], "http://")
				at := "http://" + host + "/a%20b"
				ask := func(query, body string, header ...string) (*http.Response, string) {
					t.Helper()
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at+"/x%2Fy%00/z"+query, strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					req.Header["X-Twice"] = []string{"1", "2"}
					req.Header.Set("Content-Type", "text/plain")
					for i := 0; i < len(header); i += 2 {
						req.Header.Set(header[i], header[i+1])
					}
					r, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer r.Body.Close()
					got, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					return r, string(got)
				}
				head := "PUT /x/y\x00/z /a b /a b [1 2] true " + host
				if r, got := ask("", ""); got != head || r.StatusCode != 200 {
					t.Errorf("%s %q, want %q", r.Status, got, head)
				}
				r, got := ask("?status=418&set=X-Own:a&set=X-Own:b&set=content-type:text/csv", "")
				if r.StatusCode != 418 || strings.Join(r.Header.Values("X-Own"), ",") != "a,b" || r.Header.Get("Content-Type") != "text/csv" || got != head {
					t.Errorf("%s %v %q", r.Status, r.Header, got)
				}
				for query, want := range map[string]string{
					"?set=a+b:1": "no name of a header field", "?set=X:%01": "control character", "?set=content-length:5": "set by the proxy alone",
					"?status=99": "no status", "?status=600": "no status",
				} {
					if r, got := ask(query, ""); r.StatusCode != 400 || !strings.Contains(got, want) {
						t.Errorf("%s: %s %q", query, r.Status, got)
					}
				}
				if r, got := ask("?set=X-Own:a&status=700", ""); r.Header.Get("X-Own") != "" || r.StatusCode != 400 {
					t.Errorf("an error has the method's head: %s %v %q", r.Status, r.Header, got)
				}
				if r, _ := ask("?status=204", map[string]string{"stream": "nothing"}[name]); r.StatusCode != 204 || r.Header.Get("Content-Type") != "" || r.Header.Get("Content-Length") != "" {
					t.Errorf("%s %v", r.Status, r.Header)
				}
				if name == "method" {
					if _, got := ask("", "inner"); got != head+"; inner: no request" {
						t.Errorf("%q", got)
					}
					if r, got := ask("?set=X-Big:"+strings.Repeat("a", 20000), "inner"); r.StatusCode != 200 || len(r.Header.Get("X-Big")) != 20000 {
						t.Errorf("%s %.100q", r.Status, got)
					}
				} else {
					r, got := ask("?status=202&set=X-Own:a&set=content-type:text/csv", "", "Accept", "text/event-stream")
					if r.StatusCode != 202 || r.Header.Get("X-Own") != "a" || r.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" || !strings.HasSuffix(got, "event: end\ndata:\n\n") {
						t.Errorf("%s %v %q", r.Status, r.Header, got)
					}
					if r, got := ask("?status=204", "nothing", "Accept", "text/event-stream"); r.StatusCode != 204 || got != "" {
						t.Errorf("%s %q", r.Status, got)
					}
				}
				h, err := s.Ingress(map[string]string{"method": "clerk", "stream": "clerks"}[name])
				if err != nil {
					t.Fatal(err)
				}
				if name == "method" {
					m := helve.MethodNamed[string, string](h, "")
					if got, err := m.Call(t.Context(), ""); got != "no request" || err != nil {
						t.Errorf("a call by a handle: %q, %v", got, err)
					}
				}
			})
		})
	}
}

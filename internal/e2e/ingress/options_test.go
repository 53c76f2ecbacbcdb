package ingress_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// ingressOptions are the options of an ingress, which the test below sets for a method and for a handler.
func ingressOptions(timeout time.Duration) helve.IngressOptions {
	return helve.IngressOptions{
		MaxBody: 10, RequestTimeout: timeout,
		CORS: &helve.CORS{Origins: []string{"https://app.example.com"}, Credentials: true, MaxAge: time.Hour},
	}
}

type slow struct{}

func (slow) Echo(ctx context.Context, text string) (string, error) {
	if text == "wait" {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return text, nil
}

func (slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	out, err := slow{}.Echo(r.Context(), string(b))
	if err != nil {
		http.Error(w, "own: "+err.Error(), helve.HTTPStatus(err))
		return
	}
	io.WriteString(w, out)
}

// buildSlow is an application whose requests have a time. A test sends an application with a short time only requests that wait for the end of the time.
func buildSlow(name, prefix string, timeout time.Duration, ingress func(helve.Handle[slow]) helve.Ingress) helve.Build {
	return fixture.Register(func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix(prefix)
		app.Ingress(ingress(helve.Deploy(app, "Slow", func(context.Context) (slow, error) { return slow{}, nil }, helve.Options{})))
		app.IngressOptions(ingressOptions(timeout))
		return app, nil
	})
}

func echoOf(h helve.Handle[slow]) helve.Ingress    { return helve.MethodOf(h, slow.Echo) }
func handlerOf(h helve.Handle[slow]) helve.Ingress { return helve.HTTP(h) }

var (
	buildSlowMethod  = buildSlow("slow-method", "/", time.Hour, echoOf)
	buildLateMethod  = buildSlow("late-method", "/late", 50*time.Millisecond, echoOf)
	buildSlowHandler = buildSlow("slow-handler", "/", time.Hour, handlerOf)
	buildLateHandler = buildSlow("late-handler", "/late", 50*time.Millisecond, handlerOf)
)

// TestIngressOptions: the limits and origins of one application, for a method and for a handler.
func TestIngressOptions(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, s *helve.System, late helve.Build, methods string) {
		if err := s.Deploy(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name, method, body string
			header             http.Header
			status             int
			want               http.Header
		}{
			{"small", "POST", "0123456789", nil, 200, nil},
			{"large", "POST", "0123456789a", nil, 413, nil},
			{"slow", "POST", "wait", nil, 408, nil},
			{"from the origin", "POST", "x", http.Header{"Origin": {"https://app.example.com"}}, 200, http.Header{
				"Access-Control-Allow-Origin": {"https://app.example.com"}, "Access-Control-Allow-Credentials": {"true"},
				"Access-Control-Expose-Headers": {"X-Request-Id, Retry-After"}, "Vary": {"Origin"},
			}},
			{"error for the origin", "POST", "0123456789a", http.Header{"Origin": {"https://app.example.com"}}, 413, http.Header{
				"Access-Control-Allow-Origin": {"https://app.example.com"},
			}},
			{"from another", "POST", "x", http.Header{"Origin": {"https://app.example.com.evil.net"}}, 200, http.Header{"Access-Control-Allow-Origin": nil, "Vary": {"Origin"}}},
			{"preflight", "OPTIONS", "", http.Header{
				"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"content-type"},
			}, 204, http.Header{
				"Access-Control-Allow-Origin": {"https://app.example.com"}, "Access-Control-Allow-Methods": {methods}, "Access-Control-Max-Age": {"3600"},
				"Access-Control-Allow-Headers": {"Accept, Content-Type, X-Request-Id, X-Request-Timeout-Seconds, Serve-Multiplexed-Model-Id, Traceparent"},
			}},
			{"preflight of another", "OPTIONS", "", http.Header{"Origin": {"null"}, "Access-Control-Request-Method": {"PUT"}}, 204, http.Header{"Access-Control-Allow-Origin": nil}},
			{"preflight for another method", "OPTIONS", "", http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"TRACE"}}, 204,
				http.Header{"Access-Control-Allow-Origin": nil}},
			{"preflight for another header", "OPTIONS", "", http.Header{
				"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"content-type,x-other"},
			}, 204, http.Header{"Access-Control-Allow-Origin": nil}},
		} {
			for _, chunked := range []bool{false, true} {
				body := io.Reader(strings.NewReader(test.body))
				if chunked {
					body = io.MultiReader(body)
				}
				at := url
				if test.body == "wait" {
					at = strings.TrimSuffix(url, "/") + "/late"
				}
				r, err := http.NewRequestWithContext(t.Context(), test.method, at, body)
				if err != nil {
					t.Fatal(err)
				}
				if test.header != nil {
					r.Header = test.header.Clone()
				}
				answer, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Fatalf("%s: %v", test.name, err)
				}
				b, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || answer.StatusCode != test.status {
					t.Errorf("%s: %s %s %v", test.name, answer.Status, b, err)
				}
				for name, want := range test.want {
					if got := answer.Header[name]; strings.Join(got, "|") != strings.Join(want, "|") {
						t.Errorf("%s: %s is %q, want %q", test.name, name, got, want)
					}
				}
			}
		}
	}
	t.Run("method", func(t *testing.T) {
		t.Parallel()
		helvetest.Run(t, buildSlowMethod, func(t *testing.T, s *helve.System) { check(t, s, buildLateMethod, "POST, PUT, PATCH") })
	})
	t.Run("handler", func(t *testing.T) {
		t.Parallel()
		helvetest.Run(t, buildSlowHandler, func(t *testing.T, s *helve.System) {
			check(t, s, buildLateHandler, "GET, HEAD, POST, PUT, PATCH, DELETE")
		})
	})
}

// TestMistakesOfIngressOptions: each names its field.
func TestMistakesOfIngressOptions(t *testing.T) {
	t.Parallel()
	cors := func(c helve.CORS) helve.IngressOptions { return helve.IngressOptions{CORS: &c} }
	for want, o := range map[string]helve.IngressOptions{
		"ingress options: MaxBody: must not be negative, is -1":                                                  {MaxBody: -1},
		"ingress options: MaxBody: must be at most half of HTTPLimits.Memory, 268435456 bytes, is 1099511627776": {MaxBody: 1 << 40},
		"ingress options: RequestTimeout: must not be negative":                                                  {RequestTimeout: -1},
		"ingress options: CORS.Origins: must name origins":                                                       cors(helve.CORS{}),
		`ingress options: CORS.Origins: "app.example.com": an origin`:                                            cors(helve.CORS{Origins: []string{"app.example.com"}}),
		`ingress options: CORS.Origins: "https://a.b/": an origin`:                                               cors(helve.CORS{Origins: []string{"https://a.b/"}}),
		`ingress options: CORS.Origins: "https://*b.c": an origin`:                                               cors(helve.CORS{Origins: []string{"https://*b.c"}}),
		`"https://A.b": browsers send an origin in lower case`:                                                   cors(helve.CORS{Origins: []string{"https://A.b"}}),
		"ingress options: CORS.Credentials: needs the names":                                                     cors(helve.CORS{Origins: []string{"*"}, Credentials: true}),
		`ingress options: CORS.Methods: "GET POST" is no name`:                                                   cors(helve.CORS{Origins: []string{"*"}, Methods: []string{"GET POST"}}),
		`ingress options: CORS.Headers: "" is no name`:                                                           cors(helve.CORS{Origins: []string{"*"}, Headers: []string{""}}),
		"ingress options: CORS.MaxAge: must not be negative":                                                     cors(helve.CORS{Origins: []string{"*"}, MaxAge: -1}),
	} {
		_, err := helve.Run(t.Context(), func() (*helve.App, error) {
			app, err := buildSlowMethod()
			app.IngressOptions(o)
			return app, err
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestTwoApplicationsOnOneRoute: the second is refused, and the error names both.
func TestTwoApplicationsOnOneRoute(t *testing.T) {
	t.Parallel()
	s := runMirror(t, helve.Config{})
	err := s.Deploy(t.Context(), func() (*helve.App, error) {
		app, err := buildSlowHandler()
		app.RoutePrefix("/tell")
		return app, err
	})
	if err == nil || !strings.Contains(err.Error(), "/tell") || !strings.Contains(err.Error(), "mirror") {
		t.Errorf("%v", err)
	}
}

// TestErrorsAreJSONForClientsThatAskForIt: also errors that are about no call.
func TestErrorsAreJSONForClientsThatAskForIt(t *testing.T) {
	t.Parallel()
	s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0"})
	url, _ := s.HTTP()
	for path, want := range map[string]string{
		"/nothing":            `404 NotFound Path '/nothing' not found. Ping http://.../-/routes for available routes.`,
		"/-/nothing":          `404 NotFound Path '/-/nothing' not found. Ping http://.../-/routes for available routes.`,
		"/-/readyz?app=other": `404 NotFound there is no application "other"`,
		"/-/readyz?app=%zz":   `400 InvalidArgument invalid URL escape "%zz"`,
		"POST /-/healthz":     `405 Unimplemented only GET and HEAD here`,
	} {
		method, at, ok := strings.Cut(path, " ")
		if !ok {
			method, at = "GET", path
		}
		r, err := http.NewRequestWithContext(t.Context(), method, url+at, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "application/json")
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Error struct {
				Code, Message string
				RequestID     string `json:"request_id"`
			}
		}
		err = json.NewDecoder(answer.Body).Decode(&body)
		answer.Body.Close()
		if got := fmt.Sprintf("%d %s %s", answer.StatusCode, body.Error.Code, body.Error.Message); err != nil || got != want ||
			answer.Header.Get("Content-Type") != "application/json" || body.Error.RequestID != answer.Header.Get("X-Request-Id") {
			t.Errorf("%s: %q, want %q, %v", path, got, want, err)
		}
	}
}

// together is a handler that answers when as many requests run as there are places in begun.
type together struct {
	begun chan struct{}
	all   sync.WaitGroup
}

func (h *together) ServeHTTP(http.ResponseWriter, *http.Request) {
	h.begun <- struct{}{}
	h.all.Done()
	h.all.Wait()
}

// TestSlotsOfAHandler: an ingress that is an http.Handler has more slots than a method, unless its options say another number.
func TestSlotsOfAHandler(t *testing.T) {
	t.Parallel()
	for n, slots := range map[int]*int{6: nil, 1: new(1)} {
		h := &together{begun: make(chan struct{}, n)}
		h.all.Add(n)
		s, err := helve.Config{HTTP: "127.0.0.1:0"}.Run(t.Context(), func() (*helve.App, error) {
			app := helve.NewApp("slots")
			d := helve.Deploy(app, "H", func(context.Context) (*together, error) { return h, nil }, helve.Options{MaxOngoingRequests: slots})
			app.Ingress(helve.HTTP(d))
			return app, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		url, _ := s.HTTP()
		var asking sync.WaitGroup
		if slots != nil {
			h.all.Add(1) // the first request keeps the only slot
		}
		for range n {
			asking.Go(func() {
				if r, err := http.Get(url); err != nil || r.StatusCode != 200 {
					t.Errorf("%v %v", r, err)
				} else {
					r.Body.Close()
				}
			})
		}
		for range n {
			<-h.begun
		}
		if slots != nil {
			r := ask(t, url)
			r.Header.Set("X-Request-Timeout-Seconds", "0.01")
			if answer, err := http.DefaultClient.Do(r); err != nil || answer.StatusCode != 408 { // the request waits for the slot
				t.Errorf("%v %v", answer, err)
			} else {
				answer.Body.Close()
			}
			h.all.Done()
		}
		asking.Wait()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestHTTPStatus: the status agrees with the answer of the ingress.
func TestHTTPStatus(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		200: nil, 404: fmt.Errorf("wrapped: %w", helve.Public(helve.NotFound, "no such user")), 429: helve.Public(helve.ResourceExhausted, ""),
		408: context.DeadlineExceeded, 499: fmt.Errorf("wrapped: %w", context.Canceled), 500: errors.New("any"),
	} {
		if got := helve.HTTPStatus(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

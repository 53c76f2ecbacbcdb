package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
)

// countsOf has the counts of a proxy as texts, for example "/a app GET 200: 3".
func countsOf(t *testing.T, p *Proxy) []string {
	t.Helper()
	ended, ongoing := p.Counts()
	if ongoing != 0 {
		t.Errorf("%d requests are not answered", ongoing)
	}
	var out []string
	for _, k := range ended {
		failed := uint64(0)
		if k.Status >= 400 {
			failed = k.Calls.Started
		}
		if k.Calls.Ended() != k.Calls.Started || k.Calls.Failed != failed {
			t.Errorf("%+v", k)
		}
		out = append(out, fmt.Sprintf("%s %s %s %d: %d", k.Route, k.Application, k.Method, k.Status, k.Calls.Started))
	}
	return out
}

// ask sends a request to p on a goroutine of its own, which the method may end, and waits for the end.
func ask(ctx context.Context, p *Proxy, method, path string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { recover() }() //nolint:errcheck // the server does the same
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, method, path, nil))
	}()
	<-done
}

// TestEachRequestIsCounted: a request is counted once, under the status with which it ended, whichever way its answer takes, with an
// access log and without.
func TestEachRequestIsCounted(t *testing.T) {
	t.Parallel()
	ctx := context.Background() // a client that stays
	gone, cancel := context.WithCancel(ctx)
	cancel()
	returns := func(app string, e *call.Error) Route {
		return Route{Prefix: "/" + app, App: app, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
			return call.Payload{Codec: call.Text, Data: []byte("hello")}, e
		}}
	}
	yields := func(app string, items int, after func(context.Context) *call.Error) Route {
		return Route{Prefix: "/" + app, App: app, Stream: func(ctx context.Context, _ *call.Call, item Item) *call.Error {
			for range items {
				item(call.Payload{Codec: call.Text, Data: []byte("hello")}, false)
			}
			return after(ctx)
		}}
	}
	fails := func(context.Context) *call.Error { return call.NewError(helvetype.ReasonUser, "failed") }
	exits := func(context.Context) *call.Error { runtime.Goexit(); return nil }
	leaves := func(ctx context.Context) *call.Error { return call.FromContext(ctx) }
	completes := func(context.Context) *call.Error { return nil }
	aborts := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		name         string
		ctx          context.Context
		method, path string
		route        Route
		want         string // "" for none
	}{
		{"answer", ctx, "GET", "/a/b", returns("a", nil), "/a a GET 200: 1"},
		{"failure", ctx, "PUT", "/a", returns("a", call.NewError(helvetype.ReasonBackpressure, "full")), "/a a PUT 503: 1"},
		{"method not allowed", ctx, "DELETE", "/a", returns("a", nil), "/a a DELETE 405: 1"},
		{"method unknown", ctx, "BREW", "/a", returns("a", nil), "/a a OTHER 405: 1"},
		{"no application", ctx, "GET", "/secret", returns("a", nil), "  GET 404: 1"},
		{"path of the node", ctx, "GET", "/-/healthz", returns("a", nil), ""},
		{"client gone", gone, "GET", "/a", Route{Prefix: "/a", App: "a", Call: func(ctx context.Context, _ *call.Call) (call.Payload, *call.Error) {
			return call.Payload{}, call.FromContext(ctx)
		}}, "/a a GET 499: 1"},
		{"method ends its goroutine", ctx, "GET", "/a", Route{Prefix: "/a", App: "a", Call: func(ctx context.Context, _ *call.Call) (call.Payload, *call.Error) {
			return call.Payload{}, exits(ctx)
		}}, "/a a GET 500: 1"},
		{"panic", ctx, "GET", "/a", Route{Prefix: "/a", App: "a", Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
			panic("a fault of the node")
		}}, "/a a GET 500: 1"},
		{"stream", ctx, "GET", "/s", yields("s", 3, completes), "/s s GET 200: 1"},
		{"stream without items", ctx, "GET", "/s", yields("s", 0, completes), "/s s GET 200: 1"},
		{"stream, header only", ctx, "HEAD", "/s", yields("s", 1, leaves), "/s s HEAD 200: 1"},
		{"stream fails at once", ctx, "GET", "/s", yields("s", 0, fails), "/s s GET 500: 1"},
		{"stream fails later", ctx, "GET", "/s", yields("s", 1, fails), "/s s GET 500: 1"},
		{"stream ends its goroutine", ctx, "GET", "/s", yields("s", 1, exits), "/s s GET 500: 1"},
		{"client leaves a stream", gone, "GET", "/s", yields("s", 1, leaves), "/s s GET 499: 1"},
		{"handler", ctx, "PATCH", "/h", handles("/h", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }), "/h handler PATCH 418: 1"},
		{"handler writes a text", ctx, "GET", "/h", handles("/h", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }), "/h handler GET 200: 1"},
		{"handler informs before", ctx, "GET", "/h", handles("/h", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(201) }), "/h handler GET 201: 1"},
		{"handler writes nothing", ctx, "GET", "/h", handles("/h", func(http.ResponseWriter, *http.Request) {}), "/h handler GET 200: 1"},
		{"client gone before the handler writes", gone, "GET", "/h", handles("/h", func(http.ResponseWriter, *http.Request) {}), "/h handler GET 499: 1"},
		{"handler aborts", ctx, "GET", "/h", handles("/h", aborts), "/h handler GET 500: 1"},
		{"handler aborts for a client that is gone", gone, "GET", "/h", handles("/h", aborts), "/h handler GET 499: 1"},
		{"handler writes and aborts", ctx, "GET", "/h", handles("/h", func(w http.ResponseWriter, r *http.Request) { w.Write(nil); aborts(w, r) }), "/h handler GET 500: 1"},
		{"handler gives a status that is none", ctx, "GET", "/h", handles("/h", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(123456) }), "/h handler GET 500: 1"},
		{"handler ends its goroutine", ctx, "GET", "/h", handles("/h", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }), "/h handler GET 500: 1"},
	} {
		for log, to := range map[string]io.Writer{"with an access log": io.Discard, "without": nil} {
			t.Run(c.name+", "+log, func(t *testing.T) {
				t.Parallel()
				p := New(Settings{AccessLog: to})
				if err := p.SetRoutes([]Route{c.route}); err != nil {
					t.Fatal(err)
				}
				ask(c.ctx, p, c.method, c.path)
				if got := strings.Join(countsOf(t, p), "\n"); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	}
}

// TestOngoingRequests: the gauge counts a request from its begin to its end, and the latency is that time. A node that shuts
// down counts the requests that it refuses.
func TestOngoingRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := with(t, streams(1, 1, 3*time.Second))
		var asked sync.WaitGroup
		asked.Go(func() { ask(t.Context(), p, "GET", "/stream") })
		synctest.Wait()
		if ended, ongoing := p.Counts(); ongoing != 1 || len(ended) != 0 {
			t.Errorf("%d ongoing, %v", ongoing, ended)
		}
		asked.Wait()
		ended, ongoing := p.Counts()
		if ongoing != 0 || len(ended) != 1 || ended[0].Calls.Busy != 3*time.Second {
			t.Errorf("%d ongoing, %+v", ongoing, ended)
		}
		if err := p.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		ask(t.Context(), p, "GET", "/stream")
		if got := countsOf(t, p); !slices.Contains(got, "/stream stream GET 503: 1") {
			t.Errorf("%q", got)
		}
	})
}

// TestCountsOfConnections: a connection that a handler took over counts as 101, and a stream whose client takes nothing more as 499, over
// both protocols.
func TestCountsOfConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := with(t, streams(16, 1<<20, 0), handles("/take", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		}))
		connect := serving(t, p)
		conn := connect()
		io.WriteString(conn, "GET /take HTTP/1.1\r\nHost: x\r\n\r\n")
		io.Copy(io.Discard, conn) //nolint:errcheck // the handler ends it
		synctest.Wait()
		conn = connect()
		io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil { //nolint:bodyclose // the body is left unread
			t.Fatal(err)
		}
		client := http2(connect)
		r, err := client.Get("http://x/stream")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * defaults.StallTimeout) // of the bubble's clock
		got, want := countsOf(t, p), []string{"/take handler GET 101: 1", "/stream stream GET 499: 2"}
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%q, want %q", got, want)
		}
		r.Body.Close()
		client.CloseIdleConnections()
	})
}

// TestCountsOutlastRoutes: an application that is deployed again counts on, one at another route begins anew, and the counts of the
// routes that are gone are bounded.
func TestCountsOutlastRoutes(t *testing.T) {
	t.Parallel()
	route := func(prefix, app string) Route {
		r := answers(1)
		r.Prefix, r.App = prefix, app
		return r
	}
	p := New(Settings{})
	set := func(routes ...Route) {
		t.Helper()
		if err := p.SetRoutes(routes); err != nil {
			t.Fatal(err)
		}
	}
	for _, routes := range [][]Route{{route("/a", "a")}, {}, {route("/a", "a"), route("/b", "b")}, {route("/a", "b")}} {
		set(routes...)
		ask(t.Context(), p, "GET", "/a")
	}
	want := []string{"/a b GET 200: 1", "/a a GET 200: 2", "  GET 404: 1"}
	if got := countsOf(t, p); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range 3 * goneMax {
		set(route("/a", fmt.Sprint("app ", i)))
		ask(t.Context(), p, "GET", "/a")
	}
	got := countsOf(t, p)
	if len(got) != 1+goneMax+1 || got[0] != fmt.Sprintf("/a app %d GET 200: 1", 3*goneMax-1) || got[goneMax] != fmt.Sprintf("/a app %d GET 200: 1", 2*goneMax-1) {
		t.Errorf("%d series: %q", len(got), got)
	}
}

// TestCountsUnderRoutesThatChange: no request is lost while routes are replaced and counts are read.
func TestCountsUnderRoutesThatChange(t *testing.T) {
	t.Parallel()
	a := answers(1)
	b := answers(1)
	b.Prefix, b.App = "/other", "other"
	p := with(t, a)
	const clients, each = 4, 200
	var asking sync.WaitGroup
	for range clients {
		asking.Go(func() {
			for range each {
				ask(t.Context(), p, "GET", "/method")
			}
		})
	}
	for range each {
		if err := p.SetRoutes([]Route{b}); err != nil {
			t.Fatal(err)
		}
		if err := p.SetRoutes([]Route{b, a}); err != nil {
			t.Fatal(err)
		}
		p.Counts()
	}
	asking.Wait()
	sums := map[string]uint64{}
	ended, _ := p.Counts()
	for _, k := range ended {
		sums[k.Route] += k.Calls.Started
	}
	if total := sums["/method"] + sums[""]; total != clients*each {
		t.Errorf("%v requests, want %d in all", slices.Collect(maps.Keys(sums)), clients*each)
	}
}

// discards is a ResponseWriter without memory.
type discards struct{ header http.Header }

func (d *discards) Header() http.Header         { return d.header }
func (d *discards) Write(b []byte) (int, error) { return len(b), nil }
func (d *discards) WriteHeader(int)             {}

// TestCountingAllocatesNothing: a request to a method costs its call, its id (two) and the result, which the method makes. The test
// is not parallel, because allocations are counted over the whole process.
func TestCountingAllocatesNothing(t *testing.T) { //nolint:paralleltest // see above
	p := with(t, answers(10))
	r := httptest.NewRequest("GET", "/method", nil)
	r = r.WithContext(clients.Context(r.Context(), p.clients.Add(nil))) // of the proxy's own server
	w := &discards{http.Header{}}
	if n := testing.AllocsPerRun(100, func() { p.ServeHTTP(w, r) }); n > 4 {
		t.Errorf("%v allocations, want 4", n)
	}
}

package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
)

// untilEnd is a method that waits until its context has ended.
func untilEnd(ctx context.Context, _ *call.Call) (call.Payload, *call.Error) {
	<-ctx.Done()
	return call.Payload{}, call.FromContext(ctx)
}

// TestRequestTimeout: over its time a request is answered with 408 if its answer has not begun, and cut off otherwise, over both protocols.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	const limit = 10 * time.Second
	routes := []Route{
		{Prefix: "/method", In: InString, Call: untilEnd},
		{Prefix: "/stream", In: InString, Stream: func(ctx context.Context, _ *call.Call, _ Item) *call.Error {
			<-ctx.Done()
			return call.FromContext(ctx)
		}},
		{Prefix: "/items", In: InString, Stream: func(ctx context.Context, _ *call.Call, item Item) *call.Error {
			item(call.Payload{Codec: call.Text, Data: []byte("first")}, false)
			<-ctx.Done()
			return call.FromContext(ctx)
		}},
		{Prefix: "/queue", Handle: func(ctx context.Context, _ *call.Call, _ Serve) *call.Error {
			<-ctx.Done()
			return call.FromContext(ctx)
		}},
		handles("/handler", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		handles("/reads", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }),                               //nolint:errcheck // it is cut off
		handles("/ignores", func(w http.ResponseWriter, r *http.Request) { ignore(w, r); w.WriteHeader(200); fmt.Fprint(w, "late") }), //nolint:errcheck // as above
		handles("/begun", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "first")            //nolint:errcheck // as above
			http.NewResponseController(w).Flush() //nolint:errcheck // as above
			ignore(w, r)
			fmt.Fprint(w, "late") //nolint:errcheck // as above
		}),
		handles("/writes", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}),
	}
	for path, status := range map[string]int{
		"/method": 408, "/stream": 408, "/items": 200, "/queue": 408, "/handler": 408, "/reads": 408, "/ignores": 408, "/begun": 200, "/writes": 200,
	} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(path[1:]+" "+proto, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := New(Settings{Options: Options{RequestTimeout: limit}})
					if err := p.SetRoutes(routes); err != nil {
						t.Fatal(err)
					}
					connect := serving(t, p)
					client := http2(connect)
					if proto == "HTTP/1.1" {
						client.Transport.(*http.Transport).Protocols.SetHTTP1(true)
						client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(false)
					}
					defer client.CloseIdleConnections()
					body := io.Reader(strings.NewReader("x"))
					if path == "/reads" {
						in, out := io.Pipe() // a body without bytes
						defer out.Close()
						body = in
					}
					r, err := http.NewRequestWithContext(t.Context(), "POST", "http://x"+path, body)
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					answer, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					defer answer.Body.Close()
					if path == "/writes" {
						time.Sleep(limit + time.Second)
					}
					b, err := io.ReadAll(answer.Body)
					if answer.StatusCode != status || answer.Proto != proto {
						t.Errorf("%s %s %s", answer.Proto, answer.Status, b)
					}
					if status == 408 && (err != nil || string(b) != "Request "+answer.Header.Get("X-Request-Id")+" timed out after 10.0s.") || status == 200 && err == nil {
						t.Errorf("%.40q %v", b, err)
					}
					if took := time.Since(start); path != "/writes" && took != limit && (status == 408 || took != limit+timeToEnd) {
						t.Errorf("after %s", took)
					}
					time.Sleep(time.Hour) // the handlers that ignore the end return
					synctest.Wait()
					idle(t, p)
				})
			})
		}
	}
}

// ignore waits for an hour, also if the request has ended.
func ignore(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) }

// TestTrailersWithinTheirTime: a handler whose time is limited gets the trailers of the request.
func TestTrailersWithinTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Options: Options{RequestTimeout: time.Minute}})
		if err := p.SetRoutes([]Route{handles("/", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)           //nolint:errcheck // the trailer tells
			fmt.Fprint(w, r.Trailer.Get("X-Sum")) //nolint:errcheck // as above
		})}); err != nil {
			t.Fatal(err)
		}
		c := serving(t, p)()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n") //nolint:errcheck // the answer tells
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "7" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestExpectWithALimit: a handler whose bodies have a limit refuses a body before the client sends it.
func TestExpectWithALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{})
		route := handles("/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
		route.Options = &spec.IngressOptions{MaxBody: 1000}
		if err := p.SetRoutes([]Route{route}); err != nil {
			t.Fatal(err)
		}
		c := serving(t, p)()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n") //nolint:errcheck // the answer tells
		begun := time.Now()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusForbidden || !res.Close {
			t.Errorf("%+v, %v", res, err)
		}
		if waited := time.Since(begun); waited > 0 { // the clock stands still until all wait
			t.Errorf("the answer came after %s", waited)
		}
	})
}

// TestTimeoutHeader: a client shortens the time of its request, and cannot lengthen it.
func TestTimeoutHeader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		server, app time.Duration
		header      []string
		want        time.Duration // 0 for 400
	}{
		{0, 0, []string{"0.25"}, 250 * time.Millisecond},
		{0, 0, []string{"1e1"}, 10 * time.Second},
		{time.Second, 0, []string{"0.5"}, time.Second / 2},
		{time.Second, 0, []string{"5"}, time.Second},
		{time.Second, 0, []string{"1e300"}, time.Second},
		{time.Second, time.Minute, nil, time.Second},
		{time.Minute, time.Second, nil, time.Second},
		{0, time.Second, []string{"2"}, time.Second},
		{0, 0, []string{"1e-300"}, 1},
		{0, 0, []string{"0"}, 0},
		{0, 0, []string{"-1"}, 0},
		{0, 0, []string{"NaN"}, 0},
		{0, 0, []string{"Inf"}, 0},
		{0, 0, []string{"1s"}, 0},
		{0, 0, []string{""}, 0},
		{0, 0, []string{"1", "2"}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := New(Settings{Options: Options{RequestTimeout: test.server}})
			if err := p.SetRoutes([]Route{{Prefix: "/", In: InNone, Call: untilEnd, Options: &spec.IngressOptions{RequestTimeout: test.app}}}); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["X-Request-Timeout-Seconds"] = test.header
			w, start := httptest.NewRecorder(), time.Now()
			p.ServeHTTP(w, r)
			if took := time.Since(start); test.want == 0 && (w.Code != 400 || !strings.Contains(w.Body.String(), "X-Request-Timeout-Seconds must be")) ||
				test.want > 0 && (w.Code != 408 || took != test.want) {
				t.Errorf("%s %s %q: %d %s after %s", test.server, test.app, test.header, w.Code, w.Body, took)
			}
		})
	}
}

// TestHandlersWithinTheirTime: a limit of time changes nothing else: headers, trailers, informational answers, panics, files, and connections that are taken
// over, which may stay for longer.
func TestHandlersWithinTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Options: Options{RequestTimeout: time.Second}})
		if err := p.SetRoutes([]Route{
			handles("/trailer", func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				h.Set("Link", "early")
				w.WriteHeader(103)
				h.Set("Trailer", "X-Sum")
				h.Set("X-Own", r.Header.Get("X-Sent"))
				r.Header.Set("Accept", "changed")
				io.WriteString(w, "body") //nolint:errcheck // the client tells
				h.Set("X-Sum", "1")
			}),
			handles("/empty", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Own", "e") }),
			handles("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			handles("/take", func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Minute)
				fmt.Fprint(conn, r.Context().Err()) //nolint:errcheck // the client tells
				conn.Close()
			}),
		}); err != nil {
			t.Fatal(err)
		}
		connect := serving(t, p)
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return connect(), nil }}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://x/trailer", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Sent", "s")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || string(b) != "body" || answer.Header.Get("X-Own") != "s" || answer.Trailer.Get("X-Sum") != "1" || answer.Header.Get("X-Request-Id") == "" {
			t.Errorf("%q %v %v %v", b, answer.Header, answer.Trailer, err)
		}
		if answer, err = client.Get("http://x/empty"); err != nil || answer.Header.Get("X-Own") != "e" {
			t.Errorf("%v %v", answer, err)
		} else {
			answer.Body.Close()
		}
		if answer, err = client.Get("http://x/panic"); err == nil || !errors.Is(err, io.EOF) {
			t.Errorf("%v %v", answer, err)
		}
		conn := connect()
		io.WriteString(conn, "GET /take HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: any\r\n\r\n") //nolint:errcheck // the answer tells
		if b, err := bufio.NewReader(conn).ReadString(0); b != "<nil>" {
			t.Errorf("%q %v", b, err)
		}
	})
}

// TestBodyWithinItsTime: a body that does not come ends with the time of the request.
func TestBodyWithinItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Options: Options{RequestTimeout: time.Second}})
		if err := p.SetRoutes([]Route{{Prefix: "/", In: InString, Call: echo}}); err != nil {
			t.Fatal(err)
		}
		conn := serving(t, p)()
		start := time.Now()
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx") //nolint:errcheck // the answer tells
		b, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408") || !strings.Contains(string(b), "Connection: close") {
			t.Errorf("%q %v", b, err)
		}
		if took := time.Since(start); took < time.Second || took > 2*time.Second {
			t.Errorf("after %s", took)
		}
	})
}

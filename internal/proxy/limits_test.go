package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
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

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
)

// serving serves p over pipes, inside a bubble, and returns the function that connects. The server ends with the
// test.
func serving(t *testing.T, p *Proxy) (connect func() net.Conn) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn)}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l, nil) }()
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
		if err := errors.Join(p.Drain(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		all = append(all, ours)
		return ours
	}
}

// answers is a method that returns n bytes.
func answers(n int) Route {
	return Route{Prefix: "/method", App: "method", In: InNone, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
		return call.Payload{Codec: call.Raw, Data: make([]byte, n)}, nil
	}}
}

// streams yields n items of size bytes, with a pause before each.
func streams(n, size int, pause time.Duration) Route {
	return Route{Prefix: "/stream", App: "stream", In: InNone, Stream: func(ctx context.Context, _ *call.Call, item Item) *call.Error {
		for range n {
			time.Sleep(pause)
			if !item(call.Payload{Codec: call.Raw, Data: make([]byte, size)}, false) {
				return call.FromContext(ctx)
			}
		}
		return nil
	}}
}

// handles is a handler.
func handles(prefix string, f http.HandlerFunc) Route {
	return Route{Prefix: prefix, App: "handler", Handle: func(ctx context.Context, _ *call.Call, serve Serve) *call.Error {
		serve(ctx, f, false)
		return nil
	}}
}

func writes(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, n)) } //nolint:errcheck // the test looks elsewhere
}

// http2 is a client of HTTP/2 over one connection, whose bodies the test reads or leaves.
func http2(connect func() net.Conn) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return connect(), nil }}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: tr}
}

// idle fails the test if p holds memory for clients.
func idle(t *testing.T, p *Proxy) {
	t.Helper()
	if used, active := p.memory.Used(), p.active.Load(); used != 0 || active != 0 {
		t.Errorf("%d bytes are held, of %d requests", used, active)
	}
}

// defaults are the limits of a proxy whose settings name none.
var defaults = clients.Limits{}.WithDefaults()

const lots = 16 << 20 // more than any buffer on the way

// TestClientsThatTakeNothing: a client that stops reading loses its request after the stall time, over both
// protocols, and its memory is released.
func TestClientsThatTakeNothing(t *testing.T) {
	t.Parallel()
	routes := []Route{answers(lots), streams(16, 1<<20, 0), handles("/handler", writes(lots))}
	for _, path := range []string{"/method", "/stream", "/handler"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := with(t, routes...)
				connect := serving(t, p)
				ends := func(what string) {
					t.Helper()
					time.Sleep(defaults.StallTimeout / 2)
					if p.active.Load() == 0 {
						t.Errorf("%s: ended too early", what)
					}
					time.Sleep(defaults.StallTimeout)
					synctest.Wait()
					idle(t, p)
				}
				conn := connect()
				io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
				ends("HTTP/1.1")
				if n := p.clients.Len(); n != 0 {
					t.Errorf("%d connections are left", n)
				}
				client := http2(connect)
				r, err := client.Get("http://x" + path)
				if err != nil {
					t.Fatal(err)
				}
				ends("HTTP/2")
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					t.Error("HTTP/2: the body came to its end")
				}
				r.Body.Close()
				client.CloseIdleConnections()
			})
		})
	}
}

// TestClientsThatAreSlow: a client that always reads a little gets the whole answer, however long that takes.
func TestClientsThatAreSlow(t *testing.T) {
	t.Parallel()
	routes := []Route{answers(lots), streams(16, 1<<20, 0), handles("/handler", writes(lots))}
	for _, path := range []string{"/method", "/stream", "/handler"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := with(t, routes...)
				connect := serving(t, p)
				all := func(body io.ReadCloser) {
					t.Helper()
					defer body.Close()
					n, err := int64(0), error(nil)
					for err == nil {
						time.Sleep(defaults.StallTimeout / 4)
						var m int64
						m, err = io.CopyN(io.Discard, body, 128<<10)
						n += m
					}
					if n != lots || !errors.Is(err, io.EOF) {
						t.Errorf("%d bytes, %v", n, err)
					}
				}
				conn := connect()
				io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
				r, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
				if err != nil {
					t.Fatal(err)
				}
				all(r.Body)
				client := http2(connect)
				if r, err = client.Get("http://x" + path); err != nil {
					t.Fatal(err)
				}
				all(r.Body)
				client.CloseIdleConnections()
			})
		})
	}
}

// TestNothingToTake: a stream without items, and a silent connection that a handler has taken over, go on for hours.
func TestNothingToTake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := with(t, streams(3, 10, 5*time.Hour), handles("/upgrade", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			io.Copy(conn, conn) //nolint:errcheck // until the client goes
		}))
		connect := serving(t, p)
		client := http2(connect)
		r2, err := client.Get("http://x/stream")
		if err != nil {
			t.Fatal(err)
		}
		conn := connect()
		io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, body := range map[string]io.ReadCloser{"HTTP/2": r2.Body, "HTTP/1.1": r.Body} {
			if b, err := io.ReadAll(body); len(b) != 30 || err != nil {
				t.Errorf("%s: %d bytes, %v", name, len(b), err)
			}
			body.Close()
		}
		client.CloseIdleConnections()
		conn = connect()
		io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		in := bufio.NewReader(conn)
		if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != 101 {
			t.Fatal(r, err)
		}
		for range 3 {
			time.Sleep(5 * time.Hour)
			io.WriteString(conn, "hello\n")
			if line, err := in.ReadString('\n'); line != "hello\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
		}
	})
}

// TestHandlersOwnDeadline: a deadline that a handler sets by itself holds, longer or shorter.
func TestHandlersOwnDeadline(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			took := make(chan time.Duration, 1)
			p := with(t, handles("/", func(w http.ResponseWriter, _ *http.Request) {
				start := time.Now()
				if err := http.NewResponseController(w).SetWriteDeadline(start.Add(after)); err != nil {
					t.Error(err)
				}
				if _, err := w.Write(make([]byte, lots)); err == nil {
					t.Error("written")
				}
				took <- time.Since(start)
			}))
			connect := serving(t, p)
			io.WriteString(connect(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if d := <-took; d != after {
				t.Errorf("HTTP/1.1: %s, want %s", d, after)
			}
			client := http2(connect)
			r, err := client.Get("http://x/")
			if err != nil {
				t.Fatal(err)
			}
			if d := <-took; d != after {
				t.Errorf("HTTP/2: %s, want %s", d, after)
			}
			r.Body.Close()
			client.CloseIdleConnections()
		})
	}
}

// TestBodiesThatStall: a body that stops coming ends its request after the stall time, for handlers too and over both protocols.
func TestBodiesThatStall(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/method", "/handler"} {
		synctest.Test(t, func(t *testing.T) {
			p := with(t, Route{Prefix: "/method", In: InString, Call: echo}, handles("/handler", func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					http.Error(w, err.Error(), http.StatusRequestTimeout)
				}
			}))
			connect := serving(t, p)
			start := time.Now()
			conn := connect()
			io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhi")
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || r.StatusCode != 408 || time.Since(start) != defaults.StallTimeout {
				t.Errorf("HTTP/1.1: %v, %v after %s", r, err, time.Since(start))
			}
			start = time.Now()
			client := http2(connect)
			body, feed := io.Pipe()
			go feed.Write([]byte("hi")) //nolint:errcheck // as above
			r, err = client.Post("http://x"+path, "text/plain", body)
			if err != nil || r.StatusCode != 408 || time.Since(start) != defaults.StallTimeout {
				t.Errorf("HTTP/2: %v, %v after %s", r, err, time.Since(start))
			}
			feed.Close()
			if err == nil {
				r.Body.Close()
			}
			client.CloseIdleConnections()
			time.Sleep(time.Minute)
			synctest.Wait()
			idle(t, p)
		})
	}
}

// TestBodiesTogether: bodies have a common limit, which counts the bytes that have come. Small requests are answered
// beside large ones.
func TestBodiesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Limits: clients.Limits{Memory: 32 << 20, StallTimeout: time.Hour}})
		if err := p.SetRoutes([]Route{{Prefix: "/", In: InBytes, Call: echo}}); err != nil {
			t.Fatal(err)
		}
		connect := serving(t, p)
		status := func(conn net.Conn) int {
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode == 503 && r.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			return r.StatusCode
		}
		announced := 0
		for range 100 { // requests that announce a large body and send none
			io.WriteString(connect(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n")
			announced++
		}
		large := "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n" + strings.Repeat("x", 10<<20)
		first := connect()
		io.WriteString(first, large)
		synctest.Wait()
		if used := p.memory.Used(); used < 10<<20 || used > 20<<20 {
			t.Errorf("%d bytes are held for one large body and %d announced ones", used, announced)
		}
		second := connect()
		go io.WriteString(second, large)
		if got := status(second); got != 503 {
			t.Errorf("one body too many: %d", got)
		}
		third := connect()
		io.WriteString(third, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
		if got := status(third); got != 200 {
			t.Errorf("a small body: %d", got)
		}
		if used := p.memory.Used(); used > p.limits.Memory {
			t.Errorf("%d bytes are held", used)
		}
	})
}

// TestResultsTogether: unread results have a common limit, and a share of it per connection.
func TestResultsTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Limits: clients.Limits{Memory: 64 << 20}})
		if err := p.SetRoutes([]Route{answers(5 << 20), {Prefix: "/huge", In: InNone, Call: answers(60 << 20).Call}}); err != nil {
			t.Fatal(err)
		}
		connect := serving(t, p)
		count := func(n int, from ...*http.Client) (statuses map[int]int) {
			statuses = map[int]int{}
			for range n {
				for _, c := range from {
					r, err := c.Get("http://x/method")
					if err != nil {
						t.Fatal(err)
					}
					statuses[r.StatusCode]++
					t.Cleanup(func() { r.Body.Close() })
				}
			}
			return statuses
		}
		var many []*http.Client
		for range 8 {
			many = append(many, http2(connect))
		}
		if got := count(10, many[0]); got[200] != 6 || got[503] != 4 {
			t.Errorf("one connection: %v", got)
		}
		count(3, many...)
		if used := p.memory.Used(); used > p.limits.Memory || used < p.limits.Memory/2 {
			t.Errorf("%d bytes are held", used)
		}
		time.Sleep(2 * defaults.StallTimeout)
		synctest.Wait()
		idle(t, p)
		r, err := many[0].Get("http://x/huge")
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(r.Body); r.StatusCode != 500 || r.Header.Get("Retry-After") != "" {
			t.Errorf("a result that can never be held: %s %s", r.Status, body)
		}
		r.Body.Close()
		for _, c := range many {
			c.CloseIdleConnections()
		}
	})
}

// TestRefusedBeforeTheBody: a request that can be refused without its body is refused before, also for a client that
// asks whether to send it.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	full := func(*call.Call) *call.Error { return call.NewError(helvetype.ReasonBackpressure, "the queue is full") }
	for _, test := range []struct {
		request string
		status  int
	}{
		{"POST /text HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: 1000", 415},
		{"POST /json HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 1000", 415},
		{"POST /text HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: 1000", 415},
		{"POST /text HTTP/1.1\r\nContent-Encoding: gzip, gzip\r\nTransfer-Encoding: chunked", 415},
		{"POST /text HTTP/1.1\r\nContent-Length: 1001", 413},
		{"POST /nowhere HTTP/1.1\r\nContent-Length: 1000", 404},
		{"DELETE /text HTTP/1.1\r\nContent-Length: 1000", 405},
		{"POST /none HTTP/1.1\r\nContent-Length: 1000", 400},
		{"POST /bad HTTP/1.1\r\nContent-Length: 1000", 500},
		{"POST /full HTTP/1.1\r\nContent-Length: 1000", 503},
		{"POST /full HTTP/1.1\r\nTransfer-Encoding: chunked", 503},
		{"POST /text HTTP/1.1\r\nX-Request-Id: \r\nContent-Length: 1000", 400},
		{"POST /text HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 1000", 400},
		{"POST /text HTTP/1.1\r\nContent-Length: 1000", 100},
		{"POST /text HTTP/1.1\r\nContent-Encoding: GZIP\r\nContent-Length: 1000", 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := with(t, Route{Prefix: "/text", In: InString, Call: echo}, Route{Prefix: "/json", In: InJSON, Call: echo},
				Route{Prefix: "/none", In: InNone, Call: echo}, Route{Prefix: "/bad", In: InUnsupported, Call: echo},
				Route{Prefix: "/full", In: InString, Call: echo, Refuses: full})
			start := time.Now()
			conn := serving(t, p)()
			io.WriteString(conn, test.request+"\r\nHost: x\r\nExpect: 100-continue\r\n\r\n")
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", test.status)) || time.Since(start) != 0 {
				t.Errorf("%q: %q, %v, after %s; want %d", test.request, line, err, time.Since(start), test.status)
			}
		})
	}
}

// TestSlowHeaders: an incomplete header ends the connection.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := with(t, answers(1))
		conn := serving(t, p)()
		start := time.Now()
		ended := make(chan struct{})
		defer func() { <-ended }()
		go func() {
			defer close(ended)
			for i := 0; ; i++ {
				line := fmt.Sprintf("X-%d: y\r\n", i)
				if i == 0 {
					line = "GET /method HTTP/1.1\r\nHost: x\r\n"
				}
				if _, err := io.WriteString(conn, line); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		io.Copy(io.Discard, conn) // waits for the end
		if d := time.Since(start); d > defaults.HeaderTimeout+time.Second {
			t.Errorf("it ended after %s", d)
		}
	})
}

// TestStreamsPerConnection: an HTTP/2 connection has at most the limit of requests under way.
func TestStreamsPerConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := New(Settings{Limits: clients.Limits{Streams: 3}})
		if err := p.SetRoutes([]Route{{Prefix: "/", In: InNone, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
			<-release
			return call.Payload{}, nil
		}}}); err != nil {
			t.Fatal(err)
		}
		client := http2(serving(t, p))
		ended := make(chan error, 10)
		get := func() {
			r, err := client.Get("http://x/")
			if err == nil {
				r.Body.Close()
			}
			ended <- err
		}
		for range 10 {
			go get()
			synctest.Wait() // the connection knows its limit
		}
		if n := p.clients.Len(); n != 4 || p.active.Load() != 10 {
			t.Errorf("%d requests are under way on %d connections", p.active.Load(), n)
		}
		close(release)
		for range 10 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		client.CloseIdleConnections()
	})
}

// TestContentEncodings: bodies are decoded within the limit of the decoded size, and a body that does not decode is
// the client's mistake.
func TestContentEncodings(t *testing.T) {
	t.Parallel()
	zip := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		io.WriteString(w, s)
		w.Close()
		return b.String()
	}
	const zlibbed, deflated = "x\x9c\xcb\xc8\x04\x00\x01;\x00\xd2", "\xcb\xc8\x04\x00"
	for _, test := range []struct {
		coding, body string
		status       int
		want         string
	}{
		{"gzip", zip("hi"), 200, "hi"},
		{"x-gzip", zip("hi"), 200, "hi"},
		{"GZip", zip("hi") + zip(" you"), 200, "hi you"},
		{"deflate", zlibbed, 200, "hi"},
		{"deflate", deflated, 200, "hi"},
		{"identity", "hi", 200, "hi"},
		{"identity, gzip", zip("hi"), 200, "hi"},
		{"", "hi", 200, "hi"},
		{"gzip", "", 200, ""},
		{"gzip", zip(strings.Repeat("x", 1000)), 200, strings.Repeat("x", 1000)},
		{"gzip", zip(strings.Repeat("x", 1001)), 413, ""},
		{"gzip", zip(strings.Repeat("x", 64<<20)), 413, ""},
		{"gzip", strings.Repeat(zip(""), 50), 413, ""},
		{"gzip", "hi", 400, ""},
		{"gzip", zip("hi")[:20], 400, ""},
		{"gzip", zip("hi") + "more", 400, ""},
		{"deflate", deflated + "more", 400, ""},
		{"deflate", zlibbed[:5], 400, ""},
		{"zstd", "hi", 415, ""},
		{"gzip, deflate", "hi", 415, ""},
	} {
		for _, length := range []bool{true, false} {
			p := with(t, Route{Prefix: "/", In: InString, Call: echo})
			r, err := http.NewRequest("POST", "/", strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			r.RequestURI = "/"
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Content-Encoding", test.coding)
			if r.Body == nil {
				r.Body = http.NoBody
			}
			if !length && test.body != "" {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if w.Code != test.status || test.status == 200 && w.Body.String() != test.want {
				t.Errorf("%q with %.20q: %d %.80s", test.coding, test.body, w.Code, w.Body)
			}
			if (w.Header().Get("Accept-Encoding") != "") != (test.status == 415) {
				t.Errorf("%q: Accept-Encoding %q", test.coding, w.Header().Get("Accept-Encoding"))
			}
			idle(t, p)
		}
	}
}

// FuzzContentEncoding: no body decodes to more than the limit, or causes anything but an answer.
func FuzzContentEncoding(f *testing.F) {
	f.Add("gzip", []byte("\x1f\x8b\b\x00\x00\x00\x00\x00\x00\xff\xaaVJT\xb22\xac\x05\x04\x00\x00\xff\xff\xaf\xac\x1bV\a\x00\x00\x00"))
	f.Add("deflate", []byte("x\x9c\xcb\xc8\x04\x00\x01;\x00\xd2"))
	f.Fuzz(func(t *testing.T, coding string, body []byte) {
		p := with(t, Route{Prefix: "/", In: InBytes, Call: echo})
		r, err := http.NewRequest("POST", "/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Content-Encoding"] = []string{coding}
		r.Header["Content-Type"] = []string{"text/plain"}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 413, 415:
		default:
			t.Errorf("%d", w.Code)
		}
		if w.Body.Len() > 1000 && w.Code == 200 {
			t.Errorf("%d bytes", w.Body.Len())
		}
		idle(t, p)
	})
}

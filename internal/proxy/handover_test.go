package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
)

// TestPassed: a request that comes after the handover is answered by the next node, and the answer ends the connection. A WebSocket is opened
// through this node, and its answer does not say that the connection ends.
func TestPassed(t *testing.T) {
	t.Parallel()
	next := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, r.URL.Path) //nolint:errcheck // the test reads it
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		nc, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		line, _ := both.ReadString('\n')
		io.WriteString(nc, "echo "+line) //nolint:errcheck // the test reads it
	}))
	defer next.Close()
	p := New(Settings{})
	this := httptest.NewServer(p)
	defer this.Close()
	p.HandOver(&http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", next.Listener.Addr().String())
	}})
	for _, of := range []struct {
		name, fields, connection string
		status                   int
	}{{"plain", "", "close", http.StatusOK}, {"WebSocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Upgrade", http.StatusSwitchingProtocols}} {
		t.Run(of.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", this.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			io.WriteString(nc, "GET /late HTTP/1.1\r\nHost: x\r\n"+of.fields+"\r\n") //nolint:errcheck // the read fails then
			in := bufio.NewReader(nc)
			a, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			connection := a.Header["Connection"]
			if a.Close { // the client of net/http takes the field away
				connection = append(connection, "close")
			}
			if a.StatusCode != of.status || len(connection) != 1 || connection[0] != of.connection {
				t.Errorf("%s, Connection: %q", a.Status, connection)
			}
			if of.fields == "" {
				if b, err := io.ReadAll(a.Body); string(b) != "/late" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
			io.WriteString(nc, "hello\n") //nolint:errcheck // the read fails then
			if line, err := in.ReadString('\n'); line != "echo hello\n" {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
}

// TestAwaitStarts: a request to an application that the node before has run waits until the application has started, or until starts are not awaited any more. Requests to others,
// and to an application that cannot be loaded or has failed, are answered at once.
func TestAwaitStarts(t *testing.T) {
	t.Parallel()
	started := Route{Prefix: "/a", App: "a", In: InString, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
		return call.Payload{Codec: call.Text, Data: []byte("hello")}, nil
	}}
	for name, c := range map[string]struct {
		route  Route
		waits  bool
		then   func(*Proxy) error
		status int
	}{
		"it starts":           {Route{Prefix: "/a", App: "a", Starting: true}, true, func(p *Proxy) error { return p.SetRoutes([]Route{started}) }, http.StatusOK},
		"it does not start":   {Route{Prefix: "/a", App: "a", Starting: true}, true, func(p *Proxy) error { p.AwaitStarts(nil); return nil }, http.StatusServiceUnavailable},
		"another application": {Route{Prefix: "/a", App: "b", Starting: true}, false, nil, http.StatusServiceUnavailable},
		"it cannot be loaded": {Route{Prefix: "/a", App: "a", Starting: true, Lost: true}, false, nil, http.StatusServiceUnavailable},
		"it has failed":       {Route{Prefix: "/a", App: "a", Starting: true, Failed: true}, false, nil, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := New(Settings{})
				if err := p.SetRoutes([]Route{c.route}); err != nil {
					t.Fatal(err)
				}
				p.AwaitStarts(map[string]bool{"a": false})
				answered := make(chan int, 1)
				go func() {
					w := httptest.NewRecorder()
					p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/a", strings.NewReader("x")))
					answered <- w.Code
				}()
				synctest.Wait()
				if waits := len(answered) == 0; waits != c.waits {
					t.Fatalf("it waits: %v", waits)
				}
				if c.then != nil {
					if err := c.then(p); err != nil {
						t.Fatal(err)
					}
				}
				if status := <-answered; status != c.status {
					t.Errorf("answered with %d, want %d", status, c.status)
				}
			})
		})
	}
}

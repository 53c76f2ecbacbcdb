package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
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

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// dial serves p over a pipe, inside a bubble, and returns the client's end. The server ends with the test.
func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn)}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l, nil) }()
	ours, theirs := net.Pipe()
	l.conns <- theirs
	t.Cleanup(func() {
		ours.Close()
		if err := errors.Join(p.Drain(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return ours
}

// TestTimeLimitIsForTheBody: a method may take longer than a body may take to arrive, with a body and without one, and on
// a connection that is used again.
func TestTimeLimitIsForTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
			select {
			case <-time.After(3 * defaults.BodyTimeout):
				return echo(ctx, c)
			case <-ctx.Done():
				return call.Payload{}, call.FromContext(ctx)
			}
		}
		p := with(t, Route{Prefix: "/s", In: InString, Call: slow}, Route{Prefix: "/n", In: InNone, Call: slow})
		connect := serving(t, p)
		for _, requests := range [][]string{
			{"POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "GET /n HTTP/1.1\r\nHost: x\r\n\r\n"},
			{"POST /s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		} {
			conn := connect()
			answers := bufio.NewReader(conn)
			for _, request := range slices.Repeat(requests, 2) {
				io.WriteString(conn, request)
				r, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != 200 || strings.HasPrefix(request, "POST") && string(body) != "hi" {
					t.Errorf("%q: %s %q, %v", request, r.Status, body, err)
				}
			}
		}
	})
}

// TestSlowBody: a client that stops sending gets an answer with the reason, in time.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhi", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi",
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := dial(t, with(t, Route{Prefix: "/", In: InString, Call: echo}))
			start := time.Now()
			io.WriteString(conn, request)
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 408 || !strings.Contains(string(body), "the body did not arrive in time") {
				t.Errorf("%s %q", r.Status, body)
			}
			if d := time.Since(start); d != defaults.StallTimeout { // time of the bubble's clock
				t.Errorf("after %v", d)
			}
		})
	}
}

// TestGoneClient: the call of a client that went away ends. It counts as no failure, and is answered as cancelled,
// because a client that closed only its own direction still reads.
func TestGoneClient(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	p := New(Settings{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.SetRoutes([]Route{{Prefix: "/", In: InNone, Call: func(ctx context.Context, _ *call.Call) (call.Payload, *call.Error) {
		cancel()
		<-ctx.Done()
		return call.Payload{}, call.FromContext(ctx)
	}}}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if w.Code != 499 || log.Len() > 0 {
		t.Errorf("%d, log %s", w.Code, log.String())
	}
}

// TestHTTP2WithoutTLS: both protocols on one port.
func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	p := with(t, Route{Prefix: "/", In: InString, Call: echo})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l, nil) }()
	for major, set := range map[int]func(*http.Protocols){
		1: func(p *http.Protocols) { p.SetHTTP1(true) }, 2: func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		set(tr.Protocols)
		for _, body := range []string{"hi", "", strings.Repeat("x", 1000), strings.Repeat("x", 1001)} {
			r, err := (&http.Client{Transport: tr}).Post("http://"+l.Addr().String(), "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || r.ProtoMajor != major || len(body) <= 1000 && (r.StatusCode != 200 || string(got) != body) || len(body) > 1000 && r.StatusCode != 413 {
				t.Errorf("HTTP/%d, %d bytes: %s %s %.40q, %v", major, len(body), r.Proto, r.Status, got, err)
			}
		}
		tr.CloseIdleConnections()
	}
	if err := errors.Join(p.Drain(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

// TestScheme: applications get the scheme of the connection, or the word of a trusted proxy in front, and never the client's own word.
func TestScheme(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		target, forwarded string
		secure, trust     bool
		want              string
	}{
		"the path alone":           {"/x", "", false, false, ""},
		"TLS":                      {"/x", "", true, false, "https"},
		"a proxy with TLS":         {"/x", "https", false, true, "https"},
		"a proxy without TLS":      {"/x", "http", true, true, "http"},
		"a proxy that is a client": {"/x", "https", false, false, ""},
		"a URL of the client":      {"https://any/x", "", false, false, "http"},
	} {
		p := New(Settings{})
		if test.trust {
			p.Configure(Options{TrustForwarded: []string{"192.0.2.0/24"}}, 0) // the address of requests of httptest
		}
		r := httptest.NewRequest("GET", test.target, nil)
		r.TLS = nil
		if test.secure {
			r.TLS = &tls.ConnectionState{}
		}
		if test.forwarded != "" {
			r.Header.Set("X-Forwarded-Proto", test.forwarded)
		}
		if got := p.external(r).URL.Scheme; got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

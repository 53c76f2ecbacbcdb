package exchange

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// uplink is the way of the parts of a request. A test opens the window, and reads the parts that were sent.
type uplink struct {
	asked chan struct{} // closed when the replica asks for the body
	over  chan struct{}
	sent  chan sentPartOf
}

type sentPartOf struct {
	kind Kind
	data string
}

func newUplink() *uplink {
	return &uplink{make(chan struct{}), make(chan struct{}), make(chan sentPartOf, 100)}
}

func (u *uplink) Part(ctx context.Context, kind call.Codec, data []byte, _ bool) error {
	select {
	case u.sent <- sentPartOf{Kind(kind), string(data)}:
		return nil
	case <-u.over:
		return errors.New("over")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *uplink) Wanted(ctx context.Context) error {
	select {
	case <-u.asked:
		return nil
	case <-u.over:
		return errors.New("over")
	case <-ctx.Done():
		return ctx.Err()
	}
}

type credits struct {
	mu  sync.Mutex
	sum call.Window
}

func (c *credits) Credit(_ *call.Batch, w call.Window) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Items += w.Items
	c.sum.Bytes += w.Bytes
}

// replica plays the worker's side of one exchange.
type replica struct {
	t    *testing.T
	x    *Call
	call *call.Call
	credits
}

func (r *replica) send(parts ...sentPartOf) { r.sendIn(nil, parts...) }

func (r *replica) sendIn(b *call.Batch, parts ...sentPartOf) {
	var frame []byte
	for _, p := range parts {
		frame = call.AppendItem(frame, call.Payload{Codec: call.Codec(p.kind), Data: []byte(p.data)})
	}
	r.x.Frame(b, r, frame)
}

func (r *replica) end(e *call.Error) { r.x.Complete(nil, call.Result{Err: e}) }

// answered serves requests with exchanges that play runs. The errors of Answer come out of failures.
func answered(t *testing.T, play func(r *replica)) (url string, failures chan *call.Error) {
	t.Helper()
	return answeredWhen(t, false, play)
}

// answeredWhen is answered; with over the node looks at an answer only when play has returned.
func answeredWhen(t *testing.T, over bool, play func(r *replica)) (url string, failures chan *call.Error) {
	t.Helper()
	failures = make(chan *call.Error, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := req.Context().Err(); err != nil { // by the request before it on the connection
			t.Errorf("a request has ended before it began: %v", err)
		}
		r := &replica{t: t, call: &call.Call{}}
		var e *call.Error
		r.x = new(Call)
		if e = r.x.Prepare(r.call, Request, req); e != nil {
			t.Error(e)
			return
		}
		played := make(chan struct{})
		go func() {
			defer close(played)
			play(r)
		}()
		defer func() {
			<-played
			if v := recover(); v != nil {
				failures <- nil
				panic(v)
			}
		}()
		if over {
			<-played
		}
		w.Header()["X-Kept"], w.Header()["Vary"] = []string{"yes"}, []string{"Origin"}
		e = r.x.Answer(w, req)
		failures <- e
		if e != nil && w.Header().Get("Begun") == "" {
			http.Error(w, e.Message, http.StatusInternalServerError)
		} else if e != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, failures
}

func headOf(status int, fields ...string) sentPartOf {
	b, start := AppendHead(nil, status)
	for i := 0; i < len(fields); i += 2 {
		b = AppendField(b, start, fields[i], fields[i+1])
	}
	return sentPartOf{Head, string(b)}
}

// TestAnswer: the parts of a replica become the answer.
func TestAnswer(t *testing.T) {
	t.Parallel()
	died := call.NewError(helvetype.ReasonReplicaDied, "the replica died")
	for name, test := range map[string]struct {
		play    func(r *replica)
		want    string // status, body
		headers string // of the answer
		failure string
		broken  bool // the client sees no complete answer
	}{
		"at once": {play: func(r *replica) {
			var together call.Batch // else the node may see the parts before the end
			r.sendIn(&together, headOf(200, "content-type", "text/x"), sentPartOf{Body, "hello"})
			r.x.Complete(&together, call.Result{})
			together.End()
		}, want: "200 hello", headers: "Content-Type: text/x"},
		"only a head": {play: func(r *replica) { r.send(headOf(204)); r.end(nil) }, want: "204 "},
		"cookies": {play: func(r *replica) {
			r.send(headOf(418, "set-cookie", "a=1", "set-cookie", "b=2", "X-ODD", "1"), sentPartOf{Body, "x"})
			r.end(nil)
		}, want: "418 x", headers: "Set-Cookie: a=1,b=2"},
		"no type is guessed": {play: func(r *replica) { r.send(headOf(200), sentPartOf{Body, "<html>"}); r.end(nil) }, want: "200 <html>", headers: "Content-Type: "},
		"trailers": {play: func(r *replica) {
			r.send(headOf(200, "trailer", "X-Sum"), sentPartOf{Body, "x"}, sentPartOf{Trailers, "x-sum\x007"})
			r.end(nil)
		}, want: "200 x", headers: "trailer X-Sum: 7"},
		"error before the head": {play: func(r *replica) { r.end(died) }, want: "500 the replica died\n", failure: "the replica died"},
		"error after the head": {play: func(r *replica) {
			r.send(headOf(200, "begun", "1"), sentPartOf{Body, "x"})
			r.end(died)
		}, failure: "the replica died", broken: true},
		"broken off":     {play: func(r *replica) { r.send(headOf(200), sentPartOf{Broken, "\x00\x00"}); r.end(nil) }, broken: true},
		"no head":        {play: func(r *replica) { r.end(nil) }, want: "500 the replica has not answered the request\n", failure: "has not answered"},
		"body before":    {play: func(r *replica) { r.send(sentPartOf{Body, "x"}); r.end(nil) }, want: "500 the replica has sent a part of the kind 34 before the head of its answer\n", failure: "kind 34 before"},
		"two heads":      {play: func(r *replica) { r.send(headOf(200, "begun", "1"), headOf(200)); r.end(nil) }, failure: "two heads", broken: true},
		"malformed head": {play: func(r *replica) { r.send(sentPartOf{Head, "\x01\x00"}); r.end(nil) }, want: "500 the replica has sent a malformed head: a head with the status 1\n", failure: "malformed head"},
		"a message":      {play: func(r *replica) { r.send(headOf(200, "begun", "1"), sentPartOf{Text, "x"}); r.end(nil) }, failure: "kind 41 as an answer", broken: true},
		"over its length": {play: func(r *replica) {
			r.send(headOf(200, "begun", "1", "content-length", "1"), sentPartOf{Body, "xy"})
			r.end(nil)
		}, failure: "longer than its Content-Length", broken: true},
		"under its length": {play: func(r *replica) { r.send(headOf(200, "content-length", "3"), sentPartOf{Body, "xy"}); r.end(nil) }, broken: true},
		"a body of a 304":  {play: func(r *replica) { r.send(headOf(304), sentPartOf{Body, "xy"}); r.end(nil) }, want: "304 "},
		"trailers alone": {play: func(r *replica) {
			r.send(headOf(201), sentPartOf{Trailers, "x-sum\x007"})
			r.end(nil)
		}, want: "201 ", headers: "trailer X-Sum: 7"},
		"one length twice": {play: func(r *replica) {
			r.send(headOf(200, "content-length", "1", "Content-Length", "1"), sentPartOf{Body, "x"})
			r.end(nil)
		}, want: "200 x", headers: "Content-Length: 1"},
		"two lengths": {play: func(r *replica) {
			r.send(headOf(200, "content-length", "1", "CONTENT-LENGTH", "2"), sentPartOf{Body, "x"})
			r.end(nil)
		}, want: "500 the replica has sent a malformed head: Content-Length is [\"1\" \"2\"]\n", failure: "Content-Length"},
		"a length with a sign": {play: func(r *replica) { r.send(headOf(200, "content-length", "+1"), sentPartOf{Body, "x"}); r.end(nil) },
			want: "500 the replica has sent a malformed head: Content-Length is [\"+1\"]\n", failure: "Content-Length"},
		"an encoding of its own": {play: func(r *replica) {
			r.send(headOf(200, "transfer-encoding", "gzip, chunked"), sentPartOf{Body, "x"})
			r.end(nil)
		}, want: "500 the replica has sent a malformed head: Transfer-Encoding is [\"gzip, chunked\"], which the node alone chooses\n", failure: "Transfer-Encoding"},
		"a line break": {play: func(r *replica) { r.send(headOf(200, "x-request-id", "a\nb"), sentPartOf{Body, "x"}); r.end(nil) },
			want: "500 the replica has sent a malformed head: a field with a line break\n", failure: "a line break"},
		"a length in the trailers": {play: func(r *replica) {
			r.send(headOf(200), sentPartOf{Body, "x"}, sentPartOf{Trailers, "content-length\x007\x00x-sum\x008"})
			r.end(nil)
		}, want: "200 x", headers: "trailer Content-Length: "},
		"hints": {play: func(r *replica) {
			hint := headOf(103, "x-kept", "no", "link", "</a>")
			r.send(sentPartOf{Inform, hint.data}, headOf(200), sentPartOf{Body, "x"})
			r.end(nil)
		}, want: "200 x", headers: "X-Kept: yes"},
		"vary":              {play: func(r *replica) { r.send(headOf(200, "vary", "accept"), sentPartOf{Body, "x"}); r.end(nil) }, want: "200 x", headers: "Vary: Origin,accept"},
		"malformed trailer": {play: func(r *replica) { r.send(headOf(200, "begun", "1"), sentPartOf{Trailers, "x"}); r.end(nil) }, failure: "malformed trailers", broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, failures := answered(t, test.play)
			res, err := http.Get(url)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if e := <-failures; (e == nil) != (test.failure == "") || e != nil && !strings.Contains(e.Message, test.failure) {
				t.Errorf("the error is %v", e)
			}
			if test.broken {
				if err == nil {
					t.Errorf("the answer looks complete: %s %q", res.Status, body)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%d %s", res.StatusCode, body); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if name, value, ok := strings.Cut(test.headers, ": "); ok {
				of := res.Header
				if rest, trailer := strings.CutPrefix(name, "trailer "); trailer {
					name, of = rest, res.Trailer
				}
				if got := strings.Join(of.Values(name), ","); got != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			if test.want == "200 hello" && res.ContentLength != 5 {
				t.Errorf("the length is %d", res.ContentLength)
			}
		})
	}
}

// TestBodyIsReadWhenWanted: the node reads nothing of a body, and answers no Expect, before the replica asks for it.
func TestBodyIsReadWhenWanted(t *testing.T) {
	t.Parallel()
	up := newUplink()
	play := make(chan *replica, 1)
	release := make(chan struct{})
	url, failures := answered(t, func(r *replica) {
		r.x.Begin(up)
		play <- r
		<-release
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n") //nolint:errcheck // the answer tells
	in := bufio.NewReader(conn)
	r := <-play
	if x := r.call.Exchange; !x.More || len(r.call.Slots) != 1 {
		t.Errorf("%+v, %d arguments", x, len(r.call.Slots))
	}
	h, err := ParseRequestHead(r.call.Slots[0].Data)
	if fields := strings.Join(h.Fields, "|"); err != nil || h.Method != "POST" || h.RawPath != "/" || h.ClientHost != "127.0.0.1" ||
		!strings.HasPrefix(fields, "host|x|") || !strings.Contains(fields, "|transfer-encoding|chunked|trailer|X-Sum") {
		t.Errorf("%+v, %v", h, err)
	}
	close(up.asked)
	if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	if line, err := in.ReadString('\n'); line != "\r\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	io.WriteString(conn, "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n") //nolint:errcheck // as above
	for _, want := range []sentPartOf{{Body, "hello"}, {Trailers, "x-sum\x007"}, {Last, ""}} {
		if got := <-up.sent; got != want {
			t.Errorf("sent %v %q, want %v %q", got.kind, got.data, want.kind, want.data)
		}
	}
	r.send(headOf(200))
	r.end(nil)
	close(release)
	if e := <-failures; e != nil {
		t.Error(e)
	}
	if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 200") || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
}

// TestRestOfABody: bytes of a body that was not read to its end are never taken for the next request. The connection ends, or the body is read.
func TestRestOfABody(t *testing.T) {
	t.Parallel()
	const next = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, test := range map[string]struct {
		head, body string
		rest       string // sent when the answer has come
		asks       bool   // the replica asks for the body, and has the first part of it
		flushes    bool   // the head of the answer comes before
		fails      bool   // there is no answer
		slow       bool   // the replica does not take the end of the body
		over       bool   // the answer has ended before its head is written: a body that no replica asks for any more is left to the server, which reads a short one
		goes       bool   // the next request on the connection has an answer
	}{
		"half of a length":               {head: "Content-Length: 60", body: "hello", rest: next, asks: true},
		"half of a length, failed":       {head: "Content-Length: 60", body: "hello", rest: next, asks: true, fails: true},
		"half of a length, head before":  {head: "Content-Length: 60", body: "hello", rest: next, asks: true, flushes: true},
		"a malformed chunk":              {head: "Transfer-Encoding: chunked", body: "5\r\nhello\r\nZZ\r\n" + next, asks: true},
		"a chunk too few":                {head: "Transfer-Encoding: chunked", body: "5\r\nhello\r\n", rest: next, asks: true},
		"the whole body":                 {head: "Content-Length: 5", body: "hello", rest: next, asks: true, goes: true},
		"the whole body, end not taken":  {head: "Content-Length: 5", body: "hello", rest: next, asks: true, slow: true, goes: true},
		"nobody asks":                    {head: "Content-Length: 5", body: "hello", rest: next, over: true, goes: true},
		"nobody asks, and there is none": {head: "Transfer-Encoding: chunked", body: "0\r\n\r\n", rest: next, over: true, goes: true},
		"nobody asks, half of a length":  {head: "Content-Length: 1000000", body: "hello", rest: next},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, failures := answeredWhen(t, test.over, func(r *replica) {
				h, _ := ParseRequestHead(r.call.Slots[0].Data)
				if h.RawPath == "/next" {
					r.send(headOf(200), sentPartOf{Body, "next"})
					r.end(nil)
					return
				}
				up := newUplink()
				if test.slow {
					up.sent = make(chan sentPartOf)
				}
				r.x.Begin(up)
				if test.flushes {
					r.send(headOf(200))
				}
				if test.asks {
					close(up.asked)
					if got := <-up.sent; got.data != "hello" {
						r.t.Errorf("sent %q", got.data)
					}
				}
				switch {
				case test.fails:
					r.end(call.NewError(helvetype.ReasonReplicaDied, "the replica died"))
					return
				case !test.flushes:
					r.send(headOf(200))
				}
				r.send(sentPartOf{Body, "first"})
				r.end(nil)
			})
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+test.head+"\r\n\r\n"+test.body) //nolint:errcheck // the answer tells
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(res.Body); err != nil || (string(b) == "first") == test.fails {
				t.Errorf("%q, %v", b, err)
			}
			<-failures
			io.WriteString(conn, test.rest) //nolint:errcheck // the connection may have ended
			res, err = http.ReadResponse(in, nil)
			if (err == nil && res.StatusCode == http.StatusOK) != test.goes {
				t.Errorf("after the answer: %v, %v", res, err)
			}
		})
	}
}

// TestBodyBeginsAnew: a call that is made anew at another replica sends the body there, all of it.
func TestBodyBeginsAnew(t *testing.T) {
	t.Parallel()
	lost, next := newUplink(), newUplink()
	url, failures := answered(t, func(r *replica) {
		r.x.Begin(lost)
		close(lost.over)
		r.x.Begin(next)
		close(next.asked)
		if got := <-next.sent; got != (sentPartOf{Body, "body"}) {
			r.t.Errorf("sent %v", got)
		}
		r.send(headOf(200))
		r.end(nil)
	})
	res, err := http.Post(url, "", io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if e := <-failures; e != nil || res.StatusCode != 200 || len(lost.sent) > 0 {
		t.Error(e, res.Status, len(lost.sent))
	}
}

// TestCredit: the replica gets credit for the parts that the client has taken, in halves of the window.
func TestCredit(t *testing.T) {
	t.Parallel()
	part := sentPartOf{Body, strings.Repeat("x", 32<<10)}
	got := make(chan call.Window, 1)
	url, failures := answered(t, func(r *replica) {
		r.send(headOf(200))
		for range 32 {
			r.send(part)
		}
		r.end(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		got <- r.sum
	})
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != 1<<20 || err != nil {
		t.Error(n, err)
	}
	if e := <-failures; e != nil {
		t.Error(e)
	}
	if w := <-got; w.Bytes > 1<<20 {
		t.Errorf("credit for %d bytes", w.Bytes)
	}
}

// TestEndBeforeTheContext: the end of the context does not take an answer back that has come as a whole. A replica that drains stops when it
// has sent the END, and the context of the call ends with it.
func TestEndBeforeTheContext(t *testing.T) {
	t.Parallel()
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		var q inbox
		q.init()
		q.end(&call.Batch{}, nil) // its wake-up is still to come
		cancel()
		if _, _, _, err := q.Receive(ctx); err != io.EOF {
			t.Fatal(err)
		}
	}
}

// TestScheme: the scheme of a request is the one of its URL, where the proxy has put it, and else that of the connection.
func TestScheme(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scheme string
		tls    *tls.ConnectionState
		want   string
	}{
		"neither":                          {"", nil, "http"},
		"TLS at the node":                  {"", &tls.ConnectionState{}, "https"},
		"TLS at a proxy in front":          {"https", nil, "https"},
		"TLS at the node, http in front":   {"http", &tls.ConnectionState{}, "http"},
		"TLS at the node, and its own URL": {"https", &tls.ConnectionState{}, "https"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Scheme, r.TLS = test.scheme, test.tls
		b, err := appendRequest(nil, r, "")
		if err != nil {
			t.Fatal(err)
		}
		if h, err := ParseRequestHead(b); err != nil || h.Scheme != test.want {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
}

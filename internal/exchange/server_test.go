package exchange

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/wire"
)

// handlerWorker is the server of a worker with one handler.
type handlerWorker struct{ instance *instance.Instance }

func (h *handlerWorker) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Keep()
	return Serve(b, in, h.instance)
}
func (*handlerWorker) Route(wire.Route) any { return nil }
func (*handlerWorker) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, errors.New("no requests")
}
func (*handlerWorker) Goaway(wire.Goaway) {}

// peers returns the two ends of a connection, of which each serves.
func peers(t *testing.T, node, worker wire.Server) *wire.Peer {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]*wire.Peer{}
	for i, c := range []net.Conn{a, b} {
		p := wire.NewPeer(wire.NewLink(wire.NewConn(c), wire.Terms{Protocol: 2, HTTP: true}), []wire.Server{node, worker}[i])
		ends[i] = p
		go p.Serve() //nolint:errcheck // it is closed
		t.Cleanup(func() { p.Close(wire.ErrClosed); <-p.Done() })
	}
	return ends[0]
}

// inWorker serves a handler by way of a node and a worker. The failures of requests come out of failures.
func inWorker(t *testing.T, h http.Handler) (addr string, failures chan *call.Error) {
	t.Helper()
	i := instance.New("R#1", &instance.Class{App: "app", Deployment: "R"})
	i.Value = h
	p := peers(t, &handlerWorker{}, &handlerWorker{i})
	failures = make(chan *call.Error, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call.Call{}
		x := new(Call)
		e := x.Prepare(c, Request, r)
		if e != nil {
			t.Error(e)
			return
		}
		id := p.Start(nil, 0, c, 0, x)
		defer func() {
			var b call.Batch
			p.Cancel(&b, id)
			b.End()
		}()
		begun := false
		e = x.Answer(&observed{w, &begun}, r)
		failures <- e
		switch {
		case e != nil && begun:
			panic(http.ErrAbortHandler)
		case e != nil:
			http.Error(w, e.Message, http.StatusInternalServerError)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), failures
}

// observed notes that the answer has begun.
type observed struct {
	http.ResponseWriter
	begun *bool
}

func (o *observed) WriteHeader(status int) {
	*o.begun = *o.begun || status >= 200
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// failingWriter takes nothing.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no room") }

// seen is an answer as its client sees it.
func seen(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	method, _, _ := strings.Cut(request, " ")
	io.WriteString(c, strings.NewReplacer("|", "\r\n").Replace(request)) //nolint:errcheck // the answer tells
	var b strings.Builder
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			fmt.Fprintln(&b, "no answer")
			return b.String()
		}
		body, err := io.ReadAll(res.Body)
		res.Header.Del("Date")
		fmt.Fprintln(&b, res.Proto, res.Status, res.ContentLength, res.TransferEncoding, res.Close, len(body))
		fmt.Fprintf(&b, "%.100q broken: %v\n", body, err != nil)
		res.Header.Write(&b) //nolint:errcheck // a Builder
		fmt.Fprint(&b, "trailers: ")
		res.Trailer.Write(&b) //nolint:errcheck // as above
		if res.StatusCode >= 200 {
			return b.String()
		}
	}
}

// TestHandlersAsInNetHTTP: clients see the same answers of a handler in a worker as of the handler under net/http.
func TestHandlersAsInNetHTTP(t *testing.T) {
	t.Parallel()
	const get = "GET /a%20b?x=1 HTTP/1.1|Host: h|Connection: close||"
	large := strings.Repeat("0123456789", 30_000)
	for name, c := range map[string]struct {
		request string // get, if empty
		handler func(w http.ResponseWriter, r *http.Request)
	}{
		"nothing":   {handler: func(http.ResponseWriter, *http.Request) {}},
		"short":     {handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }},
		"large":     {handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, large) }},
		"in pieces": {handler: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(large[:3000])); w.Write([]byte(large)) }},
		"html":      {handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }},
		"typed": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			io.WriteString(w, "<html>")
		}},
		"no type": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		}},
		"encoded": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "\x1f\x8b")
		}},
		"own case":   {handler: func(w http.ResponseWriter, _ *http.Request) { w.Header()["X-oDD"] = []string{"1", "2"} }},
		"line break": {handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "1\r\nX-B: 2") }},
		"late header": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			w.Header().Set("X-Late", "1")
		}},
		"two heads": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(404)
			io.WriteString(w, "x")
		}},
		"103": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</x>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			io.WriteString(w, "x")
		}},
		"204":             {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); fmt.Fprint(w, "x") }},
		"304":             {handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", "e"); w.WriteHeader(304) }},
		"304 with a body": {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304); io.WriteString(w, "x") }},
		"HEAD":            {request: "HEAD / HTTP/1.1|Host: h|Connection: close||", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }},
		"HEAD, large":     {request: "HEAD / HTTP/1.1|Host: h|Connection: close||", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, large) }},
		"HEAD, nothing":   {request: "HEAD / HTTP/1.1|Host: h|Connection: close||", handler: func(http.ResponseWriter, *http.Request) {}},
		"HEAD, length":    {request: "HEAD / HTTP/1.1|Host: h|Connection: close||", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "7") }},
		"length": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}},
		"too short": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "hello")
		}},
		"HTTP/1.0": {request: "GET / HTTP/1.0||", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, large) }},
		"trailers": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum, X-None")
			io.WriteString(w, "x")
			w.Header().Set("X-Sum", "1")
		}},
		"new trailers": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush() //nolint:forcetypeassert // servers have it
			io.WriteString(w, "x")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}},
		"aborted before": {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		"aborted after": {handler: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush() //nolint:forcetypeassert // servers have it
			panic(http.ErrAbortHandler)
		}},
		"the request": {
			request: "POST /a%2Fb%20c?x=%20 HTTP/1.1|Host: h:1|X-A: 1|x-a: 2|Content-Length: 5|Connection: close||world",
			handler: func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				more, after := r.Body.Read(make([]byte, 1))
				fmt.Fprintln(w, r.Method, r.Proto, r.RequestURI, r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.Host, r.Header["X-A"], r.ContentLength, string(body), err, more, after)
				host, port, _ := net.SplitHostPort(r.RemoteAddr)
				fmt.Fprintln(w, host, port != "", r.TLS == nil, r.Context().Value(http.LocalAddrContextKey).(net.Addr).String() != "")
			},
		},
		"a chunked request": {
			request: "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked|Trailer: X-Sum|Connection: close||5|hello|0|X-Sum: 7||",
			handler: func(w http.ResponseWriter, r *http.Request) {
				before := fmt.Sprint(r.Trailer)
				body, err := io.ReadAll(r.Body)
				fmt.Fprintln(w, r.TransferEncoding, r.ContentLength, string(body), err, before, r.Trailer)
			},
		},
		"a large request": {
			request: "POST / HTTP/1.1|Host: h|Content-Length: 300000|Connection: close||" + large,
			handler: func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprintln(w, n, err)
			},
		},
		"an echo": {
			request: "POST / HTTP/1.1|Host: h|Content-Length: 5|Connection: close||world",
			handler: func(w http.ResponseWriter, r *http.Request) {
				var one [1]byte
				io.ReadFull(r.Body, one[:])
				io.Copy(w, r.Body)
				w.Write(one[:])
			},
		},
		"a large echo": {
			request: "POST / HTTP/1.1|Host: h|Content-Length: 300000|Connection: close||" + large,
			handler: func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex() //nolint:errcheck // HTTP/1 has it
				io.CopyN(w, r.Body, 10)
				io.Copy(w, r.Body)
			},
		},
		"a copy that fails": {
			request: "POST / HTTP/1.1|Host: h|Content-Length: 5|Connection: close||world",
			handler: func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(failingWriter{}, r.Body)
				fmt.Fprintln(w, n, err)
				r.Body.Close()
				_, err = io.Copy(io.Discard, r.Body)
				fmt.Fprintln(w, errors.Is(err, http.ErrBodyReadAfterClose))
			},
		},
		"a closed body": {
			request: "POST / HTTP/1.1|Host: h|Content-Length: 5|Connection: close||world",
			handler: func(w http.ResponseWriter, r *http.Request) {
				r.Body.Close()
				_, err := r.Body.Read(make([]byte, 1))
				fmt.Fprintln(w, errors.Is(err, http.ErrBodyReadAfterClose))
			},
		},
		"errors of writes": {handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Errors", "1")
			w.WriteHeader(204)
			_, err := w.Write([]byte("x"))
			if !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}},
		"from a reader": {handler: func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, struct{ io.Reader }{strings.NewReader(large)})
		}},
		"hijacked": {handler: func(w http.ResponseWriter, _ *http.Request) {
			c, rw, err := w.(http.Hijacker).Hijack() //nolint:forcetypeassert // servers have it
			if err != nil {
				panic(err)
			}
			defer c.Close()
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
				panic(err)
			}
			w.WriteHeader(500) // it is too late
			io.WriteString(rw, "HTTP/1.1 299 Mine\r\nContent-Length: 2\r\n\r\nhi")
			rw.Flush()
		}},
		"hijacked twice": {handler: func(w http.ResponseWriter, _ *http.Request) {
			c, rw, err := w.(http.Hijacker).Hijack() //nolint:forcetypeassert // servers have it
			if err != nil {
				panic(err)
			}
			defer c.Close()
			_, _, err = w.(http.Hijacker).Hijack() //nolint:forcetypeassert // as above
			text := fmt.Sprint(errors.Is(err, http.ErrHijacked))
			fmt.Fprintf(rw, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
			rw.Flush()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := c.request
			if request == "" {
				request = get
			}
			h := http.HandlerFunc(c.handler)
			bare := httptest.NewUnstartedServer(h)
			bare.Config.ErrorLog = log.New(io.Discard, "", 0)
			bare.Start()
			t.Cleanup(bare.Close)
			addr, _ := inWorker(t, h)
			want, got := seen(t, bare.Listener.Addr().String(), request), seen(t, addr, request)
			if got != want {
				t.Errorf("%s\nby net/http:\n%s", got, want)
			}
		})
	}
}

// TestFailuresOfHandlers: a mistake of a handler ends the exchange with an error that names the mistake.
func TestFailuresOfHandlers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler func(w http.ResponseWriter, r *http.Request)
		text    string // of the failure; "" for none
		status  string
	}{
		"a panic before the head": {func(http.ResponseWriter, *http.Request) { panic("boom") }, "boom", "500 Internal Server Error"},
		"a panic behind the head": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush() //nolint:forcetypeassert // servers have it
			panic("boom")
		}, "boom", "200 OK"},
		"longer than its length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1")
			if _, err := io.WriteString(w, "xy"); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}, "", "200 OK"},
		"a status that there is not": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(99) }, "invalid WriteHeader code 99", "500 Internal Server Error"},
		"a head of over 1 MiB": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("x", MaxHead))
		}, "at most 1048576 are possible", "500 Internal Server Error"},
		"a read after its deadline": {func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // it has it
			_, err := io.ReadAll(r.Body)
			var e net.Error
			if !errors.As(err, &e) || !e.Timeout() {
				panic(fmt.Sprint("no timeout: ", err))
			}
		}, "", "200 OK"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, failures := inWorker(t, http.HandlerFunc(c.handler))
			got := seen(t, addr, "POST / HTTP/1.1|Host: h|Content-Length: 100000|Connection: close||")
			if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) {
				t.Errorf("the answer is %s", got)
			}
			switch e := <-failures; {
			case e == nil && c.text != "", e != nil && (c.text == "" || !strings.Contains(e.Error(), c.text)):
				t.Errorf("the failure is %v", e)
			}
		})
	}
}

// TestNoHandler: an exchange for a replica that is no handler fails, and so does one with a malformed head.
func TestNoHandler(t *testing.T) {
	t.Parallel()
	i := instance.New("R#1", &instance.Class{})
	p := peers(t, &handlerWorker{}, &handlerWorker{i})
	for _, c := range []struct {
		value  any
		head   string
		reason helvetype.Reason
	}{
		{7, "GET\x00http\x001.1\x00/\x00\x00\x00\x00\x00\x00", helvetype.ReasonNoMethod},
		{http.NotFoundHandler(), "GET", helvetype.ReasonBadInput},
		{http.NotFoundHandler(), "GET\x00http\x001.1\x00/%zz\x00\x00\x00\x00\x00\x00", helvetype.ReasonBadInput},
	} {
		i.Value = c.value
		k := &call.Call{}
		x := new(Call)
		e := x.Prepare(k, Request, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
		if e != nil {
			t.Fatal(e)
		}
		k.Slots[0].Data = []byte(c.head)
		p.Start(nil, 0, k, 0, x)
		_, _, _, err := x.Receive(t.Context())
		if failed, ok := errors.AsType[*call.Error](err); !ok || failed.Reason != c.reason {
			t.Errorf("%q: %v", c.head, err)
		}
	}
}

// TestReadBuffer: the memory for reads grows with the first read that fills it, and stays large then.
func TestReadBuffer(t *testing.T) {
	t.Parallel()
	var b readBuffer
	defer b.free()
	var got []int
	for _, n := range []int{0, 10, smallRead - 1, smallRead, 10, sentPart, 0} {
		got = append(got, len(b.next(n)))
	}
	if want := []int{smallRead, smallRead, smallRead, sentPart, sentPart, sentPart, sentPart}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

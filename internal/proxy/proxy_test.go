package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
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

// echo answers with its argument, in the same codec.
func echo(_ context.Context, c *call.Call) (call.Payload, *call.Error) {
	if len(c.Slots) == 0 {
		return call.Payload{Codec: call.None}, nil
	}
	return c.Slots[0].Payload, nil
}

func with(t testing.TB, routes ...Route) *Proxy {
	t.Helper()
	p := New(Settings{Limits: clients.Limits{MaxBody: 1000}})
	if err := p.SetRoutes(routes); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNegotiation(t *testing.T) {
	t.Parallel()
	const (
		form  = "application/x-www-form-urlencoded"
		octet = "application/octet-stream"
		js    = "application/json"
		text  = "text/plain"
	)
	for _, test := range []struct {
		in          InKind
		method      string
		contentType string
		body        string
		status      int
		answer      string
		answerType  string
	}{
		// A string: JSON if the type says so or if it decodes, otherwise text.
		{InString, "POST", js, `"a\u00e9"`, 200, "aé", text},
		{InString, "POST", js + "; charset=utf-8", ` "a" `, 200, "a", text},
		{InString, "POST", "application/vnd.x+json", `"a"`, 200, "a", text},
		{InString, "POST", js, `a`, 400, "", ""},
		{InString, "POST", js, `5`, 400, "", ""},
		{InString, "POST", js, ``, 400, "", ""},
		{InString, "PUT", text, `"a"`, 200, `"a"`, text},
		{InString, "PATCH", "text/html; charset=UTF-8", "<p>", 200, "<p>", text},
		{InString, "POST", "text/plain; charset=latin-1", "a", 415, "", ""},
		{InString, "POST", text, "\xff", 400, "", ""},
		{InString, "POST", js, "\"\xff\"", 400, "", ""},
		{InString, "POST", form, "\"\xff\"", 400, "", ""},
		{InString, "POST", form, `"a"`, 200, "a", text},
		{InString, "POST", form, `a`, 200, "a", text},
		{InString, "POST", form, `"a`, 200, `"a`, text},
		{InString, "POST", octet, "a", 200, "a", text},
		{InString, "POST", "", "a=b", 200, "a=b", text},
		{InString, "POST", "", "", 200, "", text},
		{InString, "POST", "image/png", "a", 415, "", ""},
		{InString, "POST", "a/b/c; =", "a", 415, "", ""},
		{InString, "GET", "", "", 405, "", ""},
		{InString, "DELETE", "", "", 405, "", ""},
		{InString, "POST", text, strings.Repeat("x", 1000), 200, strings.Repeat("x", 1000), text},
		{InString, "POST", text, strings.Repeat("x", 1001), 413, "", ""},
		// Bytes: base64 in JSON.
		{InBytes, "POST", js, `"AQI="`, 200, "\x01\x02", octet},
		{InBytes, "POST", js, `"!"`, 400, "", ""},
		{InBytes, "POST", octet, "\xff\x00", 200, "\xff\x00", octet},
		{InBytes, "POST", text, "x", 200, "x", octet},
		// All other kinds are JSON.
		{InJSON, "POST", js, `{"a":1}`, 200, `{"a":1}`, js},
		{InJSON, "POST", form, `[1]`, 200, `[1]`, js},
		{InJSON, "POST", "", `nope`, 400, "", ""},
		{InJSON, "POST", text, `{}`, 415, "", ""},
		{InJSON, "POST", js, ``, 400, "", ""},
		{InJSON, "GET", "", "", 405, "", ""},
		// No input.
		{InNone, "GET", "", "", 200, "", ""},
		{InNone, "POST", js, "", 200, "", ""},
		{InNone, "POST", js, "{}", 400, "", ""},
		{InNone, "DELETE", "", "", 405, "", ""},
		{InUnsupported, "POST", "", "x", 500, "", ""},
	} {
		p := with(t, Route{Prefix: "/", App: "a", In: test.in, Call: echo})
		r := httptest.NewRequest(test.method, "/any/path", strings.NewReader(test.body))
		if test.contentType != "" {
			r.Header.Set("Content-Type", test.contentType)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		got := w.Body.String()
		if w.Code != test.status || test.status == 200 && (got != test.answer || !strings.HasPrefix(w.Header().Get("Content-Type"), test.answerType)) {
			t.Errorf("kind %d, %s %q %.20q: %d %q %.40q, want %d %q %.40q", test.in, test.method, test.contentType, test.body,
				w.Code, w.Header().Get("Content-Type"), got, test.status, test.answerType, test.answer)
		}
		if test.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("405 without Allow")
		}
		if len(w.Header().Get("X-Request-ID")) != 36 {
			t.Errorf("no request id in %v", w.Header())
		}
	}
}

// TestUnsupportedMediaSaysWhatIs: the answer lists the media types that are accepted, and no other.
func TestUnsupportedMediaSaysWhatIs(t *testing.T) {
	t.Parallel()
	for in, want := range map[InKind]string{
		InString: `Content-Type "image/png" is not supported; send application/json or text/plain`,
		InJSON:   `Content-Type "image/png" is not supported; send application/json`,
	} {
		p := with(t, Route{Prefix: "/", In: in, Call: echo})
		r := httptest.NewRequest("POST", "/", strings.NewReader("a"))
		r.Header.Set("Content-Type", "image/png")
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); !strings.HasSuffix(w.Body.String(), want) {
			t.Errorf("kind %d: %q, want %q", in, w.Body, want)
		}
	}
}

func TestStringsAreJSONOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	p := with(t, Route{Prefix: "/", In: InString, Call: echo})
	for accept, want := range map[string]string{
		"": `a"`, "*/*": `a"`, "application/json": `"a\""`, "application/json, text/plain": `a"`, "application/json, */*;q=0.1": `a"`,
		"application/json; q=0.9": `"a\""`, "text/html": `a"`, "image/png": `a"`,
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(`a"`))
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Body.String() != want {
			t.Errorf("Accept %q: %s, want %s", accept, w.Body, want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var fail *call.Error
	p := New(Settings{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p.SetRoutes([]Route{{Prefix: "/", App: "a", In: InNone, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
		return call.Payload{}, fail
	}}})
	for _, test := range []struct {
		err    *call.Error
		status int
		says   string
	}{
		{call.NewError(helvetype.ReasonBackpressure, "Request dropped due to backpressure (1 of 1)."), 503, "Request dropped due to backpressure (1 of 1)."},
		{&call.Error{Reason: helvetype.ReasonBackpressure, Code: helvetype.CodeResourceExhausted, Message: "Dropped.", App: "app", Deployment: "Deeper"}, 503, "Dropped. It is the queue of app/Deeper."},
		{&call.Error{Reason: helvetype.ReasonBackpressure, Code: helvetype.CodeResourceExhausted, Message: "full", HTTP: 429, Retry: 7}, 429, "full"},
		{call.NewError(helvetype.ReasonDeploymentUnavailable, "secret"), 503, "Unavailable: " + withheld + " mine"},
		{call.NewError(helvetype.ReasonReplicaDied, "secret"), 500, "Internal Server Error"},
		{call.NewError(helvetype.ReasonDeadline, "secret"), 408, "Request mine timed out."},
		{call.NewError(helvetype.ReasonBadInput, "field x"), 400, "InvalidArgument: field x"},
		{call.NewError(helvetype.ReasonUser, "secret"), 500, "Internal Server Error"},
		{&call.Error{Reason: helvetype.ReasonBadInput, Code: helvetype.CodeInvalidArgument, Deployment: "Deeper", Message: "secret"}, 500, "Internal Server Error"},
		{&call.Error{Reason: helvetype.ReasonUser, Code: helvetype.CodeNotFound, Message: "secret", Public: "no such user"}, 404, "NotFound: no such user"},
		{&call.Error{Reason: helvetype.ReasonUser, Code: helvetype.CodePermissionDenied, Message: "secret"}, 403, "PermissionDenied: " + withheld + " mine"},
	} {
		log.Reset()
		fail = test.err
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Request-ID", "mine")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != test.status || w.Body.String() != test.says || w.Header().Get("X-Request-ID") != "mine" {
			t.Errorf("%v: %d %q %q", test.err, w.Code, w.Body, w.Header())
		}
		retry := map[int]string{503: "1", 429: "7"}[test.status]
		if got := w.Header().Get("Retry-After"); test.err.Reason == helvetype.ReasonBackpressure && got != retry {
			t.Errorf("%v: Retry-After is %q, want %q", test.err, got, retry)
		}
		// The log has the message that the client did not get, or not all of it, and no other.
		wanted := strings.Contains(w.Body.String(), withheld) || test.status == http.StatusRequestTimeout || test.status == http.StatusInternalServerError
		if logged := strings.Contains(log.String(), "secret"); logged != wanted {
			t.Errorf("%v: in the log %v, answered %s", test.err, logged, w.Body)
		}
		if (log.Len() > 0) != wanted {
			t.Errorf("%v logs %s", test.err, &log)
		}
		r.Header.Set("Accept", "application/json")
		w = httptest.NewRecorder()
		p.ServeHTTP(w, r)
		reason, code := test.err.Reason, test.err.Code
		if test.err.Deployment == "Deeper" && reason != helvetype.ReasonBackpressure { // a fault of the program
			reason, code = helvetype.ReasonInternal, helvetype.CodeInternal
		}
		var body struct {
			Error struct{ Code, Reason, Message, RequestID string } `json:"error"`
		}
		var raw map[string]map[string]string
		if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &body), json.Unmarshal(w.Body.Bytes(), &raw)); err != nil ||
			body.Error.Reason != string(reason) || body.Error.Code != code.String() || raw["error"]["request_id"] != "mine" {
			t.Errorf("%v as JSON: %s", test.err, w.Body)
		}
	}
}

func TestIDsAndTrace(t *testing.T) {
	t.Parallel()
	var got call.Info
	p := with(t, Route{Prefix: "/", App: "a", In: InNone, Call: func(_ context.Context, c *call.Call) (call.Payload, *call.Error) {
		got = c.Info
		return call.Payload{}, nil
	}})
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, test := range []struct {
		header http.Header
		status int
		traced bool
	}{
		{http.Header{"X-Request-Id": {"abc 1"}, "Traceparent": {trace}}, 200, true},
		{http.Header{"X-Request-Id": {strings.Repeat("x", 256)}}, 200, false},
		{http.Header{"X-Request-Id": {strings.Repeat("x", 257)}}, 400, false},
		{http.Header{"X-Request-Id": {""}}, 400, false},
		{http.Header{"X-Request-Id": {"a\tb"}}, 400, false},
		{http.Header{"X-Request-Id": {"b\t", "a"}}, 200, false},
		{http.Header{"Serve_multiplexed_model_id": {"m\x00"}}, 400, false},
		{http.Header{"Serve_multiplexed_model_id": {"m:1"}}, 200, false},
		{http.Header{"Traceparent": {trace + "x"}}, 200, false},
		{http.Header{"Traceparent": {trace + "-more"}}, 200, false},
		{http.Header{"Traceparent": {strings.ToUpper(trace)}}, 200, false},
		{http.Header{"Traceparent": {"zz" + trace[2:]}}, 200, false},
		{http.Header{"Traceparent": {trace, trace}}, 200, false},
		{http.Header{"Traceparent": {"ff" + trace[2:]}}, 200, false},
		{http.Header{"Traceparent": {"00-00000000000000000000000000000000-b7ad6b7169203331-01"}}, 200, false},
		{http.Header{"Traceparent": {"01" + trace[2:] + "-more"}}, 200, true},
	} {
		got = call.Info{}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = test.header
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != test.status || test.status == 200 && (got.Trace != [16]byte{}) != test.traced {
			t.Errorf("%v: %d, trace %x", test.header, w.Code, got.Trace)
		}
		if ids := r.Header["X-Request-Id"]; test.status == 200 && len(ids) > 0 && (w.Header().Get("X-Request-ID") != ids[len(ids)-1] || got.Request.String() != ids[len(ids)-1]) {
			t.Errorf("id %q arrived as %q, echoed as %q", ids, got.Request, w.Header().Get("X-Request-ID"))
		}
		if m := r.Header.Get("Serve_multiplexed_model_id"); test.status == 200 && m != "" && (got.Affinity == nil || got.Affinity.Model != m) {
			t.Errorf("model id %+v", got.Affinity)
		}
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	named := func(name string) Route {
		return Route{Prefix: name, App: name, In: InNone, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
			return call.Payload{Codec: call.Text, Data: []byte(name)}, nil
		}}
	}
	p := with(t, named("/a"), named("/a/b"), named("/c"))
	for path, want := range map[string]string{"/a": "/a", "/a/": "/a", "/a/x": "/a", "/a/b": "/a/b", "/a/b/c": "/a/b", "/ab": "", "/": "", "/c/a": "/c", "/-/nope": ""} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if want == "" && w.Code != 404 || want != "" && w.Body.String() != want {
			t.Errorf("%s: %d %s, want %q", path, w.Code, w.Body, want)
		}
	}
	for _, bad := range [][]Route{{named("/a"), named("/a")}, {named("")}, {named("a")}, {named("/a/")}, {named("/-")}, {named("/-/x")}} {
		if err := p.SetRoutes(bad); err == nil {
			t.Errorf("%q was taken", bad[0].Prefix)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/-/routes", nil))
	if w.Body.String() != `{"/a":"/a","/a/b":"/a/b","/c":"/c"}` {
		t.Error(w.Body)
	}
	w = httptest.NewRecorder()
	p.Open()
	if p.ServeHTTP(w, httptest.NewRequest("GET", "/-/healthz", nil)); w.Code != 200 || w.Body.String() != "success" {
		t.Error(w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	if p.ServeHTTP(w, httptest.NewRequest("POST", "/-/healthz", nil)); w.Code != 405 {
		t.Error(w.Code)
	}
}

// pipes is a listener whose connections are pipes, so that a server runs in a synctest bubble.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { close(p.conns); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// TestDrain: while the delay of a drain runs the node says that it drains, and serves new connections. Then it takes none, and requests under way
// finish.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := New(Settings{Options: Options{DrainDelay: time.Minute}})
		if err := p.SetRoutes([]Route{
			{Prefix: "/quick", In: InString, Call: echo},
			{Prefix: "/slow", In: InNone, Call: func(context.Context, *call.Call) (call.Payload, *call.Error) {
				<-release
				return call.Payload{Codec: call.Text, Data: []byte("finished")}, nil
			}},
		}); err != nil {
			t.Fatal(err)
		}
		l := &pipes{conns: make(chan net.Conn)}
		served := make(chan error, 1)
		go func() { served <- p.Serve(l, nil) }()
		connect := func() net.Conn {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			return ours
		}
		ask := func(c net.Conn, path string) string {
			go io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n") //nolint:errcheck // the answer tells
			b, _ := io.ReadAll(c)
			return string(b)
		}
		const quick = "POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
		keep := func() (net.Conn, *bufio.Reader) { // a connection that has had an answer
			c := connect()
			go io.WriteString(c, quick) //nolint:errcheck // the answer tells
			b := bufio.NewReader(c)
			r, err := http.ReadResponse(b, nil)
			if err != nil || r.StatusCode != 200 || r.Close {
				t.Fatalf("%v %v", r, err)
			}
			io.Copy(io.Discard, r.Body) //nolint:errcheck // it is short
			return c, b
		}
		_, idle := keep()
		kept, keptReader := keep()
		idleEnd := make(chan struct{})
		go func() {
			io.Copy(io.Discard, idle) //nolint:errcheck // it ends with the connection
			close(idleEnd)
		}()
		slow := connect()
		answer := make(chan string, 1)
		go func() { answer <- ask(slow, "/slow") }()
		drained := make(chan error, 1)
		go func() {
			p.Announce()
			p.AwaitDelay(context.Background())
			drained <- p.Drain(context.Background())
		}()
		synctest.Wait()
		if a := ask(connect(), "/-/healthz"); !strings.HasPrefix(a, "HTTP/1.1 503") || !strings.Contains(a, "This node is being drained") {
			t.Errorf("healthz in the delay: %s", a)
		}
		c := connect()
		go io.WriteString(c, quick) //nolint:errcheck // as above
		if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 200") || !strings.Contains(string(b), "Connection: close") {
			t.Errorf("a new connection in the delay: %s", b)
		}
		select {
		case <-idleEnd:
			t.Error("an idle connection ended in the delay")
		default:
		}
		go io.WriteString(kept, quick) //nolint:errcheck // as above
		if b, _ := io.ReadAll(keptReader); !strings.HasPrefix(string(b), "HTTP/1.1 200") || !strings.Contains(string(b), "Connection: close") {
			t.Errorf("a kept connection in the delay: %s", b)
		}
		time.Sleep(time.Minute)
		<-idleEnd
		if err := <-served; err != nil {
			t.Error(err)
		}
		select {
		case <-drained:
			t.Fatal("drained while a request ran")
		default:
		}
		close(release)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if a := <-answer; !strings.Contains(a, "finished") || !strings.Contains(a, "Connection: close") {
			t.Errorf("%q", a)
		}
	})
}

// TestDrainIsCutOff: the end of the context ends the delay, and the requests that are left.
func TestDrainIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Options: Options{DrainDelay: time.Hour}})
		if err := p.SetRoutes([]Route{{Prefix: "/", In: InNone, Call: func(ctx context.Context, _ *call.Call) (call.Payload, *call.Error) {
			<-ctx.Done()
			return call.Payload{}, call.FromContext(ctx)
		}}}); err != nil {
			t.Fatal(err)
		}
		conn := serving(t, p)()
		go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") //nolint:errcheck // the end tells
		ctx, cancel := context.WithCancel(t.Context())
		drained := make(chan error, 1)
		go func() {
			p.Announce()
			p.AwaitDelay(ctx)
			drained <- p.Drain(ctx)
		}()
		synctest.Wait()
		cancel()
		if err := <-drained; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if b, _ := io.ReadAll(conn); len(b) > 0 {
			t.Errorf("%q", b)
		}
		synctest.Wait()
	})
}

// TestHandlerOfAnotherServer: after the drain a server that is not the proxy's own gets 503.
func TestHandlerOfAnotherServer(t *testing.T) {
	t.Parallel()
	p := with(t, Route{Prefix: "/", In: InString, Call: echo})
	for _, want := range []int{200, 503} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("x")))
		if w.Code != want || w.Code == 503 && (w.Header().Get("Retry-After") != "1" || w.Header().Get("Connection") != "close") {
			t.Errorf("%d %v, want %d", w.Code, w.Header(), want)
		}
		if err := p.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(byte(InString), "application/json", "id", "*/*", []byte(`"x"`))
	f.Add(byte(InBytes), "text/plain; charset=utf-8", "", "application/json", []byte("x"))
	f.Fuzz(func(t *testing.T, kind byte, contentType, id, accept string, body []byte) {
		in := InKind(kind % 5)
		p := with(t, Route{Prefix: "/", In: in, Call: func(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
			for _, s := range c.Slots {
				if s.Codec == call.JSON && !json.Valid(s.Data) || in == InString && s.Codec != call.Text || in == InBytes && s.Codec != call.Raw {
					t.Fatalf("kind %d got %s %q", in, s.Codec, s.Data)
				}
			}
			return echo(ctx, c)
		}})
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header = http.Header{"Content-Type": {contentType}, "X-Request-Id": {id}, "Accept": {accept}}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code == 0 || w.Code == 200 && !call.ValidID(id) {
			t.Fatalf("%d with id %q", w.Code, id)
		}
	})
}

func BenchmarkNoop(b *testing.B) {
	p := with(b, Route{Prefix: "/", In: InString, Call: echo})
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Content-Type", "text/plain")
	r = r.WithContext(clients.Context(r.Context(), p.clients.Add(nil))) // of the proxy's own server
	b.ReportAllocs()
	for b.Loop() {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("world")), 5
		p.ServeHTTP(httptest.NewRecorder(), r)
	}
}

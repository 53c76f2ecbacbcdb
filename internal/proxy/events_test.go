package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// yields is a stream of these items, which then ends with a failure, if there is one.
func yields(failure *call.Error, items ...call.Payload) func(context.Context, *call.Call, Item) *call.Error {
	return func(ctx context.Context, _ *call.Call, item Item) *call.Error {
		for _, p := range items {
			if !item(p, false) {
				return call.FromContext(ctx)
			}
		}
		return failure
	}
}

func text(s string) call.Payload { return call.Payload{Codec: call.Text, Data: []byte(s)} }

func asEvents(p *Proxy, method, target string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, target, nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("X-Request-ID", "id-1")
	p.ServeHTTP(w, r)
	return w
}

const endOfEvents = "event: end\ndata:\n\n"

func TestItemsAreEvents(t *testing.T) {
	t.Parallel()
	event := func(s string) call.Payload { return call.Payload{Codec: call.Event, Data: []byte(s)} }
	for _, test := range []struct {
		name string
		item call.Payload
		want string
	}{
		{"text", text("hello"), "data: hello\n\n"},
		{"text with a leading space", text(" hello"), "data:  hello\n\n"},
		{"empty text", text(""), "data: \n\n"},
		{"lines of all kinds", text("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
		{"text like a field", text("a\nevent: error"), "data: a\ndata: event: error\n\n"},
		{"JSON", call.Payload{Codec: call.JSON, Data: []byte("{\n \"a\": [1,\n2]}")}, "data: {\"a\":[1,2]}\n\n"},
		{"bytes", call.Payload{Codec: call.Raw, Data: []byte{0, 255, '\n'}}, "data: AP8K\n\n"},
		{"nothing", call.Payload{Codec: call.None}, "data: null\n\n"},
		{"event with all fields", event(`{"id":"7","event":"token","retry":1500,"data":"a\nb"}`), "id: 7\nevent: token\nretry: 1500\ndata: a\ndata: b\n\n"},
		{"event with JSON", event(`{"data":{"a":"b"}}`), "data: {\"a\":\"b\"}\n\n"},
		{"event without data", event(`{"retry":5}`), "retry: 5\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := asEvents(with(t, Route{Prefix: "/", Stream: yields(nil, test.item)}), "GET", "/")
			if got := w.Body.String(); got != test.want+endOfEvents || w.Code != 200 {
				t.Errorf("%d %q, want %q and the end", w.Code, got, test.want)
			}
		})
	}
}

func TestHeadOfEvents(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "HEAD"} {
		w := asEvents(with(t, Route{Prefix: "/", Stream: yields(nil, text("a"))}), method, "/")
		for name, want := range map[string]string{"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", method, name, got)
			}
		}
		if method == "HEAD" && w.Body.Len() > 0 {
			t.Errorf("HEAD has the body %q", w.Body)
		}
	}
	w := asEvents(with(t, Route{Prefix: "/", Stream: yields(nil)}), "HEAD", "/")
	if w.Body.Len() > 0 || w.Code != 200 {
		t.Errorf("HEAD of a stream without items: %d %q", w.Code, w.Body)
	}
}

// TestFailuresOfEvents: a failure before the first item has a status; a later one is the last event, and tells a client no more than any answer.
func TestFailuresOfEvents(t *testing.T) {
	t.Parallel()
	private := call.NewError(helvetype.ReasonUser, "the password is x")
	public := call.NewError(helvetype.ReasonUser, "detail")
	public.Code, public.Public = helvetype.CodeNotFound, "no such chat"
	badEvent := call.Payload{Codec: call.Event, Data: []byte(`{"event":"a\ndata: b"}`)}
	for _, test := range []struct {
		name   string
		stream func(context.Context, *call.Call, Item) *call.Error
		status int
		has    string
	}{
		{"before the first item", yields(public), 404, "NotFound: no such chat"},
		{"public", yields(public, text("a")), 200, "data: a\n\nevent: error\ndata: {\"code\":\"NotFound\",\"reason\":\"user\",\"message\":\"no such chat\",\"request_id\":\"id-1\"}\n\n"},
		{"private", yields(private, text("a")), 200, "data: a\n\nevent: error\ndata: {\"code\":\"Unknown\",\"reason\":\"user\",\"message\":\"" + withheld + "\",\"request_id\":\"id-1\"}\n\n"},
		{"name with a line break", yields(nil, text("a"), badEvent), 200, "data: a\n\nevent: error\ndata: {\"code\":\"Internal\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := with(t, Route{Prefix: "/", App: "a", Stream: test.stream})
			w := asEvents(p, "GET", "/")
			if got := w.Body.String(); w.Code != test.status || !strings.HasPrefix(got, test.has) || strings.Contains(got, "password") || strings.Contains(got, "event: end") {
				t.Errorf("%d %q, want %q", w.Code, got, test.has)
			}
			for _, c := range countsOf(t, p) {
				if strings.Contains(c, "200") {
					t.Errorf("the failed request is counted as %s", c)
				}
			}
		})
	}
}

// TestGoexitEndsEvents: the client is told, although the goroutine of its connection ends.
func TestGoexitEndsEvents(t *testing.T) {
	t.Parallel()
	p := with(t, Route{Prefix: "/", Stream: func(_ context.Context, _ *call.Call, item Item) *call.Error {
		item(text("a"), false)
		runtime.Goexit()
		return nil
	}})
	w, done := (*httptest.ResponseRecorder)(nil), make(chan struct{})
	go func() {
		defer close(done)
		w = httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", "text/event-stream")
		p.ServeHTTP(w, r)
	}()
	<-done
	if got := w.Body.String(); !strings.Contains(got, "event: error") {
		t.Errorf("%q", got)
	}
}

func TestInputOfEvents(t *testing.T) {
	t.Parallel()
	back := func(ctx context.Context, c *call.Call, item Item) *call.Error {
		p, e := echo(ctx, c)
		item(p, false)
		return e
	}
	for _, test := range []struct {
		name   string
		in     InKind
		query  string
		status int
		has    string
	}{
		{"text", InString, "?input=a+b%0Ac", 200, "data: a b\ndata: c\n"},
		{"a JSON string is its text", InString, "?input=%22a%22", 200, "data: a\n"},
		{"JSON", InJSON, "?input=%7B%22n%22:3%7D&other=1", 200, "data: {\"n\":3}\n"},
		{"bytes", InBytes, "?input=abc", 200, "data: YWJj\n"},
		{"nothing", InNone, "?x=1", 200, "data: null\n"},
		{"missing", InString, "", 400, "InvalidArgument: a GET request for events needs the query parameter input once"},
		{"twice", InString, "?input=a&input=b", 400, "InvalidArgument: a GET request"},
		{"no JSON", InJSON, "?input=%7B", 400, "InvalidArgument: the query parameter input is not valid JSON"},
		{"no query", InString, "?input=%zz", 400, "InvalidArgument: the query cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := with(t, Route{Prefix: "/", In: test.in, Stream: back}, Route{Prefix: "/method", In: test.in, Call: echo})
			if w := asEvents(p, "GET", "/"+test.query); w.Code != test.status || !strings.HasPrefix(w.Body.String(), test.has) {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, test.status, test.has)
			}
			want := 405
			if test.in == InNone {
				want = 200
			}
			if w := asEvents(p, "GET", "/method"+test.query); w.Code != want {
				t.Errorf("a method without a stream answers %d", w.Code)
			}
			w := httptest.NewRecorder()
			if p.ServeHTTP(w, httptest.NewRequest("GET", "/"+test.query, nil)); w.Code != want || want == 405 && !strings.Contains(w.Body.String(), "and GET with Accept: text/event-stream") {
				t.Errorf("a GET request that asks for no events is answered %d %s", w.Code, w.Body)
			}
		})
	}
}

// TestHeartbeats: while no item comes, a comment does every 15 seconds. The first begins the answer, so that a failure after it is an event.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		conn := dial(t, with(t, Route{Prefix: "/", Stream: func(_ context.Context, _ *call.Call, item Item) *call.Error {
			<-proceed
			for range 3 {
				item(text("a"), false)
				time.Sleep(10 * time.Second)
			}
			<-proceed
			return call.NewError(helvetype.ReasonInternal, "late")
		}}))
		begun := time.Now()
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(r.Body)
		next := func(want string, after time.Duration) {
			t.Helper()
			block := ""
			for !strings.HasSuffix(block, "\n\n") {
				line, err := lines.ReadString('\n')
				if block += line; err != nil {
					t.Fatalf("%q, %v", block, err)
				}
			}
			if block != want+"\n\n" || time.Since(begun) != after {
				t.Errorf("%q after %s, want %q after %s", block, time.Since(begun), want, after)
			}
		}
		next(":", 15*time.Second)
		next(":", 30*time.Second)
		time.Sleep(time.Second)
		proceed <- struct{}{}
		next("data: a", 31*time.Second)
		next("data: a", 41*time.Second)
		next("data: a", 51*time.Second)
		next(":", 66*time.Second)
		next(":", 81*time.Second)
		proceed <- struct{}{}
		last, err := io.ReadAll(lines)
		if err != nil || !strings.HasPrefix(string(last), "event: error\ndata: {") {
			t.Errorf("%q, %v", last, err)
		}
		r.Body.Close()
	})
}

// TestGoneClientEndsItsEvents: the stream's context ends when the client leaves, also while no item comes.
func TestGoneClientEndsItsEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		conn := dial(t, with(t, Route{Prefix: "/", Stream: func(ctx context.Context, _ *call.Call, item Item) *call.Error {
			item(text("a"), false)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return call.FromContext(ctx)
		}}))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, errUntaken) {
			t.Error(err)
		}
	})
}

// TestTimeOfEvents: a stream whose time is over ends with the event of its error, as it does for every failure.
func TestTimeOfEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, with(t, Route{Prefix: "/", Stream: func(ctx context.Context, _ *call.Call, item Item) *call.Error {
			item(text("a"), false)
			<-ctx.Done()
			return call.FromContext(ctx)
		}}))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Request-Timeout-Seconds: 2\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.HasPrefix(string(body), "data: a\n\nevent: error\ndata: {\"code\":\"DeadlineExceeded\"") {
			t.Errorf("%q, %v", body, err)
		}
	})
}

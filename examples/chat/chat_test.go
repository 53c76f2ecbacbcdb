package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// serve runs the example.
func serve(t *testing.T, pause time.Duration) (url string) {
	t.Helper()
	sys, err := start(t.Context(), pause)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	url, _, err = sys.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(url, "/tokens")
}

// awaitStats waits until the model has these counts.
func awaitStats(t *testing.T, url string, want Stats) {
	t.Helper()
	fixture.Eventually(t, func() string {
		r, err := http.Get(url + "/stats")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var got Stats
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			return "the model has " + mustJSON(got) + ", want " + mustJSON(want)
		}
		return ""
	})
}

func mustJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// openEvents asks for the tokens as an EventSource does.
func openEvents(t *testing.T, ctx context.Context, url string) *bufio.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/tokens?input=hello", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	if got := r.Header.Get("Content-Type"); r.StatusCode != 200 || got != "text/event-stream; charset=utf-8" {
		t.Fatalf("%s, %q", r.Status, got)
	}
	return bufio.NewReader(r.Body)
}

func openSocket(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1)+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestWholeAnswer: both ways give all tokens, and say that the answer is complete.
func TestWholeAnswer(t *testing.T) {
	t.Parallel()
	url := serve(t, time.Microsecond)
	body, err := io.ReadAll(openEvents(t, t.Context(), url))
	if err != nil || !strings.HasPrefix(string(body), "data: You \n\ndata: said: \n\ndata: hello.\ndata: I \n\n") || !strings.HasSuffix(string(body), "data: all.\n\nevent: end\ndata:\n\n") {
		t.Errorf("%q, %v", body, err)
	}
	conn, said := openSocket(t, url), ""
	for {
		_, token, err := conn.Read(t.Context())
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Error(err)
			}
			break
		}
		said += string(token)
	}
	if said != answer("hello") {
		t.Errorf("%q", said)
	}
	awaitStats(t, url, Stats{Finished: 2})
}

// TestReaderLeaves: the model is cancelled when its reader leaves in the middle.
func TestReaderLeaves(t *testing.T) {
	t.Parallel()
	const pause = 200 * time.Millisecond // the answer takes 12 s: its reader leaves in the middle, however slow the machine is
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		url := serve(t, pause)
		ctx, leave := context.WithCancel(t.Context())
		if line, err := openEvents(t, ctx, url).ReadString('\n'); line != "data: You \n" {
			t.Errorf("%q, %v", line, err)
		}
		leave()
		awaitStats(t, url, Stats{Cancelled: 1})
	})
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		url := serve(t, pause)
		conn := openSocket(t, url)
		if _, token, err := conn.Read(t.Context()); string(token) != "You " {
			t.Errorf("%q, %v", token, err)
		}
		conn.CloseNow()
		awaitStats(t, url, Stats{Cancelled: 1})
	})
}

// TestPage: the page is there.
func TestPage(t *testing.T) {
	t.Parallel()
	r, err := http.Get(serve(t, time.Microsecond) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || r.StatusCode != 200 || !strings.Contains(string(body), "EventSource") {
		t.Errorf("%s %v", r.Status, err)
	}
}

package access

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written has what a log has written, and each call of Write.
type written struct {
	mu    sync.Mutex
	text  bytes.Buffer
	calls []string
	slow  int // how often a call lets other goroutines run
}

func (w *written) Write(b []byte) (int, error) {
	for range w.slow {
		runtime.Gosched()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, string(b))
	return w.text.Write(b)
}

// all has the lines of each call so far, by their requests.
func (w *written) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var calls []string
	for _, c := range w.calls {
		var ids []string
		for line := range strings.Lines(c) {
			ids = append(ids, strings.Fields(line)[6])
		}
		calls = append(calls, strings.Join(ids, ","))
	}
	return strings.Join(calls, " ")
}

func ask(l *Log, id string) {
	l.Write(&Line{Begun: time.Now(), Client: "127.0.0.1:1", Method: "GET", Route: "/", Status: 200, Request: id})
}

// TestWhenLinesAreWritten: the first line after a pause is written at once, those that follow it within 100 ms are written together, and so on; End writes the lines that
// wait, and lines after it are written at once.
func TestWhenLinesAreWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		l := New(w, false)
		is := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := w.all(); got != want {
				t.Errorf("written: %q, want %q", got, want)
			}
		}
		ask(l, "a")
		is("a")
		ask(l, "b")
		time.Sleep(interval / 2)
		ask(l, "c")
		is("a")
		time.Sleep(interval/2 - 1)
		is("a")
		time.Sleep(1)
		is("a b,c")
		ask(l, "d")
		is("a b,c")
		time.Sleep(interval)
		is("a b,c d")
		time.Sleep(interval)
		ask(l, "e")
		is("a b,c d e")
		ask(l, "f")
		l.End()
		is("a b,c d e f")
		ask(l, "g")
		ask(l, "h")
		is("a b,c d e f g h")
	})
}

// TestLinesFillTheBuffer: 64 KiB of lines are not kept until their time is over.
func TestLinesFillTheBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		l := New(w, true)
		ask(l, "first")
		for w.text.Len() < 10*full {
			ask(l, "id")
		}
		if n := len(w.calls); n != 11 {
			t.Errorf("%d calls for 640 KiB, want one for the first line and one for each 64 KiB", n)
		}
		for _, c := range w.calls[1:] {
			if line := len(w.calls[1]) - strings.LastIndexByte(strings.TrimSuffix(w.calls[1], "\n"), '\n'); len(c) < full || len(c) >= full+line {
				t.Errorf("a call has %d bytes", len(c))
			}
		}
	})
}

// TestSlowWriter: a writer that takes longer than the requests slows the requests, so that never more than 64 KiB and a line of each request wait; no line is lost, and the
// lines of one client stay in order.
func TestSlowWriter(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 2000
	w := &written{slow: 1000}
	l := New(w, false)
	var asking sync.WaitGroup
	for c := range clients {
		asking.Go(func() {
			for i := range each {
				ask(l, fmt.Sprintf("%d-%d", c, i))
			}
		})
	}
	asking.Wait()
	l.End()
	next, line := map[string]int{}, 0
	for text := range strings.Lines(w.text.String()) {
		line = max(line, len(text))
		id := strings.Fields(text)[6]
		c := id[:1]
		if want := fmt.Sprintf("%s-%d", c, next[c]); id != want {
			t.Fatalf("the line %s comes where %s should be", id, want)
		}
		next[c]++
	}
	for c := range clients {
		if n := next[fmt.Sprint(c)]; n != each {
			t.Errorf("client %d has %d lines", c, n)
		}
	}
	for _, c := range w.calls {
		if len(c) > full+clients*line {
			t.Errorf("a call has %d bytes", len(c))
		}
	}
}

// TestWriterThatPanics: the lines with which a writer has panicked are lost, and all later lines are written.
func TestWriterThatPanics(t *testing.T) {
	t.Parallel()
	w := &written{}
	l := New(writer(func(b []byte) (int, error) {
		if bytes.Contains(b, []byte("bad")) {
			panic("no")
		}
		return w.Write(b)
	}), false)
	l.End()
	func() {
		defer func() { recover() }()
		ask(l, "bad")
	}()
	for _, id := range []string{"a", "b", "c"} {
		ask(l, id)
	}
	if got := w.all(); got != "a b c" {
		t.Errorf("written: %q", got)
	}
}

// TestWriterThatPanicsLater: the same holds for lines that have waited: no request is there that could take the panic.
func TestWriterThatPanicsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		l := New(writer(func(b []byte) (int, error) {
			if bytes.Contains(b, []byte("bad")) {
				panic("no")
			}
			return w.Write(b)
		}), false)
		ask(l, "a") // at once; each of the others waits for the time since the one before
		for _, id := range []string{"bad", "b", "c"} {
			ask(l, id)
			time.Sleep(interval)
			synctest.Wait()
		}
		if got := w.all(); got != "a b c" {
			t.Errorf("written: %q", got)
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

package keeper

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/internal/kernel"
)

// pair is two ends of a control connection. Each has the function that answers its requests.
func pair(t *testing.T, one, other func(*Request)) (a, b *Conn) {
	t.Helper()
	fds, err := kernel.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*Conn
	for i, handle := range []func(*Request){one, other} {
		nc, err := connOf(fds[i])
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = newConn(nc, handle)
		go ends[i].serve() //nolint:errcheck // it ends with the test
		t.Cleanup(ends[i].Close)
	}
	return ends[0], ends[1]
}

// TestConn: requests have their answers, descriptors travel with their lines, however long these are, and the errors of the kernel keep their identity.
func TestConn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	ask, _ := pair(t, func(r *Request) { r.Answer(nil, errUnknown(r.Do)) }, func(r *Request) {
		switch r.Do {
		case "echo":
			r.Answer(r.Body, nil)
		case "read":
			var all []string
			for _, f := range r.Files {
				b, err := io.ReadAll(f)
				if err != nil {
					r.Answer(nil, err)
					return
				}
				all = append(all, string(b))
			}
			r.Answer(all, nil)
		case "missing":
			_, err := os.Open("/there/is/no/such/file")
			r.Answer(nil, err)
		default:
			r.Answer(nil, errUnknown(r.Do))
		}
	})
	t.Run("a long line", func(t *testing.T) {
		t.Parallel()
		body, _, err := ask.Ask(t.Context(), "echo", long)
		var got string
		if err != nil || json.Unmarshal(body, &got) != nil || got != long {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("descriptors", func(t *testing.T) {
		t.Parallel()
		var files []*os.File
		for _, text := range []string{"one", "two"} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteString(text); err != nil {
				t.Fatal(err)
			}
			w.Close()
			files = append(files, r)
		}
		body, _, err := ask.Ask(t.Context(), "read", long, files...)
		closeFiles(files)
		if err != nil || string(body) != `["one","two"]` {
			t.Errorf("%s, %v", body, err)
		}
	})
	t.Run("an error of the kernel", func(t *testing.T) {
		t.Parallel()
		_, _, err := ask.Ask(t.Context(), "missing", nil)
		if !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "/there/is/no/such/file") {
			t.Error(err)
		}
	})
	t.Run("an unknown request", func(t *testing.T) {
		t.Parallel()
		if _, _, err := ask.Ask(t.Context(), "fly", nil); err == nil || !strings.Contains(err.Error(), `"fly"`) {
			t.Error(err)
		}
	})
}

// TestConnEnds: requests that wait get the end of the connection, and so do later ones.
func TestConnEnds(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	a, b := pair(t, func(*Request) {}, func(*Request) { close(asked) })
	go func() {
		<-asked
		b.Close()
	}()
	if _, _, err := a.Ask(t.Context(), "wait", nil); !errors.Is(err, errGone) {
		t.Error(err)
	}
	<-a.ended
	if _, _, err := a.Ask(t.Context(), "wait", nil); !errors.Is(err, errGone) {
		t.Error(err)
	}
}

// TestReaderStops: a reader that was stopped leaves the lines that have come to the next reader.
func TestReaderStops(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	a, b := pair(t, func(r *Request) { got <- r.Do }, func(*Request) {})
	if err := b.Tell("first", nil); err != nil {
		t.Fatal(err)
	}
	if do := <-got; do != "first" {
		t.Fatal(do)
	}
	a.stopReader()
	if err := b.Tell("second", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case do := <-got:
		t.Fatalf("%s was read by a stopped reader", do)
	default:
	}
	a.resumeReader()
	if do := <-got; do != "second" {
		t.Fatal(do)
	}
}

// FuzzConn: no line that a process sends breaks the reader.
func FuzzConn(f *testing.F) {
	f.Add([]byte(`{"do":"ping","id":1}` + "\n"))
	f.Add([]byte(`{"id":1,"files":3}` + "\n"))
	f.Add([]byte(`{"do":"start","files":-1,"body":{}}` + "\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fds, err := kernel.SocketPair()
		if err != nil {
			t.Fatal(err)
		}
		nc, err := connOf(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(nc, func(r *Request) {
			var l struct{ Path string }
			if r.Decode(&l) {
				r.Answer(l, nil)
			}
		})
		go func() {
			w := os.NewFile(uintptr(fds[1]), "peer")
			w.Write(b) //nolint:errcheck // the reader may have ended
			w.Close()
		}()
		if err := c.serve(); err == nil {
			t.Error("the connection has ended without an error")
		}
	})
}

package clients

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/listen"
)

// halves is a connection whose directions can be closed apart. A pipe has no such thing; the server has nothing more to send then.
type halves struct{ net.Conn }

func (halves) CloseWrite() error { return nil }

// early answers before it has read the body, as a path that does not exist does.
func early(w http.ResponseWriter, r *http.Request) {
	Of(r).BeginBody(r.Header.Get("Expect") != "")
	if r.URL.Path == "/first" {
		r.Body.Read(make([]byte, 1)) //nolint:errcheck // the client tells
	}
	http.Error(w, "no such path", http.StatusNotFound)
}

// TestBodyAfterTheAnswer: a client that sends its whole body before it reads has the answer.
func TestBodyAfterTheAnswer(t *testing.T) {
	t.Parallel()
	const size = 64 << 20 // more than the buffers of the kernel
	for name, request := range map[string]string{
		"a length":            fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size),
		"a length, asked for": fmt.Sprintf("POST /first HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", size),
		"a chunk":             fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", size),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := NewSet(10, time.Minute)
			server := &http.Server{Handler: http.HandlerFunc(early), ConnContext: Context, ConnState: Note}
			served := make(chan error, 1)
			go func() { served <- server.Serve(s.Listener(listen.New(l, nil))) }()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(conn, io.MultiReader(strings.NewReader(request), io.LimitReader(zeros{}, size))); err != nil {
				t.Errorf("the body: %v", err)
			}
			in := bufio.NewReader(conn)
			r, err := http.ReadResponse(in, nil)
			if err == nil && r.StatusCode == http.StatusContinue {
				r, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r.Body); r.StatusCode != 404 || string(b) != "no such path\n" || err != nil {
				t.Errorf("%s %q, %v", r.Status, b, err)
			}
			conn.Close()
			server.Close()
			<-served
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestLingeringEnds: a connection does not linger for a client that pauses, that sends for too long, that waits for the word to send its body, that
// has gone, or when the node ends.
func TestLingeringEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header string
		after  func(t *testing.T, s *Set, conn net.Conn) // after the answer
		want   time.Duration
	}{
		"a pause": {after: func(*testing.T, *Set, net.Conn) {}, want: lingerPause},
		"a byte each second": {after: func(_ *testing.T, _ *Set, conn net.Conn) {
			go func() {
				for err := error(nil); err == nil; time.Sleep(time.Second) {
					_, err = conn.Write([]byte("x"))
				}
			}()
		}, want: lingerTime},
		"a client that asks":  {header: "Expect: 100-continue\r\n", after: func(*testing.T, *Set, net.Conn) {}},
		"a client that left":  {after: func(_ *testing.T, _ *Set, conn net.Conn) { conn.Close() }, want: 500 * time.Millisecond},
		"the end of the node": {after: func(_ *testing.T, s *Set, _ net.Conn) { time.Sleep(time.Second); s.EndLingering() }, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewSet(10, time.Minute)
				l := &pipes{conns: make(chan net.Conn)}
				server := &http.Server{Handler: http.HandlerFunc(early), ConnContext: Context, ConnState: Note}
				served := make(chan error, 1)
				go func() { served <- server.Serve(s.Listener(listen.New(l, nil))) }()
				conn, theirs := net.Pipe()
				l.conns <- halves{theirs}
				io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+test.header+"Content-Length: 100000000\r\n\r\n") //nolint:errcheck // the answer tells
				in := bufio.NewReader(conn)
				r, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(r.Body); err != nil || r.StatusCode != 404 {
					t.Errorf("%s, %v", r.Status, err)
				}
				start := time.Now()
				test.after(t, s, conn)
				in.ReadByte() //nolint:errcheck // waits for the end
				if name == "a client that left" {
					time.Sleep(time.Second)
				} else if took := time.Since(start); took != test.want {
					t.Errorf("it ended after %s, want %s", took, test.want)
				}
				if s.Len() != 0 {
					t.Error("the connection is still there")
				}
				conn.Close()
				server.Close()
				<-served
				time.Sleep(2 * time.Second) // until the client that sends has seen the end
			})
		})
	}
}

// TestLingeringMakesRoom: a connection that lingers is the first to go for a new one.
func TestLingeringMakesRoom(t *testing.T) {
	t.Parallel()
	s := NewSet(1, time.Minute)
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := s.Add(halves{theirs})
	c.setState(http.StateActive)
	if s.Add(nil) != nil {
		t.Fatal("there is no room")
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if s.Add(nil) == nil {
		t.Error("a connection that lingers has made no room")
	}
}

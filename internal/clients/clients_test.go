package clients

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/listen"
)

// pipes is a listener of pipes, for a bubble.
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

// serve serves the connections of s, and returns the function that connects. The server ends with the test.
func serve(t *testing.T, s *Set, h http.HandlerFunc) (connect func() net.Conn) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn)}
	server := &http.Server{Handler: h, ConnContext: Context, ConnState: Note, IdleTimeout: 2 * time.Hour}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.Listener(listen.New(l, nil))) }()
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		all = append(all, ours)
		return ours
	}
}

// TestConnections: above the limit an idle connection makes room, and otherwise the newest is refused.
func TestConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		connect := serve(t, NewSet(2, time.Minute), func(http.ResponseWriter, *http.Request) { <-release })
		ask := func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") } //nolint:errcheck // the answer tells
		silent, busy := connect(), connect()
		ask(busy)
		time.Sleep(2 * timeToBegin)
		next := connect()
		ask(next)
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the silent one: %v", err)
		}
		late := connect()
		if r, err := http.ReadResponse(bufio.NewReader(late), nil); err != nil || r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
			t.Errorf("one too many: %v, %v", r, err)
		}
		close(release)
		for _, c := range []net.Conn{busy, next} {
			if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
				t.Errorf("%v, %v", r, err)
			}
		}
		synctest.Wait()
		after := connect() // takes the place of an idle connection
		ask(after)
		if r, err := http.ReadResponse(bufio.NewReader(after), nil); err != nil || r.StatusCode != 200 {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// TestIdleTime: the idle time of a set replaces that of the server for the next pause of a connection, and 0 gives it back.
func TestIdleTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := NewSet(2, time.Minute)
		connect := serve(t, set, func(http.ResponseWriter, *http.Request) {})
		c := connect()
		in := bufio.NewReader(c)
		ask := func() {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") //nolint:errcheck // the answer tells
			if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != 200 {
				t.Fatalf("%v, %v", r, err)
			}
			synctest.Wait() // the server has set the deadline
		}
		ended := func() (after time.Duration) {
			begin := time.Now()
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
			return time.Since(begin)
		}
		ask()
		time.Sleep(time.Hour)
		set.SetIdle(5 * time.Second)
		ask()
		time.Sleep(4 * time.Second)
		ask()
		set.SetIdle(0)
		if after := ended(); after != 5*time.Second {
			t.Errorf("it ends after %s", after)
		}
		c = connect()
		in = bufio.NewReader(c)
		ask()
		time.Sleep(time.Hour)
		ask()
	})
}

// TestShareOfAConnection: a connection may hold half of the memory, or one request that is larger, and small requests of others find room beside large
// ones.
func TestShareOfAConnection(t *testing.T) {
	t.Parallel()
	m := NewMemory(64 << 20)
	s := NewSet(10, time.Minute)
	c := s.Add(nil)
	first, second, third, other, tiny := m.Hold(c), m.Hold(c), m.Hold(c), m.Hold(s.Add(nil)), m.Hold(nil)
	for _, step := range []struct {
		name string
		hold *Hold
		n    int64
		want bool
	}{
		{"a large request", &first, 40 << 20, true},
		{"a second one", &second, 1 << 20, false},
		{"a small one of the same connection", &third, Small, false},
		{"another connection", &other, 15 << 20, true},
		{"nothing is left for large ones", &other, 2 << 20, false},
		{"the last eighth is for small ones", &tiny, Small, true},
	} {
		if got := step.hold.Grow(step.n); got != step.want {
			t.Errorf("%s: %t", step.name, got)
		}
	}
	for _, h := range []*Hold{&first, &second, &third, &other, &tiny} {
		h.End()
	}
	if m.Used() != 0 || c.held.Load() != 0 {
		t.Errorf("%d bytes are held, %d for the connection", m.Used(), c.held.Load())
	}
}

// TestUnread: an answer waits for its client while a write does, over a connection and for a single request.
func TestUnread(t *testing.T) {
	t.Parallel()
	for name, paced := range map[string]bool{"connection": false, "request": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				unread, written := make(chan *call.Unread, 1), make(chan struct{})
				connect := serve(t, NewSet(1, time.Hour), func(w http.ResponseWriter, r *http.Request) {
					client := Of(r)
					if paced {
						client, w = nil, Pace(w, r, time.Hour).Writer()
					}
					unread <- UnreadOf(client, w, r)
					w.Write(make([]byte, 100<<10)) //nolint:errcheck // the client reads it later
					close(written)
				})
				c := connect()
				go io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") //nolint:errcheck // the test reads the answer
				of := <-unread
				synctest.Wait()
				if of.Since() == 0 {
					t.Error("the client reads nothing, and the answer does not wait")
				}
				go io.Copy(io.Discard, c) //nolint:errcheck // until the connection ends
				<-written
				synctest.Wait()
				if since := of.Since(); since != 0 {
					t.Errorf("the client has read, and the answer waits since %d", since)
				}
			})
		})
	}
}

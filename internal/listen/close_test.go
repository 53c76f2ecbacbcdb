package listen

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// TestCloseAcceptsWhatWaits: connections that wait in the queue when the listener is closed are accepted, and the address is free then.
func TestCloseAcceptsWhatWaits(t *testing.T) {
	t.Parallel()
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "socket")} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			inner, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			l := New(inner, nil)
			const n = 50
			var clients [n]net.Conn
			for i := range clients {
				if clients[i], err = net.Dial(network, l.Addr().String()); err != nil {
					t.Fatal(err)
				}
				defer clients[i].Close()
			}
			first, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.Close(), l.Close()); err != nil {
				t.Error(err)
			}
			accepted := []net.Conn{first}
			for {
				c, err := l.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					break
				}
				accepted = append(accepted, c)
			}
			if len(accepted) != n {
				t.Errorf("%d of %d connections were accepted", len(accepted), n)
			}
			for _, c := range accepted {
				io.WriteString(c, "x") //nolint:errcheck // the client tells
				c.Close()
			}
			for _, c := range clients {
				if b, err := io.ReadAll(c); string(b) != "x" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
			}
			if c, err := net.Dial(network, l.Addr().String()); err == nil {
				c.Close()
				t.Error("the listener still listens")
			}
		})
	}
}

// TestCloseEndsAccept: Close ends an Accept that waits.
func TestCloseEndsAccept(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, nil)
	ended := make(chan error)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

package peer

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// TestPeers: both sides of a row pass the same checks, over every kind of socket.
func TestPeers(t *testing.T) {
	t.Parallel()
	for role, serve := range map[string]func(kind, sock string) (net.Listener, error){"wire": ListenWire, "grpc": ListenGRPC} {
		for _, kind := range Kinds() {
			t.Run(role+" "+kind, func(t *testing.T) {
				t.Parallel()
				l, err := serve(kind, filepath.Join(t.TempDir(), "s"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				p, err := Dial(t.Context(), role, End{kind, l.Addr().String()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(p.Close)
				for _, size := range []int{0, 100, 1 << 20, 5 << 20} {
					if err := p.Echo(t.Context(), make([]byte, size)); err != nil {
						t.Errorf("echo of %d bytes: %v", size, err)
					}
				}
				if err := p.Items(t.Context(), 5000); err != nil {
					t.Error(err)
				}
				for range 3 {
					if _, err := p.CancelCall(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if g, ok := p.(GRPC); ok {
					if err := g.Chain(1000)(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestRaw: the bare socket gives the bytes back, over every kind of socket.
func TestRaw(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l, err := ListenRaw(kind, filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			c, err := DialRaw(t.Context(), End{kind, l.Addr().String()}, len(Item))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			for range 3 {
				answer := make([]byte, len(Item))
				if _, err := io.WriteString(c, Item); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, answer); err != nil || !bytes.Equal(answer, []byte(Item)) {
					t.Fatalf("%q, %v", answer, err)
				}
			}
		})
	}
}

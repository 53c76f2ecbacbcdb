package main

import (
	"net"
	"path/filepath"
	"testing"
)

// Both sides of a row pass the same checks, over every kind of socket.
func TestPeers(t *testing.T) {
	t.Parallel()
	for role, serve := range map[string]func(kind, sock string) (net.Listener, error){"wire": listenWire, "grpc": listenGRPC} {
		for _, kind := range kinds() {
			t.Run(role+" "+kind, func(t *testing.T) {
				t.Parallel()
				l, err := serve(kind, filepath.Join(t.TempDir(), "s"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				p, err := dialPeer(t.Context(), role, end{kind, l.Addr().String()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(p.close)
				for _, size := range []int{0, 100, 1 << 20, 5 << 20} {
					if err := p.echo(t.Context(), make([]byte, size)); err != nil {
						t.Errorf("echo of %d bytes: %v", size, err)
					}
				}
				if err := p.items(t.Context(), 5000); err != nil {
					t.Error(err)
				}
				for range 3 {
					if _, err := p.cancelled(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if g, ok := p.(grpcPeer); ok {
					if err := g.chain(1000)(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

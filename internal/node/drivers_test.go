package node_test

import (
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// server is a driver's side of a connection, to which a node sends nothing.
type server struct{ wire.Server }

func (server) Route(wire.Route) any { return nil }

func (server) Goaway(wire.Goaway) {}

func (server) Call(b *call.Batch, in *wire.Incoming) call.Canceler { return nil }

// serve starts a node to which drivers attach, and reads its secret.
func serve(t *testing.T) (*node.Node, wire.Token) {
	t.Helper()
	n := node.New(node.Settings{Version: "test"})
	t.Cleanup(func() { n.Close(t.Context()) })
	if err := n.ServeDrivers(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(n.Dir(), worker.DriverToken))
	if err != nil {
		t.Fatal(err)
	}
	var token wire.Token
	if k, err := hex.Decode(token[:], []byte(strings.TrimSpace(string(text)))); err != nil || k != len(token) {
		t.Fatalf("%q: %v", text, err)
	}
	return n, token
}

// attach opens a connection as a driver.
func attach(t *testing.T, n *node.Node, token wire.Token, kind string) (net.Conn, wire.Welcome, error) {
	t.Helper()
	nc, err := net.Dial("unix", filepath.Join(n.Dir(), worker.DriverSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	w, err := wire.Open(nc, token, wire.Hello{Kind: kind, Language: "go", PID: os.Getpid()})
	return nc, w, err
}

// TestAttach: the private directory of a node keeps other users out, and a driver with the secret gets in; its opening says where the node is.
func TestAttach(t *testing.T) {
	t.Parallel()
	n, token := serve(t)
	for name, mode := range map[string]os.FileMode{".": 0o700, worker.DriverSocket: 0o600, worker.DriverToken: 0o600} {
		if st, err := os.Lstat(filepath.Join(n.Dir(), name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %04o", name, st.Mode(), err, mode)
		}
	}
	nc, w, err := attach(t, n, token, "driver")
	if err != nil || w.Node != n.Dir() {
		t.Fatalf("%+v, %v", w, err)
	}
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), w.Terms), server{})
	ended := make(chan error, 1)
	go func() { ended <- peer.Serve() }()
	if _, err := protocol.Ask(t.Context(), peer, protocol.Status{}); err != nil {
		t.Error(err)
	}
	dir := n.Dir()
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-ended // the node ends the connections of attached drivers
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

// TestAttachRefused: a program without the secret is refused, a worker too, and every program while the directory is open to others, with a text that
// says why.
func TestAttachRefused(t *testing.T) {
	t.Parallel()
	n, token := serve(t)
	for name, x := range map[string]struct {
		token wire.Token
		kind  string
		mode  os.FileMode
		want  string
	}{
		"wrong token": {wire.NewToken(), "driver", 0o700, "the node did not prove that it knows this worker's token"},
		"worker":      {token, "worker", 0o700, "a worker where a driver was expected"},
		"open to all": {token, "driver", 0o755, "has the mode 0755, and must belong to its user alone"},
		"writable":    {token, "driver", 0o720, "has the mode 0720, and must belong to its user alone"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Chmod(n.Dir(), x.mode); err != nil {
				t.Fatal(err)
			}
			if _, _, err := attach(t, n, x.token, x.kind); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %q", err, x.want)
			}
		})
	}
	if err := os.Chmod(n.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := attach(t, n, token, "driver"); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestAttachOpenings: connections that say nothing do not keep a driver out, and do not hold up the end of the node.
func TestAttachOpenings(t *testing.T) {
	t.Parallel()
	n, token := serve(t)
	var first net.Conn
	for range 65 {
		nc, err := net.Dial("unix", filepath.Join(n.Dir(), worker.DriverSocket))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if first == nil {
			first = nc
		}
	}
	if _, _, err := attach(t, n, token, "driver"); err != nil {
		t.Error(err)
	}
	if k, err := first.Read(make([]byte, 1)); err == nil {
		t.Errorf("the oldest connection: %d bytes", k)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

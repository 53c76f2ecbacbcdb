package attach

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// dialTime is the longest time for a connection to be made.
const dialTime = 5 * time.Second

// place is where a node is found.
type place struct {
	private string // the private directory of the node
	state   string // the state directory that led there; "" for none
}

// locate finds the node of an address: a state directory, a private directory, or "unix:" and a socket in one. "" is the only durable node of this
// user, else the only other one that runs.
func locate(ctx context.Context, address string) (place, error) {
	if address == "" {
		return only(ctx, "")
	}
	return named(address, worker.DriverSocket)
}

// named finds the node of an address that is not "". The private directory of a node that has no state directory must have the socket.
func named(address, socket string) (place, error) {
	dir, err := filepath.Abs(strings.TrimPrefix(address, "unix:"))
	if err != nil {
		return place{}, err
	}
	st, err := os.Stat(dir)
	if strings.HasSuffix(dir, ".sock") || err == nil && !st.IsDir() {
		dir = filepath.Dir(dir)
	}
	if link, err := os.Readlink(filepath.Join(dir, worker.AttachLink)); err == nil {
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		return place{private: link, state: dir}, nil
	}
	if _, err := os.Lstat(filepath.Join(dir, socket)); errors.Is(err, fs.ErrNotExist) {
		return place{state: dir}, fmt.Errorf("no node runs at %s: it has neither %s nor %s", dir, socket, worker.AttachLink)
	}
	return place{private: dir}, nil
}

// stateEnv is the variable of the state directory of "helve start", which chooses one of several durable nodes.
const stateEnv = "HELVE_STATE_DIR"

// durableStates are the state directories of the durable nodes of this user, or the one of HELVE_STATE_DIR if it is among them.
func durableStates(runtime string) []string {
	durable := worker.DurableStates(runtime)
	if chosen, err := filepath.Abs(os.Getenv(stateEnv)); err == nil && slices.Contains(durable, chosen) {
		return []string{chosen}
	}
	return durable
}

// ownNode is the value of HELVE_NODE that gives a program a node of its own.
const ownNode = "local"

// AdminSocket is the path of the admin socket of a node, for commands that read from it: of the node at an address, which is as for [Open]. Without an
// address it is that of the node of $HELVE_NODE, else of the only durable node. With none or several of these it is "".
func AdminSocket(address string) (string, error) {
	env := os.Getenv(worker.NodeEnv)
	if address == "" && env != ownNode {
		address = env
	}
	if address == "" {
		durable := durableStates("")
		if len(durable) != 1 {
			return "", nil
		}
		address = durable[0]
	}
	at, err := named(address, worker.AdminSocket)
	if err != nil {
		return "", err
	}
	return filepath.Join(at.private, worker.AdminSocket), nil
}

// only is the place of the only durable node of this user, else of the only other node that runs, among the private directories under runtime; ""
// for where nodes make them.
func only(ctx context.Context, runtime string) (place, error) {
	durable := durableStates(runtime)
	switch len(durable) {
	case 0:
	case 1:
		return locate(ctx, durable[0])
	default:
		return place{}, fmt.Errorf("%d durable nodes of this user run here; choose one by the address or by the environment variable %s:\n  %s", len(durable), worker.NodeEnv,
			strings.Join(durable, "\n  "))
	}
	sockets := worker.DriverSockets(runtime)
	switch len(sockets) {
	case 0:
		return place{}, fmt.Errorf("no node of this user runs here: start one, or name one by the address or %s (nodes are looked for in $%s, else in $TMPDIR or /tmp)",
			worker.NodeEnv, worker.RuntimeDirEnv)
	case 1:
		return place{private: filepath.Dir(sockets[0])}, nil
	}
	var text strings.Builder
	for _, s := range sockets {
		dir := filepath.Dir(s)
		fmt.Fprintf(&text, "\n  %s=%s   %s", worker.NodeEnv, dir, describe(ctx, dir))
	}
	return place{}, fmt.Errorf("%d nodes of this user run here; choose one by the address or by the environment variable %s:%s", len(sockets), worker.NodeEnv, text.String())
}

// dial connects to the node of a private directory, and reads the secret by which both sides know each other. It checks that the directory, the
// secret and the process on the other side belong to this user.
func dial(ctx context.Context, dir string) (nc *net.UnixConn, token wire.Token, err error) {
	secret := filepath.Join(dir, worker.DriverToken)
	for _, path := range []string{dir, secret} {
		if err := worker.CheckPrivate(path); err != nil {
			return nil, token, err
		}
	}
	text, err := os.ReadFile(secret)
	if err != nil {
		return nil, token, err
	}
	if n, err := hex.Decode(token[:], []byte(strings.TrimSpace(string(text[:min(len(text), 2*len(token)+1)])))); err != nil || n != len(token) {
		return nil, token, fmt.Errorf("%s has no secret in it", secret)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(dir, worker.DriverSocket))
	if err != nil {
		return nil, token, fmt.Errorf("it does not answer: %w", err)
	}
	nc = c.(*net.UnixConn)
	if uid, err := kernel.PeerUID(nc); err != nil || uid != os.Geteuid() {
		nc.Close()
		return nil, token, fmt.Errorf("the process at %s is of the user %d: %w", dir, uid, errors.Join(err, fs.ErrPermission))
	}
	return nc, token, nil
}

// describe is a node in one line: its applications, or why it does not answer.
func describe(ctx context.Context, dir string) string {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	l, err := join(ctx, dir, wire.Hello{})
	if err != nil {
		return err.Error()
	}
	served := make(chan struct{})
	go func() {
		l.peer.Serve() //nolint:errcheck // it is closed below
		close(served)
	}()
	defer func() {
		l.peer.Close(wire.ErrClosed)
		<-served
	}()
	s, err := protocol.Ask(ctx, l.peer, protocol.Status{})
	if err != nil {
		return err.Error()
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Applications)), func(n string) bool { return strings.HasPrefix(n, spec.HiddenApps) })
	if len(names) == 0 {
		return "no application"
	}
	return strings.Join(names, ", ")
}

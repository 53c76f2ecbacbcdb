package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/worker"
)

const (
	socketName = worker.KeeperSocket
	pidName    = worker.KeeperPID
)

// The requests of commands to the keeper of a state directory.
const (
	// DoStatus is answered with a [Status].
	DoStatus = "status"
	// DoStop begins a drain. The answer comes at once; the end of the connection is the end of the keeper.
	DoStop = "stop"
	// DoUpgrade takes an [Upgrade]. Its steps come as notices DoProgress with a [Reason], and its answer when it is over.
	DoUpgrade  = "upgrade"
	DoProgress = "progress"
	// DoExec takes an [Upgrade] whose program the keeper becomes; its node and workers stay. The connection ends then, or an answer has the error.
	DoExec = "exec"
)

// Status is the state of a keeper.
type Status struct {
	PID      int        `json:"pid"`
	Version  string     `json:"version"`
	Since    time.Time  `json:"since"`
	Dir      string     `json:"dir"`
	Nodes    []NodeInfo `json:"nodes"` // that run: two during an upgrade
	Workers  int        `json:"workers"`
	Starts   int        `json:"starts"`             // of nodes
	LastEnd  string     `json:"last_end,omitempty"` // how the last node has ended
	Next     *time.Time `json:"next,omitempty"`     // of the next start of a node; nil if none waits
	Draining string     `json:"draining,omitempty"` // the reason
}

// NodeInfo is a node of a keeper.
type NodeInfo struct {
	PID     int        `json:"pid"`
	Version string     `json:"version"`
	Ready   *time.Time `json:"ready"` // since when it serves; nil before
	URLs    []string   `json:"urls"`
	Current bool       `json:"current"`
}

// Upgrade asks for another program.
type Upgrade struct {
	Path string `json:"path"` // of the executable, absolute
}

// ListenCommands makes the socket of commands in a state directory that this process has claimed, and the file with its process id.
func ListenCommands(dir string) (*net.UnixListener, error) {
	path := filepath.Join(dir, socketName)
	os.Remove(path) //nolint:errcheck // of a keeper that was killed; usually there is none
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("the keeper's socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(filepath.Join(dir, pidName), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serveCommands answers commands until the process ends.
func (k *Keeper) serveCommands() {
	fd, err := syscall.Dup(k.socket) // the descriptor itself stays for the next program of this process
	if err != nil {
		k.out.error("commands do not reach the keeper", "error", err)
		return
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), socketName)
	nl, err := net.FileListener(f) // has a copy
	f.Close()
	if err != nil {
		k.out.error("commands do not reach the keeper", "error", err)
		return
	}
	for {
		nc, err := nl.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond) // no free descriptor
			continue
		}
		u, ok := nc.(*net.UnixConn)
		if !ok {
			nc.Close()
			continue
		}
		if uid, err := kernel.PeerUID(u); err != nil || uid != os.Getuid() && uid != 0 {
			u.Close()
			continue
		}
		c := newConn(u, k.command)
		go c.serve() //nolint:errcheck // its end is that of the command
	}
}

// command takes a request of a command.
func (k *Keeper) command(r *Request) {
	switch r.Do {
	case DoStatus:
		r.Answer(k.Status(), nil)
	case DoStop:
		r.Answer(nil, nil)
		k.drain("helve stop")
	case DoUpgrade:
		var u Upgrade
		if r.Decode(&u) {
			go func() {
				err := k.upgrade(r.conn, u)
				r.Answer(nil, err)
				if err == nil {
					k.become(u.Path)
					r.conn.Close() // it has failed
				}
			}()
		}
	case DoExec:
		var u Upgrade
		if r.Decode(&u) {
			go func() { r.Answer(nil, k.exec(cmp.Or(u.Path, "/proc/self/exe"))) }()
		}
	default:
		r.Answer(nil, errUnknown(r.Do))
	}
}

func errUnknown(do string) error { return fmt.Errorf("there is no request %q", do) }

// Status is the state now.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{
		PID: os.Getpid(), Version: k.config.Version, Since: k.since, Dir: k.config.Dir, Nodes: []NodeInfo{}, Starts: k.starts, LastEnd: k.lastEnd,
		Draining: k.draining,
	}
	if !k.next.IsZero() {
		next := k.next
		s.Next = &next
	}
	for _, n := range k.nodes {
		n.mu.Lock()
		info := NodeInfo{PID: n.child.PID, Version: n.version, URLs: n.urls, Current: n == k.current}
		if !n.readyOn.IsZero() {
			on := n.readyOn
			info.Ready = &on
		}
		n.mu.Unlock()
		s.Nodes = append(s.Nodes, info)
	}
	for _, c := range k.children {
		if c.Kind == kindWorker && c.Status == nil {
			s.Workers++
		}
	}
	return s
}

// ErrNoKeeper is the error of [Dial] for a directory without a running keeper.
var ErrNoKeeper = errors.New("no keeper runs there: helve start makes one")

// Dial connects a command to the keeper of a state directory. Notices that come before an answer go to progress, which may be nil.
func Dial(dir string, progress func(do string, body json.RawMessage)) (*Conn, error) {
	path := filepath.Join(dir, socketName)
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%w)", path, ErrNoKeeper, err)
	}
	c := newConn(nc, func(r *Request) {
		if progress != nil {
			progress(r.Do, r.Body)
		}
		r.Answer(nil, nil)
	})
	go c.serve() //nolint:errcheck // requests get the error
	return c, nil
}

// Ended is closed when the other end has closed the connection.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Stop has the keeper of a state directory drain, as a SIGTERM does, and returns when it has ended, or when ctx has: the drain goes on then.
func Stop(ctx context.Context, dir string) error {
	c, err := Dial(dir, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, err := c.Ask(ctx, DoStop, nil); err != nil {
		return err
	}
	select {
	case <-c.Ended():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// StatusOf is the state of the keeper of a state directory.
func StatusOf(ctx context.Context, dir string) (s Status, err error) {
	c, err := Dial(dir, nil)
	if err != nil {
		return s, err
	}
	defer c.Close()
	body, _, err := c.Ask(ctx, DoStatus, nil)
	if err != nil {
		return s, err
	}
	return s, decode(body, &s)
}

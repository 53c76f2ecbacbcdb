package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/helve-serve/helve/internal/kernel"
)

// Listener is a unix socket in a private directory, to which only processes of this user can connect.
type Listener struct {
	*net.UnixListener
	path    string
	uid     int      // of the processes that may connect
	private *Private // the directory, which ends with the listener; nil for one that outlasts it
	mark    *os.File // the locked mark of a directory that outlasts the listener; nil for another's
}

// Listen makes a [Private] under dir and the socket of a node's workers in it. Close removes both.
func Listen(dir string) (*Listener, error) { return listenPrivate(dir, socketName) }

func listenPrivate(dir, name string) (*Listener, error) {
	p, err := MakePrivate(dir)
	if err != nil {
		return nil, err
	}
	l, err := p.Listen(name)
	if err != nil {
		p.Close()
		return nil, err
	}
	l.private = p
	return l, nil
}

// ListenAt is Listen in a directory of the caller, which outlasts the listener: see claim. A second node in the
// directory is an error, by the lock of the mark.
func ListenAt(dir string) (*Listener, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, socketName)
	if len(path) > kernel.SocketPathMax {
		return nil, fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; take a shorter directory: %s",
			len(path), kernel.SocketPathMax, path)
	}
	mark, err := claim(dir)
	if err != nil {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		os.Remove(path) // the socket of a node that was killed
	}
	l, err := listenUnix(path)
	if err != nil {
		unlock(mark)
		return nil, err
	}
	return &Listener{UnixListener: l, path: path, uid: os.Getuid(), mark: mark}, nil
}

// ListenHeld is [ListenAt] in a directory whose mark another process of this node holds: the keeper, for all its nodes. The socket takes the
// place of the one of the node before, which may still be there and serve the connections that it has. For example, while a node is upgraded
// the workers that dial reach the new node, and the end of the old one does not remove the socket of the new one.
func ListenHeld(dir string) (*Listener, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, socketName)
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	made := path + "." + strconv.Itoa(os.Getpid())
	os.Remove(made) //nolint:errcheck // of a node that was killed; usually there is none
	l, err := listenUnix(made)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Rename(made, path); err != nil {
		l.Close()
		return nil, fmt.Errorf("the node's socket: %w", err)
	}
	return &Listener{UnixListener: l, path: path, uid: os.Getuid()}, nil
}

// checkSocketPath gives an error for a path that is too long for a socket. The name of a socket that is being made is up to 8 bytes longer.
func checkSocketPath(path string) error {
	if most := kernel.SocketPathMax - 8; len(path) > most {
		return fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; take a shorter directory: %s", len(path), most, path)
	}
	return nil
}

const socketName = "node.sock"

// listenUnix makes the socket. Its mode keeps other users out if the directory does not.
func listenUnix(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		if err = os.Chmod(path, 0o600); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the node's socket: %w", err)
	}
	return l, nil
}

// Path is the socket's path. The directory around it belongs to the node, which may put files there.
func (l *Listener) Path() string { return l.path }

// Close ends the listener. It removes the directory with everything in it, if Listen made it.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	if l.private != nil {
		err = errors.Join(err, l.private.Close())
	}
	if l.mark != nil {
		unlock(l.mark)
	}
	return err
}

// Accept waits for a connection of a process of this user. Connections of other users are closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := kernel.PeerUID(c); err == nil && uid == l.uid {
			return c, nil
		}
		c.Close() // a process of another user
	}
}

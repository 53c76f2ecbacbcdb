package peer

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
)

// The kinds of sockets that rows are taken over.
const (
	Unix = "unix"
	TCP  = "TCP"
)

// Kinds are the kinds of sockets, in the order in which rows have them.
func Kinds() []string { return []string{Unix, TCP} }

// End is where a client finds a server.
type End struct{ Kind, Addr string }

// Dial opens a connection.
func (e End) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, strings.ToLower(e.Kind), e.Addr)
}

// listen makes the listener of a server; sock is the path of its unix socket.
func listen(kind, sock string) (net.Listener, error) {
	if kind == Unix {
		return net.Listen("unix", sock)
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// accept serves every connection to l.
func accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

// ListenRaw echoes messages of a size that each connection begins with, until its listener is closed: the floor of any exchange over a
// socket.
func ListenRaw(kind, sock string) (net.Listener, error) {
	l, err := listen(kind, sock)
	if err == nil {
		go accept(l, echoBytes)
	}
	return l, err
}

// DialRaw opens a connection whose messages have the size.
func DialRaw(ctx context.Context, e End, size int) (net.Conn, error) {
	c, err := e.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(binary.LittleEndian.AppendUint32(nil, uint32(size))); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// echoBytes serves one connection of [ListenRaw].
func echoBytes(c net.Conn) {
	defer c.Close()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	buf := make([]byte, binary.LittleEndian.Uint32(size[:]))
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// The kinds of sockets that rows are taken over.
const (
	overUnix = "unix"
	overTCP  = "TCP"
)

func kinds() []string { return []string{overUnix, overTCP} }

// end is where a client finds a server.
type end struct{ kind, addr string }

func (e end) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, strings.ToLower(e.kind), e.addr)
}

// listen makes the listener of a role; sock is the path of its unix socket.
func listen(kind, sock string) (net.Listener, error) {
	if kind == overUnix {
		return net.Listen("unix", sock)
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// serveEach lets a role serve every kind of socket, and says where.
func serveEach(serve func(kind, sock string) (net.Listener, error)) error {
	var addrs []string
	for _, kind := range kinds() {
		l, err := serve(kind, os.Getenv(socketEnv))
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr().String())
	}
	return ready(strings.Join(addrs, " "))
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

// ends starts a role, until the group ends, and says where it serves each kind of socket.
func (b *bench) ends(role string) (map[string]end, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	line, err := b.serve(role, socketEnv+"="+filepath.Join(dir, role))
	if err != nil {
		return nil, err
	}
	addrs := strings.Fields(line)
	if len(addrs) != len(kinds()) {
		return nil, fmt.Errorf("%s serves %q", role, line)
	}
	all := map[string]end{}
	for i, kind := range kinds() {
		all[kind] = end{kind, addrs[i]}
	}
	return all, nil
}

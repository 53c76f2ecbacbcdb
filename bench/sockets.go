package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/helve-serve/helve/bench/peer"
)

// serveEach lets a role serve every kind of socket, and says where.
func serveEach(serve func(kind, sock string) (net.Listener, error)) error {
	var addrs []string
	for _, kind := range peer.Kinds() {
		l, err := serve(kind, os.Getenv(socketEnv))
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr().String())
	}
	return ready(strings.Join(addrs, " "))
}

// ends starts a role, until the group ends, and says where it serves each kind of socket.
func (b *bench) ends(role string) (map[string]peer.End, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	line, err := b.serve(role, socketEnv+"="+filepath.Join(dir, role))
	if err != nil {
		return nil, err
	}
	addrs := strings.Fields(line)
	if len(addrs) != len(peer.Kinds()) {
		return nil, fmt.Errorf("%s serves %q", role, line)
	}
	all := map[string]peer.End{}
	for i, kind := range peer.Kinds() {
		all[kind] = peer.End{Kind: kind, Addr: addrs[i]}
	}
	return all, nil
}

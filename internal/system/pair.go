package system

import (
	"net"
	"os"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/spec"
)

// pairs has the connections between the node and its workers, for the isolations that host workers in this process.
var pairs = map[spec.Isolation]func() (net.Conn, net.Conn, error){ //nolint:gochecknoglobals // a constant
	spec.Socket: socketPair,
	spec.Pipe: func() (net.Conn, net.Conn, error) {
		a, b := net.Pipe()
		return a, b, nil
	},
}

func socketPair() (net.Conn, net.Conn, error) {
	fds, err := kernel.SocketPair()
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, cerr := net.FileConn(f) // a copy
		f.Close()
		if err == nil {
			err = cerr
		}
		ends[i] = c
	}
	if err != nil {
		for _, c := range ends {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}

package helve

import (
	"context"
	"net"
	"os"
	"syscall"

	"github.com/helve-serve/helve/internal/guest"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
)

// runner runs the application of a Build as a worker does, in this process.
func runner(make Build) host.Runner {
	return func(ctx context.Context, id string, token wire.Token, page *telemetry.Page, dial func() (net.Conn, error)) error {
		app, graph, err := buildApp(make)
		if err != nil {
			return err
		}
		set := app.settings(graph)
		set.Page = page
		g, err := guest.Join(set, id, token, dial)
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, g.Kill)()
		return app.serve(g)
	}
}

// pairs has the connections between the node and its workers, for the isolations that host workers in this process.
var pairs = map[Isolation]func() (net.Conn, net.Conn, error){ //nolint:gochecknoglobals // a constant
	Isolation(spec.Socket): socketPair,
	Isolation(spec.Pipe): func() (net.Conn, net.Conn, error) {
		a, b := net.Pipe()
		return a, b, nil
	},
}

func socketPair() (net.Conn, net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
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

package node

import (
	"errors"
	"net"

	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/worker"
)

// Events are the transitions of the node's applications, deployments and replicas.
func (n *Node) Events() *telemetry.Events { return n.events }

// ServeAdmin opens the admin interface: on a unix socket that commands of the same user find, and on a TCP address of the loopback
// interface if addr is not "". The address is an error if it cannot be had; without the socket the node works all the same, and the log says so.
func (n *Node) ServeAdmin(addr string) error {
	var listeners []net.Listener
	if addr != "" {
		l, err := admin.ListenTCP(addr)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	return n.serveAdmin(listeners)
}

// serveAdmin opens the admin interface on listeners of TCP, and on the socket.
func (n *Node) serveAdmin(listeners []net.Listener) error {
	set := admin.Settings{Node: n, Operator: n.operator, Version: n.set.Version, Logger: n.log}
	if n.set.Durable {
		set.State = n.state
	}
	if n.set.Metrics != nil {
		set.Metrics = n.set.Metrics(n)
	}
	s := admin.New(set)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing || n.admin != nil {
		for _, l := range listeners {
			l.Close()
		}
		if n.admin != nil {
			return errors.New("the admin interface is open already")
		}
		return errors.New("the node is closing")
	}
	n.admin = s
	if p, err := n.privateLocked(); err != nil {
		n.log.Warn("commands such as status do not find this node", "error", err)
	} else if l, err := p.Listen(worker.AdminSocket); err != nil {
		n.log.Warn("commands such as status do not find this node", "error", err)
	} else {
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		if l.Addr().Network() != "unix" {
			n.adminURL = "http://" + l.Addr().String()
		}
		n.wg.Go(func() {
			if err := s.Serve(l); err != nil {
				n.log.Error("the admin interface has failed", "address", l.Addr(), "error", err)
			}
		})
	}
	return nil
}

// AdminURL is the URL of the admin interface over TCP, "" without one.
func (n *Node) AdminURL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.adminURL
}

// closeAdmin is the last but one thing that a node does: its end can be watched.
func (n *Node) closeAdmin() {
	n.mu.Lock()
	s := n.admin
	n.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

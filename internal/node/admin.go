package node

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/audit"
	"github.com/helve-serve/helve/internal/dashboard"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/token"
	"github.com/helve-serve/helve/internal/worker"
)

// Events are the transitions of the node's applications, deployments and replicas.
func (n *Node) Events() *telemetry.Events { return n.events }

// ServeAdmin opens the admin interface: on a unix socket that commands of the same user find, and on a TCP address of the loopback
// interface if addr is not "". The address is an error if it cannot be had; without the socket the node works all the same, and the log says so.
func (n *Node) ServeAdmin(addr string) error {
	var listeners []net.Listener
	if addr != "" {
		l, err := admin.ListenTCP(addr, false)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	return n.serveAdmin(listeners, nil)
}

// Dump writes a support bundle. A node without an admin interface has none.
func (n *Node) Dump(ctx context.Context, w io.Writer) error {
	n.mu.Lock()
	a := n.admin
	n.mu.Unlock()
	if a == nil {
		return errors.New("this node has no admin interface")
	}
	return a.Dump(ctx, w)
}

// serveAdmin opens the admin interface on listeners of TCP, and on the socket. Listeners off the loopback interface need the certificate; nil for none.
func (n *Node) serveAdmin(listeners []net.Listener, certificate *listen.Certificate) error {
	set := admin.Settings{
		Node: n, Operator: n.operator, Version: n.set.Version, Logger: n.log, Scrub: n.secrets.Scrub, Audit: audit.Open("", n.log), Dashboard: dashboard.New(os.Getenv(dashboard.Variable)),
		Updates: n.observed.hub, Series: n.Series,
	}
	scheme := "http://"
	if n.set.Durable {
		set.State, set.Audit = n.state, audit.Open(n.state, n.log)
	}
	if certificate != nil {
		set.TLS, scheme = certificate.Config(), "https://"
		n.wg.Go(func() { certificate.Watch(n.ctx) })
	}
	if n.set.Metrics != nil {
		set.Metrics = n.set.Metrics(n)
	}
	var urls []string
	for _, l := range listeners {
		urls = append(urls, scheme+l.Addr().String())
	}
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
	p, err := n.privateLocked()
	if err == nil {
		var l net.Listener
		if l, err = p.Listen(worker.AdminSocket); err == nil {
			listeners = append(listeners, l)
		}
	}
	if err != nil {
		n.log.Warn("commands such as status do not find this node", "error", err)
	}
	if set.Tokens, err = n.openTokens(p, urls); err != nil {
		n.log.Error("requests over TCP may only read", "error", err)
	}
	n.admin, n.audit = admin.New(set), set.Audit
	s := n.admin
	if len(urls) > 0 {
		n.adminURL = urls[0]
	}
	for _, l := range listeners {
		n.wg.Go(func() {
			if err := s.Serve(l); err != nil {
				n.log.Error("the admin interface has failed", "address", l.Addr(), "error", err)
			}
		})
	}
	return nil
}

// openTokens makes the tokens of requests over TCP: in the state directory of a durable node, else in its private directory. Commands of the same user find the
// first token, and the URLs that it is for, in the private directory. A node that only this user's processes reach needs no tokens, and has none.
func (n *Node) openTokens(p *worker.Private, urls []string) (*token.Tokens, error) {
	dir := n.state
	if !n.set.Durable {
		if len(urls) == 0 || p == nil {
			return nil, nil //nolint:nilnil // see above
		}
		dir = p.Path()
	}
	t, err := token.Open(dir)
	if err != nil || p == nil || len(urls) == 0 {
		return t, err
	}
	if err := p.Write(token.URLs, []byte(strings.Join(urls, "\n")+"\n")); err != nil {
		return t, err
	}
	if text, err := token.Read(dir); err == nil && dir != p.Path() {
		return t, p.Write(token.First, []byte(text+"\n"))
	}
	return t, nil // the operator may have removed the first token
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
	s, log := n.admin, n.audit
	n.mu.Unlock()
	if s != nil {
		s.Close()
		log.Close()
	}
}

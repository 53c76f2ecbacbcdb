package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/session"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// openingsMax is how many drivers may be in their opening at the attach socket. One more closes the oldest connection: a program that dials and says
// nothing keeps no other out.
const openingsMax = 64

// ServeDriver serves the driver on nc until it goes away. The node is the driver's own child: the caller closes it then.
func (n *Node) ServeDriver(nc net.Conn, token wire.Token) error {
	return n.serveDriver(nc, token, control.NewDriver(n, &n.owners, &n.claims), func() error { return nil }, func() {})
}

// serveDriver serves a driver. check runs before the opening; opened is called when the opening has ended.
func (n *Node) serveDriver(nc net.Conn, token wire.Token, driver *control.Driver, check func() error, opened func()) error {
	offer := wire.Offer{Version: n.set.Version, Node: n.Dir(), State: n.state, Durable: n.set.Durable, Features: []string{wire.FeatureSegments}, MaxBody: n.set.MaxBody}
	h, err := offer.Accept(nc, func(h wire.Hello) (wire.Token, error) {
		if h.Kind != "driver" && h.Kind != wire.KindFormer {
			return wire.Token{}, fmt.Errorf("a %s where a driver was expected", h.Kind)
		}
		return token, check()
	})
	opened()
	if err != nil {
		nc.Close()
		return err
	}
	driver.Name = processName(h.PID)
	driver.Changed = func(operation, object, detail string, err error) {
		n.auditDriver(h.PID, operation, object, detail, err)
	}
	set := session.Settings{
		Node: n, Results: n.results, Origin: "driver:" + strconv.Itoa(h.PID), Driver: n.answerDriver(driver), ReferenceOver: h.ReferenceOver, Metrics: n.user.Source(), Trace: n.trace,
	}
	if h.Kind == wire.KindFormer {
		set.Origin, set.Former = router.FormerNode, true
	}
	s := session.New(set)
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), h.Terms), s)
	s.Attach(peer)
	defer s.Close()
	if !set.Former {
		defer n.connected.add(peer)()
	}
	defer context.AfterFunc(n.ctx, func() { peer.Close(errClosed) })()
	return peer.Serve()
}

// auditDriver adds a change that a program has asked for to the audit log. The programs are of the user of the node.
func (n *Node) auditDriver(pid int, operation, object, detail string, err error) {
	n.mu.Lock()
	log := n.audit
	n.mu.Unlock()
	if log == nil {
		return
	}
	e := helvetype.AuditEntry{
		At: time.Now().UTC(), Author: helvetype.Author{Name: processName(pid), Role: helvetype.RoleDeploy, Via: "driver"}, Operation: operation, Object: object, Detail: detail,
	}
	if err != nil {
		e.Error = n.secrets.Scrub(err.Error())
	}
	log.Add(e)
}

// processName is the name of a program in records and in the audit log.
func processName(pid int) string { return fmt.Sprint("process ", pid) }

var errClosed = errors.New("the node has closed")

// Dir is the private directory in which programs of the same user find the node; "" without one.
func (n *Node) Dir() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.private == nil {
		return ""
	}
	return n.private.Path()
}

// attachDir is the directory in which programs that replicas start find the node. That of a durable node is its state directory: the next node has another
// private directory, and the same replicas.
func (n *Node) attachDir() string {
	if n.set.Durable {
		return n.state
	}
	return n.Dir()
}

// privateLocked is the directory for the sockets that commands and programs of the same user find.
func (n *Node) privateLocked() (*worker.Private, error) {
	if n.private == nil {
		p, err := worker.MakePrivate("")
		if err != nil {
			return nil, err
		}
		n.private = p
	}
	return n.private, nil
}

// ServeDrivers opens the socket at which programs of the same user attach to the node as drivers: they call deployments, deploy applications
// and read the status. The end of such a driver gives back its slots, takes its calls out of the queues, and leaves the node as it is. A
// driver proves that it has read the secret in a file beside the socket, which is new for each node.
func (n *Node) ServeDrivers() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing || n.drivers != nil {
		return errors.New("the node is closing, or drivers attach already")
	}
	p, err := n.privateLocked()
	if err != nil {
		return err
	}
	token := wire.NewToken()
	if err := p.Write(worker.DriverToken, []byte(hex.EncodeToString(token[:])+"\n")); err != nil {
		return err
	}
	if n.set.Durable {
		if err := p.Write(worker.DurableMark, []byte(n.state)); err != nil {
			return err
		}
	}
	l, err := p.Listen(worker.DriverSocket)
	if err != nil {
		return err
	}
	if n.state != "" {
		if err := worker.LinkPrivate(n.state, p.Path()); err != nil {
			l.Close()
			return err
		}
	}
	n.drivers = l
	n.wg.Go(func() { n.acceptDrivers(l, p, token) })
	return nil
}

// acceptDrivers serves drivers until the listener ends.
func (n *Node) acceptDrivers(l net.Listener, p *worker.Private, token wire.Token) {
	patient := listen.New(l, func(err error, times int) {
		n.log.Warn("drivers cannot attach now, the node tries again", "error", err, "times", times)
	})
	var half openings
	for {
		nc, err := patient.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				n.log.Error("the attach socket has failed", "error", err)
			}
			half.close()
			return
		}
		opened := half.add(nc)
		n.wg.Go(func() {
			driver := control.NewDriver(n, &n.owners, &n.claims)
			err := n.serveDriver(nc, token, driver, p.Check, opened)
			n.log.Debug("a driver has ended", "error", err)
			n.endWith(driver)
		})
	}
}

// endWith deletes the applications that end with a driver. A node that closes ends all of them anyway. A node that hands over leaves them to the next node, which deletes them at its start.
func (n *Node) endWith(d *control.Driver) {
	apps := d.End()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing || n.next != nil {
		return
	}
	for _, app := range apps {
		n.wg.Go(func() {
			err := n.Delete(n.ctx, app)
			n.log.Debug("an application has ended with its driver", "app", app, "error", err)
		})
	}
}

// openings are the connections in their opening, the oldest first.
type openings struct {
	mu  sync.Mutex
	all []net.Conn
}

// add notes a connection until it calls the function.
func (o *openings) add(nc net.Conn) (opened func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == openingsMax {
		o.all[0].Close()
		o.all = o.all[1:]
	}
	o.all = append(o.all, nc)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for i, c := range o.all {
			if c == nc {
				o.all = append(o.all[:i:i], o.all[i+1:]...)
				return
			}
		}
	}
}

// close ends all of them, so that they do not hold up the end of the node.
func (o *openings) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, nc := range o.all {
		nc.Close()
	}
}

// closeDrivers ends the attach socket and the directory. It is called when no replica is left.
func (n *Node) closeDrivers() {
	n.mu.Lock()
	l, p := n.drivers, n.private
	n.mu.Unlock()
	if l != nil {
		l.Close()
	}
	if p != nil {
		worker.UnlinkPrivate(n.state, p.Path())
		if err := p.Close(); err != nil {
			n.log.Warn("the node's private directory is left", "error", err)
		}
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/store/disk"
)

// Durable makes the node of a keeper (`helve start`): one whose state is in a directory, and which a next node follows when it is killed. The
// keeper has the listening sockets and the workers; the directory has everything else. The order of its start is that of the first answer:
// workers of the node before are taken over first, and requests are accepted when there are routes for them.
type Durable struct {
	// Keeper is the connection to the keeper.
	Keeper *keeper.Client
	// Private says that the node has an admin interface, at least on a socket of the user; TCP comes from the keeper.
	Private bool
	// Certificate is the one of the admin interface over TCP; nil for none.
	Certificate *listen.Certificate
	// Others are the applications of the executable beside the first, which Run of package helve gets: functions of the type helve.Build.
	Others []any
	// Left is called when the node has handed over to the next one, and its last call has ended; nil for none.
	Left func()

	// Store is the store of the state directory, from Open on.
	Store *disk.Store

	node     *Node
	restored <-chan struct{} // closed when the replicas of the node before serve, or are lost
}

type durableKey struct{}

// WithDurable gives a context with which a system starts the node of a keeper.
func WithDurable(ctx context.Context, d *Durable) context.Context {
	return context.WithValue(ctx, durableKey{}, d)
}

// DurableFrom gives the value of [WithDurable]; nil for a context without one.
func DurableFrom(ctx context.Context) *Durable {
	d, _ := ctx.Value(durableKey{}).(*Durable)
	return d
}

// Open starts the node, which does not accept requests yet: see [Durable.Accept]. Workers go on for grace without a node. A node that is not nil is
// there also if there is an error, and the caller closes it.
func (d *Durable) Open(s Settings, grace time.Duration) (n *Node, err error) {
	dir := d.Keeper.Welcome().Dir
	if s.Logs, err = logs.OpenDir(filepath.Join(dir, "logs"), s.Logger); err != nil {
		return nil, err
	}
	if d.Store, err = disk.Open(dir, s.Logger); err != nil {
		return nil, err
	}
	s.Store, s.Blobs, s.Starter, s.Durable = d.Store, d.Store.Blobs(), d.Keeper, true
	s.Beside = d.Keeper.Welcome().Upgrade
	n = New(s)
	d.node, n.disk = n, d.Store
	w := d.Keeper.Welcome()
	n.keeper = &helvetype.KeeperSettings{PID: w.KeeperPID, Starts: w.Starts, LastEnd: w.LastEnd}
	n.atEnd = func() {
		if err := d.Store.Close(); err != nil {
			n.log.Error("the store was not closed", "error", err)
		}
	}
	d.Keeper.Alive(func() { n.Readiness() })
	if err := n.UseState(dir, grace); err != nil {
		return n, err
	}
	if d.Private {
		if err := n.serveAdmin(d.Keeper.Listeners(keeper.Admin), d.Certificate); err != nil {
			return n, err
		}
	}
	d.noteStart()
	if d.restored, err = n.Restore(); err != nil {
		return n, err
	}
	if killed := d.Keeper.Welcome().LastEnd != ""; s.Beside || killed {
		n.proxy.AwaitStarts(n.Readiness())
		if !s.Beside {
			time.AfterFunc(startsTime, func() { n.proxy.AwaitStarts(nil) })
		}
	}
	if err := n.ServeDrivers(); err != nil {
		return n, fmt.Errorf("programs cannot attach to this node: %w", err)
	}
	if err := n.ServeFormer(); err != nil {
		return n, fmt.Errorf("a node before this one cannot pass requests on: %w", err)
	}
	return n, nil
}

// noteStart records the start of the node, with the end of the one before.
func (d *Durable) noteStart() {
	w := d.Keeper.Welcome()
	e := helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindNode}, To: "RUNNING", Reason: "node_started"}
	if w.LastEnd != "" {
		e.Reason, e.Message = "node_restarted", "the node before has ended: "+w.LastEnd
	}
	d.node.events.Emit(e)
}

// The bounds of the wait of the first requests for replicas that start. A worker that was taken over serves at once, and the replicas in the node's own
// process start in a moment; a model that takes a minute to load, or an application whose replicas crash, holds up the others for as long as othersTime.
const (
	settleTime = time.Second            // while no application answers
	othersTime = 200 * time.Millisecond // since the first one answers
)

// startsTime is how long requests to an application that does not answer yet wait then, each application by itself, if the node before was killed: it has run them. For example, a kill
// in a rollout leaves no replica of the ingress, and one of the revision before starts in 2 s: requests of these 2 s wait. After a start of the keeper they are answered
// with 503, because nothing has served them.
const startsTime = 10 * time.Second

// awaitRestored waits until the applications of the node before answer again, as far as that takes a moment. An application that cannot be loaded is not
// waited for.
func (d *Durable) awaitRestored(ctx context.Context) error {
	select {
	case <-d.restored:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return settle(ctx, d.node.Controller.Readiness)
}

// settle waits until all applications answer, within the bounds above. readiness says of each whether it does.
func settle(ctx context.Context, readiness func() map[string]bool) error {
	late := time.NewTimer(settleTime)
	defer late.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for some := false; ; {
		ready, all := 0, readiness()
		for _, of := range all {
			if of {
				ready++
			}
		}
		if ready == len(all) {
			return nil
		}
		if ready > 0 && !some {
			some = true
			late.Reset(othersTime)
		}
		select {
		case <-look.C:
		case <-late.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Accept serves HTTP on the sockets of the keeper, and tells the keeper that the node is ready. The error of a listener that ends by itself arrives
// on the channel.
func (d *Durable) Accept(ctx context.Context) (failed <-chan error, err error) {
	if err := d.awaitRestored(ctx); err != nil {
		return nil, err
	}
	d.handOverForKeeper()
	n := d.node
	all := d.Keeper.Listeners(keeper.HTTP)
	c := make(chan error, len(all))
	for i, l := range all {
		_, one, err := n.Serve(l)
		if err != nil {
			for _, l := range all[i:] {
				l.Close()
			}
			return nil, err
		}
		go func() {
			select {
			case err := <-one:
				c <- err
			case <-n.Done():
			}
		}()
	}
	if err := d.Keeper.Ready(n.URLs(), n.Dir()); err != nil {
		return nil, errors.Join(errors.New("the keeper is gone"), err)
	}
	return c, nil
}

// Node is the node, from Open on; also while that restores the applications.
func (d *Durable) Node() *Node { return d.node }

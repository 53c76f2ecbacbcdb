package node

import (
	"context"
	"errors"
	"fmt"

	"os"
	"path/filepath"
	"time"

	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/worker"
)

// Durable makes the node of a keeper (`helve start`): one whose state is in a directory, and which a next node follows when it is killed. The
// keeper has the listening sockets and the workers; the directory has everything else. The order of its start is that of the first answer:
// workers of the node before are taken over first, and requests are accepted when there are routes for them.
type Durable struct {
	// Keeper is the connection to the keeper.
	Keeper *keeper.Client
	// Private says that the node has an admin interface, at least on a socket of the user; TCP comes from the keeper.
	Private bool

	node *Node
}

type durableKey struct{}

// WithDurable gives a context with which a system starts the node of a keeper.
func WithDurable(ctx context.Context, d *Durable) context.Context {
	return context.WithValue(ctx, durableKey{}, d)
}

// DurableFrom is what [WithDurable] put into the context, nil without.
func DurableFrom(ctx context.Context) *Durable {
	d, _ := ctx.Value(durableKey{}).(*Durable)
	return d
}

// attachName is the link in the state directory that leads to the private directory of the node that runs.
const attachName = "attach"

// Open starts the node, which does not accept requests yet: see [Durable.Accept]. Workers go on for grace without a node. The node is there also if the
// error is not nil, unless it is nil.
func (d *Durable) Open(ctx context.Context, s Settings, grace time.Duration) (*Node, error) {
	dir := d.Keeper.Welcome().Dir
	var err error
	if s.Logs, err = logs.OpenDir(filepath.Join(dir, "logs"), s.Logger); err != nil {
		return nil, err
	}
	s.Starter, s.Durable = d.Keeper, true
	n := New(s)
	d.node = n
	d.Keeper.Alive(func() { n.Readiness() })
	if err := n.UseState(dir, grace); err != nil {
		return n, err
	}
	if d.Private {
		if err := n.serveAdmin(d.Keeper.Listeners(keeper.Admin)); err != nil {
			return n, err
		}
	}
	if err := n.ServeDrivers(); err != nil {
		return n, fmt.Errorf("programs cannot attach to this node: %w", err)
	}
	return n, n.linkAttach()
}

// linkAttach has the state directory lead to the private directory, in one step. The directory of a node that was killed is removed.
func (n *Node) linkAttach() error {
	link := filepath.Join(n.state, attachName)
	if before, err := os.Readlink(link); err == nil {
		worker.RemovePrivate(before)
	}
	made := fmt.Sprintf("%s.%d", link, os.Getpid())
	os.Remove(made) //nolint:errcheck // of a node that was killed; usually there is none
	if err := os.Symlink(n.Dir(), made); err != nil {
		return err
	}
	return os.Rename(made, link)
}

// unlinkAttach removes the link of a node that ends in order, unless it leads to the next node already.
func (n *Node) unlinkAttach() {
	if n.state == "" {
		return
	}
	link := filepath.Join(n.state, attachName)
	if to, err := os.Readlink(link); err == nil && to == n.Dir() {
		os.Remove(link) //nolint:errcheck // the next node replaces it
	}
}

// Accept serves HTTP on the sockets of the keeper, and tells the keeper that the node is ready. The error of a listener that ends by itself arrives
// on the channel.
func (d *Durable) Accept() (failed <-chan error, err error) {
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
	if err := d.Keeper.Ready(n.URLs()); err != nil {
		return nil, errors.Join(errors.New("the keeper is gone"), err)
	}
	return c, nil
}

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/worker"
)

// Client is a node's connection to its keeper. It starts the node's workers: it is a [worker.Starter]. Its methods may be called from any goroutine.
type Client struct {
	conn    *Conn
	welcome Welcome
	// Drain ends when the node is to end, with the reason as its cause; Cut when it is to end at once.
	Drain, Cut context.Context
	// Reload gets a value when the node is to read its certificate again.
	Reload    chan struct{}
	listeners map[string][]net.Listener
	drained   context.CancelCauseFunc
	cutOff    context.CancelCauseFunc
	welcomed  chan error

	mu       sync.Mutex
	alive    func()
	handlers map[string]func(*Request)
}

// welcomeTime bounds the wait for the first message of the keeper, which is sent when the node is started.
const welcomeTime = 10 * time.Second

// Connect opens the connection of a node to its keeper, on an inherited descriptor. version is that of the node.
func Connect(fd int, version string) (*Client, error) {
	if fd <= 2 {
		return nil, errors.New("no descriptor: this command is started by helve start")
	}
	nc, err := connOf(fd)
	if err != nil {
		return nil, err
	}
	c := &Client{Reload: make(chan struct{}, 1), listeners: map[string][]net.Listener{}, welcomed: make(chan error, 1), handlers: map[string]func(*Request){}}
	c.Drain, c.drained = context.WithCancelCause(context.Background())
	c.Cut, c.cutOff = context.WithCancelCause(context.Background())
	c.conn = newConn(nc, c.handle)
	go c.conn.serve() //nolint:errcheck // the kernel kills this process with its keeper
	late := time.NewTimer(welcomeTime)
	defer late.Stop()
	select {
	case err = <-c.welcomed:
	case <-c.conn.ended:
		err = errGone
	case <-late.C:
		err = errors.New("the keeper says nothing")
	}
	if err == nil {
		err = c.conn.Tell(doHello, Hello{version})
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// handle takes a request of the keeper.
func (c *Client) handle(r *Request) {
	switch r.Do {
	case doWelcome:
		c.welcomed <- c.welcomeWith(r)
		r.Answer(nil, nil)
	case doPing:
		go func() {
			c.mu.Lock()
			alive := c.alive
			c.mu.Unlock()
			if alive != nil {
				alive()
			}
			r.Answer(nil, nil)
		}()
	case doDrain, doCut:
		var why Reason
		if !r.Decode(&why) {
			return
		}
		end := c.drained
		if r.Do == doCut {
			end = c.cutOff
		}
		end(errors.New(why.Text))
		r.Answer(nil, nil)
	case doReload:
		select {
		case c.Reload <- struct{}{}:
		default: // one is on its way
		}
		r.Answer(nil, nil)
	default:
		c.mu.Lock()
		h := c.handlers[r.Do]
		c.mu.Unlock()
		if h == nil {
			r.Answer(nil, errUnknown(r.Do))
			return
		}
		go h(r)
	}
}

// welcomeWith takes the listening sockets.
func (c *Client) welcomeWith(r *Request) error {
	if err := json.Unmarshal(r.Body, &c.welcome); err != nil {
		return err
	}
	if len(r.Files) != len(c.welcome.Listeners) {
		return fmt.Errorf("%d sockets came, and %d were announced", len(r.Files), len(c.welcome.Listeners))
	}
	for i, f := range r.Files {
		l, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("the socket of %s: %w", c.welcome.Listeners[i].Address, err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the next node has it too
		}
		kind := c.welcome.Listeners[i].Kind
		c.listeners[kind] = append(c.listeners[kind], l)
	}
	return nil
}

// Welcome is the first message of the keeper.
func (c *Client) Welcome() Welcome { return c.welcome }

// Listeners are the listening sockets of a kind. The caller closes them; the sockets stay open in the keeper.
func (c *Client) Listeners(kind string) []net.Listener { return c.listeners[kind] }

// Alive sets a function that is called before each answer to the keeper's question whether the node lives. It returns when the node can do its
// work. For example, it takes the lock of the controller: a node whose controller is stuck does not live.
func (c *Client) Alive(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alive = f
}

// Handle has f answer a request of the keeper, on a goroutine of its own.
func (c *Client) Handle(do string, f func(*Request)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlers[do] = f
}

// Conn is the connection, for other requests.
func (c *Client) Conn() *Conn { return c.conn }

// Ready tells the keeper that the node serves.
func (c *Client) Ready(urls []string, private string) error {
	_, _, err := c.conn.Ask(context.Background(), doReady, Ready{urls, private})
	return err
}

// AwaitTurn returns when the node may open the state directory: at once, unless another node serves that is to be replaced.
func (c *Client) AwaitTurn(ctx context.Context) error {
	if !c.welcome.Upgrade {
		return nil
	}
	_, _, err := c.conn.Ask(ctx, DoPrepared, nil)
	return err
}

// Signal hands a signal of this process to the keeper, which decides about it.
func (c *Client) Signal(s syscall.Signal) {
	c.conn.Tell(doSignal, Signal{s}) //nolint:errcheck // without a keeper this process is killed
}

// Start implements [worker.Starter].
func (c *Client) Start(l worker.Launch, files []*os.File) (started worker.Launched, err error) {
	null := (*os.File)(nil)
	sent := make([]*os.File, len(files))
	for i, f := range files {
		if f == nil {
			if null == nil {
				if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
					return started, err
				}
				defer null.Close()
			}
			f = null
		}
		f.Fd() // makes it blocking, as a child expects its descriptors
		sent[i] = f
	}
	body, _, err := c.conn.Ask(context.Background(), doStart, l, sent...)
	if err != nil {
		return started, err
	}
	return started, decode(body, &started)
}

// Wait implements [worker.Starter].
func (c *Client) Wait(pid int) (s worker.Status, ok bool) {
	body, _, err := c.conn.Ask(context.Background(), doWait, Wait{pid})
	return s, err == nil && decode(body, &s) == nil
}

// Family implements [worker.Starter].
func (c *Client) Family() string { return c.welcome.Family }

// Close implements [worker.Starter]. The connection stays open until the process ends: the keeper takes its end for that of the node.
func (*Client) Close() {}

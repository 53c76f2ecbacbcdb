package keeper

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/worker"
)

// node is a node that the keeper has started.
type node struct {
	child    *child
	conn     *Conn
	ready    chan struct{} // closed when it serves
	prepared chan *Request // of one: of a node that waits for its turn

	mu      sync.Mutex
	version string
	urls    []string
	readyOn time.Time      // zero before it serves
	waits   map[uint64]int // requests that wait for the end of a child: id to process
}

// The requests of a keeper to a node.
const (
	doWelcome = "welcome" // [Welcome] with the listeners, once
	doPing    = "ping"
	doDrain   = "drain" // [Reason]: the node ends when its calls have ended
	doCut     = "cut"   // [Reason]: at once
	doReload  = "reload"
)

// The requests of a node to its keeper.
const (
	doHello  = "hello"  // [Hello]
	doReady  = "ready"  // [Ready]
	doStart  = "start"  // [worker.Launch] with the files of the child; the answer is [worker.Launched]
	doWait   = "wait"   // [Wait]; the answer is [worker.Status], when the child has ended
	doSignal = "signal" // [Signal] that the node got
)

// Welcome is the first thing that a node gets. The listening sockets come with it.
type Welcome struct {
	Listeners []Listener `json:"listeners"` // their descriptors are the files of the message, in this order
	Dir       string     `json:"dir"`
	Family    string     `json:"family"`
	Starts    int        `json:"starts"`             // of nodes, with this one
	LastEnd   string     `json:"last_end,omitempty"` // how the node before has ended
	// Upgrade says that another node serves, which this one replaces when it is ready.
	Upgrade bool `json:"upgrade,omitempty"`
	// Ran says that a node of this keeper has served: the applications of the executable were deployed then, and may have been changed or deleted since.
	Ran bool `json:"ran,omitempty"`
	// KeeperPID is the process of the keeper.
	KeeperPID int `json:"keeper_pid"`
}

// Hello is a node's name for itself.
type Hello struct {
	Version string `json:"version"`
}

// Ready says that a node serves.
type Ready struct {
	URLs []string `json:"urls"`
	// Private is the directory in which programs find the node, and in which the node before passes its late calls on.
	Private string `json:"private"`
}

// Reason is a cause in words.
type Reason struct {
	Text string `json:"text"`
}

// Wait asks for the end of a process.
type Wait struct {
	PID int `json:"pid"`
}

// Signal is a signal that a node got. The keeper decides about it.
type Signal struct {
	Number syscall.Signal `json:"number"`
}

// startNode starts a node of the executable at path. With upgrade another one serves.
func (k *Keeper) startNode(path string, upgrade bool) (*node, error) {
	ends, err := kernel.SocketPair()
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(ends[1]), "control")
	defer theirs.Close()
	nc, err := connOf(ends[0])
	if err != nil {
		return nil, err
	}
	args := append([]string{"node", "--keeper-fd=" + strconv.Itoa(nodeFD)}, k.config.Args...)
	l := worker.Launch{ID: "node", Name: k.config.Name, Path: path, Args: args, Env: nodeEnv(k.config.Env)}
	c, _, err := k.startChild(kindNode, l, []*os.File{os.Stdout, os.Stderr, theirs})
	if err != nil {
		nc.Close()
		return nil, err
	}
	k.mu.Lock()
	k.starts++
	w := Welcome{
		Listeners: k.listeners, Dir: k.config.Dir, Family: k.family, Starts: k.starts, LastEnd: k.lastEnd, Upgrade: upgrade, Ran: k.everRan, KeeperPID: os.Getpid(),
	}
	k.mu.Unlock()
	n := k.follow(c, nc, nodeState{})
	files, err := k.listenerFiles()
	if err == nil {
		err = n.conn.Tell(doWelcome, w, files...)
	}
	closeFiles(files)
	if err != nil {
		syscall.Kill(c.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
	}
	return n, nil
}

// listenerFiles are copies of the listening sockets.
func (k *Keeper) listenerFiles() (files []*os.File, err error) {
	for _, l := range k.listeners {
		fd, err := syscall.Dup(l.FD)
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		syscall.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), l.Kind))
	}
	return files, nil
}

// follow serves the connection of a node, and watches it until its end.
func (k *Keeper) follow(c *child, nc *net.UnixConn, s nodeState) *node {
	n := &node{child: c, ready: make(chan struct{}), prepared: make(chan *Request, 1), waits: map[uint64]int{}, version: s.Version, urls: s.URLs, readyOn: s.Ready}
	n.conn = newConn(nc, func(r *Request) { k.handle(n, r) })
	if !s.Ready.IsZero() {
		close(n.ready)
	}
	n.conn.rest, n.conn.last = s.Rest, s.Last
	for _, fd := range s.Files {
		n.conn.received = append(n.conn.received, os.NewFile(uintptr(fd), "received"))
	}
	k.mu.Lock()
	k.nodes = append(k.nodes, n)
	k.mu.Unlock()
	for _, w := range s.Waits { // of the program before
		n.waits[w.ID] = w.PID
	}
	for _, w := range s.Waits {
		go k.awaitChild(n, &Request{conn: n.conn, id: w.ID}, w.PID)
	}
	go n.conn.serve() //nolint:errcheck // the end of the process is what counts
	go k.watch(n)
	go func() {
		<-c.done
		n.conn.Close()
		k.mu.Lock()
		for i, of := range k.nodes {
			if of == n {
				k.nodes = append(k.nodes[:i:i], k.nodes[i+1:]...)
				break
			}
		}
		k.mu.Unlock()
		k.ends <- n
	}()
	return n
}

// handle takes a request of a node.
func (k *Keeper) handle(n *node, r *Request) {
	switch r.Do {
	case doHello:
		var h Hello
		if r.Decode(&h) {
			n.mu.Lock()
			n.version = h.Version
			n.mu.Unlock()
			r.Answer(nil, nil)
		}
	case doReady:
		var ready Ready
		if r.Decode(&ready) {
			k.nodeReady(n, ready)
			r.Answer(nil, nil)
		}
	case DoPrepared:
		n.takePrepared(r)
	case doStart:
		var l worker.Launch
		if r.Decode(&l) {
			k.starting.Add(1)
			go func() {
				defer k.starting.Add(-1)
				_, started, err := k.startChild(kindWorker, l, r.Files)
				r.Answer(started, err)
			}()
		}
	case doWait:
		var w Wait
		if r.Decode(&w) {
			n.mu.Lock()
			n.waits[r.id] = w.PID
			n.mu.Unlock()
			go k.awaitChild(n, r, w.PID)
		}
	case doSignal:
		var s Signal
		if r.Decode(&s) {
			k.out.info("the node got a signal", "signal", s.Number)
			k.take(s.Number)
			r.Answer(nil, nil)
		}
	default:
		r.Answer(nil, errUnknown(r.Do))
	}
}

// awaitChild answers a request with the status of a child when that has ended. A request whose node has gone before ends with the child.
func (k *Keeper) awaitChild(n *node, r *Request, pid int) {
	c := k.find(pid)
	if c == nil {
		n.answer(r, nil, errNoChild(pid))
		return
	}
	select {
	case <-c.done:
	case <-n.conn.ended: // the node has ended, or the next program of the keeper goes on with the request
		return
	}
	n.answer(r, c.Status, nil)
}

// answer answers a request that waited. The answer comes first, and the request leaves the table then: a keeper that becomes another program in between
// answers twice, which the node ignores. In the other order the request would have no answer at all.
func (n *node) answer(r *Request, body any, err error) {
	r.Answer(body, err)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.waits, r.id)
}

// nodeReady notes that a node serves.
func (k *Keeper) nodeReady(n *node, r Ready) {
	n.mu.Lock()
	again := !n.readyOn.IsZero()
	n.urls = r.URLs
	if !again {
		n.readyOn = time.Now()
		close(n.ready)
	}
	n.mu.Unlock()
	if again {
		return
	}
	k.mu.Lock()
	k.everRan = true
	last := k.lastEnd
	k.mu.Unlock()
	status := "Serving, node " + strconv.Itoa(n.child.PID)
	if last != "" {
		status += "; the node before: " + last
	}
	k.notify.send("READY=1\nMAINPID=" + strconv.Itoa(os.Getpid()) + "\nSTATUS=" + status)
	k.out.info("the node is ready", "pid", n.child.PID)
	k.nameSuccessor(n, r.Private)
}

// readyAt is when the node began to serve; zero if it never did.
func (n *node) readyAt() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.readyOn
}

// how is the end of the node in words.
func (n *node) how() string { return how(*n.child.Status) }

func (n *node) exitStatus() int { return exitStatus(*n.child.Status) }

// watch ends a node that does not answer: see [watchdog].
func (k *Keeper) watch(n *node) {
	if k.config.Watchdog <= 0 {
		return
	}
	w := newWatchdog(k.config.Watchdog, time.Now())
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	answered := make(chan struct{}, 1)
	ping := func() {
		go func() {
			if _, _, err := n.conn.Ask(context.Background(), doPing, nil); err == nil {
				answered <- struct{}{}
			}
		}()
	}
	ping()
	for asked := true; ; {
		select {
		case <-n.child.done:
			return
		case <-answered:
			w.answered()
			asked = false
		case <-tick.C:
			if w.tick(time.Now()) {
				k.endStuck(n)
				return
			}
			if !asked {
				asked = true
				ping()
			}
		}
	}
}

// dumpTime is how long a node that does not answer has for the stacks of its goroutines. A busy machine may not run it for seconds.
const dumpTime = 10 * time.Second

// endStuck ends a node that does not answer. SIGQUIT has it write the stacks of all goroutines first, unless it is stopped for good.
func (k *Keeper) endStuck(n *node) {
	k.out.error("the node does not answer, and is ended; the stacks of its goroutines follow", "pid", n.child.PID, "for", k.config.Watchdog)
	syscall.Kill(n.child.PID, syscall.SIGQUIT) //nolint:errcheck // it may have ended
	syscall.Kill(n.child.PID, syscall.SIGCONT) //nolint:errcheck // it may have ended
	late := time.NewTimer(dumpTime)
	defer late.Stop()
	select {
	case <-n.child.done:
	case <-late.C:
		syscall.Kill(n.child.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
	}
}

// nodeEnv is the environment of nodes, and with it of workers: without the variables of the service manager, whose messages are the keeper's.
func nodeEnv(env []string) []string {
	return without(env, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
}

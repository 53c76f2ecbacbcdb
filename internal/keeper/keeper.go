// Package keeper holds what must outlast a node: the listening sockets and the worker processes. `helve start` is a keeper with a node as its
// child. When the node ends, the keeper starts it again with the same sockets: connections of clients wait in the queues of these
// meanwhile, and none is refused. Workers are children of the keeper too, which starts them at the node's request: they go on while there is no
// node, and the next one takes them over. A keeper that ends takes all of its children with it.
//
//	helve start, the keeper: owns sockets and processes; no HTTP, no store, no code of users
//	  |  a pair of sockets: lines of JSON, with descriptors (conn.go)
//	helve node --keeper-fd 3: everything else
//
// The keeper is small, so that there is little in it that can fail: it runs before the other packages of the executable are initialised
// (early.go), and has no state on disk. All children are started on the main thread of the process (see [worker.Launcher]). An upgrade replaces
// the program of the keeper by exec on that thread: the children stay, and [State] travels in a file in memory.
package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/worker"
)

// Keeper is the process that holds the sockets and children of a durable node. Its methods may be called from any goroutine.
type Keeper struct {
	config    Config
	listeners []Listener
	mark      int // the descriptor of the locked mark of the state directory
	socket    int // the descriptor of the socket of commands
	guard     [2]int
	since     time.Time
	family    string
	notify    notifier
	out       log

	main     chan func()     // run on the main thread
	ends     chan *node      // nodes that have ended
	stop     chan struct{}   // closed when a drain begins
	starting atomic.Int64    // starts of which nodes have asked and that have no answer yet
	spawning sync.Mutex      // held while a child is started, and while ended children are reaped: a child is in the table before its end is seen
	launcher worker.Launcher // the main thread uses it

	mu       sync.Mutex
	children map[int]*child
	ended    []int // the children in the table that have ended, the oldest first
	nodes    []*node
	current  *node // serves, or is to serve; nil while none runs
	wishes   wishes
	backoff  backoff
	starts   int       // of nodes
	lastEnd  string    // how the last node ended; "" if none has
	next     time.Time // of the next start; zero if none waits
	everRan  bool      // a node has been ready
	draining string    // why; "" while not
	cut      bool
	upgrades bool // an upgrade is under way
}

const (
	// nodeFD is the descriptor of the control connection in a node.
	nodeFD = 3
	// endTime is how long workers may take to end after SIGTERM when there is no node any more.
	endTime = 2 * time.Second
	// endedKept is how many ends of children are kept for the next node.
	endedKept = 1024
)

// run is the keeper, from the state in a file. It is called on the main thread, and returns the exit status of the process.
func run(state State) int {
	kernel.NameProcess("helve-keeper")
	runtime.GOMAXPROCS(1)
	debug.SetTraceback("crash") // a panic, and the SIGABRT of the watchdog of systemd, end with a signal: status 2 is wrong usage, after which systemd starts nothing
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(6 << 20)                           // it works more for a heap that is still larger; its live memory is some hundred kilobytes
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write to a pipe without a reader is an error, and not the end
	kernel.SetSubreaper(true)
	k := newKeeper(state)
	signals, children := make(chan os.Signal, 8), make(chan os.Signal, 1)
	take := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		take = append(take, syscall.SIGHUP)
	}
	signal.Notify(signals, take...)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for s := range signals {
			if number, ok := s.(syscall.Signal); ok {
				k.take(number)
			}
		}
	}()
	go func() {
		k.reap() // of the time before
		for range children {
			k.reap()
		}
	}()
	done := make(chan int, 1)
	go func() { done <- k.supervise(state) }()
	for {
		select {
		case f := <-k.main:
			f()
		case status := <-done:
			return status
		}
	}
}

func newKeeper(s State) *Keeper {
	k := &Keeper{
		config: s.Config, listeners: s.Listeners, mark: s.Mark, socket: s.Socket, guard: s.Guard, since: s.Since, family: s.Family,
		notify: newNotifier(s.Config.Env), out: log{verbose: s.Config.Verbose, json: s.Config.JSONLog}, main: make(chan func()), ends: make(chan *node, 8),
		stop: make(chan struct{}), children: map[int]*child{}, starts: s.Starts, lastEnd: s.LastEnd, everRan: s.EverRan,
	}
	for _, c := range s.Children {
		k.children[c.PID] = c
		c.done = make(chan struct{})
		if c.Status != nil {
			close(c.done)
			k.ended = append(k.ended, c.PID)
		}
	}
	return k
}

// onMain runs a function on the main thread, and returns when it has returned.
func (k *Keeper) onMain(f func()) {
	done := make(chan struct{})
	k.main <- func() { defer close(done); f() }
	<-done
}

// supervise has a node run until a drain, and returns the exit status of the process.
func (k *Keeper) supervise(s State) int {
	if k.guard == [2]int{} {
		if err := k.startGuard(); err != nil {
			k.out.warn("processes that workers start may outlive a keeper that is killed", "error", err)
		}
	}
	go k.serveCommands()
	go k.feedWatchdog()
	if len(s.Nodes) > 0 {
		k.resume(s)
	}
	if k.serving() == nil { // the program before had no node that serves
		if err := k.startCurrent(); err != nil {
			k.out.error("the node does not start", "error", err)
			return k.finish(1)
		}
	}
	for {
		var n *node
		select {
		case n = <-k.ends:
		case <-k.stop:
			if n = k.serving(); n == nil { // between two starts
				return k.finish(0)
			}
			n = k.awaitDrained(n)
			return k.finish(n.exitStatus())
		}
		if n != k.serving() { // the upgrade that it belongs to sees to it
			continue
		}
		if over, status := k.nodeEnded(n); over {
			return k.finish(status)
		}
		for k.serving() == nil {
			if !k.pause() {
				return k.finish(0)
			}
			if err := k.startCurrent(); err != nil {
				k.failed("it cannot be started: " + err.Error())
			}
		}
	}
}

// serving is the node that serves, or is to serve; nil while none runs.
func (k *Keeper) serving() *node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// nodeEnded takes the end of the node that serves. over says that it is the end of the keeper too: a drain, or a first start that has failed with a
// message of its own. For example, a damaged store is an error that the operator reads, and no reason to start a hundred times.
func (k *Keeper) nodeEnded(n *node) (over bool, status int) {
	k.mu.Lock()
	k.current = nil
	draining, ran := k.draining != "", k.everRan
	k.mu.Unlock()
	how := n.how()
	switch {
	case draining:
		return true, n.exitStatus()
	case !ran && n.child.Status.Signal == 0:
		k.out.error("the node ended before it was ready", "how", how)
		return true, max(n.exitStatus(), 1)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastEnd = how
	delay := k.backoff.ended(time.Now(), n.readyAt())
	k.next = time.Now().Add(delay)
	if delay > 0 {
		k.out.error("the node has ended again and again, and waits for its next start", "how", how, "starts", k.starts, "in", delay)
		k.notify.send("STATUS=The node ended (" + how + "), next start in " + delay.String())
	} else {
		k.out.warn("the node has ended, and is started again", "how", how, "pid", n.child.PID)
	}
	return false, 0
}

// failed notes a start that has failed.
func (k *Keeper) failed(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastEnd = why
	delay := max(k.backoff.ended(time.Now(), time.Time{}), firstPause)
	k.next = time.Now().Add(delay)
	k.out.error("the node does not start", "error", why, "again in", delay)
}

// pause waits for the time of the next start. It returns false if a drain begins before.
func (k *Keeper) pause() bool {
	k.mu.Lock()
	delay := time.Until(k.next)
	k.mu.Unlock()
	t := time.NewTimer(max(delay, 0))
	defer t.Stop()
	select {
	case <-k.stop:
		return false
	case <-t.C:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next = time.Time{}
	return true
}

// startCurrent starts the node that is to serve.
func (k *Keeper) startCurrent() error {
	n, err := k.startNode("/proc/self/exe", false)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.current = n
	k.mu.Unlock()
	k.drainLate(n)
	return nil
}

// awaitDrained waits for the end of the node that serves, which has been told to drain. A node that ends with an upgrade under way leaves its
// place to the other one.
func (k *Keeper) awaitDrained(n *node) *node {
	for {
		<-n.child.done
		next := k.serving()
		if next == nil || next == n {
			return n
		}
		n = next
	}
}

// finish ends the processes that are left, and gives the exit status of the process.
func (k *Keeper) finish(status int) int {
	k.notify.send("STOPPING=1")
	k.endChildren()
	for _, name := range []string{socketName, pidName, "node.sock"} {
		os.Remove(filepath.Join(k.config.Dir, name)) //nolint:errcheck // it may not be there
	}
	for _, l := range k.listeners {
		if path, unix := strings.CutPrefix(l.Address, "unix:"); unix {
			os.Remove(path) //nolint:errcheck // it may not be there
		}
	}
	k.endGuard()
	return status
}

// endChildren ends the processes that are left: the workers of a node that did not end in order.
func (k *Keeper) endChildren() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		left := k.living()
		for _, c := range left {
			if c.Kind == kindNode {
				syscall.Kill(c.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
			} else {
				syscall.Kill(-c.PID, s) //nolint:errcheck // it may have ended
			}
		}
		late := time.NewTimer(endTime)
		for _, c := range left {
			select {
			case <-c.done:
			case <-late.C:
				late.Reset(0)
			}
		}
		late.Stop()
	}
}

// living are the nodes and workers that run.
func (k *Keeper) living() (all []*child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.children {
		if c.Status == nil && c.Kind != kindGuard {
			all = append(all, c)
		}
	}
	return all
}

// startGuard starts the guard of the workers' descendants: see [worker.Spawner.Guard].
func (k *Keeper) startGuard() error {
	in, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	ended, out, err := os.Pipe()
	if err != nil {
		alive.Close()
		return err
	}
	defer out.Close()
	alive2, ended2 := detach(alive), detach(ended)
	k.onMain(func() {
		k.spawning.Lock()
		defer k.spawning.Unlock()
		cmd := worker.GuardCommand(k.family+".", in, out)
		if err = cmd.Start(); err == nil {
			k.add(&child{PID: cmd.Process.Pid, Kind: kindGuard})
			cmd.Process.Release() //nolint:errcheck // reap waits for it
		}
	})
	if err != nil {
		syscall.Close(alive2) //nolint:errcheck // a pipe
		syscall.Close(ended2) //nolint:errcheck // a pipe
		return err
	}
	k.guard = [2]int{alive2, ended2}
	return nil
}

// endGuard has the guard kill the descendants of workers that are left, and waits for it.
func (k *Keeper) endGuard() {
	if k.guard == [2]int{} {
		return
	}
	syscall.Close(k.guard[0])                 //nolint:errcheck // a pipe
	syscall.Read(k.guard[1], make([]byte, 1)) //nolint:errcheck // its end is what counts
}

// detach is a descriptor of a file, which is closed. It is blocking, and no child inherits it.
func detach(f *os.File) int {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return -1
	}
	syscall.CloseOnExec(fd)
	f.Close()
	return fd
}

// take takes a signal of this process or of a node, which sends its signals here. For example, systemd sends SIGTERM to all processes of a service:
// the keeper and the node get it within a millisecond, which is one wish.
func (k *Keeper) take(s syscall.Signal) {
	k.mu.Lock()
	w := k.wishes.take(s, k.config.Reloads, time.Now())
	k.mu.Unlock()
	switch w {
	case wishDrain:
		k.drain("signal: " + s.String())
	case wishCut:
		k.mu.Lock()
		k.cut = true
		k.mu.Unlock()
		k.tellNodes(doCut, Reason{"a second signal: " + s.String()})
	case wishExit:
		for _, c := range k.living() {
			syscall.Kill(-c.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
		}
	case wishReload:
		k.tellNodes(doReload, nil)
	}
}

// drain begins the end: the nodes finish their calls.
func (k *Keeper) drain(why string) {
	k.mu.Lock()
	again := k.draining != ""
	if !again {
		k.draining = why
		k.wishes.begin(time.Now())
		if k.current != nil && !k.upgrades { // else a node is being started, which gets copies
			k.closeListeners()
		}
		close(k.stop)
	}
	k.mu.Unlock()
	if again {
		return
	}
	k.notify.send("STOPPING=1\nSTATUS=Draining: " + why)
	k.tellNodes(doDrain, Reason{why})
}

// closeListeners closes the keeper's copies of the listening sockets. The node closes its own when it takes no more requests, and clients are refused
// from then on. With copies that stay open, a connection made then would wait in a socket without a reader, and be reset at the end of the keeper: the
// client could not know that its request has not run.
func (k *Keeper) closeListeners() {
	for _, l := range k.listeners {
		syscall.Close(l.FD) //nolint:errcheck // a socket
	}
}

// drainLate tells a node that has been started of a drain that has begun meanwhile.
func (k *Keeper) drainLate(n *node) {
	k.mu.Lock()
	why, cut := k.draining, k.cut
	k.mu.Unlock()
	if why != "" {
		n.conn.Tell(doDrain, Reason{why}) //nolint:errcheck // it may have ended
	}
	if cut {
		n.conn.Tell(doCut, Reason{why}) //nolint:errcheck // it may have ended
	}
}

func (k *Keeper) tellNodes(do string, body any) {
	k.mu.Lock()
	nodes := slices.Clone(k.nodes)
	k.mu.Unlock()
	for _, n := range nodes {
		n.conn.Tell(do, body) //nolint:errcheck // it may have ended
	}
}

// log writes lines as the log of a node does, behind the name of this process.
type log struct{ verbose, json bool }

func (l log) info(message string, pairs ...any) {
	if l.verbose {
		l.line("INFO", message, pairs)
	}
}
func (l log) warn(message string, pairs ...any)  { l.line("WARN", message, pairs) }
func (l log) error(message string, pairs ...any) { l.line("ERROR", message, pairs) }

// jsonLine is a record as helvetype.LogLine has it.
type jsonLine struct {
	Time       time.Time         `json:"time"`
	Level      string            `json:"level"`
	Logger     string            `json:"logger"`
	Text       string            `json:"message"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (l log) line(level, message string, pairs []any) {
	if l.json {
		line := jsonLine{time.Now(), level, "keeper", message, map[string]string{}}
		for i := 0; i+1 < len(pairs); i += 2 {
			line.Attributes[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
		}
		if b, err := json.Marshal(line); err == nil {
			os.Stderr.Write(append(b, '\n')) //nolint:errcheck // there is no other place for it
		}
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "(keeper) time=%s level=%s msg=%q", time.Now().Format("2006-01-02T15:04:05.000Z07:00"), level, message)
	for i := 0; i+1 < len(pairs); i += 2 {
		text := fmt.Sprint(pairs[i+1])
		if strings.ContainsAny(text, " \"\n=") || text == "" {
			text = strconv.Quote(text)
		}
		fmt.Fprintf(&b, " %v=%s", pairs[i], text)
	}
	b.WriteByte('\n')
	os.Stderr.WriteString(b.String()) //nolint:errcheck // there is no other place for it
}

// errBody is the error of a request whose body is not as it should be.
var errBody = errors.New("malformed request")

func decode(body json.RawMessage, to any) error {
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	return nil
}

// Package listen accepts connections with patience. Some errors of Accept pass by themselves, such as a process
// without free descriptors. A [Listener] waits them out with growing pauses, and reports them rarely.
package listen

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	shortest     = 5 * time.Millisecond
	longestPause = time.Second
	// reportInterval is the shortest time between two reports. A listener that is short of descriptors accepts one connection
	// whenever another ends, so a failure after a success is not yet news.
	reportInterval = 10 * time.Second
)

// Report gets an error of Accept after which the listener goes on. The parameter times is the number of such errors
// since the last report.
type Report func(err error, times int)

// Listener is a listener whose Accept waits out errors that pass. Accept is for one goroutine at a time; Close may be
// called from any.
type Listener struct {
	net.Listener
	report Report
	closed chan struct{} // is closed when Close begins
	ended  chan struct{} // is closed when the listener is closed
	close  sync.Once
	err    error      // of Close
	late   []net.Conn // connections that were waiting when the listener was closed; Accept returns them before its last error
	mu     sync.Mutex // held while a connection is accepted

	pause    time.Duration
	times    int       // errors since the last report
	reported time.Time // time of the last report
}

// New makes a Listener of l. The function report is called on the goroutine of Accept.
func New(l net.Listener, report Report) *Listener {
	return &Listener{Listener: l, report: report, closed: make(chan struct{}), ended: make(chan struct{})}
}

// Accept waits for a connection. For example, if the process has no free descriptor, it tries again after 5 ms, then
// after 10 ms, and so on up to once a second, and reports that once in 10 s. An error that it returns does not pass,
// such as net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.accept()
		if err == nil {
			l.pause = 0
			return c, nil
		}
		select {
		case <-l.closed:
			<-l.ended
			if len(l.late) == 0 {
				return nil, net.ErrClosed
			}
			c, l.late = l.late[0], l.late[1:]
			return c, nil
		default:
		}
		if !transient(err) {
			return nil, err
		}
		l.times++
		if now := time.Now(); l.reported.IsZero() || now.Sub(l.reported) >= reportInterval {
			l.report(err, l.times)
			l.reported, l.times = now, 0
		}
		l.pause = min(max(2*l.pause, shortest), longestPause)
		t := time.NewTimer(l.pause)
		select {
		case <-t.C:
		case <-l.closed:
			t.Stop()
		}
	}
}

func (l *Listener) accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Listener.Accept()
}

// Close closes the listener and ends a pause of Accept. The kernel resets the connections that wait in the listener's queue then, so they are accepted
// before, and Accept returns them although the listener is closed. For example, the process of a node that drains gets no time to run for 10 ms, and 20 clients
// connect meanwhile: all are served. A connection can still come between the last look into the queue and the end of the listener, some microseconds
// later.
func (l *Listener) Close() error {
	l.close.Do(func() {
		close(l.closed)
		defer close(l.ended)
		var queue interface {
			SetDeadline(t time.Time) error
			SyscallConn() (syscall.RawConn, error)
		}
		switch of := l.Listener.(type) { // no others: their connections may be more than those of the socket
		case *net.TCPListener:
			queue = of
		case *net.UnixListener:
			queue = of
		}
		if queue == nil || queue.SetDeadline(time.Unix(1, 0)) != nil {
			l.err = l.Listener.Close()
			return
		}
		// Accept has ended by the deadline. As long as it waits, the socket stays open after Close, until the goroutine of Accept runs again.
		l.mu.Lock()
		defer l.mu.Unlock()
		if raw, err := queue.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { l.late = waiting(int(fd)) }) //nolint:errcheck // it is closed already then
		}
		l.err = l.Listener.Close()
	})
	return l.err
}

// waiting accepts the connections in the queue of a socket. The runtime's own accept refuses after a deadline.
func waiting(fd int) (all []net.Conn) {
	for {
		syscall.ForkLock.RLock()
		to, _, err := syscall.Accept(fd)
		if err == nil {
			syscall.CloseOnExec(to)
		}
		syscall.ForkLock.RUnlock()
		switch err {
		case nil:
		case syscall.EINTR, syscall.ECONNABORTED:
			continue
		default: // EAGAIN: the queue is empty
			return all
		}
		f := os.NewFile(uintptr(to), "connection")
		c, err := net.FileConn(f) // has a copy of the descriptor
		f.Close()                 //nolint:errcheck // as above
		if err == nil {
			all = append(all, c)
		}
	}
}

// transient reports whether Accept may succeed later. Such errors are too many open files, and a connection that was
// reset before it was accepted.
func transient(err error) bool {
	var n net.Error
	if errors.Is(err, net.ErrClosed) || !errors.As(err, &n) {
		return false
	}
	//nolint:staticcheck // deprecated for errors of dialling; for Accept it is what net/http goes by, and there is no other question
	return n.Temporary()
}

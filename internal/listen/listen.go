// Package listen accepts connections with patience. Some errors of Accept pass by themselves, such as a process
// without free descriptors. A [Listener] waits them out with growing pauses, and reports them rarely.
package listen

import (
	"errors"
	"net"
	"sync"
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
	closed chan struct{}
	close  sync.Once

	pause    time.Duration
	times    int       // errors since the last report
	reported time.Time // time of the last report
}

// New makes a Listener of l. The function report is called on the goroutine of Accept.
func New(l net.Listener, report Report) *Listener {
	return &Listener{Listener: l, report: report, closed: make(chan struct{})}
}

// Accept waits for a connection. For example, if the process has no free descriptor, it tries again after 5 ms, then
// after 10 ms, and so on up to once a second, and reports that once in 10 s. An error that it returns does not pass,
// such as net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			l.pause = 0
			return c, nil
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

// Close closes the listener and ends a pause of Accept.
func (l *Listener) Close() error {
	err := l.Listener.Close() // closed first: the attempt of Accept after its pause then fails for good
	l.close.Do(func() { close(l.closed) })
	return err
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

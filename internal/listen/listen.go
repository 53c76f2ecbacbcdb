// Package listen accepts connections with patience: what passes by itself, as a process without free descriptors, is waited
// out with growing pauses and reported rarely.
package listen

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	shortest = 5 * time.Millisecond
	longest  = time.Second
	// quiet is the least time between two reports. A listener that is short of descriptors accepts one connection whenever another
	// ends, so that a failure that follows a success is not yet news.
	quiet = 10 * time.Second
)

// Report is told an error of Accept after which the listener goes on, and how many there were since the last report.
type Report func(err error, times int)

// Listener is a listener whose Accept waits out errors that pass. Accept is for one goroutine at a time.
type Listener struct {
	net.Listener
	report Report
	closed chan struct{}
	close  sync.Once

	pause time.Duration
	times int       // errors since the last report
	told  time.Time // when that was
}

// New makes a Listener of l. report is called on the goroutine of Accept.
func New(l net.Listener, report Report) *Listener {
	return &Listener{Listener: l, report: report, closed: make(chan struct{})}
}

// Accept waits for a connection. For example, if the process has no free descriptor it tries again after 5 ms, then after 10 ms,
// and so on up to once a second, and reports that once in 10 s. Its error is one that does not pass, such as net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			l.pause = 0
			return c, nil
		}
		if !passes(err) {
			return nil, err
		}
		l.times++
		if now := time.Now(); l.told.IsZero() || now.Sub(l.told) >= quiet {
			l.report(err, l.times)
			l.told, l.times = now, 0
		}
		l.pause = min(max(2*l.pause, shortest), longest)
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
	err := l.Listener.Close() // first: what Accept tries after its pause fails for good
	l.close.Do(func() { close(l.closed) })
	return err
}

// passes says that Accept may succeed later: too many open files, a connection that was reset before it was accepted.
func passes(err error) bool {
	var n net.Error
	if errors.Is(err, net.ErrClosed) || !errors.As(err, &n) {
		return false
	}
	//nolint:staticcheck // deprecated for errors of dialling; for Accept it is what net/http goes by, and there is no other question
	return n.Temporary()
}

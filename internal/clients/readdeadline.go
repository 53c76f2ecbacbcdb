package clients

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// readDeadline is the deadline of the reads of a connection. The connection below gets it when a read begins, and only if it has a later one or
// none: net/http sets a deadline four times for each request with which a connection goes on, and reads twice. To set one takes locks of the
// poller and of its timers, and was a twentieth of the node's processor time of a short request.
//
// Example: the server sets the idle time of 2 minutes, and begins to read the next request: the connection below gets this deadline. The
// request comes with its whole header, so the deadline of the header is set and no read follows. The server then sets the deadline of the whole request, 5
// minutes, and reads ahead: the earlier deadline stays below. When that passes, the read finds that it has time left, sets the rest, and goes on.
type readDeadline struct {
	mu     sync.Mutex
	by     time.Time // the deadline that the server or a handler has set; zero for none
	body   bool      // a body is being read: until holds
	until  time.Time // the stall time of the body, or by if that is earlier
	below  time.Time // the deadline that the connection below has; zero for none
	passed bool      // below has passed, so that every read fails until it is replaced
	reads  int       // the number of reads that are under way
}

// set sets the deadline. A read that is under way gets it at once.
func (d *readDeadline) set(nc net.Conn, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body, d.by = false, t
	if d.reads == 0 {
		return nil
	}
	return d.applyLocked(nc, t)
}

// beginBody has the stall time hold for each read, until the next call of set.
func (d *readDeadline) beginBody() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body, d.until = true, time.Time{}
}

// begin must be called before a read.
func (d *readDeadline) begin(nc net.Conn, stall time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if d.body {
		if now := time.Now(); d.until.Sub(now) < stall*4/5 {
			d.until = now.Add(stall)
			if !d.by.IsZero() && d.by.Before(d.until) {
				d.until = d.by
			}
		}
	}
	if t := d.holdsLocked(); d.passed || !t.IsZero() && (d.below.IsZero() || t.Before(d.below)) {
		d.applyLocked(nc, t) //nolint:errcheck // the read tells
	}
}

// end must be called after a read that has failed or not. The result again says that the read must be repeated: the deadline of the
// connection below has passed, and the one that holds has not.
func (d *readDeadline) end(nc net.Conn, err error) (again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t := d.holdsLocked()
		if t.IsZero() || t.After(time.Now()) {
			d.applyLocked(nc, t) //nolint:errcheck // the next read tells
			return true
		}
		// Later reads fail too, until the next call of set. For example, the server reads the rest of a body that has stalled.
		d.by, d.passed = t, true
	}
	if err != nil {
		d.body = false
	}
	d.reads--
	return false
}

// holdsLocked is the deadline that holds now.
func (d *readDeadline) holdsLocked() time.Time {
	if d.body {
		return d.until
	}
	return d.by
}

func (d *readDeadline) applyLocked(nc net.Conn, t time.Time) error {
	d.below, d.passed = t, false
	return nc.SetReadDeadline(t)
}

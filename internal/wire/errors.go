package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// maxBacklog is the number of bytes that may wait to be written. Over it, new calls fail. Answers and cancels are still queued,
// up to four times as much; then the connection ends. For example, a worker that was stopped with SIGSTOP reads nothing: calls
// to it fail when 1 GiB waits.
const maxBacklog = 1 << 30

var (
	errBacklog = errors.New("the other process does not read what it is sent")
	errRemote  = errors.New("the other side ended the connection")
)

// sizeError says that a value is larger than its receiver takes.
type sizeError struct{ size, limit int }

func tooLarge(size, limit int) error { return &sizeError{size, limit} }

func (e *sizeError) Error() string {
	return fmt.Sprintf("a value of %d bytes, the other side takes at most %d (max_body)", e.size, e.limit)
}

// protocolError says how the other side has broken the rules of docs/wire.md. The text is sent to it in a GOAWAY.
type protocolError struct{ err error }

func (e *protocolError) Error() string { return e.err.Error() }
func (e *protocolError) Unwrap() error { return e.err }

// goawayProtocol is the reason of a GOAWAY that answers a violation of the protocol. The connection is closed at once after it.
const goawayProtocol = "protocol"

// endForViolation ends the connection because the other side has broken the protocol. err is sent to it, if a frame can still
// be written.
func (c *Conn) endForViolation(err error) {
	if !errors.Is(err, ErrClosed) && !errors.Is(err, errRemote) {
		body, _ := json.Marshal(Goaway{Code: helvetype.CodeInvalidArgument.String(), Reason: goawayProtocol, Message: err.Error()})
		if _, aerr := c.Append(Header{Type: TypeGoaway}, nil, body); aerr == nil {
			c.Flush()
		}
	}
	c.Close(err)
}

// failAll ends the connection after an error on this side.
func (c *Conn) failAll(err error) {
	c.mu.Lock()
	c.failLocked(err)
	c.mu.Unlock()
}

// endAfterReading ends the connection when all data that has arrived is read, at the latest after [linger]. cause is the error that
// [Conn.Read] returns then.
func (c *Conn) endAfterReading(cause error) {
	c.mu.Lock()
	if c.err == nil && c.endCause == nil {
		c.endCause = cause
	}
	c.mu.Unlock()
	c.nc.SetReadDeadline(time.Now().Add(c.linger)) //nolint:errcheck // fails if the connection has ended
}

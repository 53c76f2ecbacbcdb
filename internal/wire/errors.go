package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// maxBacklog is how many bytes may wait for a peer that does not read, before calls to it are refused. Answers and
// cancels still go out up to four times as much, and then the connection ends.
const maxBacklog = 1 << 30

var (
	errBacklog = errors.New("the other process does not read what it is sent")
	errRemote  = errors.New("the other side ended the connection")
)

// sizeError is a value over the limit of whoever would receive it.
type sizeError struct{ size, limit int }

func tooLarge(size, limit int) error { return &sizeError{size, limit} }

func (e *sizeError) Error() string {
	return fmt.Sprintf("a value of %d bytes, the other side takes at most %d (max_body)", e.size, e.limit)
}

// protocolError is what the other side did against docs/wire.md. It is told so.
type protocolError struct{ err error }

func (e *protocolError) Error() string { return e.err.Error() }
func (e *protocolError) Unwrap() error { return e.err }

// goawayProtocol is the reason of a GOAWAY after which the connection is closed at once.
const goawayProtocol = "protocol"

// refuseCall ends the connection because of what the other side sent, and tells it why if it can still be written.
func (c *Conn) endForViolation(err error) {
	if !errors.Is(err, ErrClosed) && !errors.Is(err, errRemote) {
		body, _ := json.Marshal(Goaway{Code: call.InvalidArgument.String(), Reason: goawayProtocol, Message: err.Error()})
		if _, aerr := c.Append(Header{Type: TypeGoaway}, nil, body); aerr == nil {
			c.Flush()
		}
	}
	c.Close(err)
}

// failAll ends the connection after an error of this side.
func (c *Conn) failAll(err error) {
	c.mu.Lock()
	c.failLocked(err)
	c.mu.Unlock()
}

// endAfterReading ends the connection when what has arrived is read, or soon; cause is kept as the reason.
func (c *Conn) endAfterReading(cause error) {
	c.mu.Lock()
	if c.err == nil && c.endCause == nil {
		c.endCause = cause
	}
	c.mu.Unlock()
	c.nc.SetReadDeadline(time.Now().Add(linger)) //nolint:errcheck // it has ended already then
}

package wire

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestAnswersAreReadAfterAFailedWrite: a side whose write fails has not read everything yet, and the answers that the other side wrote
// before it went count.
func TestAnswersAreReadAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, bulkTerms)
	p.conn.small.linger = time.Hour
	answered, late := newFuture(), newFuture()
	p.Start(nil, 1, raw(nil), 0, answered)
	reader{t, e.small}.expect(TypeCall, 0, 1)
	write(t, e.small, frameOf(Header{Type: TypeEnd, ID: 1}, []byte{byte(call.Raw), 0}, []byte("done")))
	e.small.Close()
	e.bulk.Close()
	p.Start(nil, 1, raw(nil), 0, late)
	for p.conn.Err() == nil { // written on another goroutine
		p.conn.Flush()
	}
	go p.Serve()
	<-p.Done()
	if <-answered.done; string(answered.r.Data) != "done" {
		t.Errorf("%+v", answered.r)
	}
	if <-late.done; !late.r.NotStarted {
		t.Errorf("%+v", late.r)
	}
	after := newFuture()
	p.Start(nil, 1, raw(nil), 0, after)
	if <-after.done; !after.r.NotStarted {
		t.Errorf("%+v", after.r)
	}
}

var errWrite = errors.New("the write fails")

// failingWrites is a connection that takes no bytes.
type failingWrites struct{ net.Conn }

func (*failingWrites) Write([]byte) (int, error) { return 0, errWrite }

// TestFailedWriteEndsTheConnection: the connection of a side that cannot write ends although the other side does not close it.
func TestFailedWriteEndsTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c := NewConn(&failingWrites{Conn: a})
		c.Append(Header{Type: TypeReply}, nil)
		c.Flush()
		ended := make(chan error, 1)
		go func() { ended <- c.Read(func(*call.Batch, Header, []byte, []byte) error { return nil }) }()
		ctx, cancel := context.WithTimeout(t.Context(), 2*linger)
		defer cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, errWrite) {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Error("it goes on")
		}
		if n, err := b.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("it is open")
		}
	})
}

package listen

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a listener whose Accept returns the answers of its test in order, and the last one for ever.
type failing struct {
	answers []error // nil for a connection
	calls   int
	closed  atomic.Bool
}

func (f *failing) Accept() (net.Conn, error) {
	f.calls++
	if f.closed.Load() {
		return nil, net.ErrClosed
	}
	err := f.answers[min(f.calls-1, len(f.answers)-1)]
	if err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	b.Close()
	return a, nil
}
func (f *failing) Close() error   { f.closed.Store(true); return nil }
func (f *failing) Addr() net.Addr { return &net.UnixAddr{} }

// noFiles is the error of Accept if there is no free descriptor.
var noFiles error = &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}

// TestAcceptBacksOff: an error that lasts is tried ever more rarely and reported more rarely still; Close ends the wait.
func TestAcceptBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &failing{answers: []error{noFiles}}
		var reports, told int
		l := New(f, func(err error, times int) {
			if !errors.Is(err, syscall.EMFILE) {
				t.Error(err)
			}
			reports++
			told += times
		})
		ended := make(chan error)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		time.Sleep(time.Minute) // time of the bubble's clock
		synctest.Wait()
		if f.calls > 80 || f.calls < 60 {
			t.Errorf("%d tries in a minute", f.calls)
		}
		if reports != 6 || told > f.calls {
			t.Errorf("%d reports of %d failures, of %d", reports, told, f.calls)
		}
		start := time.Now()
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("closed: %v after %s", err, time.Since(start))
		}
	})
}

// TestAcceptAlternates: successes between the failures begin the pauses anew, and are no reason for more reports.
func TestAcceptAlternates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &failing{}
		for range 100 {
			f.answers = append(f.answers, noFiles, nil)
		}
		reports := 0
		l := New(f, func(error, int) { reports++ })
		start := time.Now()
		for range 100 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		if took := time.Since(start); took != 100*shortest || reports != 1 {
			t.Errorf("%s, %d reports", took, reports)
		}
	})
}

// TestAcceptEnds: an error that does not pass is the caller's.
func TestAcceptEnds(t *testing.T) {
	t.Parallel()
	for _, err := range []error{net.ErrClosed, errors.New("broken"), &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EINVAL)}} {
		l := New(&failing{answers: []error{err}}, func(error, int) { t.Error("reported") })
		if _, got := l.Accept(); !errors.Is(got, err) {
			t.Errorf("%v, want %v", got, err)
		}
	}
}

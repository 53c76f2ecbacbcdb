package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestCallsUnderWay: the arguments of calls that have not ended are limited together, in frames and in chunks. A call
// over the limit is answered and not run, and the connection lives; when some calls have ended, the next are taken.
func TestCallsUnderWay(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 10 << 10} { // in their frames, and in chunks of 4 KiB
		ins := make(chan *Incoming, 1000)
		s := &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
			in.Keep()
			ins <- in
			return nil
		}}
		p, q := linked(t, &server{}, s, Terms{Protocol: 2, Bulk: true, MaxIn: 16 << 10}, Terms{Protocol: 2, Bulk: true, MaxIn: 16 << 10, Calls: 100 << 10})
		limit := (100 << 10) / (size + 72)
		var fs []*future
		for range limit + 5 {
			f := newFuture()
			p.Start(nil, 0, raw(pattern(size)), 0, f)
			fs = append(fs, f)
		}
		for _, f := range fs[limit:] {
			<-f.done
			if f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonBackpressure || !strings.Contains(f.r.Err.Message, "at most 102400 are possible") || f.r.NotStarted {
				t.Errorf("%+v", f.r)
			}
		}
		for range limit {
			(<-ins).Complete(nil, call.Result{})
		}
		for _, f := range fs[:limit] {
			if <-f.done; f.r.Err != nil {
				t.Error(f.r.Err)
			}
		}
		f := newFuture()
		p.Start(nil, 0, raw(pattern(size)), 0, f)
		(<-ins).Complete(nil, call.Result{})
		if <-f.done; f.r.Err != nil {
			t.Error(f.r.Err)
		}
		if len(ins) != 0 || q.inFlight.calls != 0 {
			t.Errorf("%d calls more were run, %d bytes are left", len(ins), q.inFlight.calls)
		}
	}
}

// TestOneLargeCall: a call as large as the limit of one body is taken, even if the limit of all calls together is
// smaller.
func TestOneLargeCall(t *testing.T) {
	t.Parallel()
	p, _ := linked(t, &server{}, &server{}, Terms{Protocol: 2, Bulk: true, MaxIn: 64 << 10}, Terms{Protocol: 2, Bulk: true, MaxIn: 64 << 10, Calls: 1})
	f := newFuture()
	p.Start(nil, 0, raw(pattern(64<<10)), 0, f)
	if <-f.done; f.r.Err != nil {
		t.Error(f.r.Err)
	}
}

// TestControlsUnderWay: control requests that are not answered are bounded in bytes.
func TestControlsUnderWay(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p, e := halfLinked(t, &server{control: func(string, json.RawMessage) (any, error) { <-release; return nil, nil }}, Terms{Protocol: 2, Bulk: true, Controls: 100 << 10})
	body := []byte(`{"op":"` + strings.Repeat("x", 20<<10) + `"}`)
	go func() {
		for i := range uint64(5) {
			e.small.Write(frameOf(Header{Type: TypeControl, ID: i + 1}, nil, body))
		}
		reader{t, e.small}.expect(TypeGoaway, 0, 0)
		close(release)
	}()
	if err := p.Serve(); err == nil || err.Error() != "control requests of over 102400 bytes at once on one connection" {
		t.Error(err)
	}
	p, e = halfLinked(t, &server{control: func(string, json.RawMessage) (any, error) { return nil, nil }}, bulkTerms)
	p.conn.terms.Controls = 100 << 10
	serve(t, p)
	for i := range uint64(50) { // one after another
		write(t, e.small, frameOf(Header{Type: TypeControl, ID: i + 1}, nil, body))
		reader{t, e.small}.expect(TypeReply, 0, i+1)
		for { // counted until the reply is written
			p.mu.Lock()
			n := p.inFlight.controls
			p.mu.Unlock()
			if n == 0 {
				break
			}
		}
	}
}

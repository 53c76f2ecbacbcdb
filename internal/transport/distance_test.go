package transport_test

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// lag delays both directions of a connection.
func lag(latency *atomic.Int64) wrap {
	return func(nc net.Conn, _, _ bool) net.Conn { return newDelayed(nc, latency) }
}

// rival waits at a gate for one slot, and holds it for a while.
type rival struct {
	s    *site
	hold time.Duration
}

func (r *rival) Granted(*call.Batch) { time.AfterFunc(r.hold, func() { r.s.gate.Release(nil) }) }

// TestLeaseEndsOnItsWay: a slot was kept for a router that has moved away, and went to somebody else before its call came. The call
// waits again, at its place.
func TestLeaseEndsOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var latency atomic.Int64
		s := newSite(t, "r", 1, nil)
		idle(t, s)
		c := newClient(t)
		join(t, kind{"pipe", pipe}, c, s, lag(&latency))
		s.gate.TryAcquire()
		first := c.submit("first", "", nil)
		synctest.Wait()
		s.gate.Release(nil)
		first.await(t) // the gate has seen that the router is near
		synctest.Wait()
		latency.Store(int64(20 * time.Millisecond))
		s.gate.TryAcquire()
		var js []*journey
		var want []string
		for _, n := range []string{"a", "b", "c"} {
			want = append(want, n)
			js = append(js, c.submit(n, "", nil))
		}
		time.Sleep(time.Second)
		s.gate.Wait(&rival{s, 500 * time.Millisecond})
		s.gate.Release(nil)
		for _, j := range js {
			j.await(t)
		}
		if ran := s.ran()[1:]; !slices.Equal(ran, want) {
			t.Errorf("ran as %q", ran)
		}
		if js[0].rejected < 2 { // because the gate was full, and because the slot was gone
			t.Errorf("%d rejections", js[0].rejected)
		}
	})
}

// TestFarAndBusy: a router 25 ms away keeps all slots busy, because it says how many calls wait.
func TestFarAndBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var latency atomic.Int64
		s := newSite(t, "r", 50, func(e *execution) { time.AfterFunc(10*time.Millisecond, func() { e.end(nil, nil) }) })
		idle(t, s)
		c := newClient(t)
		join(t, kind{"pipe", pipe}, c, s, lag(&latency))
		latency.Store(int64(25 * time.Millisecond))
		begun := time.Now()
		var js []*journey
		for n := range 1000 {
			js = append(js, c.submit(name(n), "", nil))
		}
		for _, j := range js {
			j.await(t)
		}
		// A slot is granted, 50 ms later its call comes, and 10 ms later it is free: 20 calls each make 1.2 s.
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("1000 calls took %v", took)
		}
	})
}

// TestSlotsThatNobodyNeeds go back in one round trip, and to those who wait.
func TestSlotsThatNobodyNeeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var latency atomic.Int64
		s := newSite(t, "r", 1, nil)
		idle(t, s)
		c := newClient(t)
		join(t, kind{"pipe", pipe}, c, s, lag(&latency))
		latency.Store(int64(20 * time.Millisecond))
		s.gate.TryAcquire()
		js := []*journey{c.submit("a", "", nil), c.submit("b", "", nil)}
		time.Sleep(time.Second)
		s.gate.Release(nil) // to the router
		js[0].stop()
		js[1].stop()
		time.Sleep(39 * time.Millisecond)
		if s.gate.Load() != 1 {
			t.Error("it was not kept")
		}
		time.Sleep(2 * time.Millisecond)
		if s.gate.Load() != 0 || len(s.ran()) != 0 {
			t.Errorf("%d slots are taken, %q ran", s.gate.Load(), s.ran())
		}
	})
}

package gate

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		lease := func() *Lease {
			t.Helper()
			if !g.TryAcquire() {
				t.Fatal("the gate is full")
			}
			return g.Lease(time.Second)
		}
		l := lease()
		if !l.Use() || l.Use() || g.Load() != 1 {
			t.Error("a used lease")
		}
		l.Release(nil)
		time.Sleep(2 * time.Second)
		if g.Load() != 1 {
			t.Error("a used slot came back by itself")
		}
		g.Release(nil)
		l = lease()
		l.Release(nil)
		l.Release(nil)
		if l.Use() || g.Load() != 0 {
			t.Error("a released lease")
		}
		l = lease()
		time.Sleep(900 * time.Millisecond)
		if g.Load() != 1 {
			t.Error("a lease has ended early")
		}
		time.Sleep(200 * time.Millisecond)
		if l.Use() || g.Load() != 0 {
			t.Error("an expired lease")
		}
	})
}

package await

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

// TestUntil: a goroutine looks at the fact again after each Tell, and stops when it is true or the context ends.
func TestUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var s Signal
		n, looks := 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		ends := make(chan bool, 3)
		wait := func(ctx context.Context, least int) {
			ends <- s.Until(ctx, &mu, func() bool { looks++; return n >= least })
		}
		add := func() {
			mu.Lock()
			n++
			s.Tell()
			mu.Unlock()
			synctest.Wait()
		}
		wait(ctx, 0)
		if !<-ends || looks != 1 {
			t.Errorf("a fact that is true was looked at %d times", looks)
		}
		go wait(ctx, 2)
		go wait(ctx, 2)
		go wait(ctx, 3)
		synctest.Wait()
		add()
		if len(ends) != 0 || looks != 7 {
			t.Errorf("%d ended too early, after %d looks", len(ends), looks)
		}
		add()
		if len(ends) != 2 || !<-ends || !<-ends {
			t.Error("two were to see the fact")
		}
		cancel()
		synctest.Wait()
		if len(ends) != 1 || <-ends {
			t.Error("one was to end with its context")
		}
		s.Tell() // without a goroutine that waits
	})
}

package telemetry

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestCallers: the calls of each caller are counted apart, also by many at once; callers above the bound, and callers that are not known, are not counted.
func TestCallers(t *testing.T) {
	t.Parallel()
	var c Callers
	var wg sync.WaitGroup
	gateway := Caller{FromDeployment, "shop", "Gateway"}
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				c.End(gateway, j%10 == 0)
				c.End(Caller{Kind: FromHTTP}, false)
				c.End(Caller{FromDeployment, "shop", fmt.Sprintf("D%d", i)}, false)
				c.Waited(gateway, time.Millisecond)
			}
		})
	}
	wg.Wait()
	for i := range 2 * callersMax {
		c.End(Caller{FromDeployment, "other", fmt.Sprint(i)}, false)
	}
	c.mu.Lock() // no call of a caller above the bound waits for it
	c.End(Caller{FromDeployment, "other", "above"}, false)
	c.mu.Unlock()
	c.End(Caller{}, true)
	all := map[Caller]CallerCounts{gateway: {Ended: 1}}
	c.AddTo(all)
	if len(all) != callersMax {
		t.Errorf("%d callers", len(all))
	}
	if got, want := all[gateway], (CallerCounts{801, 80, 800 * time.Millisecond}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := all[Caller{Kind: FromHTTP}]; got.Ended != 800 || got.Failed != 0 {
		t.Errorf("%+v", got)
	}
	var none *Callers
	none.End(gateway, false)
	none.AddTo(all)
}

// BenchmarkCaller counts the call of a caller among others.
func BenchmarkCaller(b *testing.B) {
	var c Callers
	of := Caller{FromDeployment, "shop", "Gateway"}
	c.End(Caller{Kind: FromHTTP}, false)
	c.End(Caller{FromDeployment, "shop", "Ranker2"}, false)
	for b.Loop() {
		c.End(of, false)
	}
}

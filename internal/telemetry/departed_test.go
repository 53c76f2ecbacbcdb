package telemetry

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// countedReplica has as many calls under way as have begun and not ended.
type countedReplica struct {
	id    string
	calls Calls
}

func (r *countedReplica) ID() string     { return r.id }
func (r *countedReplica) Counts() Counts { return r.calls.Counts() }
func (r *countedReplica) Busy() bool     { k := r.Counts(); return k.Started > k.Ended() }

func idsOf(all []Replica) (ids []string) {
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// TestLeavingReplica: a call that outlives its replica counts when it ends, as the error that it is.
func TestLeavingReplica(t *testing.T) {
	t.Parallel()
	var d Departed[*countedReplica]
	idle, busy := &countedReplica{id: "idle"}, &countedReplica{id: "busy"}
	for _, r := range []*countedReplica{idle, busy} {
		r.calls.Begin()
		r.calls.End(time.Millisecond, false)
	}
	busy.calls.Begin()
	d.Add(busy)
	d.Add(idle)
	d.Settle()
	if k := d.Total(); k.Started != 1 || !slices.Equal(d.Leaving(), []*countedReplica{busy}) || !slices.Equal(idsOf(d.Newest()), []string{"idle"}) {
		t.Errorf("while its call runs: %+v, leaving %v, newest %v", k, d.Leaving(), d.Newest())
	}
	busy.calls.End(time.Second, true)
	d.Settle()
	d.Settle()
	if k := d.Total(); k.Started != 3 || k.Failed != 1 || k.Ended() != 3 || len(d.Leaving()) != 0 || !slices.Equal(idsOf(d.Newest()), []string{"idle", "busy"}) {
		t.Errorf("when it has ended: %+v, leaving %v, newest %v", k, d.Leaving(), d.Newest())
	}
}

// TestNewestDepartures: a replica is kept by itself for ten minutes, and only the newest of many; the sum has all.
func TestNewestDepartures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d Departed[*countedReplica]
		for i := range uint64(departuresMax + 8) {
			r := &countedReplica{id: fmt.Sprint(i)}
			r.calls.Resume(i, 0)
			for range i {
				r.calls.End(0, false)
			}
			d.Add(r)
			time.Sleep(time.Second)
		}
		const all = departuresMax + 8
		if got := d.Newest(); len(got) != departuresMax || got[0].ID != "8" || got[0].Calls.Started != 8 || d.Total().Started != all*(all-1)/2 {
			t.Errorf("%d are kept, the first is %+v; the sum is %d", len(got), got[0], d.Total().Started)
		}
		time.Sleep(departureTime - 2*time.Second)
		if got := idsOf(d.Newest()); !slices.Equal(got, []string{fmt.Sprint(all - 1)}) {
			t.Errorf("after ten minutes there are %v", got)
		}
		time.Sleep(time.Second)
		if got := d.Newest(); got != nil || d.Total().Started != all*(all-1)/2 {
			t.Errorf("after all their time there are %v", got)
		}
	})
}

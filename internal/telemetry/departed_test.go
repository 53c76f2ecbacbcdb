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
	from  Callers
}

func (r *countedReplica) ID() string                             { return r.id }
func (r *countedReplica) Counts() Counts                         { return r.calls.Counts() }
func (r *countedReplica) AddCallers(all map[Caller]CallerCounts) { r.from.AddTo(all) }
func (r *countedReplica) Busy() bool                             { k := r.Counts(); return k.Started > k.Ended() }

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
	http, driver := Caller{Kind: FromHTTP}, Caller{Kind: FromDriver}
	idle.from.End(http, false)
	idle.from.Waited(http, time.Second)
	busy.from.End(driver, false)
	busy.calls.Begin()
	d.Add(busy)
	d.Add(idle)
	d.Settle()
	if k := d.Total(); k.Started != 1 || !slices.Equal(d.Leaving(), []*countedReplica{busy}) || !slices.Equal(idsOf(d.Newest()), []string{"idle"}) {
		t.Errorf("while its call runs: %+v, leaving %v, newest %v", k, d.Leaving(), d.Newest())
	}
	callers := func() map[Caller]CallerCounts {
		all := map[Caller]CallerCounts{driver: {Ended: 1}}
		d.AddCallers(all)
		return all
	}
	if got := callers(); len(got) != 2 || got[http] != (CallerCounts{Ended: 1, Waited: time.Second}) || got[driver].Ended != 1 {
		t.Errorf("while its call runs: callers %v", got)
	}
	busy.calls.End(time.Second, true)
	busy.from.End(http, true)
	d.Settle()
	d.Settle()
	if k := d.Total(); k.Started != 3 || k.Failed != 1 || k.Ended() != 3 || len(d.Leaving()) != 0 || !slices.Equal(idsOf(d.Newest()), []string{"idle", "busy"}) {
		t.Errorf("when it has ended: %+v, leaving %v, newest %v", k, d.Leaving(), d.Newest())
	}
	if got := callers(); got[http] != (CallerCounts{Ended: 2, Failed: 1, Waited: time.Second}) || got[driver].Ended != 2 {
		t.Errorf("when it has ended: callers %v", got)
	}
}

// TestDepartedCallers: the callers of replicas that are gone are bounded, as the callers of one replica are.
func TestDepartedCallers(t *testing.T) {
	t.Parallel()
	var d Departed[*countedReplica]
	for i := range 4 * callersMax {
		r := &countedReplica{id: fmt.Sprint(i)}
		r.from.End(Caller{FromDeployment, "shop", fmt.Sprint(i)}, false)
		r.from.End(Caller{Kind: FromHTTP}, false)
		d.Add(r)
	}
	all := map[Caller]CallerCounts{}
	d.AddCallers(all)
	if len(all) != callersMax || all[Caller{Kind: FromHTTP}].Ended != 4*callersMax {
		t.Errorf("%d callers, %+v", len(all), all[Caller{Kind: FromHTTP}])
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

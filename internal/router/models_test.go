package router

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// called is a call with a model that waits or has a slot.
func (x *bench) called(r *Router, origin, name, id string) *job {
	j := &job{x: x, name: name}
	r.Submit(nil, &j.ticket, origin, withModel(id), j)
	return j
}

// TestCallsWaitForTheirModel: a call whose replica is full waits for it, in order, also while other replicas are
// free. After the matching time one call goes to another replica, and the rest may follow it.
func TestCallsWaitForTheirModel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, set, x := New("here"), replicas(3, 1), &bench{t: t}
		r.Update(nil, set)
		r.SetModels(set[0], []string{"m"})
		r.SetModels(set[1], []string{"n", "o"})
		first := x.called(r, "p", "first", "m")
		var rest []*job
		for i := range 6 {
			rest = append(rest, x.called(r, "p", fmt.Sprint(i), "m"))
		}
		x.want("first")
		time.Sleep(matchingTime / 2)
		synctest.Wait()
		first.release()
		x.want("0")
		if r.Queued() != 5 || set[1].Gate().Load() != 0 || set[2].Gate().Load() != 0 {
			t.Errorf("%d wait, %d and %d run elsewhere", r.Queued(), set[1].Gate().Load(), set[2].Gate().Load())
		}
		time.Sleep(matchingTime/2 + matchingTick)
		synctest.Wait()
		x.want("1")
		if rest[1].replica != set[2] {
			t.Errorf("the oldest goes to the replica with the fewest models: %v", rest[1].replica.ID())
		}
		time.Sleep(matchingTime / 2)
		synctest.Wait()
		x.want() // the model loads there
		r.SetModels(set[2], []string{"m"})
		rest[1].release()
		rest[0].release()
		x.want("2", "3")
		if rest[2].replica != set[2] || rest[3].replica != set[0] {
			t.Errorf("%v, %v", rest[2].replica.ID(), rest[3].replica.ID())
		}
		r.SetModels(set[0], nil)
		rest[3].release() // other calls may have the slot now: these wait for their replica
		x.want()
		rest[2].release()
		x.want("4")
		r.SetModels(set[2], nil)
		rest[4].release()
		x.want("5")
		if n := r.Queued(); n != 0 {
			t.Errorf("%d wait", n)
		}
		rest[5].release()
		time.Sleep(3 * matchingTick)
		synctest.Wait()
		if n := r.subqueuesInUse.Load(); n != 0 {
			t.Errorf("%d subqueues are left", n)
		}
	})
}

// TestModelsThatNobodyHas: the calls of new models wait in turn with all others, and one slot decides for all calls
// of a model.
func TestModelsThatNobodyHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, x := New("here"), &bench{t: t}
		a, b := occupied("a", 2), occupied("b", 2)
		r.Update(nil, []Replica{a, b})
		m1 := x.called(r, "o", "m1", "m")
		plain := &job{x: x, name: "plain"}
		r.Submit(nil, &plain.ticket, "o", withModel(""), plain)
		m2, m3 := x.called(r, "o", "m2", "m"), x.called(r, "o", "m3", "m")
		x.called(r, "o", "n1", "n")
		a.Gate().Release(nil)
		x.want("m1")
		b.Gate().Release(nil) // m2 waits for a
		x.want("plain")
		b.Gate().Release(nil)
		x.want("n1")
		a.Gate().Release(nil)
		x.want("m2")
		m2.release()
		x.want("m3")
		if m1.replica != a || m2.replica != nil || m3.replica != a {
			t.Error("the calls of a model are at several replicas")
		}
	})
}

// TestSpill: the call of a model that waits in the unrestricted subqueue gives its place to the next if it is
// cancelled. It is still the first of its model if a replica with the model is free first, and goes on waiting when
// replicas come and go.
func TestSpill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, x := New("here"), &bench{t: t}
		a, b, c := occupied("a", 1), occupied("b", 1), occupied("c", 1)
		r.Update(nil, []Replica{a, b})
		r.SetModels(a, []string{"m"})
		jobs := map[string]*job{}
		for _, name := range []string{"1", "2", "3", "4"} {
			jobs[name] = x.called(r, "o", name, "m")
		}
		time.Sleep(matchingTime + matchingTick)
		synctest.Wait()
		if r.unrestricted.Queued() != 1 || r.Queued() != 4 {
			t.Fatalf("%d of %d wait for any replica", r.unrestricted.Queued(), r.Queued())
		}
		a.Gate().Release(nil)
		x.want("1") // although it waits in the unrestricted subqueue
		time.Sleep(matchingTime + matchingTick)
		synctest.Wait()
		if !r.Cancel(&jobs["2"].ticket) {
			t.Error("not cancelled")
		}
		synctest.Wait()
		if r.unrestricted.Queued() != 1 || r.Queued() != 2 {
			t.Errorf("%d of %d wait for any replica", r.unrestricted.Queued(), r.Queued())
		}
		r.Update(nil, []Replica{b, c})
		x.want()
		c.Gate().Release(nil)
		x.want("3")
		b.Gate().Release(nil) // another replica may have it, but the model is at c now
		x.want()
		jobs["3"].release()
		x.want("4")
		if jobs["4"].replica != c {
			t.Errorf("at %s", jobs["4"].replica.ID())
		}
	})
}

// TestModelsUnderAPolicy: a policy that is set while calls wait for their models ranks all of them.
func TestModelsUnderAPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, x := New("here"), &bench{t: t}
		a, b := occupied("a", 1), replica("b", 4)
		r.Update(nil, []Replica{a})
		for i := range 3 {
			x.called(r, "o", fmt.Sprint(i), "m")
		}
		r.SetPolicy(NewRoundRobin())
		r.Update(nil, []Replica{a, b})
		x.want("0", "1", "2")
		if r.Queued() != 0 || r.subqueuesInUse.Load() != 0 {
			t.Errorf("%d wait, %d subqueues", r.Queued(), r.subqueuesInUse.Load())
		}
		// And the other way round.
		b.Gate().TryAcquire()
		x.called(r, "o", "3", "m")
		x.called(r, "o", "4", "m")
		r.SetPolicy(nil)
		r.Update(nil, []Replica{a, b})
		a.Gate().Release(nil)
		b.Gate().Release(nil)
		x.want("3", "4")
	})
}

// TestModelsTakeTurns: at 80 % of the capacity of the replicas, models that fit exactly stay where they are. It tests
// the router alone: a call that goes to a replica without its model takes the place of another model.
func TestModelsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, set := New("here"), replicas(4, 2)
		r.Update(nil, set)
		var mu sync.Mutex // releases run at the same time
		has, loads := map[Replica][]string{}, 0
		for i := range 4000 {
			id := fmt.Sprint("m", (i*i+i/7)%8)
			w := takes(func(rep Replica) {
				mu.Lock()
				defer mu.Unlock()
				took := 10 * time.Millisecond
				if !slices.Contains(has[rep], id) {
					loads++
					took += 200 * time.Millisecond
					has[rep] = append(has[rep], id)
					if len(has[rep]) > 2 {
						has[rep] = has[rep][1:]
					}
					go r.SetModels(rep, slices.Clone(has[rep]))
				}
				time.AfterFunc(took, func() { rep.Gate().Release(nil) })
			})
			r.Submit(nil, new(Ticket), "o", withModel(id), w)
			time.Sleep(time.Second / 640)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		if loads > 24 || r.Queued() != 0 {
			t.Errorf("%d loads of 8 models, %d calls wait", loads, r.Queued())
		}
	})
}

// takes is a call that runs a function with its slot.
type takes func(Replica)

func (f takes) Assigned(_ *call.Batch, r Replica) { f(r) }
func (f takes) Failed(*call.Batch, *call.Error)   {}

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

// TestCallsWaitForTheirModel: a call whose replica is full waits for it, in order, also while others are free, and goes to
// another when the matching time is over: one call, and the rest where that went.
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
		x.want() // it loads there
		r.SetModels(set[2], []string{"m"})
		rest[1].release()
		rest[0].release()
		x.want("2", "3")
		if rest[2].replica != set[2] || rest[3].replica != set[0] {
			t.Errorf("%v, %v", rest[2].replica.ID(), rest[3].replica.ID())
		}
		r.SetModels(set[0], nil)
		rest[3].release() // others may have the slot now: these wait for theirs
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
		if n := r.many.Load(); n != 0 {
			t.Errorf("%d lanes are left", n)
		}
	})
}

// TestModelsThatNobodyHas: their calls wait in turn with all others, and one slot decides for all calls of a model.
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

// TestScout: the call of a model that waits in the lane of all replicas gives its place to the next if it is cancelled, is
// still the first of its model if a replica that has the model is free first, and goes on waiting when replicas come and go.
func TestScout(t *testing.T) {
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
		if r.any.Queued() != 1 || r.Queued() != 4 {
			t.Fatalf("%d of %d wait for any replica", r.any.Queued(), r.Queued())
		}
		a.Gate().Release(nil)
		x.want("1") // although it waits elsewhere
		time.Sleep(matchingTime + matchingTick)
		synctest.Wait()
		if !r.Cancel(&jobs["2"].ticket) {
			t.Error("not cancelled")
		}
		synctest.Wait()
		if r.any.Queued() != 1 || r.Queued() != 2 {
			t.Errorf("%d of %d wait for any replica", r.any.Queued(), r.Queued())
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

// TestModelsUnderAPolicy: a policy that is set while calls wait for their models has all of them.
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
		if r.Queued() != 0 || r.many.Load() != 0 {
			t.Errorf("%d wait, %d lanes", r.Queued(), r.many.Load())
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

// TestModelsTakeTurns: at 80 % of what the replicas can do, models that fit exactly stay where they are. In the router alone:
// a call that goes to a replica without its model takes a place that another model had.
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

// takes does something with its slot.
type takes func(Replica)

func (f takes) Assigned(_ *call.Batch, r Replica) { f(r) }
func (f takes) Failed(*call.Batch, *call.Error)   {}

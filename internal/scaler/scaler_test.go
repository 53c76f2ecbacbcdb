package scaler_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/scaler"
	"github.com/helve-serve/helve/internal/spec"
)

// TestFailedDeployGivesNumberBack: revision 2 follows its load, and fails after its autoscaler has set another number: the number of revision 1 comes back.
func TestFailedDeployGivesNumberBack(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		before, next spec.Options
		by           string
	}{
		"above max_replicas":             {before: fixed(4), next: autoscaled(`{"min_replicas": 1, "max_replicas": 2}`), by: "deploy"},
		"below min_replicas":             {before: fixed(4), next: autoscaled(`{"min_replicas": 6, "max_replicas": 8}`), by: "deploy"},
		"initial_replicas":               {before: fixed(4), next: autoscaled(`{"min_replicas": 1, "max_replicas": 3, "initial_replicas": 1}`), by: "deploy"},
		"both by load":                   {before: autoscaled(`{"min_replicas": 4, "max_replicas": 8}`), next: autoscaled(`{"min_replicas": 1, "max_replicas": 2}`), by: "deploy"},
		"nothing but the memory differs": {before: fixed(4), next: autoscaled(`{"min_replicas": 1, "max_replicas": 8}`), by: "deploy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				n := m.start(t)
				defer func() { n.end(true) }()
				if err := n.deploy(x.before, nil); err != nil {
					t.Fatal(err)
				}
				n.wait(5 * time.Second)
				n.want("revision 1", 4, 4, x.by)
				next := x.next
				next.MaxConstructorRetries, next.Sources["max_constructor_retry_count"] = 1, spec.FromCode
				failing := func(ctx context.Context) error {
					select {
					case <-ctx.Done():
					case <-time.After(time.Minute): // fake time
					}
					return errors.New("no licence")
				}
				failed := make(chan error, 1)
				go func() { failed <- n.deploy(next, failing) }()
				n.wait(40 * time.Second)
				if err := <-failed; err == nil {
					t.Error("the deploy of revision 2 did not fail")
				}
				n.wait(2 * time.Minute)
				n.want("revision 1 again", 4, 4, x.by)
			})
		})
	}
}

// TestStoreHangs: a store that does not answer holds up no decision. The newest number is written when it answers again, and the deployments keep their order.
func TestStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newMachine().start(t)
		defer func() { n.end(true) }()
		o := autoscaled(`{"min_replicas": 0, "max_replicas": 8, "target_ongoing_requests": 1}`)
		o.MaxOngoingRequests, o.Sources["max_ongoing_requests"] = 2, spec.FromCode
		if err := n.deploy(o, nil); err != nil {
			t.Fatal(err)
		}
		n.wait(time.Second)
		hangs := make(chan struct{})
		n.store.set(false, hangs)
		n.call(1)
		n.wait(time.Second)
		n.want("a call while the store hangs", 1, 0, "deploy")
		n.call(4)
		n.wait(5 * time.Second)
		n.want("more calls", 5, 0, "deploy")
		n.store.set(false, nil)
		close(hangs)
		n.wait(11 * time.Second) // the write that hung has failed by its time
		n.want("the store answers", 5, 5, "autoscaler")
		n.work.done()
	})
}

// TestDeployWhileStoreHangs: a deploy that leaves the number to the autoscaler leaves it also where the store does not have it yet.
func TestDeployWhileStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newMachine().start(t)
		defer func() { n.end(true) }()
		if err := n.deploy(autoscaled(`{"max_replicas": 8, "target_ongoing_requests": 1}`), nil); err != nil {
			t.Fatal(err)
		}
		n.wait(time.Second)
		n.store.set(true, nil)
		n.call(4)
		n.wait(5 * time.Second)
		n.want("the store is full", 4, 1, "deploy")
		if err := n.deploy(autoscaled(`{"max_replicas": 7, "target_ongoing_requests": 1}`), nil); err != nil {
			t.Fatal(err)
		}
		if got := n.wanted(); got != 4 {
			t.Errorf("%d replicas after the deploy, want 4", got)
		}
		n.store.set(false, nil)
		n.wait(11 * time.Second)
		n.want("the store has room", 4, 4, "autoscaler")
		n.work.done()
	})
}

// TestFirstRecordFails: the first decision meets a full disk, and a target capacity holds: the number that is written later is the autoscaler's, and not halved.
func TestFirstRecordFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newMachine().start(t)
		defer func() { n.end(true) }()
		half := 50.0
		n.SetCapacity(&half, false)
		if err := n.deploy(autoscaled(`{"min_replicas": 2, "max_replicas": 12, "target_ongoing_requests": 1}`), nil); err != nil {
			t.Fatal(err)
		}
		n.wait(time.Second)
		n.store.set(true, nil)
		n.call(6)
		n.wait(20 * time.Second)
		n.want("the disk is full", 6, 2, "deploy")
		n.store.set(false, nil)
		n.wait(20 * time.Second)
		n.want("the disk has room", 6, 6, "autoscaler")
		n.work.done()
	})
}

// TestMemoryOutlivesTheNode: a delay that runs goes on in the next node, after a clean stop and after a kill, and the decisions are there.
func TestMemoryOutlivesTheNode(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		clean bool
		late  time.Duration // by which the step may come later
	}{"stopped": {true, 2 * time.Second}, "killed": {false, 12 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				o := autoscaled(`{"max_replicas": 8, "target_ongoing_requests": 1, "downscale_delay_s": 300, "look_back_period_s": 1}`)
				m.app = m.work.app(o, nil)
				n := m.start(t)
				if err := n.deploy(o, nil); err != nil {
					t.Fatal(err)
				}
				n.call(4)
				n.wait(10 * time.Second)
				n.want("load", 4, 4, "autoscaler")
				n.work.done()
				n.wait(200 * time.Second)
				n.end(x.clean)
				n = m.start(t)
				defer func() { n.end(true) }()
				n.wait(80 * time.Second)
				n.want("before the delay is over", 4, 4, "autoscaler")
				if d := n.Status().Applications["app"].Deployments["A"].Autoscaling; d == nil || len(d.Decisions) == 0 || d.LastUp.IsZero() {
					t.Errorf("the decisions of the node before: %+v", d)
				}
				n.wait(20*time.Second + x.late)
				n.want("after it", 1, 1, "autoscaler")
			})
		})
	}
}

// TestDelayOverAKill: a delay that was set has its time on the clock, although the node is killed in it and is back 2 s later.
func TestDelayOverAKill(t *testing.T) {
	t.Parallel()
	const bounds = `{"max_replicas": 8, "target_ongoing_requests": 1, "look_back_period_s": 2, `
	for name, x := range map[string]struct {
		config        string
		before, after int // calls
		killed        time.Duration
	}{
		"up, soon after its begin":   {bounds + `"upscale_delay_s": 15}`, 1, 4, 4 * time.Second},
		"up":                         {bounds + `"upscale_delay_s": 15}`, 1, 4, 8 * time.Second},
		"down, soon after its begin": {bounds + `"downscale_delay_s": 15}`, 4, 1, 4 * time.Second},
		"down":                       {bounds + `"downscale_delay_s": 15}`, 4, 1, 8 * time.Second},
		"to none":                    {`{"min_replicas": 0, "max_replicas": 8, "downscale_to_zero_delay_s": 15}`, 1, 0, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				o := autoscaled(x.config)
				m.app = m.work.app(o, nil)
				n := m.start(t)
				if err := n.deploy(o, nil); err != nil {
					t.Fatal(err)
				}
				n.cut = true
				n.call(x.before)
				n.wait(33300 * time.Millisecond) // the record of each 10 s has just been written
				if got := n.wanted(); got != x.before {
					t.Fatalf("%d replicas for %d calls", got, x.before)
				}
				n.work.done()
				n.call(x.after)
				changed := time.Now()
				n.wait(x.killed)
				n.end(false)
				time.Sleep(2 * time.Second) // fake time
				n = m.start(t)
				defer func() { n.end(true) }()
				n.cut = true
				n.call(x.after)
				n.wait(time.Until(changed.Add(14 * time.Second)))
				if got := n.wanted(); got != x.before {
					t.Errorf("before the delay is over: %d replicas, want %d", got, x.before)
				}
				n.wait(5 * time.Second) // the delay begins with the load of the look-back period
				if got := n.wanted(); got != x.after {
					t.Errorf("after it: %d replicas, want %d", got, x.after)
				}
			})
		})
	}
}

// TestGrowsInTheNewRevision: replicas that the load asks for during a rollout are of the new revision.
func TestGrowsInTheNewRevision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newMachine().start(t)
		defer func() { n.end(true) }()
		o := autoscaled(`{"max_replicas": 8, "target_ongoing_requests": 1}`)
		var former, next atomic.Int64
		count := func(of *atomic.Int64, takes time.Duration) func(context.Context) error {
			return func(ctx context.Context) error {
				of.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(takes): // fake time
				}
				return nil
			}
		}
		if err := n.deploy(o, count(&former, 0)); err != nil {
			t.Fatal(err)
		}
		n.call(2)
		n.wait(10 * time.Second)
		n.want("before", 2, 2, "autoscaler")
		over := make(chan error, 1)
		changed := o
		changed.Version = "2"
		go func() { over <- n.deploy(changed, count(&next, 20*time.Second)) }()
		n.wait(2 * time.Second)
		n.call(4)
		n.wait(10 * time.Second)
		if got := n.wanted(); got != 6 || former.Load() != 2 || next.Load() < 4 {
			t.Errorf("%d replicas are wanted, %d of the former revision and %d of the new one have been started", got, former.Load(), next.Load())
		}
		n.work.done()
		if err := <-over; err != nil {
			t.Error(err)
		}
		n.wait(time.Second)
		if former.Load() != 2 {
			t.Errorf("%d replicas of the former revision were started", former.Load())
		}
	})
}

// TestHoldOfAPause: a rollout that is paused holds the number: it does not shrink when the load is gone, and says why, but grows with the load. It shrinks when the rollout goes on.
func TestHoldOfAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newMachine().start(t)
		defer func() { n.end(true) }()
		o := autoscaled(`{"max_replicas": 8, "target_ongoing_requests": 1}`)
		if err := n.deploy(o, nil); err != nil {
			t.Fatal(err)
		}
		n.call(4)
		n.wait(10 * time.Second)
		n.want("before", 4, 4, "autoscaler")
		changed := o
		changed.Version = "2"
		changed.Rollout.Steps = []string{"1"}
		over := make(chan error, 1)
		go func() { over <- n.deploy(changed, nil) }()
		n.wait(10 * time.Second)
		n.work.done()
		n.wait(time.Hour)
		if d := n.Status().Applications["app"].Deployments["A"].Autoscaling; n.wanted() != 4 || d.Desired != 1 || d.Blocked != "a rollout is paused" {
			t.Errorf("an hour without a call in a pause: %d replicas are wanted, %+v", n.wanted(), d)
		}
		n.call(6)
		n.wait(10 * time.Second)
		if got := n.wanted(); got != 6 {
			t.Errorf("with 6 calls in a pause %d replicas are wanted", got)
		}
		n.work.done()
		if err := errors.Join(n.ResumeRollout(context.Background(), "app", "ann"), <-over); err != nil {
			t.Error(err)
		}
		n.wait(time.Hour)
		n.want("an hour after the rollout", 1, 1, "autoscaler")
	})
}

// TestRolloutWithoutRoom: a new replica that waits for room gets that of the old ones that the load needs no more.
func TestRolloutWithoutRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.cpus = 3
		n := m.start(t)
		defer func() { n.end(true) }()
		o := autoscaled(`{"max_replicas": 8, "target_ongoing_requests": 1}`)
		o.Resources.CPUs, o.Sources["ray_actor_options.num_cpus"] = 1, spec.FromCode
		if err := n.deploy(o, nil); err != nil {
			t.Fatal(err)
		}
		n.call(3)
		n.wait(10 * time.Second)
		n.want("before", 3, 3, "autoscaler")
		changed := o
		changed.Version, changed.Resources.CPUs = "2", 2
		over := make(chan error, 1)
		go func() { over <- n.deploy(changed, nil) }()
		n.wait(10 * time.Second)
		if got := n.wanted(); got != 3 {
			t.Errorf("with 3 calls in a rollout that waits for room %d replicas are wanted", got)
		}
		n.work.done()
		n.wait(5 * time.Minute)
		select {
		case err := <-over:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the rollout waits for room that the load does not need")
		}
		n.want("after the rollout", 1, 1, "autoscaler")
	})
}

// TestReadinessFlaps: the totals of calls neither fall nor jump when a replica with a past is unready and ready again: the others would look faster or slower than they are.
func TestReadinessFlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.work.takes = 50 * time.Millisecond
		n := m.start(t)
		defer func() { n.end(true) }()
		o := autoscaled(`{"min_replicas": 2, "max_replicas": 2}`)
		o.ReadinessPeriod, o.Sources["readiness_check_period_s"] = 500*time.Millisecond, spec.FromCode
		if err := n.deploy(o, nil); err != nil {
			t.Fatal(err)
		}
		sample := func() (load autoscale.Load, ready int) {
			n.Mu.Lock()
			of := n.Apps["app"].Deployments["A"].ScaledLocked()
			n.Mu.Unlock()
			return scaler.Sample(of.Serving, of.Unready)
		}
		was, _ := sample()
		out := 0
		for i := range 300 {
			m.work.unready.Store(i/20%2 == 1)
			n.call(2)
			n.wait(100 * time.Millisecond)
			load, ready := sample()
			if load.Arrived != was.Arrived+2 || load.Finished != was.Finished+2 {
				t.Fatalf("step %d, %d replicas ready: from %+v to %+v with 2 calls", i, ready, was, load)
			}
			if was = load; ready == 1 {
				out++
			}
		}
		if out < 50 {
			t.Errorf("one replica was unready %d times", out)
		}
	})
}

package router

import (
	"fmt"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestNoAllocations is not parallel: allocations are counted over the whole process.
func TestNoAllocations(t *testing.T) { //nolint:paralleltest // see above
	for _, n := range []int{1, 2, 100} {
		x := withReplicas(n)
		if allocs := testing.AllocsPerRun(100, func() {
			x.TryAcquire().Gate().Release(nil)
		}); allocs != 0 {
			t.Errorf("%d replicas: TryAcquire and Release allocate %v times", n, allocs)
		}
	}
	for _, kind := range pickings {
		r, c := picking(kind, 100)
		r.TryAcquire(c).Gate().Release(nil)
		if allocs := testing.AllocsPerRun(100, func() {
			r.TryAcquire(c).Gate().Release(nil)
		}); allocs != 0 {
			t.Errorf("%s: TryAcquire and Release allocate %v times", kind, allocs)
		}
	}
	x := newSubqueue(newAdmission())
	a := occupied("a", 1)
	x.Update(nil, []Replica{a})
	q := new(quiet)
	if allocs := testing.AllocsPerRun(100, func() {
		x.Submit(nil, &q.ticket, "o", q)
		a.Gate().Release(nil)
	}); allocs != 0 {
		t.Errorf("queueing and being granted allocate %v times", allocs)
	}
}

// quiet is a call that keeps its slot until the test releases it.
type quiet struct{ ticket Ticket }

func (*quiet) Assigned(*call.Batch, Replica)   {}
func (*quiet) Failed(*call.Batch, *call.Error) {}

func withReplicas(n int) *subqueue {
	x := newSubqueue(newAdmission())
	set := make([]Replica, n)
	for i := range set {
		set[i] = replica(fmt.Sprint(i), 100)
	}
	x.Update(nil, set)
	return x
}

// picking makes a router with one of the ways of routing.
func picking(kind string, n int) (*Router, *call.Info) {
	r, c, set := New("here"), &call.Info{}, replicas(n, 100)
	for _, rep := range set {
		rep.(*member).node = "here"
	}
	switch kind {
	case "round robin":
		r.SetPolicy(NewRoundRobin())
	case "hash":
		r.SetPolicy(NewConsistentHash(DefaultVirtualNodes, DefaultFallbacks))
		c = session("me")
	case "model":
		c = withModel("m")
	case "session":
		c = session("me")
	case "local":
		c.Affinity = &call.Affinity{Local: true}
	}
	r.Update(nil, set)
	r.SetModels(set[n-1], []string{"m"})
	return r, c
}

var pickings = []string{"any", "round robin", "hash", "model", "session", "local"}

func BenchmarkPick(b *testing.B) {
	for _, kind := range pickings {
		for _, n := range []int{10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/replicas=%d", kind, n), func(b *testing.B) {
				r, c := picking(kind, n)
				r.TryAcquire(c).Gate().Release(nil) // makes the ring
				b.ReportAllocs()
				for b.Loop() {
					r.TryAcquire(c).Gate().Release(nil)
				}
			})
		}
	}
}

func BenchmarkTryAcquire(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10000} {
		b.Run(fmt.Sprintf("replicas=%d", n), func(b *testing.B) {
			x := withReplicas(n)
			b.ReportAllocs()
			for b.Loop() {
				x.TryAcquire().Gate().Release(nil)
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		x := withReplicas(1000)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				x.TryAcquire().Gate().Release(nil)
			}
		})
	})
}

func BenchmarkSubmit(b *testing.B) {
	b.Run("at-once", func(b *testing.B) {
		x, q := withReplicas(10), new(assigned)
		b.ReportAllocs()
		for b.Loop() {
			x.Submit(nil, &q.ticket, "o", q)
			q.replica.Gate().Release(nil)
		}
	})
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("queued/replicas=%d", n), func(b *testing.B) {
			set := make([]Replica, n)
			for i := range set {
				set[i] = occupied(fmt.Sprint(i), 1)
			}
			x, q := newSubqueue(newAdmission()), new(quiet)
			x.Update(nil, set)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				x.Submit(nil, &q.ticket, "o", q)
				set[i%n].Gate().Release(nil)
				i++
			}
		})
	}
}

type assigned struct {
	ticket  Ticket
	replica Replica
}

func (q *assigned) Assigned(_ *call.Batch, r Replica) { q.replica = r }
func (*assigned) Failed(*call.Batch, *call.Error)     {}

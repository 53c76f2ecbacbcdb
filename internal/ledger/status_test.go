package ledger

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/placement"
)

// TestFill: the status has what the node gives out and what of it is free, and each replica has what it holds. What was not stated of the node is recorded only. Two replicas in one process use its
// memory once.
func TestFill(t *testing.T) {
	t.Parallel()
	n := placement.Unstated("", "0", "1")
	n.CPUs, n.AnyCustom, n.Custom = 4*placement.One, false, map[string]placement.Amount{"licence": 2 * placement.One, "disk": placement.One}
	l := New(n)
	l.Ask("A#1", "app/A", placement.Demand{CPUs: placement.AmountOf(0.1), GPUs: placement.AmountOf(0.5), Memory: 3 << 30, Custom: map[string]placement.Amount{"licence": placement.One}})
	l.Ask("A#2", "app/A", placement.Demand{CPUs: placement.AmountOf(0.2)})
	l.Ask("A#3", "app/A", placement.Demand{CPUs: placement.AmountOf(9)}) // waits
	replicas := []helvetype.ReplicaStatus{{ID: "A#1", PID: 7, Memory: 100, CPU: 150}, {ID: "A#2", PID: 7, Memory: 100, CPU: 150}, {ID: "A#3", PID: 8, Memory: 10, CPU: 1}}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"app": {Deployments: map[string]helvetype.DeploymentStatus{"A": {Replicas: replicas}}}}}
	l.Fill(&s)
	want := map[string]helvetype.Resource{
		"CPU": {Total: new(4.0), Held: 0.3, Free: new(3.7), Used: 1.51}, "GPU": {Total: new(2.0), Held: 0.5, Free: new(1.5)}, "memory": {Held: 3 << 30, Used: 110},
		"licence": {Total: new(2.0), Held: 1, Free: new(1.0)}, "disk": {Total: new(1.0), Free: new(1.0)},
	}
	if diff := cmp.Diff(want, s.Resources); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]float64{"CPU": 0.1, "GPU": 0.5, "memory": 3 << 30, "licence": 1}, replicas[0].Resources); diff != "" {
		t.Error(diff)
	}
	if len(replicas[1].Resources) != 1 || replicas[2].Resources != nil {
		t.Error(replicas)
	}
	l.Keep(placement.Holding{Holder: "B#1", Deployment: "app/B", CPUs: 6 * placement.One}) // of the node before, which had more
	l.Fill(&s)
	if cpus := s.Resources["CPU"]; cpus.Held != 6.3 || *cpus.Free != 0 {
		t.Error(cpus)
	}
	empty := helvetype.Status{}
	New(placement.Unstated("")).Fill(&empty)
	if empty.Resources != nil {
		t.Error(empty.Resources)
	}
}

// TestNoteUse: the reason of a wait says how much of the memory of the GPUs is in use, while that is known.
func TestNoteUse(t *testing.T) {
	t.Parallel()
	l := New(placement.Unstated("n", "0"))
	l.Ask("A#1", "app/A", placement.Demand{GPUs: placement.One})
	w := l.Ask("B#1", "app/B", placement.Demand{GPUs: placement.One})
	if other := New(placement.Unstated("n", "0")); other.HoldsDevice() || !l.HoldsDevice() {
		t.Error("a ledger without a holding has a device that is held, or the other way round")
	}
	for used, want := range map[uint64]string{1: "app/A#1 holds 1 (1 bytes of GPU memory in use)", 3 << 30: "app/A#1 holds 1 (3 GiB of GPU memory in use)"} {
		noted := l.Noted()
		l.NoteUse(map[string]uint64{"A#1": used})
		<-noted
		noted = l.Noted()
		if why := w.Reason(); why == nil || why.Error() != "needs 1 GPU, and 0 of 1 are free: "+want {
			t.Errorf("%v, want %s", why, want)
		}
		l.NoteUse(map[string]uint64{"A#1": used})
		select {
		case <-noted:
			t.Error("the same use is another one")
		default:
		}
	}
}

package usage

import (
	"os"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/machine"
	"github.com/helve-serve/helve/internal/telemetry"
)

// TestGPUs: a replica uses the memory of its process and of the descendants of that. A process that is not here, or has opened no GPU, has its number from another container.
func TestGPUs(t *testing.T) {
	t.Parallel()
	var m Meter
	replicas := []helvetype.ReplicaStatus{{ID: "D#1", PID: 7, State: helvetype.ReplicaRunning, GPUs: []string{"0"}}, {ID: "D#2", PID: 8, State: helvetype.ReplicaRunning}}
	pids := map[string]int{"D#1": 7, "D#2": 8}
	kin := map[int]Kin{
		7: {Parent: 2, Group: 7, GPU: true}, 8: {Parent: 2, Group: 8}, 2: {Parent: 1, Group: 2, GPU: true},
		71: {Parent: 7, Group: 7}, 72: {Parent: 71, Group: 72, GPU: true}, // a grandchild that has left the group
		73: {Parent: 1, Group: 7, GPU: true}, // its parent has ended
		90: {Parent: 1, Group: 90, GPU: true}, 91: {Parent: 91, Group: 91, GPU: true},
	}
	m.Look(begin, of(new(telemetry.Calls), 0), pids, func(int) (Process, bool) { return Process{Memory: 1, CPU: time.Second, Started: 1}, true })
	see := func(first, second uint64, here bool, all ...machine.GPUProcess) {
		t.Helper()
		by, is := m.LookAtGPUs(all, pids, func(pid int, _ bool) (Kin, bool) { k, ok := kin[pid]; return k, ok })
		if is != here || by["D#1"] != first || by["D#2"] != second {
			t.Errorf("%v is here: %v, %v", all, is, by)
		}
		if got := filled(&m, replicas...).Replicas; got[0].GPUMemory != first || got[1].GPUMemory != second {
			t.Errorf("%v: %d and %d bytes, want %d and %d", all, got[0].GPUMemory, got[1].GPUMemory, first, second)
		}
	}
	of := func(pid int, used uint64) machine.GPUProcess {
		return machine.GPUProcess{PID: pid, Device: "GPU-1", Used: used}
	}
	see(0, 0, true)
	see(30, 0, true, of(7, 30))
	see(63, 0, true, of(7, 30), of(7, 1), of(72, 12), of(73, 20), of(90, 1000), of(91, 1000), of(2, 1000), of(4711, 1000))
	see(0, 0, false, of(8, 5), of(71, 5), of(4711, 1000)) // 8 and 71 have no GPU open
	see(1, 0, true, of(7, 1))
	k := telemetry.Snapshot{Applications: []telemetry.Application{{Name: "app", Deployments: []telemetry.Deployment{{Name: "D", Replicas: []telemetry.Replica{{ID: "D#1"}, {ID: "D#2"}}}}}}}
	m.Measure(&k)
	if got := k.Applications[0].Deployments[0].Replicas; got[0].GPUMemory != 1 || got[1].GPUMemory != 0 {
		t.Errorf("%+v", got)
	}
	see(0, 0, true)
}

// TestKinOf reads the relations of this process.
func TestKinOf(t *testing.T) {
	t.Parallel()
	k, ok := KinOf(os.Getpid(), true)
	if !ok || k.Parent != os.Getppid() || k.Group <= 0 || k.GPU {
		t.Errorf("%+v, %v", k, ok)
	}
	if _, ok := KinOf(1<<30, true); ok {
		t.Error("a process that is not there")
	}
}

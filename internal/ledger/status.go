package ledger

import (
	"maps"
	"math"
	"os"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/placement"
)

// Fill adds to a status what the node gives out, and what its replicas hold. The use that was measured is that of the replicas of the status.
func (l *Ledger) Fill(s *helvetype.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := total(&l.node)
	for _, h := range l.held {
		for name, amount := range h.Amounts() {
			r := all[name]
			r.Held += amount
			all[name] = r
		}
	}
	memory, cpus := l.fillReplicasLocked(s)
	for name, r := range all {
		r.Held = exact(r.Held)
		if r.Total != nil {
			r.Free = new(max(exact(*r.Total-r.Held), 0))
		}
		switch name {
		case helvetype.ResourceMemory:
			r.Used = memory
		case helvetype.ResourceCPU:
			r.Used = cpus
		}
		all[name] = r
	}
	if len(all) > 0 {
		s.Resources = all
	}
}

// HoldsDevice says that a replica holds a GPU, or a part of one.
func (l *Ledger) HoldsDevice() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		if len(h.Devices) > 0 {
			return true
		}
	}
	return false
}

// NoteUse notes the memory of GPUs that replicas use, in bytes by their ids, for the texts that say which replicas hold a GPU. The map is not changed any more.
func (l *Ledger) NoteUse(used map[string]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !maps.Equal(l.used, used) {
		l.used = used
		close(l.noted)
		l.noted = make(chan struct{})
	}
}

// Noted is closed when the memory in use changes: the reasons of waits may have another text then.
func (l *Ledger) Noted() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noted
}

// exact is an amount without the error of sums of floats.
func exact(n float64) float64 { return math.Round(n*float64(placement.One)) / float64(placement.One) }

// total is the amounts that a node gives out.
func total(n *placement.Node) map[string]helvetype.Resource {
	all := map[string]helvetype.Resource{}
	if n.CPUs != placement.All {
		all[helvetype.ResourceCPU] = helvetype.Resource{Total: new(n.CPUs.Float())}
	}
	if len(n.Devices) > 0 {
		all[helvetype.ResourceGPU] = helvetype.Resource{Total: new(float64(len(n.Devices)))}
	}
	if n.Memory >= 0 {
		all[helvetype.ResourceMemory] = helvetype.Resource{Total: new(float64(n.Memory))}
	}
	for name, amount := range n.Custom {
		all[name] = helvetype.Resource{Total: new(amount.Float())}
	}
	return all
}

// fillReplicasLocked adds their holdings to the replicas of a status, and sums the use by their processes, each of which counts once: bytes of memory, and processors.
func (l *Ledger) fillReplicasLocked(s *helvetype.Status) (memory, cpus float64) {
	counted := map[int]bool{}
	for _, a := range s.Applications {
		for _, d := range a.Deployments {
			for i := range d.Replicas {
				r := &d.Replicas[i]
				if h, ok := l.held[r.ID]; ok {
					r.Resources = h.Amounts()
				}
				pid := r.PID
				if pid == 0 {
					pid = os.Getpid()
				}
				if r.Memory > 0 && !counted[pid] {
					counted[pid] = true
					memory, cpus = memory+float64(r.Memory), cpus+r.CPU/100
				}
			}
		}
	}
	return memory, cpus
}

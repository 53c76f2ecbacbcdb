package worker

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
)

// Families are the families (family.go) of processes that the node starts beside its workers, for autoscaling policies. They end with the node, also a node whose workers outlive it:
// the kernel kills the process itself, because its starter asks for that ([kernel.Child]), and a guard (guard.go) kills its descendants. For example, a policy has started ssh for a tunnel, and the node
// ends by SIGKILL: the guard kills ssh. The zero Families are ready, and safe for concurrent use. The guard starts with the first process, or, if that fails, with the next one.
type Families struct {
	mu     sync.Mutex
	name   string // begins the names of the families; "" before the first
	guard  *Spawner
	last   int
	closed bool
}

// Add makes the family of a process that is about to start: the variable goes into its environment, and end kills its descendants when it has ended. failed is told why there is no guard.
func (f *Families) Add(failed func(error)) (variable string, end func()) {
	f.mu.Lock()
	if f.name == "" {
		var name [8]byte
		rand.Read(name[:]) //nolint:errcheck // never fails since Go 1.24
		f.name = hex.EncodeToString(name[:])
	}
	if f.guard == nil && !f.closed { // closed: the start of the process fails soon
		guard := &Spawner{family: f.name}
		if err := guard.Guard(); err != nil {
			failed(err)
		} else {
			f.guard = guard
		}
	}
	f.last++
	family, guard := fmt.Sprintf("%s.beside-%d", f.name, f.last), f.guard
	f.mu.Unlock()
	if guard != nil {
		guard.Guarded()
	}
	return familyEnv + "=" + family, func() { endFamily(family, false) }
}

// Close ends the guard, which kills the processes of the families that are left.
func (f *Families) Close() {
	f.mu.Lock()
	guard := f.guard
	f.guard, f.closed = nil, true
	f.mu.Unlock()
	if guard != nil {
		guard.guard()
	}
}

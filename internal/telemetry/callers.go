package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
)

// CallerKind is a kind of callers; 0 for a caller that is not known.
type CallerKind uint8

// The kinds of callers.
const (
	FromHTTP       CallerKind = iota + 1 // clients of HTTP
	FromDeployment                       // a method of a replica
	FromDriver                           // programs outside of replicas
)

// Caller is where calls of a deployment come from. App and Deployment are "" but for FromDeployment.
type Caller struct {
	Kind            CallerKind
	App, Deployment string
}

// callersMax is the number of callers of one [Callers]; calls of others are not counted. A node has one table for each deployment, and one for each of its replicas in this process.
const callersMax = 64

// Callers counts the calls of each caller. A call takes no lock and no memory if its caller is known: there are few, which are looked through. The zero Callers is ready; its methods may be
// called from any goroutine, and those of a nil Callers do nothing.
type Callers struct {
	all atomic.Pointer[[]*callerCounts] // a slice is never written to, each new caller makes another
	mu  sync.Mutex                      // held while a caller is added
}

type callerCounts struct {
	of            Caller
	ended, failed atomic.Uint64
	waited        atomic.Int64 // nanoseconds, for slots
	_             [64]byte     // callers on different processors do not share a cache line
}

// CallerCounts are the calls of a caller so far.
type CallerCounts struct {
	Ended, Failed uint64
	Waited        time.Duration // for slots, of all its calls
}

// Plus is the sum of two counts.
func (k CallerCounts) Plus(o CallerCounts) CallerCounts {
	return CallerCounts{k.Ended + o.Ended, k.Failed + o.Failed, k.Waited + o.Waited}
}

// End counts a call that has ended.
func (c *Callers) End(of Caller, failed bool) {
	if k := c.find(of); k != nil {
		k.ended.Add(1)
		if failed {
			k.failed.Add(1)
		}
	}
}

// Waited counts the time that a call has waited for its slot.
func (c *Callers) Waited(of Caller, took time.Duration) {
	if k := c.find(of); k != nil {
		k.waited.Add(int64(took))
	}
}

func (c *Callers) find(of Caller) *callerCounts {
	if c == nil || of.Kind == 0 {
		return nil
	}
	all := c.all.Load()
	if all != nil {
		for _, k := range *all {
			if k.of.Kind == of.Kind && k.of.Deployment == of.Deployment && k.of.App == of.App { // the usual difference first
				return k
			}
		}
	}
	if all != nil && len(*all) == callersMax { // calls of callers above the bound do not wait for each other
		return nil
	}
	return c.add(of)
}

// add adds a caller.
func (c *Callers) add(of Caller) *callerCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*callerCounts
	if before := c.all.Load(); before != nil {
		for _, k := range *before {
			if k.of == of { // another call has added it
				return k
			}
		}
		if len(*before) == callersMax {
			return nil
		}
		all = append(all, *before...)
	}
	k := &callerCounts{of: of}
	all = append(all, k)
	c.all.Store(&all)
	return k
}

// AddTo adds the counts to those of a map.
func (c *Callers) AddTo(all map[Caller]CallerCounts) {
	if c == nil {
		return
	}
	if now := c.all.Load(); now != nil {
		for _, k := range *now {
			all[k.of] = all[k.of].Plus(CallerCounts{k.ended.Load(), k.failed.Load(), time.Duration(k.waited.Load())})
		}
	}
}

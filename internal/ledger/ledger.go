// Package ledger has the holdings of the replicas of this node, and the replicas that wait for one. Package placement decides which devices fit; the ledger remembers the
// answers, and gives resources that come back to the replicas that wait, the first in turn first.
//
// A replica that does not fit does not hold up the ones behind it. For example, on a node with two GPUs A holds one. B asks for two and waits; C asks for one and gets it. When A and C
// have ended, B gets both.
//
// A replica that takes the place of others claims their holdings ([Wait.Claim]). For example, a node has one GPU. X#1 holds it, and Y#1 of another application waits for
// it since yesterday. X is updated: X#1 ends, so that X#2 can start. X#2 gets the GPU, and not Y#1, although Y#1 has waited longer.
//
// A holding comes back when the process of its replica is gone ([Ledger.Free]), never before: the memory of a GPU is free only then.
package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/helve-serve/helve/internal/placement"
)

// Ledger has the holdings of a node. Its methods may be called from any goroutine.
type Ledger struct {
	mu      sync.Mutex
	node    placement.Node
	space   *placement.Space
	held    map[string]placement.Holding // by replica
	used    map[string]uint64            // bytes of GPUs, by replica
	noted   chan struct{}                // closed when used changes
	waiting []*Wait                      // in the order in which they came
}

// New is the ledger of a node on which nothing runs.
func New(node placement.Node) *Ledger {
	l := &Ledger{node: node, held: map[string]placement.Holding{}, noted: make(chan struct{})}
	l.space = placement.NewSpace(&l.node)
	return l
}

// Node has the resources of the node.
func (l *Ledger) Node() placement.Node { return l.node }

// Wait is a replica that has asked for a part of the node. It ends with a place (Done), or with Leave.
type Wait struct {
	of         *Ledger
	holder     string
	deployment string
	demand     placement.Demand
	claims     map[string]bool // of replicas that end for this one
	may        []string        // replicas that would end for this one
	done       chan struct{}
}

// Ask asks for a part of the node for a replica that holds none. A demand of nothing is met at once.
func (l *Ledger) Ask(holder, deployment string, d placement.Demand) *Wait {
	w := &Wait{of: l, holder: holder, deployment: deployment, demand: d, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, w)
	l.grantLocked()
	return w
}

// Done is closed when the replica has its place.
func (w *Wait) Done() <-chan struct{} { return w.done }

// Holding is the place of the replica; without a holder while it waits.
func (w *Wait) Holding() placement.Holding {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	return w.of.held[w.holder]
}

// Reason says why the replica waits; nil if it does not.
func (w *Wait) Reason() error {
	l := w.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.waiting, w) {
		return nil
	}
	if e := l.space.Short(w.deployment, &w.demand, l.heldLocked()); e != nil {
		return e
	}
	if o := l.beforeLocked(w); o != nil {
		return fmt.Errorf("what is free is for %s, which takes the place of other replicas", o.holder)
	}
	return nil
}

// Claim says that a replica ends so that this one gets its holding. Others do not get resources that this one needs. The replicas in may would end for it too, one after the other.
func (w *Wait) Claim(ends string, may []string) {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if w.claims == nil {
		w.claims = map[string]bool{}
	}
	w.claims[ends] = true
	w.may = may
}

// Pass takes the turn of the first of some replicas that waits before this one, which gets the turn of this one. For example, A#3, B#1 and A#4 wait, and A#4 is of the new revision of A and passes
// A#3: the order is A#4, B#1, A#3.
func (w *Wait) Pass(holders map[string]bool) {
	l := w.of
	l.mu.Lock()
	defer l.mu.Unlock()
	own := slices.Index(l.waiting, w)
	first := slices.IndexFunc(l.waiting, func(o *Wait) bool { return holders[o.holder] })
	if first >= 0 && first < own {
		l.waiting[first], l.waiting[own] = w, l.waiting[first]
	}
}

// Leave ends the wait. A place that the replica has got stays its own until [Ledger.Free].
func (w *Wait) Leave() {
	l := w.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.grantLocked() // the claims of the replica are free for others
	}
}

// grantLocked gives free resources to the replicas that wait: first to replicas with a claim, then in turn.
func (l *Ledger) grantLocked() {
	for _, claiming := range []bool{true, false} {
		for _, w := range slices.Clone(l.waiting) {
			if (len(w.claims) > 0) != claiming || !w.demand.Meets(l.node) || !claiming && l.beforeLocked(w) != nil {
				continue
			}
			devices, ok := l.space.Fit(w.deployment, &w.demand)
			if !ok {
				continue
			}
			l.holdLocked(placement.HoldingOf(w.holder, w.deployment, w.demand, devices))
			l.waiting = slices.DeleteFunc(l.waiting, func(o *Wait) bool { return o == w })
			close(w.done)
		}
	}
}

// beforeLocked is a replica with a claim that would not fit any more if w got its place now; nil for none.
func (l *Ledger) beforeLocked(w *Wait) *Wait {
	for _, o := range l.waiting {
		if o == w || len(o.claims) == 0 {
			continue
		}
		ending := slices.Collect(maps.Keys(o.claims))
		if l.spoilsLocked(w, o, ending) || l.spoilsLocked(w, o, slices.Concat(ending, o.may)) {
			return o
		}
	}
	return nil
}

// spoilsLocked says that o would fit when some replicas have ended, and would not if w had its place before.
func (l *Ledger) spoilsLocked(w, o *Wait, ended []string) bool {
	s := l.withoutLocked(ended)
	if _, fits := s.Fit(o.deployment, &o.demand); !fits {
		return false
	}
	devices, ok := s.Fit(w.deployment, &w.demand)
	if !ok {
		return false
	}
	s.Add(placement.HoldingOf(w.holder, w.deployment, w.demand, devices))
	_, fits := s.Fit(o.deployment, &o.demand)
	return !fits
}

// withoutLocked is the node without some replicas.
func (l *Ledger) withoutLocked(ids []string) *placement.Space {
	s := l.space.Clone()
	gone := map[string]bool{}
	for _, id := range ids {
		if h, ok := l.held[id]; ok && !gone[id] {
			s.Remove(h)
			gone[id] = true
		}
	}
	return s
}

// Fits says whether a demand would fit if some replicas gave their parts back. For example, of two devices A and B hold one each: a demand of two fits without A and B, and not
// without A alone.
func (l *Ledger) Fits(deployment string, d placement.Demand, without []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.withoutLocked(without).Fit(deployment, &d)
	return ok && d.Meets(l.node)
}

func (l *Ledger) holdLocked(h placement.Holding) {
	l.held[h.Holder] = h
	l.space.Add(h)
}

// Keep notes the holding of a replica that runs already: the node before has started it. It is its own until [Ledger.Free], even if the node has less to give out by now: a device that the
// node does not have any more is noted, and is given to no other.
func (l *Ledger) Keep(h placement.Holding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.held[h.Holder]; !ok {
		l.holdLocked(h)
	}
}

// Free takes back the holding of a replica. A replica that holds nothing is no mistake.
func (l *Ledger) Free(holder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.held[holder]
	if !ok {
		return
	}
	l.space.Remove(h)
	delete(l.held, holder)
	l.grantLocked()
}

// Holds says whether a replica has a holding for which others may wait. An amount that was not stated of the node does not count.
func (l *Ledger) Holds(holder string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.held[holder]
	return ok && (len(h.Devices) > 0 || h.CPUs > 0 && l.node.CPUs != placement.All || h.Memory > 0 && l.node.Memory >= 0 || len(h.Custom) > 0 && !l.node.AnyCustom)
}

// Of is the holding of a replica; without a holder for none.
func (l *Ledger) Of(holder string) placement.Holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[holder]
}

// Held lists the holdings of all replicas, in the order of their deployments and ids.
func (l *Ledger) Held() []placement.Holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heldLocked()
}

// Elsewhere lists the holdings of the replicas of all applications but one.
func (l *Ledger) Elsewhere(app string) []placement.Holding {
	return slices.DeleteFunc(l.Held(), func(h placement.Holding) bool { return strings.HasPrefix(h.Deployment, app+"/") })
}

func (l *Ledger) heldLocked() []placement.Holding {
	all := slices.SortedFunc(maps.Values(l.held), func(a, b placement.Holding) int {
		return cmp.Or(cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Holder, b.Holder))
	})
	for i := range all {
		all[i].Used = l.used[all[i].Holder]
	}
	return all
}

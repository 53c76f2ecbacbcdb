package records

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/store"
)

// Generation is the revision of the store that has changed the target last: applications, numbers of replicas and settings. The end of a deploy is no change: what should
// run is the same before and after it. For example, an operator deploys and reads generation 7. A minute later the last replica is ready, and the
// generation is still 7. In a node that has changed nothing yet it is the newest revision of the store.
//
// A change counts when the node has taken it over, which is at the end of the turn of its operation: who reads a generation and then the status has read all that
// the generation stands for. For example, a scale from 2 to 3 is written as revision 8, and for a moment the status still says 2. A reader of that moment gets
// generation 7, so that its own change from 2 to 3 is refused.
func (t *Target) Generation() uint64 {
	if g := t.settled.Load(); g > 0 {
		return uint64(g)
	}
	return t.Newest()
}

// Newest is the generation with changes that are written and not taken over yet.
func (t *Target) Newest() uint64 {
	if g := t.generation.Load(); g > 0 {
		return uint64(g)
	}
	_, revision, err := t.Store.Get(context.Background(), store.SettingsKey().String())
	if err != nil {
		return 0
	}
	t.generation.CompareAndSwap(0, revision)
	return uint64(t.generation.Load())
}

// settle has the generation count all that is written.
func (t *Target) settle() {
	raise(&t.settled, t.generation.Load())
}

// raise sets a number to a larger one.
func raise(n *atomic.Int64, to int64) {
	for {
		is := n.Load()
		if to <= is || n.CompareAndSwap(is, to) {
			return
		}
	}
}

// noting notes the revisions of the changes that a store makes.
type noting struct {
	store.Store
	of *Target
}

func (n noting) Txn(ctx context.Context, t store.Txn) (revision int64, err error) {
	revision, err = n.Store.Txn(ctx, t)
	if err != nil || ctx.Value(endsDeploy{}) != nil || !changesTarget(t) {
		return revision, err
	}
	raise(&n.of.generation, revision)
	if len(n.of.turn) == 0 { // a change of no operation
		n.of.settle()
	}
	return revision, nil
}

// changesTarget says that a transaction writes records of the target.
func changesTarget(t store.Txn) bool {
	for _, op := range t.Then {
		for _, prefix := range []string{store.Apps().String(), store.Scales("").String(), store.SettingsKey().String()} {
			if strings.HasPrefix(op.Key, prefix) {
				return true
			}
		}
	}
	return false
}

// endsDeploy is the key of a context whose transactions end a deploy, and leave the generation.
type endsDeploy struct{}

func endingDeploy(ctx context.Context) context.Context { return LeavesGeneration(ctx) }

// LeavesGeneration is a context whose writes are no change of the target by a person or program: an autoscaler follows what was asked for already. For example, an operator reads
// generation 7, a deployment gets a replica more by its load, and the operator's change with generation 7 is not refused.
func LeavesGeneration(ctx context.Context) context.Context {
	return context.WithValue(ctx, endsDeploy{}, true)
}

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
func (t *Target) Generation() uint64 {
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

// noting notes the revisions of the changes that a store makes.
type noting struct {
	store.Store
	generation *atomic.Int64
}

func (n noting) Txn(ctx context.Context, t store.Txn) (revision int64, err error) {
	revision, err = n.Store.Txn(ctx, t)
	if err != nil || ctx.Value(endsDeploy{}) != nil || !changesTarget(t) {
		return revision, err
	}
	for {
		g := n.generation.Load()
		if revision <= g || n.generation.CompareAndSwap(g, revision) {
			return revision, nil
		}
	}
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

func endingDeploy(ctx context.Context) context.Context {
	return context.WithValue(ctx, endsDeploy{}, true)
}

package controller

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestContextsOfFormerRevisions: the context of a revision ends when nothing of the revision is left, and goes on as long as a replica goes on that it has started.
func TestContextsOfFormerRevisions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		var contexts []context.Context
		for _, x := range []struct {
			version  string
			replicas int
			want     []bool // the contexts go on
		}{
			{"1", 2, []bool{true}},
			{"1", 3, []bool{true, true}}, // two replicas of the first revision go on
			{"2", 3, []bool{false, false, true}},
			{"3", 1, []bool{false, false, false, true}},
		} {
			n.deploy(t, ofVersion(x.version, x.replicas, nil))
			synctest.Wait()
			n.Mu.Lock()
			contexts = append(contexts, n.Apps["app"].Current.Ctx)
			n.Mu.Unlock()
			for i, ctx := range contexts {
				if (ctx.Err() == nil) != x.want[i] {
					t.Errorf("version %s with %d replicas: the context of revision %d: %v", x.version, x.replicas, i+1, ctx.Err())
				}
			}
			if have := len(n.running("app", "A")); have != x.replicas {
				t.Errorf("version %s: %d replicas run, want %d", x.version, have, x.replicas)
			}
		}
	})
}

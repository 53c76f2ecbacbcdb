package takeover_test

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/snapshot"
)

// ranks asks every replica of a Python Ledger for its rank, in the order of the ranks. A replica whose own rank is not that of the node's status is
// left out: a test asks until the replicas have learnt theirs.
func (d *Door) ranks(ctx context.Context) ([]kept, error) {
	entries, err := d.do.Broadcast(ctx, task{}).Results(ctx)
	if err != nil {
		return nil, err
	}
	status := map[string]helvetype.ReplicaStatus{}
	for _, r := range ownSystem.Load().Status().Applications["ledgerpy"].Deployments["Ledger"].Replicas {
		status[r.ID] = r
	}
	var all []kept
	for _, e := range entries {
		if k := e.Value; k.PID > 0 && status[k.Replica].Rank == k.Rank {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Compare(a.Rank, b.Rank) })
	return all, nil
}

// ranked waits until the ranks of three replicas are 0, 1 and 2, and are in the state of the node, which the next node reads.
func (n *testNode) ranked(dir string) []kept {
	n.t.Helper()
	var all []kept
	until(n.t, func() bool {
		out, err := n.send(task{Op: "ranks"}) // fails while a replica that was killed is still in the set
		all = out.All
		if err != nil || len(all) != 3 {
			return false
		}
		state, err := snapshot.Read(filepath.Join(dir, "state"))
		for i, k := range all {
			rank, ranked := 0, false
			for _, a := range state.Applications {
				if n, ok := a.Ranks[k.Replica]; ok {
					rank, ranked = n, true
				}
			}
			if k.Rank != i || err != nil || !ranked || rank != i {
				return false
			}
		}
		return true
	})
	return all
}

// TestRanksOutliveTheirNode: a replica that goes on without its node has the same rank under the next node. The rank of a replica that has died
// before its node, or with it, belongs to the replica in its place. For example, of the replicas A, B and C with the ranks 0, 1 and 2, A dies, and
// D takes the rank 0; then the node and B die, and the next node has D with 0, a new replica with 1, and C with 2.
func TestRanksOutliveTheirNode(t *testing.T) {
	t.Parallel()
	dir, env := t.TempDir(), []string{"HELVE_TEST_LEDGER=python", "HELVE_TEST_REPLICAS=3"}
	node := startNode(t, dir, env...)
	was := node.ranked(dir)
	for _, step := range []struct {
		name   string
		killed int // the rank of the replica that dies; -1 for none
		node   bool
	}{
		{"the first replica", 0, false},
		{"the node", -1, true},
		{"the node and the second replica", 1, true},
		{"the node again", -1, true},
	} {
		if step.node {
			node.kill()
		}
		if step.killed >= 0 {
			if err := syscall.Kill(was[step.killed].PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if step.node {
			node = startNode(t, dir, env...)
		}
		is := node.ranked(dir)
		for step.killed >= 0 && is[step.killed].PID == was[step.killed].PID { // an answer from before the node learnt of the death
			is = node.ranked(dir)
		}
		replicas := map[string]bool{}
		for i, k := range is {
			replicas[k.Replica] = true
			if i == step.killed {
				if k.Replica == was[i].Replica {
					t.Errorf("after the death of %s: %s has the rank of a replica that died, which was the same", step.name, k.Replica)
				}
			} else if k.Replica != was[i].Replica || k.PID != was[i].PID {
				t.Errorf("after the death of %s: the rank %d had %+v, and has %+v", step.name, i, was[i], k)
			}
		}
		if len(replicas) != 3 {
			t.Errorf("after the death of %s: the replicas are %v", step.name, slices.Sorted(maps.Keys(replicas)))
		}
		was = is
	}
	node.close()
}

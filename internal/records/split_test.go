package records_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// mortal is a store whose transactions fail from the one with the number last on, as if its node was killed before it; 0 for never. With once only that one fails.
type mortal struct {
	store.Store
	last, count int
	once        bool
}

var errKilled = errors.New("killed")

func (m *mortal) Txn(ctx context.Context, t store.Txn) (int64, error) {
	m.count++
	if m.last != 0 && (m.count == m.last || m.count > m.last && !m.once) {
		return 0, errKilled
	}
	return m.Store.Txn(ctx, t)
}

// many is a graph with more deployments than a transaction has operations, of n replicas each.
func many(n int) spec.Graph {
	g := spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: "D000", Method: "Call", Kind: spec.IngressMethod}}
	for i := range 150 {
		g.Deployments = append(g.Deployments, spec.Deployment{Name: fmt.Sprintf("D%03d", i), Language: "go", Options: spec.Options{
			NumReplicas: n, Sources: map[string]spec.Source{"num_replicas": spec.FromCode},
		}})
	}
	return g
}

// TestKilledBetweenWrites: a deploy of 150 deployments is written in two transactions. A node that is killed between them, in the deploy or while it puts a failed deploy back,
// leaves a deploy that has not ended: the next node has all new numbers, and can put back all old ones. A number that an operator has set in the meantime stays.
func TestKilledBetweenWrites(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		last    int  // the transaction that fails, from the second deploy on
		undo    bool // the node had found that the deploy fails
		unended bool // the deploy, as the next node finds it
	}{
		"before the first":            {last: 1},
		"between those of the deploy": {last: 2, unended: true},
		"after the deploy":            {last: 3, unended: true},
		"before those of its end":     {last: 3, undo: true, unended: true},
		"between those of its end":    {last: 4, undo: true, unended: true},
		"after its end":               {last: 5, undo: true},
		"the next node is killed too": {last: -1, unended: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memory, blobs := store.NewMemory(), store.NewMemoryBlobs()
			node := func(s store.Store) *records.Target {
				target := records.NewTarget(s, blobs, slog.New(slog.DiscardHandler))
				target.Durable = true
				return target
			}
			first := node(memory)
			w, err := first.WriteDeploy(t.Context(), store.Revision{Graph: many(2)}, records.Former{})
			if err == nil {
				err = first.End(t.Context(), many(2), w)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := first.WriteScale(t.Context(), "shop", "D007", store.Scale{Replicas: 9, By: "ann"}); err != nil {
				t.Fatal(err)
			}
			dying := &mortal{Store: memory, last: x.last}
			if x.last < 0 {
				dying.last = 2
			}
			second := node(dying)
			former := records.Former{Running: true, Current: 1, Number: 1, Submitted: records.Submitted(many(2))}
			if w, err = second.WriteDeploy(t.Context(), store.Revision{Graph: many(3)}, former); err == nil && x.undo {
				second.Undo(t.Context(), "shop", w) //nolint:errcheck // it is killed in it
			}
			if x.last < 0 { // before it has written the numbers that are missing
				if _, err := node(&mortal{Store: memory, last: 1}).Stored(t.Context()); !errors.Is(err, errKilled) {
					t.Errorf("%v", err)
				}
			}
			third := node(memory)
			all, err := third.Stored(t.Context())
			if err != nil || len(all) != 1 || all[0].Deploy.Unended() != x.unended {
				t.Fatalf("%+v, %v", all, err)
			}
			want := func(when string, n int, ann int) {
				t.Helper()
				all, err := third.Stored(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range many(n).Deployments {
					replicas := n
					if d.Name == "D007" {
						replicas = ann
					}
					kept, err := store.Get(t.Context(), memory, store.ScaleKey("shop", d.Name))
					if err != nil || kept.Record.Replicas != replicas || all[0].Deploy.Scales[d.Name].Record.Replicas != replicas {
						t.Fatalf("%s: %s has %d replicas in the store, %d for the node, want %d: %v", when, d.Name, kept.Record.Replicas, all[0].Deploy.Scales[d.Name].Record.Replicas, replicas, err)
					}
				}
			}
			if !x.unended {
				want("the deploy was not begun, or has failed", 2, 9)
				return
			}
			if !x.undo {
				want("the deploy goes on", 3, 3)
			}
			if _, err := third.WriteScale(t.Context(), "shop", "D140", store.Scale{Replicas: 3, By: "ann"}); err != nil {
				t.Fatal(err)
			}
			if all, err = third.Stored(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := third.Undo(t.Context(), "shop", all[0].Deploy); err != nil {
				t.Fatal(err)
			}
			if kept, err := store.Get(t.Context(), memory, store.ScaleKey("shop", "D140")); err != nil || kept.Record.By != "ann" || kept.Record.Replicas != 3 {
				t.Errorf("the number of the operator is %+v, %v", kept.Record, err)
			}
			if _, err := third.WriteScale(t.Context(), "shop", "D140", store.Scale{Replicas: 2, By: "ann"}); err != nil {
				t.Fatal(err)
			}
			want("all was put back", 2, 9)
			if record, err := store.Get(t.Context(), memory, store.AppKey("shop")); err != nil || record.Record.Revision != 1 || record.Record.Attempt != nil {
				t.Errorf("%+v, %v", record.Record, err)
			}
		})
	}
}

// TestErrorBetweenWrites: a store that fails between two transactions of a deploy, and then works again, has all as it was.
func TestErrorBetweenWrites(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"the first deploy": true, "another": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memory := store.NewMemory()
			target := records.NewTarget(memory, store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
			target.Durable = true
			former := records.Former{}
			if !first {
				w, err := target.WriteDeploy(t.Context(), store.Revision{Graph: many(2)}, former)
				if err == nil {
					err = target.End(t.Context(), many(2), w)
				}
				if err != nil {
					t.Fatal(err)
				}
				former = records.Former{Running: true, Current: 1, Number: 1, Submitted: records.Submitted(many(2))}
			}
			target.Store = &mortal{Store: target.Store, last: 2, once: true}
			if _, err := target.WriteDeploy(t.Context(), store.Revision{Graph: many(3)}, former); !errors.Is(err, errKilled) {
				t.Fatalf("%v", err)
			}
			all, err := target.Stored(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if first {
				if kvs, _, err := memory.List(t.Context(), ""); err != nil || len(all)+len(kvs) > 0 {
					t.Errorf("%d applications and %d records are left, %v", len(all), len(kvs), err)
				}
				return
			}
			if len(all) != 1 || all[0].Deploy.Unended() || all[0].Deploy.Number != 1 {
				t.Fatalf("%+v", all)
			}
			for name, s := range all[0].Deploy.Scales {
				if s.Record.Replicas != 2 {
					t.Fatalf("%s has %d replicas", name, s.Record.Replicas)
				}
			}
		})
	}
}

// TestRollbackThatFails: an automatic rollback that fails leaves the revision that it would have taken back, which ran and runs on. The next node of a
// node that was killed in the rollback does not take it for a failure of a first deploy.
func TestRollbackThatFails(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"the same node": false, "the next node": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := records.NewTarget(store.NewMemory(), store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
			target.Durable = true
			former := records.Former{}
			for number := 1; number <= 2; number++ {
				w, err := target.WriteDeploy(t.Context(), store.Revision{Graph: many(2)}, former)
				if err == nil {
					err = target.End(t.Context(), many(2), w)
				}
				if err != nil {
					t.Fatal(err)
				}
				former = records.Former{Running: true, Current: number, Number: number, Submitted: records.Submitted(many(2))}
			}
			former.Undone, former.Why = 2, "too many calls failed"
			w, err := target.WriteDeploy(t.Context(), store.Revision{Graph: many(2), RollbackOf: 1}, former)
			if err != nil {
				t.Fatal(err)
			}
			if killed {
				all, err := target.Stored(t.Context())
				if err != nil || len(all) != 1 || !all[0].Deploy.Unended() {
					t.Fatalf("%+v, %v", all, err)
				}
				w = all[0].Deploy
			}
			w.Fail("", "no licence", false)
			if _, err := target.Undo(t.Context(), "shop", w); err != nil {
				t.Fatal(err)
			}
			all, err := target.Stored(t.Context())
			if err != nil || len(all) != 1 || all[0].Deploy.Number != 2 {
				t.Fatalf("%+v, %v", all, err)
			}
			if o, failed := all[0].Deploy.Failed(); failed {
				t.Errorf("the revision that runs is not started again: %+v", o)
			}
		})
	}
}

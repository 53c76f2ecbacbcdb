package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

func stays(of ...Replica) func(Replica) bool {
	return func(r Replica) bool { return slices.Contains(of, r) }
}

// goes is the replica to which a call for a model goes now.
func goes(r *Router, id string) Replica {
	got := r.TryAcquire(withModel(id))
	if got != nil {
		got.Gate().Release(nil)
	}
	return got
}

// TestLeave: a replica that leaves gets calls for the models that only it has until each of them is elsewhere, and no other call.
func TestLeave(t *testing.T) {
	t.Parallel()
	rs := replicas(3, 10)
	r := New("local")
	r.Update(nil, rs)
	r.SetModels(rs[0], []string{"a", "b", "c"})
	r.SetModels(rs[1], []string{"c"})
	kept := r.Leave(rs[0], []string{"a", "b", "c"}, stays(rs[1], rs[2]))
	if fmt.Sprint(kept) != "[a b]" {
		t.Fatal(kept)
	}
	r.Update(nil, rs[1:])
	for range 20 {
		if goes(r, "a") != rs[0] || goes(r, "b") != rs[0] || goes(r, "c") != rs[1] || goes(r, "new") == rs[0] {
			t.Fatal("a call went to the wrong replica")
		}
		if got := r.TryAcquire(new(call.Info)); got == rs[0] {
			t.Fatal("a call without a model went to a replica that has left")
		} else {
			got.Gate().Release(nil)
		}
	}
	r.Coming("a", rs[2])
	r.SetModels(rs[2], []string{"a"})
	r.SetModels(rs[0], []string{"a", "b"}) // its reports go on
	if goes(r, "a") != rs[0] {
		t.Error("a call would wait for the load")
	}
	r.Left(rs[0], "a", rs[2])
	r.Left(rs[0], "b", nil)
	if goes(r, "a") != rs[2] || goes(r, "b") == rs[0] {
		t.Error(goes(r, "a"), goes(r, "b"))
	}
	r.Forget(rs[0])
	if len(r.models.leaving.keeps) != 0 || len(r.models.leaving.coming) != 0 || r.models.has[rs[0]] != nil {
		t.Errorf("%+v", r.models.leaving)
	}
}

// TestTwoLeave: of two replicas with a model that leave together one is kept for it.
func TestTwoLeave(t *testing.T) {
	t.Parallel()
	rs := replicas(3, 10)
	r := New("local")
	r.Update(nil, rs)
	r.SetModels(rs[0], []string{"a"})
	r.SetModels(rs[1], []string{"a"})
	first := r.Leave(rs[0], []string{"a"}, stays(rs[1], rs[2])) // the second has not been decided yet
	second := r.Leave(rs[1], []string{"a"}, stays(rs[2]))
	third := r.Leave(rs[0], []string{"a"}, stays(rs[2]))
	if kept := r.Leave(replica("other", 1), []string{"b"}, stays(rs[2])); kept != nil {
		t.Error("a replica outside of the set is kept", kept)
	}
	if len(first) != 0 || len(second) != 1 || len(third) != 0 {
		t.Fatal(first, second, third)
	}
	r.Update(nil, rs[2:])
	if goes(r, "a") != rs[1] {
		t.Error(goes(r, "a"))
	}
	r.SetPolicy(NewConsistentHash(DefaultVirtualNodes, DefaultFallbacks))
	r.SetModels(rs[2], []string{"z"})
	if kept := r.Leave(rs[2], []string{"z"}, stays()); kept != nil {
		t.Error("a policy decides where calls go", kept)
	}
}

// TestLeftServesCallsThatWait: calls that wait for the replica that leaves go to the other when it has the model.
func TestLeftServesCallsThatWait(t *testing.T) {
	t.Parallel()
	rs := replicas(2, 1)
	r := New("local")
	r.Update(nil, rs)
	r.SetModels(rs[0], []string{"a"})
	r.Leave(rs[0], []string{"a"}, stays(rs[1]))
	r.Update(nil, rs[1:])
	if r.TryAcquire(withModel("a")) != rs[0] {
		t.Fatal("the replica that leaves has a slot")
	}
	var got Replica
	r.Submit(nil, new(Ticket), "o", withModel("a"), takes(func(rep Replica) { got = rep }))
	if got != nil {
		t.Fatal("a call went to a replica without its model")
	}
	r.Coming("a", rs[1])
	r.Left(rs[0], "a", rs[1])
	if got != rs[1] {
		t.Error("a call waits for a replica that has left")
	}
}

// TestLeavingProperty: in random orders of leaves, reports and ends a call for a model goes to a replica that is kept for it, and otherwise to one of the set.
func TestLeavingProperty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		rs := replicas(5, 100)
		r := New("local")
		set := slices.Clone(rs)
		r.Update(nil, set)
		kept := map[Replica][]string{}
		for range 60 {
			rep := rs[rnd.IntN(len(rs))]
			ids := []string{"a", "b", "c"}[:rnd.IntN(4)]
			switch rnd.IntN(4) {
			case 0:
				if kept[rep] == nil {
					r.SetModels(rep, ids)
				}
			case 1:
				if i := slices.Index(set, rep); i >= 0 && len(set) > 1 {
					set = slices.Delete(slices.Clone(set), i, i+1)
					kept[rep] = r.Leave(rep, r.models.has[rep], stays(set...))
					r.Update(nil, set)
				}
			case 2:
				if len(kept[rep]) > 0 {
					id, to := kept[rep][0], set[rnd.IntN(len(set))]
					r.Coming(id, to)
					r.Left(rep, id, to)
					kept[rep] = kept[rep][1:]
				}
			case 3:
				if !slices.Contains(set, rep) && len(kept[rep]) == 0 {
					r.Forget(rep)
					delete(kept, rep)
					set = append(slices.Clone(set), rep)
					r.Update(nil, set)
				}
			}
			for _, id := range []string{"a", "b", "c"} {
				var keeper Replica
				for rep, ids := range kept {
					if slices.Contains(ids, id) {
						if keeper != nil {
							t.Fatal(seed, "two replicas are kept for", id)
						}
						keeper = rep
					}
				}
				got := goes(r, id)
				if got != keeper && !slices.Contains(set, got) {
					t.Fatalf("%d: a call for %s went to a replica that has left", seed, id)
				}
			}
		}
	}
}

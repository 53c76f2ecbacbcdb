package planner

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestRanks: the examples of the rules.
func TestRanks(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		have []Member
		n    int
		want map[string]int
	}{
		"none":                     {nil, 3, map[string]int{}},
		"all start":                {[]Member{{"b", -1}, {"a", -1}, {"c", -1}}, 3, map[string]int{"a": 0, "b": 1, "c": 2}},
		"in order":                 {[]Member{{"a", 2}, {"b", 0}, {"c", 1}}, 3, map[string]int{}},
		"one died":                 {[]Member{{"a", 0}, {"c", 2}}, 3, map[string]int{}},
		"its place":                {[]Member{{"a", 0}, {"c", 2}, {"d", -1}}, 3, map[string]int{"d": 1}},
		"fewer":                    {[]Member{{"a", 0}, {"c", 2}}, 2, map[string]int{"c": 1}},
		"fewer, the first is gone": {[]Member{{"b", 1}, {"c", 2}}, 2, map[string]int{"c": 0}},
		"more":                     {[]Member{{"a", 0}, {"b", -1}, {"c", -1}}, 3, map[string]int{"b": 1, "c": 2}},
		"too many":                 {[]Member{{"a", 0}, {"b", 1}, {"c", 2}}, 2, map[string]int{}},
		"twice the same":           {[]Member{{"a", 0}, {"b", 0}}, 2, map[string]int{"b": 1}},
		"nothing is wanted":        {[]Member{{"a", 0}, {"b", -1}}, 0, map[string]int{"b": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Ranks(x.have, x.n); !maps.Equal(got, x.want) {
				t.Errorf("%v, want %v", got, x.want)
			}
		})
	}
}

// TestRanksOfAnyReplicas: of any replicas, each has a rank of its own afterwards; as many replicas as are wanted, or fewer, have ranks below
// the number that is wanted; a replica with such a rank keeps it unless another had it too; a second look changes nothing.
func TestRanksOfAnyReplicas(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		n, members := r.IntN(6), make([]Member, r.IntN(8))
		had := map[int]int{}
		for i := range members {
			members[i] = Member{fmt.Sprint("r", i), r.IntN(9) - 1}
			had[members[i].Rank]++
		}
		changes := Ranks(members, n)
		seen := map[int]string{}
		after := make([]Member, len(members))
		for i, m := range members {
			rank, changed := changes[m.ID]
			if !changed {
				rank = m.Rank
			}
			if changed && m.Rank >= 0 && m.Rank < n && had[m.Rank] == 1 {
				t.Errorf("seed %d: %s had the rank %d of %d, and has %d", seed, m.ID, m.Rank, n, rank)
			}
			if rank < 0 || len(members) <= n && rank >= n || seen[rank] != "" {
				t.Errorf("seed %d: %s has the rank %d of %d, as %q has", seed, m.ID, rank, n, seen[rank])
			}
			seen[rank], after[i] = m.ID, Member{m.ID, rank}
		}
		r.Shuffle(len(after), func(i, j int) { after[i], after[j] = after[j], after[i] })
		if again := Ranks(after, n); len(again) > 0 {
			t.Errorf("seed %d: a second look at %v changes %v", seed, after, again)
		}
	}
}

package planner

import (
	"cmp"
	"slices"
)

// Member is a replica with its rank; Unranked for a replica that has none yet.
type Member struct {
	ID   string
	Rank int
}

// Unranked is the rank of a replica before it has one.
const Unranked = -1

// Ranks gives the replicas of a deployment, of which n are wanted, their ranks: the numbers 0 to n-1, each once. The result has the replicas
// whose rank changes, and those are as few as possible: a replica with a rank below n keeps it, unless another one has it too.
//
// Examples with n = 3. The replica of rank 1 has died: the replicas with the ranks 0 and 2 keep theirs, and the next one to start gets 1.
// With n = 2 instead, because the deployment was scaled down, the replica of rank 2 gets 1. While there are more than n replicas, some have ranks
// from n upwards.
func Ranks(members []Member, n int) map[string]int {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.ID, b.ID)) })
	taken, changes := map[int]bool{}, map[string]int{}
	var others []Member
	for _, m := range members {
		if m.Rank < 0 || m.Rank >= n || taken[m.Rank] {
			others = append(others, m)
		} else {
			taken[m.Rank] = true
		}
	}
	slices.SortStableFunc(others, func(a, b Member) int { // a replica with a rank comes before a replica without
		return cmp.Compare(min(b.Rank, 0), min(a.Rank, 0))
	})
	free := 0
	for _, m := range others {
		for taken[free] {
			free++
		}
		rank := free
		if free >= n && m.Rank >= n && !taken[m.Rank] {
			rank = m.Rank
		}
		taken[rank] = true
		if rank != m.Rank {
			changes[m.ID] = rank
		}
	}
	return changes
}

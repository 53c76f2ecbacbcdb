package planner

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Holder is a replica that holds devices and can make room for a replica that starts.
type Holder struct {
	ID        string
	Own       bool // it is of the deployment that needs room
	StartedAt time.Time
}

// FirstToYield is the id of the holder that makes room first: the oldest of the deployment that needs the room, else the oldest of all. holders has
// at least one.
func FirstToYield(holders []Holder) string {
	return slices.MinFunc(holders, func(a, b Holder) int {
		if a.Own != b.Own {
			if a.Own {
				return -1
			}
			return 1
		}
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	}).ID
}

// Placeable is the number of replicas that the node is to have, of those that are wanted. most is its limit for the deployment, 0 for none. For
// example, with 3 wanted replicas and a max_replicas_per_node of 1 it is 1, and 2 wait.
func Placeable(wanted, most int) int {
	if most > 0 {
		return min(wanted, most)
	}
	return wanted
}

// Unplaced says that replicas wait because the node has as many as it may; "" if none waits.
func Unplaced(wanted, most int) string {
	left := wanted - Placeable(wanted, most)
	if left == 0 {
		return ""
	}
	return fmt.Sprintf("max_replicas_per_node is %d: %d of %d replicas wait for another node", most, left, wanted)
}

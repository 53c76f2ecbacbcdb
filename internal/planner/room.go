package planner

import (
	"cmp"
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

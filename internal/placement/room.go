package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Holder is a replica that holds a part of the node and can make room for a replica that starts.
type Holder struct {
	ID        string
	Own       bool // of the deployment that needs room
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

// Placeable is the number of replicas that the node is to have, of the wanted ones. most is its limit for the deployment, 0 for none. For
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

// Seat is a replica as another one sees it that starts and finds no room.
type Seat struct {
	Holder
	Serves bool // running, and not ending yet
	Ends   bool // draining
	// Former says that the replica goes: it is of another version of its deployment, or its application does not have the deployment any more.
	Former bool
}

// Room says how a replica that starts gets GPUs, if it takes the place of replicas that hold some. With wait they come back by themselves, because
// a replica ends or has not begun; else yield is the replica that gives its own back now; "" for none. fits says whether the GPUs of holders would be enough.
//
// New replicas start beside the old ones, which serve meanwhile. On a node whose GPUs are all held by the old ones no new one could
// ever start, so an old one makes room. For example, a node has one GPU, replica A#1 of revision 1 holds it, and revision 2 is
// deployed: A#2 finds no GPU, so A#1 drains and ends; A#2 gets the GPU and starts. Calls wait in the queue meanwhile. With two
// GPUs and two replicas the second old one goes on serving until the first new one is ready.
//
// One replica yields at a time: the next when the replica that got the GPU is ready. None does if all of them together would not be enough: for
// example, an update that asks for three GPUs, of which another application holds one, fails, and the old replicas go on.
func Room(seats []Seat, holds func(id string) bool, fits func(held []string) bool) (wait bool, yield string) {
	var holders []Holder
	var held []string
	for _, s := range seats {
		switch {
		case !holds(s.ID):
		case s.Ends || !s.Serves && s.Own:
			return true, ""
		case s.Serves && s.Former:
			holders, held = append(holders, s.Holder), append(held, s.ID)
		}
	}
	if len(held) == 0 || !fits(held) {
		return false, ""
	}
	return false, FirstToYield(holders)
}

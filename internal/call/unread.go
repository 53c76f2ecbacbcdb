package call

import "sync/atomic"

// Unread says since when a stream waits for its reader. The consumer of the stream has it, [Call.Unread] points to it, and the side that bounds the items writes to it, at a full window and at none before. For
// example, a window of 256 items is full at 10:15:02; the reader takes half of it at 10:15:07, and nothing since: the stream waits since it is full again. The zero Unread waits for nothing; so does nil, of a call
// whose reader nothing looks at.
type Unread struct {
	since atomic.Int64 // by [Now]; 0 for a stream that does not wait
}

// Full notes that the stream waits from now on, a time by [Now].
func (u *Unread) Full(now int64) {
	if u != nil {
		u.since.Store(now)
	}
}

// Room notes that the reader has made room.
func (u *Unread) Room() {
	if u != nil && u.since.Load() != 0 {
		u.since.Store(0)
	}
}

// Since is the time by [Now] from which on the stream waits; 0 if it does not.
func (u *Unread) Since() int64 {
	if u == nil {
		return 0
	}
	return u.since.Load()
}

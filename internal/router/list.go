package router

import (
	"cmp"
	"slices"

	"github.com/helve-serve/helve/internal/call"
)

// WaitingCall is a copy of what the router knows of a call that waits.
type WaitingCall struct {
	Info   call.Info
	Origin string
	Since  int64 // when it began to wait, by [call.Now]
}

// Waiting lists up to limit calls that wait, the longest waiting first, and how many more there are. It holds up the router for the time
// that it takes to look at them. For example, of 10,000 waiting calls Waiting(100) copies 100 and counts 9,900.
func (r *Router) Waiting(limit int) (calls []WaitingCall, more int) {
	var all []*subqueue
	r.mu.Lock()
	all = append(all, r.unrestricted)
	for _, sub := range r.restricted {
		all = append(all, sub)
	}
	for _, sub := range r.byModel {
		all = append(all, sub)
	}
	r.mu.Unlock()
	for _, sub := range all {
		sub.mu.Lock()
		for _, q := range sub.queues.byOrigin {
			n := 0
			for t := q.head; t != nil; t = t.next {
				if n++; n > limit { // the list of an origin is in order
					more++
					continue
				}
				calls = append(calls, WaitingCall{*t.info, t.origin, t.queuedAt})
			}
		}
		sub.mu.Unlock()
	}
	slices.SortStableFunc(calls, func(a, b WaitingCall) int { return cmp.Compare(a.Since, b.Since) })
	if len(calls) > limit {
		more += len(calls) - limit
		calls = calls[:limit]
	}
	return calls, more
}

package proxy

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// memory counts the bytes that the node holds for clients: of requests from their header to their end, and of results until they
// are written. The last eighth is for requests that hold little, so that clients with large bodies do not keep the others out. For
// example, of 512 MiB, 448 MiB are for all, and 64 MiB more for requests of up to 64 KiB.
type memory struct {
	limit int64
	used  atomic.Int64
}

// forLarge is how much of a limit requests may have that hold much.
func forLarge(limit int64) int64 { return limit - limit/8 }

// ofConnection is how much of a limit one connection may have: with HTTP/2 it may have many requests.
func ofConnection(limit int64) int64 { return limit / 2 }

// small is how much a request may hold to be one that holds little.
const small = 64 << 10

// perRequest is what a request costs beside its bytes: goroutine, buffers, and what net/http has of it.
const perRequest = 8 << 10

// hold is what one request holds. Its methods are for one goroutine.
type hold struct {
	of   *memory
	conn *client // nil if there is none, as in tests
	n    int64   // in all
	base int64   // of that, the request without body and result
}

// begin counts a request that has a header. false: there is no room.
func (h *hold) begin(r *http.Request) bool {
	n := int64(perRequest + len(r.RequestURI))
	for name, values := range r.Header {
		n += int64(len(name))
		for _, v := range values {
			n += int64(len(v))
		}
	}
	if !h.grow(n) {
		return false
	}
	h.base = n
	return true
}

// grow counts n bytes more. false: there is no room, and nothing has changed.
func (h *hold) grow(n int64) bool {
	most := h.of.limit
	if h.n-h.base+n > small {
		most = forLarge(most)
	}
	if h.of.used.Add(n) > most {
		h.of.used.Add(-n)
		return false
	}
	if c := h.conn; c != nil {
		// A connection may have one request that is larger than its share, beside others that are of no weight.
		if all := c.held.Add(n); all > ofConnection(h.of.limit) && all-n-h.n > 16*small {
			c.held.Add(-n)
			h.of.used.Add(-n)
			return false
		}
	}
	h.n += n
	return true
}

// shrink counts n bytes less.
func (h *hold) shrink(n int64) {
	h.of.used.Add(-n)
	if h.conn != nil {
		h.conn.held.Add(-n)
	}
	h.n -= n
}

// bodyless gives back all but what the request holds by itself.
func (h *hold) bodyless() { h.shrink(h.n - h.base) }

// end gives back everything.
func (h *hold) end() { h.shrink(h.n) }

// noRoom is the answer to a request that finds no room.
func noRoom() *call.Error {
	return call.NewError(call.Backpressure, "the node holds as many bytes of requests and results as it may; try again later")
}

// result counts a result of n bytes in the place of the request's body.
func (h *hold) result(n int64) *call.Error {
	h.bodyless()
	switch {
	case h.grow(n):
		return nil
	case n > forLarge(h.of.limit):
		return call.NewError(call.Fault, fmt.Sprintf(
			"the result has %d bytes, and the node holds at most %d of one (HTTP Memory); a stream has no such limit", n, forLarge(h.of.limit)))
	}
	return call.NewError(call.Backpressure, "the method has run, and its result was dropped: clients have not taken the results before it")
}

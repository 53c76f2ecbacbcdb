package proxy

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// memory counts the bytes that the node holds for clients: for requests from their header to their end, and for
// results until they are written. The last eighth is for small requests, so that clients with large bodies do not
// keep the others out. For example, of 512 MiB, 448 MiB are for all requests, and 64 MiB more for requests of up to
// 64 KiB.
type memory struct {
	limit int64
	used  atomic.Int64
}

// forLarge is the part of a limit that large requests may use.
func forLarge(limit int64) int64 { return limit - limit/8 }

// ofConnection is the part of a limit that one connection may use: with HTTP/2 it may have many requests.
func ofConnection(limit int64) int64 { return limit / 2 }

// small is the largest size of a small request, in bytes.
const small = 64 << 10

// perRequest is the memory of a request beside its bytes: its goroutine, buffers, and net/http's data.
const perRequest = 8 << 10

// hold is the memory of one request. Its methods are for one goroutine.
type hold struct {
	memory *memory
	conn   *client // nil in tests without a connection
	n      int64   // bytes of the request in all
	base   int64   // bytes of the request without body and result
}

// begin counts a request after its header has come. It returns false if there is no room.
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

// grow counts n bytes more. It returns false, and changes nothing, if there is no room.
func (h *hold) grow(n int64) bool {
	most := h.memory.limit
	if h.n-h.base+n > small {
		most = forLarge(most)
	}
	if h.memory.used.Add(n) > most {
		h.memory.used.Add(-n)
		return false
	}
	if c := h.conn; c != nil {
		// A connection may have one request that is larger than its share, beside small ones.
		if all := c.held.Add(n); all > ofConnection(h.memory.limit) && all-n-h.n > 16*small {
			c.held.Add(-n)
			h.memory.used.Add(-n)
			return false
		}
	}
	h.n += n
	return true
}

// shrink counts n bytes less.
func (h *hold) shrink(n int64) {
	h.memory.used.Add(-n)
	if h.conn != nil {
		h.conn.held.Add(-n)
	}
	h.n -= n
}

// releaseBody releases the body and the result.
func (h *hold) releaseBody() { h.shrink(h.n - h.base) }

// end releases all.
func (h *hold) end() { h.shrink(h.n) }

// noRoom is the answer to a request that finds no room.
func noRoom() *call.Error {
	return call.NewError(helvetype.ReasonBackpressure, "the node holds as many bytes of requests and results as it may; try again later")
}

// result counts a result of n bytes in place of the request's body.
func (h *hold) result(n int64) *call.Error {
	h.releaseBody()
	switch {
	case h.grow(n):
		return nil
	case n > forLarge(h.memory.limit):
		return call.NewError(helvetype.ReasonInternal, fmt.Sprintf(
			"the result has %d bytes, and the node holds at most %d of one (HTTP Memory); a stream has no such limit", n, forLarge(h.memory.limit)))
	}
	return call.NewError(helvetype.ReasonBackpressure, "the method has run, and its result was dropped: clients have not taken the results before it")
}

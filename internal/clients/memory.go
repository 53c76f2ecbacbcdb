package clients

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Memory counts the bytes that the node holds for clients: for requests from their header to their end, and for
// results until they are written. The last eighth is for small requests, so that clients with large bodies do not
// keep the others out. For example, of 512 MiB, 448 MiB are for all requests, and 64 MiB more for requests of up to
// 64 KiB.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory makes the count of at most limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used is the number of bytes that are held now.
func (m *Memory) Used() int64 { return m.used.Load() }

// Add counts n bytes more, or less if n is negative, whatever the limit is. For example, an item of a stream is there already when it is counted, and
// the next request finds less room.
func (m *Memory) Add(n int64) { m.used.Add(n) }

// Hold is the memory of a request of c, which is nil for the server of a program. It counts nothing yet.
func (m *Memory) Hold(c *Conn) Hold { return Hold{memory: m, conn: c} }

// forLarge is the part of a limit that large requests may use.
func forLarge(limit int64) int64 { return limit - limit/8 }

// ofConnection is the part of a limit that one connection may use: with HTTP/2 it may have many requests.
func ofConnection(limit int64) int64 { return limit / 2 }

// Small is the largest size of a small request, in bytes.
const Small = 64 << 10

// perRequest is the memory of a request beside its bytes: its goroutine, buffers, and net/http's data.
const perRequest = 8 << 10

// Hold is the memory of one request. Its methods are for one goroutine.
type Hold struct {
	memory *Memory
	conn   *Conn // nil in tests without a connection
	n      int64 // bytes of the request in all
	base   int64 // bytes of the request without body and result
}

// Begin counts a request after its header has come. It returns false if there is no room.
func (h *Hold) Begin(r *http.Request) bool {
	n := int64(perRequest + len(r.RequestURI))
	for name, values := range r.Header {
		n += int64(len(name))
		for _, v := range values {
			n += int64(len(v))
		}
	}
	if !h.Grow(n) {
		return false
	}
	h.base = n
	return true
}

// Grow counts n bytes more. It returns false, and changes nothing, if there is no room.
func (h *Hold) Grow(n int64) bool {
	most := h.memory.limit
	if h.n-h.base+n > Small {
		most = forLarge(most)
	}
	if h.memory.used.Add(n) > most {
		h.memory.used.Add(-n)
		return false
	}
	if c := h.conn; c != nil {
		// A connection may have one request that is larger than its share, beside small ones.
		if all := c.held.Add(n); all > ofConnection(h.memory.limit) && all-n-h.n > 16*Small {
			c.held.Add(-n)
			h.memory.used.Add(-n)
			return false
		}
	}
	h.n += n
	return true
}

// Shrink counts n bytes less.
func (h *Hold) Shrink(n int64) {
	h.memory.used.Add(-n)
	if h.conn != nil {
		h.conn.held.Add(-n)
	}
	h.n -= n
}

// ReleaseBody releases the body and the result.
func (h *Hold) ReleaseBody() { h.Shrink(h.n - h.base) }

// End releases all.
func (h *Hold) End() { h.Shrink(h.n) }

// NoRoom is the answer to a request that finds no room.
func NoRoom() *call.Error {
	return call.NewError(helvetype.ReasonBackpressure, "the node holds as many bytes of requests and results as it may; try again later")
}

// Result counts a result of n bytes in place of the request's body.
func (h *Hold) Result(n int64) *call.Error {
	h.ReleaseBody()
	switch {
	case h.Grow(n):
		return nil
	case n > forLarge(h.memory.limit):
		return call.NewError(helvetype.ReasonInternal, fmt.Sprintf(
			"the result has %d bytes, and the node holds at most %d of one (HTTP Memory); a stream has no such limit", n, forLarge(h.memory.limit)))
	}
	return call.NewError(helvetype.ReasonBackpressure, "the method has run, and its result was dropped: clients have not taken the results before it")
}

package clients

import (
	"bytes"
	"net/http"
	"sync/atomic"
)

// lengthScan counts the headers Content-Length that a client sends on its connection. A request with that header and with chunks is how
// requests are smuggled past a proxy in front: one of the two goes by the length, the other by the chunks, and they see the next request at
// different bytes. Package net/http goes by the chunks, and removes the length without a trace, so the connection is looked through here: if more of
// these headers have come than requests with a length were served, a request with chunks may have had one, and its connection ends.
//
// For example, a client sends 3 bytes with a length, and then a body in chunks: one header has come, one request had it, and the connection goes on. A
// request with both makes that two headers and one request. Bytes that have come early, and bodies, can have such lines too: the count is too large then,
// and a connection ends that could have gone on. It is never too small.
type lengthScan struct {
	seen    atomic.Int64 // lines that begin with the name
	served  int64        // requests with the header; of the goroutine that serves
	skip    atomic.Int64 // bytes that come next and are surely of a body
	matched int          // bytes of lengthName at the end of what was read
}

const lengthName = "\ncontent-length"

// readAhead is more than the number of bytes that the server has read of the connection beyond the header of a request: its buffer has 4 KiB.
const readAhead = 8 << 10

// scan looks at the bytes that were read. It is for the goroutine that reads.
func (l *lengthScan) scan(b []byte) {
	if n := l.skip.Load(); n > 0 {
		n = min(n, int64(len(b)))
		l.skip.Add(-n)
		b, l.matched = b[n:], 0
	}
	for len(b) > 0 {
		if l.matched == 0 {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				return
			}
			b, l.matched = b[i+1:], 1
			continue
		}
		switch c, want := b[0], lengthName[l.matched]; {
		case c == '\n':
			l.matched = 1
		case c == want, want != '-' && c|0x20 == want: // a letter in any case
			l.matched++
		default:
			l.matched = 0
		}
		b = b[1:]
		if l.matched == len(lengthName) {
			l.seen.Add(1)
			l.matched = 0
		}
	}
}

// begin takes a request of HTTP/1 into account. It reports whether the request has chunks and may have had a length too.
func (l *lengthScan) begin(r *http.Request) (suspicious bool) {
	if len(r.Header["Content-Length"]) > 0 {
		l.served++
		if n := r.ContentLength - readAhead; n > 0 { // the next request cannot begin before
			l.skip.Store(n)
		}
	}
	return len(r.TransferEncoding) > 0 && l.seen.Load() > l.served
}

package clients

import (
	"bytes"
	"sync/atomic"
)

// lengthScan finds out whether a client has sent the header Content-Length on its connection. A request with that header and with chunks is how
// requests are smuggled past a proxy in front: one of the two goes by the length, the other by the chunks, and they see the next request at
// different bytes. Package net/http goes by the chunks, and removes the length without a trace, so the connection is looked through here.
// Once seen is set nothing more is looked at: a connection that has had both kinds of requests ends after the next one with chunks.
type lengthScan struct {
	seen atomic.Bool
	tail []byte // the end of the bytes before
}

const lengthName = "\ncontent-length"

// scan looks at the bytes that were read. It is for the goroutine that reads.
func (l *lengthScan) scan(b []byte) {
	if len(l.tail) > 0 {
		joined := append(l.tail, b[:min(len(b), len(lengthName))]...)
		if findLength(joined) {
			l.seen.Store(true)
			return
		}
		l.tail = joined[:copy(joined, joined[max(0, len(joined)-len(lengthName)+1):])]
	}
	if findLength(b) {
		l.seen.Store(true)
		return
	}
	if end := b[max(0, len(b)-len(lengthName)+1):]; len(b) >= len(lengthName) {
		l.tail = l.tail[:0]
		if i := bytes.LastIndexByte(end, '\n'); i >= 0 {
			l.tail = append(l.tail, end[i:]...)
		}
	} else if len(l.tail) == 0 {
		l.tail = append(l.tail, b...)
	}
}

func findLength(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 || len(b)-i < len(lengthName) {
			return false
		}
		if bytes.EqualFold(b[i:i+len(lengthName)], []byte(lengthName)) {
			return true
		}
		b = b[i+1:]
	}
}

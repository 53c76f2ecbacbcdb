package listen

import (
	"net"
	"slices"
	"sync"
)

// HalfOpenMax is how many connections may be in their opening. Over it the oldest is closed: for example, 256 connections that say nothing do
// not keep the next worker out, whose opening takes milliseconds, and the 257th ends the first of them.
const HalfOpenMax = 256

// HalfOpen are the connections in their opening. The zero value has none. Its methods may be called from any goroutine.
type HalfOpen struct {
	mu     sync.Mutex
	closed bool
	conns  []net.Conn // the oldest first
}

// Add notes a connection that is in its opening, until opened is called. ok is false after Close.
func (h *HalfOpen) Add(nc net.Conn) (opened func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false
	}
	if len(h.conns) == HalfOpenMax {
		h.conns[0].Close()
		h.conns = slices.Delete(h.conns, 0, 1)
	}
	h.conns = append(h.conns, nc)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.conns = slices.DeleteFunc(h.conns, func(c net.Conn) bool { return c == nc })
	}, true
}

// Close closes the connections, and takes no more.
func (h *HalfOpen) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, nc := range h.conns {
		nc.Close()
	}
}

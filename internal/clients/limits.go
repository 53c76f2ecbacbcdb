// Package clients limits what the clients of an HTTP server can take: connections, bytes of memory, and time in which no byte moves. It knows no
// applications.
//
// For example, with the default [Limits] a client of HTTP/1 that stops reading a long answer loses its connection ([Conn]) after 30 s, and a client of
// HTTP/2 only that request ([Paced]), while a client that takes 3 KB a second gets the whole. The first of 8,193 connections that has no
// request is closed for the newest ([Set]), and a body for which there is no room among 512 MiB is refused before it is read ([Memory]).
package clients

import (
	"cmp"
	"fmt"
	"math"
	"syscall"
	"time"
)

// Limits limit the bytes, connections and time of the node that clients can take. A field that is zero has its
// default.
type Limits struct {
	// Connections is the largest number of clients at the same time.
	Connections int
	// Streams is the largest number of requests under way on one HTTP/2 connection.
	Streams int
	// Memory is the largest number of bytes that the node holds for all clients together: headers, bodies and
	// results.
	Memory int64
	// MaxBody is the largest body, in bytes, of a request to a method or stream, after its content encoding is
	// undone.
	MaxBody int64
	// MaxHeader is the largest header of a request, in bytes.
	MaxHeader int
	// HeaderTimeout is the longest time for the header of a request to arrive.
	HeaderTimeout time.Duration
	// BodyTimeout is the longest time for a whole request to arrive.
	BodyTimeout time.Duration
	// StallTimeout is the longest time in which a client sends no byte of a body that is being read, or takes no byte
	// of an answer.
	StallTimeout time.Duration
	// IdleTimeout is the longest time that a connection may be without a request.
	IdleTimeout time.Duration
}

// The defaults.
const (
	defaultConnections   = 8192
	defaultStreams       = 100
	defaultMemory        = 512 << 20
	defaultMaxBody       = 64 << 20
	defaultMaxHeader     = 64 << 10
	defaultHeaderTimeout = 10 * time.Second
	defaultBodyTimeout   = 5 * time.Minute // 64 MiB at 2 Mbit/s
	defaultStallTimeout  = 30 * time.Second
	defaultIdleTimeout   = 2 * time.Minute
)

// The smallest values that are accepted.
const (
	minMemory = 8 << 20
	minHeader = 4 << 10
)

// WithDefaults is l with the defaults in place of zeros.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Connections:   cmp.Or(l.Connections, min(defaultConnections, halfOfDescriptors())),
		Streams:       cmp.Or(l.Streams, defaultStreams),
		Memory:        cmp.Or(l.Memory, defaultMemory),
		MaxBody:       cmp.Or(l.MaxBody, min(defaultMaxBody, cmp.Or(l.Memory, defaultMemory)/2)),
		MaxHeader:     cmp.Or(l.MaxHeader, defaultMaxHeader),
		HeaderTimeout: cmp.Or(l.HeaderTimeout, defaultHeaderTimeout),
		BodyTimeout:   cmp.Or(l.BodyTimeout, defaultBodyTimeout),
		StallTimeout:  cmp.Or(l.StallTimeout, defaultStallTimeout),
		IdleTimeout:   cmp.Or(l.IdleTimeout, defaultIdleTimeout),
	}
}

// Check returns an error if a limit is too small or contradicts another, with the name of its field.
func (l Limits) Check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Connections", int64(l.Connections)},
		{"Streams", int64(l.Streams)},
		{"Memory", l.Memory},
		{"MaxBody", l.MaxBody},
		{"MaxHeader", int64(l.MaxHeader)},
		{"HeaderTimeout", int64(l.HeaderTimeout)},
		{"BodyTimeout", int64(l.BodyTimeout)},
		{"StallTimeout", int64(l.StallTimeout)},
		{"IdleTimeout", int64(l.IdleTimeout)},
	} {
		if f.value < 0 {
			return fmt.Errorf("%s: must not be negative", f.name)
		}
	}
	if n := descriptors(); uint64(l.Connections) > n {
		return fmt.Errorf("Connections: must be at most %d, the files that the process may open (ulimit -n), is %d", n, l.Connections)
	}
	switch full := l.WithDefaults(); {
	case full.Memory < minMemory:
		return fmt.Errorf("Memory: must be at least %d bytes (8 MiB), is %d", minMemory, full.Memory)
	case full.MaxHeader < minHeader:
		return fmt.Errorf("MaxHeader: must be at least %d bytes (4 KiB), is %d", minHeader, full.MaxHeader)
	case full.MaxBody > full.Memory/2: // a body in parts is in memory twice while the parts are joined
		return fmt.Errorf("MaxBody: must be at most half of Memory, %d bytes, is %d", full.Memory/2, full.MaxBody)
	}
	return nil
}

// halfOfDescriptors is half of the process's descriptors. The other half is for workers, their pipes and the node's
// own files.
func halfOfDescriptors() int {
	return max(int(min(descriptors()/2, defaultConnections)), 1)
}

// descriptors is the number of files that the process may open.
func descriptors() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxUint64
	}
	return r.Cur
}

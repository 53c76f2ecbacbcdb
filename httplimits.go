package helve

import (
	"time"

	"github.com/helve-serve/helve/internal/clients"
)

// HTTPLimits bound the memory, the connections and the time that clients of the HTTP ingress may take. A field that is zero has its
// default. Time without traffic is not bounded by any of them but IdleTimeout, which is for connections without a request: an
// upgraded connection, or a stream whose next item is an hour away, stays.
type HTTPLimits struct {
	// Connections is how many clients may be connected at the same time. When there are as many, the connection that has been
	// without a request for longest makes room for the next; if all have one, the next is answered 503. At most as many as the process may
	// open files. Default 8192, and at most half of those.
	Connections int
	// Streams is how many requests one HTTP/2 connection may have under way. Default 100.
	Streams int
	// Memory is how many bytes the node holds for all clients together: of requests from their header to their end, and of results
	// until they are written. A request that finds no room is answered 503, and one connection has at most half. The last eighth
	// is for requests of up to 64 KiB. At least 8 MiB. Default 512 MiB.
	Memory int64
	// MaxBody is the largest body of a request to a method or a stream, after its content encoding is undone; larger ones are answered
	// 413. At most half of Memory. Default 64 MiB. [Config].MaxBody is the limit between processes.
	MaxBody int64
	// MaxHeader is how many bytes a request's header may have. At least 4 KiB. Default 64 KiB.
	MaxHeader int
	// HeaderTimeout is how long the header of a request may take to arrive. Default 10 s.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a whole request may take to arrive. Default 5 minutes.
	BodyTimeout time.Duration
	// StallTimeout is how long a client may send nothing of a body that is being read, or take less than 64 KiB of an
	// answer. Then its request ends. Default 30 s.
	StallTimeout time.Duration
	// IdleTimeout is how long a connection may be without a request. Default 2 minutes.
	IdleTimeout time.Duration
}

// limits are l for the proxy, which has them with the same names.
func (l HTTPLimits) limits() clients.Limits { return clients.Limits(l) }

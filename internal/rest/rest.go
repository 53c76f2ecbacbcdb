// Package rest is the client of the REST API of a node, with the bodies of that API that are no public types. Package admin answers it.
package rest

import (
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/token"
)

// About is the answer to GET /: which node this is.
type About struct {
	PID          int       `json:"pid"`
	Version      string    `json:"version"`
	StartedAt    time.Time `json:"started_at"`
	HTTP         string    `json:"http,omitempty"`
	URLs         []string  `json:"urls,omitempty"`      // of all listeners of the ingress
	Admin        []string  `json:"admin,omitempty"`     // the URLs of this interface over TCP
	State        string    `json:"state_dir,omitempty"` // of a durable node
	Draining     bool      `json:"draining"`
	Applications []string  `json:"applications"`
	Paths        []string  `json:"paths"`
}

// The ways in which the author of a request is known.
const (
	// HowToken is the way of a request with a token.
	HowToken = "token"
	// HowSocket is the way of a request over the unix socket: the kernel names its user, who may do everything.
	HowSocket = "socket"
	// HowLoopback is the way of a request without a token over the loopback interface, which may read.
	HowLoopback = "loopback"
)

// Who is the answer to GET /api/v1/whoami.
type Who struct {
	// Name is the name of the token, or of the user; "" for a request without a token.
	Name string         `json:"name"`
	Role helvetype.Role `json:"role"`
	// How is the way in which the author is known: "token", "socket" or "loopback".
	How string `json:"how"`
}

// Done is the answer of a change that has no other one. The message is for people.
type Done struct {
	Message string `json:"message"`
	// Generation is the generation of the target after the change.
	Generation uint64 `json:"generation"`
}

// EventList is the answer to GET /events, the oldest event first. Without the parameter after it has the newest events, up to the limit. With
// it, it has the events above that id, and the limit cuts off the newest of these: a reader that asks again with after=Next gets the next
// page. For example, of the events 5 to 9, ?limit=2 gives 8 and 9, and ?after=5&limit=2 gives 6 and 7, with Next 7.
//
// With ?follow the answer does not end: it is a line of JSON per event, and a line with Missed alone where the reader was too slow.
type EventList struct {
	// Events are the events that the reader wants.
	Events []helvetype.Event `json:"events"`
	// Next is the id from which a reader goes on: it has seen, or did not want, every event up to that one.
	Next uint64 `json:"next"`
	// Missed is the number of events after the given id that have left the ring, of all objects. It is 0 without the parameter after.
	Missed uint64 `json:"missed,omitempty"`
}

// Missed is a line between the events of a reader that follows.
type Missed struct {
	Missed uint64 `json:"missed"`
}

// LogList is the answer to GET /api/v1/logs without the parameter follow.
type LogList struct {
	Lines []helvetype.LogLine `json:"lines"`
	// Missed is the number of lines before the first one that are not kept any more.
	Missed uint64 `json:"missed,omitempty"`
}

// AuditList is the answer to GET /api/v1/audit.
type AuditList struct {
	Entries []helvetype.AuditEntry `json:"entries"`
}

// TokenList is the answer to GET /api/v1/tokens.
type TokenList struct {
	Tokens []token.Info `json:"tokens"`
}

// NewToken is the answer to POST /api/v1/tokens.
type NewToken struct {
	Name string         `json:"name"`
	Role helvetype.Role `json:"role"`
	// Token is the text that requests send in the header Authorization, behind "Bearer ".
	Token string `json:"token"`
}

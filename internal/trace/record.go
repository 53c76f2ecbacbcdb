// Package trace keeps short records of calls that have ended, and the requests that an operator may ask about.
//
// The end of a call leaves a [Record] if the call has failed, has taken a millisecond or more, or is sampled ([Wants]). A call that has waited that
// long for a slot leaves one of its wait. So a call of 200 microseconds that succeeds pays one comparison, and leaves nothing. For example, a call
// that waits 30 ms for a slot and then runs 5 ms leaves two records with the same id, one of each time.
//
// A [Recorder] has the records of a node: the newest 32,768 of all calls in a ring. When a request ends, an HTTP request or a call of a handle outside of
// methods, the recorder decides whether the request is kept: it has failed, it was slow, or it is sampled. A collector copies the records of kept
// requests from the ring to the kept requests, which are bounded in bytes for each of the three reasons. So a flood of failures does not push out the slow
// requests. Records of sampled requests go to the exporter too, one by one.
//
// A worker has no ring. It sends the records of the calls that no node has seen, and the spans of its user, to its node ([Reporter]).
package trace

import (
	"encoding/binary"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Kind is the kind of work that a record is of.
type Kind uint8

// The kinds. A Wait is the time between the submission of a call and its slot, with the id of the call. An HTTP is a request, with the id of the span that is the
// parent of its first call. A Span is a part of a method that the method's code has named. A Batch is the run of a function over the inputs of several calls. A Stall is a time in which the event loop of a Python replica did not turn, with the place of the program that has blocked it (its name) below the call whose code that is. An
// Arguments is the time between the submission of a call and the results of other calls that are its arguments, with the id of the call.
const (
	Call Kind = iota
	Stream
	Broadcast
	Wait
	HTTP
	Span
	Batch
	Stall
	Arguments
)

var kinds = [...]string{"call", "stream", "broadcast", "wait", "http", "span", "batch", "stall", "arguments"} //nolint:gochecknoglobals // a constant

// String is the name of the kind, as operators and exporters see it.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "unknown"
}

// Record is one piece of work that has ended. Times are nanoseconds since 1970.
type Record struct {
	Request    call.ID
	Trace      [16]byte // of the client; zero without, see TraceID
	ID, Parent uint64   // spans; Parent is 0 for none
	Place      *call.Place
	Replica    string
	Origin     string // of a Wait: the queue
	Begin, End int64
	Reason     string // of the failure; "" for none
	More       *More  // nil for most
	Kind       Kind
	Attempt    uint8 // how often the call was sent before, and lost
	Depth      uint8
	Sampled    bool
	Again      bool   // the call runs again at another replica: this attempt is not its end
	Open       bool   // the node decides whether it is sampled, by the id of the trace
	Status     uint16 // of an HTTP
}

// More is the part that few records have.
type More struct {
	Name       string // of a Span or a Batch
	Message    string // of the failure
	FailedAt   string // the call below this one that the failure comes from, such as shop/Ledger.Append; "" for the record's own
	Attributes []Attribute
	Links      []Link
	Caller     uint64        // the call whose method has made this one, if the parent is another span
	Without    time.Duration // of a Wait: the part in which the deployment had no replica that gets calls
}

// Attribute is a value that code has noted of its span: a string, bool, int64 or float64.
type Attribute struct {
	Key   string
	Value any
}

// Link is another span that the work belongs to, such as that of a call whose input is in a batch.
type Link struct {
	Trace [16]byte
	Span  uint64
}

// Took is the duration.
func (r *Record) Took() time.Duration { return time.Duration(r.End - r.Begin) }

// TraceID is the id of the trace: the client's, or without one that of the request ([call.ID.Trace]).
func (r *Record) TraceID() [16]byte {
	if r.Trace != ([16]byte{}) {
		return r.Trace
	}
	return r.Request.Trace()
}

// Sink takes records. Its method may be called from any goroutine and does not block.
type Sink interface{ Record(Record) }

// Least is the shortest time that leaves a record of a call that has not failed and is not sampled.
const Least = time.Millisecond

// Wants reports whether a call that has taken so many nanoseconds leaves a record.
func Wants(took int64, failed bool, i *call.Info) bool {
	return took >= int64(Least) || failed || i.Sampled
}

// Of is a record of a call, without its times. The parent is the span that the call has with it, which is the call above it or a span of a client.
func Of(i *call.Info, kind Kind, e *call.Error) Record {
	r := Record{
		Request: i.Request, Trace: i.Trace, ID: i.Call, Parent: binary.BigEndian.Uint64(i.Span[:]), Place: i.Place, Replica: i.Replica,
		Kind: kind, Depth: i.Depth, Sampled: i.Sampled,
	}
	if i.Parent != 0 && i.Parent != r.Parent {
		r.More = &More{Caller: i.Parent}
	}
	r.Fail(e)
	return r
}

// maxMessage is the number of bytes of the message of a failure that a record keeps.
const maxMessage = 512

// Fail notes a failure; nil is none.
func (r *Record) Fail(e *call.Error) {
	if e == nil {
		return
	}
	r.Reason = string(e.Reason)
	below := ""
	if e.Deployment != "" && r.Place != nil && (e.Deployment != r.Place.Deployment || e.App != r.Place.App) {
		below = e.App + "/" + e.Deployment
		if e.Method != "" {
			below += "." + e.Method
		}
	}
	if e.Message != "" || below != "" {
		more := More{}
		if r.More != nil {
			more = *r.More
		}
		more.Message, more.FailedAt = clip(e.Message), clip(below)
		r.More = &more
	}
}

// Describe notes attributes.
func (r *Record) Describe(attributes ...Attribute) {
	more := More{}
	if r.More != nil {
		more = *r.More
	}
	for i := range attributes {
		if text, ok := attributes[i].Value.(string); ok {
			attributes[i].Value = clip(text)
		}
	}
	more.Attributes = append(more.Attributes, attributes...)
	r.More = &more
}

// clip is a copy of a text, so that a record does not keep the memory of a long one.
func clip(s string) string { return clipTo(s, maxMessage) }

func clipTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 { // inside a character
		n--
	}
	return string([]byte(s[:n])) + "..."
}

// Ended notes the end of a call that [Wants] a record. The times are of [call.Now]. A nil sink takes nothing.
func Ended(to Sink, i *call.Info, kind Kind, began, ended int64, e *call.Error) {
	if to == nil || i.Place == nil {
		return
	}
	r := Of(i, kind, e)
	r.Begin, r.End = call.Unix(began), call.Unix(ended)
	to.Record(r)
}

// Filled notes that the arguments of a call have come, for which it has waited since then in this process. A short wait leaves nothing, as in [Waited].
func Filled(to Sink, i *call.Info, since int64) {
	if to == nil || i.Place == nil {
		return
	}
	now := call.Now()
	if !Wants(now-since, false, i) || now-since < int64(leastWait) {
		return
	}
	r := Of(i, Arguments, nil)
	r.Begin, r.End = call.Unix(since), call.Unix(now)
	to.Record(r)
}

// leastWait is the shortest wait that leaves a record, also of a sampled request: a lane or slot that was free took no longer.
const leastWait = 100 * time.Microsecond

// Waited notes that a call has waited for its slot since then, or has failed while it waited. A short wait leaves nothing. The function without is how much of a time had no replica.
func Waited(to Sink, i *call.Info, origin string, since int64, without func(from, to int64) time.Duration, e *call.Error) {
	if to == nil || i.Place == nil {
		return
	}
	now := call.Now()
	if !Wants(now-since, e != nil, i) || e == nil && now-since < int64(leastWait) {
		return
	}
	r := Of(i, Wait, e)
	r.Origin, r.Begin, r.End = origin, call.Unix(since), call.Unix(now)
	if d := without(since, now); d > 0 {
		more := More{}
		if r.More != nil {
			more = *r.More
		}
		more.Without = d
		r.More = &more
	}
	to.Record(r)
}

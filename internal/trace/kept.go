package trace

import (
	"container/list"
	"time"
	"unsafe"

	"github.com/helve-serve/helve/internal/call"
)

// Why is the reason why a request is kept.
type Why uint8

// The reasons. A request that has several has the first.
const (
	Failed Why = iota
	Slow
	Sampled
	reasons = iota
)

var whys = [...]string{"failed", "slow", "sampled"} //nolint:gochecknoglobals // a constant

// String is the reason as operators see it.
func (w Why) String() string { return whys[w] }

// Kept is a request that is kept. Others than its recorder get copies.
type Kept struct {
	Root    Record
	Why     Why
	Records []Record // without Root, in no order, as far as there was room
	Missed  int      // records without room

	at *list.Element // in the list of its reason
}

// reportsIn is the time after the end of a request in which the reports of workers have come: they go ten times a second ([reportAfter]).
const reportsIn = 250 * time.Millisecond

// Left is the time until the spans are there that workers report of the request; 0 if they are.
func (k *Kept) Left(now time.Time) time.Duration {
	if k.Root.End == 0 {
		return 0
	}
	return min(max(reportsIn-time.Duration(now.UnixNano()-k.Root.End), 0), reportsIn)
}

const (
	maxRecords = 256     // of one kept request
	maxFailed  = 7 << 19 // bytes of the requests that have failed: 3.5 MiB, more than 5,000 of a flood with three calls each
	maxSlow    = 5 << 19 // bytes of the slow requests: 2.5 MiB
	maxSampled = 1 << 20 // bytes of the sampled requests: a receiver of spans has these too
)

// key is a request's id in a form that can be compared: ids of clients with the same text are one, also with an id that a node has drawn.
type key struct {
	id   [16]byte
	text string
}

func keyOf(id call.ID) key {
	if text := id.Text(); len(text) == drawnLen { // perhaps drawn by another node, or the program of a client
		id = call.ParseID(text)
	}
	return key{id.Bytes(), id.Text()}
}

// drawnLen is the length of the text of an id that a node has drawn.
const drawnLen = 36

// requests are the kept requests. The recorder's mutex guards them.
type requests struct {
	byID  map[key]*Kept // the newest of each id
	lists [reasons]list.List
	bytes [reasons]int
}

const recordSize = int(unsafe.Sizeof(Record{}))

// sizeOf is the memory of a record, about.
func sizeOf(r *Record) int {
	n := recordSize + len(r.Request.Text())
	if m := r.More; m != nil {
		n += int(unsafe.Sizeof(*m)) + len(m.Name) + len(m.Message) + len(m.FailedAt) + len(m.Links)*int(unsafe.Sizeof(Link{}))
		for _, a := range m.Attributes {
			n += int(unsafe.Sizeof(a)) + len(a.Key) + 16
			if s, ok := a.Value.(string); ok {
				n += len(s)
			}
		}
	}
	return n
}

// keptSize is the memory of a kept request beside its records: the struct, its element and its place in the map.
const keptSize = int(unsafe.Sizeof(Kept{})) + 160

func (q *requests) add(k *Kept) {
	if q.byID == nil {
		q.byID = map[key]*Kept{}
	}
	k.at = q.lists[k.Why].PushBack(k)
	q.bytes[k.Why] += keptSize + sizeOf(&k.Root)
	q.byID[keyOf(k.Root.Request)] = k
	q.trim(k.Why)
}

// note adds a record to a kept request, if there is room and the request has not been dropped.
func (q *requests) note(k *Kept, r *Record) {
	switch {
	case k.at == nil:
		return
	case len(k.Records) >= maxRecords:
		k.Missed++
		return
	}
	k.Records = append(k.Records, *r)
	q.bytes[k.Why] += sizeOf(r)
	q.trim(k.Why)
}

// trim drops the oldest requests of a reason that is over its bytes.
func (q *requests) trim(w Why) {
	limit := maxFailed
	switch w {
	case Slow:
		limit = maxSlow
	case Sampled:
		limit = maxSampled
	}
	for q.bytes[w] > limit {
		k := q.lists[w].Remove(q.lists[w].Front()).(*Kept) //nolint:forcetypeassert // nothing else is there
		k.at = nil
		q.bytes[w] -= keptSize + sizeOf(&k.Root)
		for i := range k.Records {
			q.bytes[w] -= sizeOf(&k.Records[i])
		}
		if id := keyOf(k.Root.Request); q.byID[id] == k {
			delete(q.byID, id)
		}
	}
}

const (
	perSecond = 50   // failed requests, and slow requests, that are kept in a second
	burst     = 1000 // and at once
	slowestOf = 5    // requests that are kept of each route and minute because no other was slower
	maxRoutes = 1024 // routes whose slowest requests are known in a minute
)

// choice decides which requests are kept. The recorder's mutex guards it. Times are nanoseconds since 1970.
//
// Failed and slow requests are kept at a rate that leaves them there for some minutes. For example, of 10,000 failures in a second the first 1,000 are kept, and
// 50 in each second from then on: with 400 bytes each the store has them for about 3 minutes.
type choice struct {
	tokens  [2]float64 // of Failed and Slow
	at      int64      // when tokens were counted
	dropped [2]uint64
	minute  int64
	slowest map[route][]time.Duration // of this minute, in no order
}

// route names the group of requests among which the slowest are kept.
type route struct{ app, deployment, method, prefix string }

func (c *choice) take(w Why, now int64) bool {
	if c.at == 0 {
		c.tokens = [2]float64{burst, burst}
	} else if d := now - c.at; d > 0 {
		for i := range c.tokens {
			c.tokens[i] = min(burst, c.tokens[i]+float64(d)*perSecond/float64(time.Second))
		}
	}
	c.at = max(c.at, now)
	if c.tokens[w] < 1 {
		c.dropped[w]++
		return false
	}
	c.tokens[w]--
	return true
}

// decide says whether a request that has ended is kept, and why.
func (c *choice) decide(r *Record, slow time.Duration) (Why, bool) {
	switch took := r.Took(); {
	case failed(r):
		if c.take(Failed, r.End) {
			return Failed, true
		}
	case slow > 0 && took >= slow:
		if c.take(Slow, r.End) {
			return Slow, true
		}
	case took >= Least && c.isSlowest(r, took):
		return Slow, true
	}
	return Sampled, r.Sampled
}

// failed says that a request has failed for the operator: mistakes of clients, such as a body that does not fit, are no failures.
func failed(r *Record) bool {
	if r.Kind != HTTP {
		return r.Reason != ""
	}
	switch r.Status {
	case 408, 429, 499:
		return true
	}
	return r.Status >= 500
}

// isSlowest says that at most four requests of the route were slower in this minute.
func (c *choice) isSlowest(r *Record, took time.Duration) bool {
	if minute := r.End / int64(time.Minute); minute != c.minute || c.slowest == nil {
		c.minute, c.slowest = minute, map[route][]time.Duration{}
	}
	at := route{r.Place.App, r.Place.Deployment, r.Place.Method, r.Place.Prefix}
	of, known := c.slowest[at]
	switch {
	case !known && len(c.slowest) >= maxRoutes:
		return false
	case len(of) < slowestOf:
		c.slowest[at] = append(of, took)
		return true
	}
	least := 0
	for i, d := range of {
		if d < of[least] {
			least = i
		}
	}
	if took <= of[least] {
		return false
	}
	of[least] = took
	return true
}

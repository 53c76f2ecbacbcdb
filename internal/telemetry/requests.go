package telemetry

import (
	"cmp"
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Other is the method of requests whose method is none of HTTP's own nine, and of the series for requests that have none of their own.
const Other = "OTHER"

// seriesMax is the number of series of one [Requests]. A client chooses the method of a request, and a handler its status, so that
// ten methods with some hundreds of statuses could be thousands of series.
const seriesMax = 200

// Requests counts the HTTP requests of one route, with a series for each method and status. For example, 5 requests GET that
// were answered with 200 and 2 requests POST that were answered with 503 are two series. After the first seriesMax series the requests
// that would need another are counted in one more. A request takes no lock and no memory if its series is there. The zero Requests is ready.
type Requests struct {
	series atomic.Pointer[map[requestKey]*series] // a map is never written to, each new series makes another
	others series                                 // requests above seriesMax

	mu sync.Mutex // held while a series is added
}

type requestKey struct {
	method string
	status int
}

// series counts the requests of one method and status, and keeps the newest request of each bucket that was traced.
type series struct {
	Calls
	exemplars [Buckets]atomic.Pointer[Exemplar]
}

// Exemplar is one request as an example of its latency.
type Exemplar struct {
	ID   [16]byte // of its trace
	Took time.Duration
	At   time.Time // its end; zero for none
}

// Trace is the id of the trace in hexadecimal digits.
func (e Exemplar) Trace() string { return hex.EncodeToString(e.ID[:]) }

// End counts a request that has ended. A status of 400 or more is an error. trace is the id of its trace if that is kept, else nil.
func (q *Requests) End(method string, status int, took time.Duration, trace *[16]byte) {
	c := q.of(requestKey{methodLabel(method), status})
	c.Begin()
	c.Calls.End(took, status >= 400)
	if trace != nil {
		c.exemplars[bucket(took)].Store(&Exemplar{*trace, took, time.Now()})
	}
}

// of finds or adds the series of a key.
func (q *Requests) of(k requestKey) *series {
	if c := q.find(k); c != nil {
		return c
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.find(k); c != nil { // another request has added it, or the last one
		return c
	}
	all := map[requestKey]*series{}
	if before := q.series.Load(); before != nil {
		maps.Copy(all, *before)
	}
	c := new(series)
	all[k] = c
	q.series.Store(&all)
	return c
}

// find is the series of a key. It is the series of the others if the key has none and can get none any more, so that
// requests above the bound take no lock either, and nil if the series has to be added.
func (q *Requests) find(k requestKey) *series {
	all := q.series.Load()
	if all == nil {
		return nil
	}
	if c := (*all)[k]; c != nil {
		return c
	}
	if len(*all) >= seriesMax {
		return &q.others
	}
	return nil
}

// methodLabel is a method as a label. The result is one of ten constants, so that the memory of the request is not kept.
func methodLabel(method string) string {
	for _, known := range [...]string{"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"} {
		if method == known {
			return known
		}
	}
	return Other
}

// kept are the exemplars.
func (s *series) kept() (all []Exemplar) {
	for i := range s.exemplars {
		if e := s.exemplars[i].Load(); e != nil {
			if all == nil {
				all = make([]Exemplar, Buckets)
			}
			all[i] = *e
		}
	}
	return all
}

// RequestCounts is one series of HTTP requests in a [Snapshot]. Calls.Started are the requests that have ended, Calls.Failed those of them
// with an error.
type RequestCounts struct {
	Route, Application string // both are "" if no application has the path
	Method             string
	Status             int // 0 in the series of the requests above the bound
	Calls              Counts
	Exemplars          []Exemplar // by bucket of latency; the zero Exemplar where there is none; nil if there are none at all
}

// Counts reads the counters of all series, in the order of methods and statuses.
func (q *Requests) Counts() []RequestCounts {
	var out []RequestCounts
	if all := q.series.Load(); all != nil {
		for k, c := range *all {
			out = append(out, RequestCounts{Method: k.method, Status: k.status, Calls: c.Counts(), Exemplars: c.kept()})
		}
	}
	if others := q.others.Counts(); others.Started > 0 {
		out = append(out, RequestCounts{Method: Other, Calls: others, Exemplars: q.others.kept()})
	}
	slices.SortFunc(out, func(a, b RequestCounts) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Status, b.Status))
	})
	return out
}

// serverErrors is the first status of answers that are mistakes of the server.
const serverErrors = 500

// ByApplication are the HTTP requests of each application, and all of the node under the name "". A request has failed if its status is 500 or more: others are mistakes of clients.
func (s *Snapshot) ByApplication() map[string]*Counts {
	all := map[string]*Counts{"": {}}
	for i := range s.Requests {
		q := &s.Requests[i]
		k := q.Calls
		if q.Status < serverErrors {
			k.Failed = 0
		}
		all[""].Add(k)
		if q.Application != "" {
			if all[q.Application] == nil {
				all[q.Application] = new(Counts)
			}
			all[q.Application].Add(k)
		}
	}
	return all
}

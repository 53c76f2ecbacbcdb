package trace

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// stalls has the newest stalls of event loops.
type stalls struct {
	mu   sync.Mutex
	ring [stallsMax]Record
	next int
}

// stallsMax is how many stalls a node keeps: the program of a replica makes at most four in a second.
const stallsMax = 512

func (s *stalls) add(rec *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[s.next%stallsMax] = *rec
	s.next++
}

// each visits the stalls that are kept, the newest first.
func (s *stalls) each(visit func(*Record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := s.next - 1; i >= max(s.next-stallsMax, 0); i-- {
		visit(&s.ring[i%stallsMax])
	}
}

// MarkStalls adds the stalls of other requests to a request: the part of each stall in which one of its calls was at that replica. For example, a call that took 1,300 ms was at a replica
// whose loop another request had blocked for 1,200 ms of that: the span of 1,200 ms is inside of the call, and its attribute "request_id" names the other request. Stalls that the request
// itself has made are among its records.
func (r *Recorder) MarkStalls(v *helvetype.RequestTrace) {
	calls := v.Spans
	r.stalls.each(func(s *Record) {
		if s.Request.String() == v.ID {
			return
		}
		from, to := time.Unix(0, s.Begin), time.Unix(0, s.End)
		for _, c := range calls {
			if (c.Kind != Call.String() && c.Kind != Stream.String()) || c.Replica != s.Replica || s.Place == nil || c.App != s.Place.App || c.Deployment != s.Place.Deployment {
				continue
			}
			began, ended := c.Started, c.Started.Add(time.Duration(c.Milliseconds*float64(time.Millisecond)))
			if began.Before(from) {
				began = from
			}
			if ended.After(to) {
				ended = to
			}
			if ended.Sub(began) < Least {
				continue
			}
			part := span(s)
			part.Parent, part.Started, part.Milliseconds = c.ID, began, milliseconds(ended.Sub(began))
			part.Attributes = map[string]any{StallOf: s.Request.String()}
			v.Spans = append(v.Spans, part)
		}
	})
}

// StallOf is the attribute of a stall with the id of the request that has blocked the loop.
const StallOf = "request_id"

// Stalled is how often and how long the event loop of a replica did not turn.
type Stalled struct {
	Deployment, Replica string
	Number              int
	Longest             time.Duration
	Place               string // of the longest
	Request             string // of the longest
}

// Stalls are the stalls of an application since a time, by replica.
func (r *Recorder) Stalls(app string, since time.Time) (all []Stalled) {
	at := map[string]int{}
	r.stalls.each(func(s *Record) {
		if s.Place == nil || s.Place.App != app || s.End < since.UnixNano() {
			return
		}
		i, known := at[s.Replica]
		if !known {
			i = len(all)
			at[s.Replica] = i
			all = append(all, Stalled{Deployment: s.Place.Deployment, Replica: s.Replica})
		}
		of := &all[i]
		of.Number++
		if s.Took() > of.Longest {
			of.Longest, of.Request = s.Took(), s.Request.String()
			if s.More != nil {
				of.Place = s.More.Name
			}
		}
	})
	return all
}

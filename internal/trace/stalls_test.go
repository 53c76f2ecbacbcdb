package trace

import (
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestStalls: a request has the part of a stall of another request in which its call was at the blocked replica, and the stalls of an application are counted by replica.
func TestStalls(t *testing.T) {
	t.Parallel()
	r, place := New(), &call.Place{App: "app", Deployment: "D", Method: "m"}
	culprit, victim := call.NewID(), call.NewID()
	base := time.Now().UnixNano()
	ms := func(n int64) int64 { return base + n*int64(time.Millisecond) }
	for _, x := range []struct {
		replica  string
		from, to int64
	}{{"D#1", 0, 1000}, {"D#1", 3000, 3300}, {"D#2", 0, 1000}} {
		r.Record(Record{Request: culprit, ID: 5, Parent: 4, Kind: Stall, Place: place, Replica: x.replica, Begin: ms(x.from), End: ms(x.to), Depth: 1, More: &More{Name: "f, a.py line 1"}})
	}
	k := Kept{Root: Record{Request: victim, ID: 1, Kind: HTTP, Place: place, Begin: ms(200), End: ms(1100)}, Records: []Record{
		{Request: victim, ID: 2, Parent: 1, Kind: Call, Place: place, Replica: "D#1", Begin: ms(200), End: ms(1100)},
	}}
	v := k.View(true)
	r.MarkStalls(&v)
	if len(v.Spans) != 3 {
		t.Fatalf("%d spans, want the request, its call and one stall: %+v", len(v.Spans), v.Spans)
	}
	if s := v.Spans[2]; s.Kind != "stall" || s.Parent != hexID(2) || s.Milliseconds != 800 || s.Name != "f, a.py line 1" || s.Attributes[StallOf] != culprit.String() {
		t.Errorf("%+v", s)
	}
	own := Kept{Root: Record{Request: culprit, ID: 1, Kind: HTTP, Place: place, Replica: "D#1", Begin: ms(0), End: ms(1100)}}
	mine := own.View(true)
	if r.MarkStalls(&mine); len(mine.Spans) != 1 {
		t.Errorf("the stall of a request itself is twice in it: %+v", mine.Spans)
	}
	all := r.Stalls("app", time.Unix(0, base))
	if len(all) != 2 || all[1].Replica != "D#1" || all[1].Number != 2 || all[1].Longest != time.Second || all[1].Place != "f, a.py line 1" || all[1].Request != culprit.String() {
		t.Errorf("%+v", all)
	}
	if late := r.Stalls("app", time.Unix(0, ms(5000))); len(late) != 0 || len(r.Stalls("other", time.Unix(0, base))) != 0 {
		t.Errorf("%+v", late)
	}
}

// TestLoad: the slow requests and the latencies of an application, without those of others and of before.
func TestLoad(t *testing.T) {
	t.Parallel()
	r, base := New(), time.Now()
	http, place := &call.Place{App: "app", Prefix: "/"}, &call.Place{App: "app", Deployment: "D", Method: "m"}
	end := func(status uint16, took, before time.Duration) {
		at := base.Add(-before).UnixNano()
		id := call.NewID()
		r.Record(Record{Request: id, ID: 2, Parent: 1, Kind: Call, Place: place, Replica: "D#1", Begin: at - int64(took), End: at, Depth: 1})
		r.Record(Record{Request: id, ID: 1, Kind: HTTP, Place: http, Status: status, Begin: at - int64(took), End: at})
	}
	end(200, 2*time.Second, time.Hour)
	end(200, 2*time.Second, time.Second)
	end(408, 4*time.Second, 0)
	end(500, 3*time.Second, 0)
	since := base.Add(-time.Minute)
	if got := r.Slow("app", since, 10); len(got) != 2 || got[0].Status != 200 || got[1].Status != 408 || len(got[0].Spans) != 2 {
		t.Errorf("%+v", got)
	}
	if got := r.Slow("other", since, 10); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got := r.Latencies("app", since); len(got) != 1 || got[0] != (Latency{"D", "m", "D#1", 3, 9 * time.Second}) {
		t.Errorf("%+v", got)
	}
}

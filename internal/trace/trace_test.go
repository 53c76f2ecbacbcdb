package trace

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

var (
	web    = &call.Place{App: "shop", Prefix: "/"}
	entry  = &call.Place{App: "shop", Deployment: "Web", Method: "Get", Prefix: "/"}
	worker = &call.Place{App: "shop", Deployment: "Model", Method: "Predict"}
)

// request is the record of an HTTP request that ended now.
func request(status uint16, took time.Duration) Record {
	end := call.Unix(call.Now())
	return Record{Request: call.NewID(), ID: 1, Place: web, Kind: HTTP, Status: status, Begin: end - int64(took), End: end}
}

// callOf is the record of a call of the request, which took as long.
func callOf(r Record, id uint64) Record {
	r.Kind, r.ID, r.Parent, r.Place, r.Status, r.Depth = Call, id, r.ID, worker, 0, 1
	return r
}

// TestWants: a short call that succeeds leaves nothing.
func TestWants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		took            time.Duration
		failed, sampled bool
		want            bool
	}{
		"short": {took: 999 * time.Microsecond},
		"long":  {took: time.Millisecond, want: true},
		"fails": {failed: true, want: true}, "sampled": {sampled: true, want: true},
	} {
		if got := Wants(int64(c.took), c.failed, &call.Info{Sampled: c.sampled}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestWaited: a short wait leaves nothing, a long wait leaves its times and its queue, and a wait that fails always leaves a record.
func TestWaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got records
		i := &call.Info{Request: call.NewID(), Call: 7, Place: worker}
		since := call.Now()
		always := func(int64, int64) time.Duration { return 0 }
		never := func(from, to int64) time.Duration { return time.Duration(to-from) / 3 }
		Waited(&got, i, "proxy", since, always, nil)
		time.Sleep(30 * time.Millisecond)
		Waited(&got, i, "proxy", since, never, nil)
		Waited(&got, i, "proxy", call.Now(), always, call.NewError(helvetype.ReasonBackpressure, "full"))
		if len(got) != 2 || got[0].Took() != 30*time.Millisecond || got[0].Origin != "proxy" || got[0].Kind != Wait || got[0].ID != 7 {
			t.Fatalf("%+v", got)
		}
		if v := span(&got[0]); v.WithoutReplica != 10 {
			t.Errorf("%v ms without a replica, want 10", v.WithoutReplica)
		}
		if got[1].Reason != "backpressure" || got[1].More.Message != "full" {
			t.Errorf("%+v", got[1])
		}
	})
}

// TestFilled: a call that has waited for its arguments leaves the time of that, below the span in which it is made, if it was a millisecond, or less in a sampled request.
func TestFilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got records
		i := &call.Info{Request: call.NewID(), Call: 7, Parent: 3, Span: [8]byte{7: 5}, Place: worker}
		since := call.Now()
		time.Sleep(999 * time.Microsecond)
		Filled(&got, i, since)
		Filled(nil, i, since)
		i.Sampled = true
		Filled(&got, i, since)
		i.Sampled = false
		time.Sleep(time.Microsecond)
		Filled(&got, i, since)
		if len(got) != 2 || got[0].Took() != 999*time.Microsecond || got[1].Took() != time.Millisecond {
			t.Fatalf("%+v", got)
		}
		if v := span(&got[1]); v.Kind != "arguments" || v.ID != "0000000000000007" || v.Parent != "0000000000000005" || v.Caller != "0000000000000003" || v.Deployment != "Model" {
			t.Errorf("%+v", v)
		}
	})
}

type records []Record

func (r *records) Record(rec Record) { *r = append(*r, rec) }

// TestCollect: a request that is kept has its records, from before and after its end, and no others.
func TestCollect(t *testing.T) {
	t.Parallel()
	r := New()
	root := request(500, 10*time.Millisecond)
	r.Record(callOf(request(200, time.Minute), 99)) // of another request
	r.Record(callOf(root, 2))
	r.Record(callOf(root, 3))
	r.Record(root)
	now := call.Unix(call.Now())
	if !r.collect(now) {
		t.Fatal("nothing is pending")
	}
	r.Record(callOf(root, 4)) // a span of a worker comes later
	r.collect(now)
	r.collect(now)
	k, kept, ok := r.Find(root.Request)
	if !kept || !ok || k.Why != Failed || k.Root.Status != 500 {
		t.Fatalf("%+v, %v, %v", k, kept, ok)
	}
	ids := map[uint64]int{}
	for _, rec := range k.Records {
		ids[rec.ID]++
	}
	if fmt.Sprint(ids) != "map[2:1 3:1 4:1]" {
		t.Errorf("records %v", ids)
	}
	if r.collect(now + int64(collectFor) + int64(time.Second)) {
		t.Error("the request is still pending")
	}
}

// TestFindNotKept: a request that is not kept is found by its records in the ring.
func TestFindNotKept(t *testing.T) {
	t.Parallel()
	r := New()
	root := request(200, 2*time.Millisecond)
	r.Record(callOf(root, 2))
	if _, kept, ok := r.Find(call.NewID()); kept || ok {
		t.Error("a request that nobody made is found")
	}
	if k, kept, ok := r.Find(root.Request); kept || !ok || len(k.Records) != 1 {
		t.Errorf("%+v, %v, %v", k, kept, ok)
	}
}

// TestClientsOwnID: two ids of one text, as two processes have them, are one request.
func TestClientsOwnID(t *testing.T) {
	t.Parallel()
	r := New()
	root, other := request(503, time.Millisecond), Record{}
	root.Request = call.IDFrom("order-7")
	other = callOf(root, 2)
	other.Request = call.IDFrom("order-" + fmt.Sprint(7))
	r.Record(other)
	r.Record(root)
	if k, _, _ := r.Find(call.IDFrom(fmt.Sprint("order-", 7))); len(k.Records) != 1 {
		t.Errorf("%+v", k)
	}
}

// TestDecide: which requests are kept, and why.
func TestDecide(t *testing.T) {
	t.Parallel()
	fast := func(r Record) Record { r.End = r.Begin + 1; return r }
	for name, c := range map[string]struct {
		r    Record
		want string
	}{
		"a mistake of the client": {fast(request(404, 0)), ""},
		"too many":                {fast(request(429, 0)), "failed"},
		"the client has gone":     {fast(request(499, 0)), "failed"},
		"an error":                {fast(request(500, 0)), "failed"},
		"slow":                    {request(200, DefaultSlow), "slow"},
		"short":                   {fast(request(200, 0)), ""},
		"sampled":                 {func() Record { r := fast(request(200, 0)); r.Sampled = true; return r }(), "sampled"},
	} {
		var d choice
		d.slowest = map[route][]time.Duration{}
		why, ok := d.decide(&c.r, DefaultSlow)
		got := ""
		if ok {
			got = why.String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestSlowestOfRoute: of requests below the limit the slowest of each route and minute are kept.
func TestSlowestOfRoute(t *testing.T) {
	t.Parallel()
	var d choice
	kept := 0
	at := int64(time.Minute) * 1000
	note := func(took time.Duration) bool {
		r := request(200, took)
		r.Begin, r.End = at, at+int64(took)
		_, ok := d.decide(&r, time.Second)
		return ok
	}
	for range 100 {
		if note(20 * time.Millisecond) {
			kept++
		}
	}
	if kept != slowestOf {
		t.Errorf("%d requests of the same time are kept", kept)
	}
	if !note(30*time.Millisecond) || note(10*time.Millisecond) {
		t.Error("the slowest is not kept, or a faster one")
	}
	at += int64(time.Minute)
	if !note(10 * time.Millisecond) {
		t.Error("the first of a minute is not kept")
	}
}

// TestFlood: a flood of failures leaves room for later ones, does not push out slow requests, and stays within the bytes.
func TestFlood(t *testing.T) {
	t.Parallel()
	r := New()
	slow := request(200, 2*time.Second)
	r.Record(slow)
	begin := slow.End
	for n := range 50_000 {
		f := request(500, 0)
		f.End = begin + int64(n)*int64(10*time.Millisecond) // 100 a second
		f.Begin = f.End - int64(time.Millisecond)
		r.Record(callOf(f, 3))
		r.Record(f)
	}
	if _, kept, _ := r.Find(slow.Request); !kept {
		t.Error("the slow request is gone")
	}
	n := 0
	var oldest int64
	r.Roots(Failed, func(root *Record) bool { n, oldest = n+1, root.End; return true })
	if r.requests.bytes[Failed] > maxFailed || n < 5000 {
		t.Errorf("%d failures in %d bytes are kept", n, r.requests.bytes[Failed])
	}
	if age := time.Duration(begin + 50_000*int64(10*time.Millisecond) - oldest); age < time.Minute {
		t.Errorf("the oldest failure is %s old", age)
	}
	if failed, _ := r.Dropped(); failed == 0 {
		t.Error("no failure was left out")
	}
}

// TestTrim: the bytes that are counted are the bytes of the kept requests.
func TestTrim(t *testing.T) {
	t.Parallel()
	var q requests
	for n := range 30_000 {
		k := &Kept{Root: request(500, 0), Why: Failed}
		q.add(k)
		more := callOf(k.Root, uint64(n))
		more.More = &More{Message: "broken"}
		q.note(k, &more)
	}
	bytes := 0
	for e := q.lists[Failed].Front(); e != nil; e = e.Next() {
		k := e.Value.(*Kept)
		bytes += keptSize + sizeOf(&k.Root)
		for i := range k.Records {
			bytes += sizeOf(&k.Records[i])
		}
	}
	if bytes != q.bytes[Failed] || len(q.byID) != q.lists[Failed].Len() || bytes > maxFailed {
		t.Errorf("%d bytes, counted %d; %d by id, %d in the list", bytes, q.bytes[Failed], len(q.byID), q.lists[Failed].Len())
	}
}

// TestRing: the newest records are there, the newest first, also after the ring has gone round.
func TestRing(t *testing.T) {
	t.Parallel()
	var r ring
	r.back(0, 0, func(*Record) bool { t.Error("a record of an empty ring"); return true })
	for n := range ringSize + 1000 {
		r.add(&Record{ID: uint64(n)})
	}
	want, n := uint64(ringSize+999), 0
	r.back(r.written(), 0, func(rec *Record) bool {
		if rec.ID != want {
			t.Fatalf("record %d, want %d", rec.ID, want)
		}
		want--
		n++
		return true
	})
	if n != ringSize {
		t.Errorf("%d records", n)
	}
	n = 0
	r.back(r.written(), r.written()-700, func(*Record) bool { n++; return true })
	if n != 700 {
		t.Errorf("%d records", n)
	}
}

// TestSampler: the part of requests that are sampled, and that the id decides.
func TestSampler(t *testing.T) {
	t.Parallel()
	for _, ratio := range []float64{0, 0.1, 1} {
		var s Sampler
		s.SetRatio(ratio)
		n := 0
		for range 10_000 {
			i := call.Info{Request: call.NewID()}
			s.Decide(&i)
			again := call.Info{Request: call.NewID(), Trace: i.TraceID()}
			if s.Decide(&again); again.Sampled != i.Sampled {
				t.Fatal("two processes decide differently of one trace")
			}
			if i.Sampled {
				n++
			}
		}
		if want := int(ratio * 10_000); n < want-200 || n > want+200 {
			t.Errorf("%d of 10,000 are sampled with %g", n, ratio)
		}
		if s.Ratio() != ratio && ratio != 0.1 {
			t.Errorf("the ratio is %g", s.Ratio())
		}
	}
}

// TestCollector: the collector sleeps until a request is kept, ends its work some seconds later, and stops with its context.
func TestCollector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Collect(ctx); close(done) }()
		root := request(500, time.Millisecond)
		r.Record(callOf(root, 2))
		r.Record(root)
		time.Sleep(2 * collectEvery)
		synctest.Wait()
		r.mu.Lock()
		n := len(r.requests.byID[keyOf(root.Request)].Records)
		r.mu.Unlock()
		if n != 1 {
			t.Errorf("%d records", n)
		}
		time.Sleep(2 * collectFor)
		synctest.Wait()
		r.mu.Lock()
		left := len(r.pending)
		r.mu.Unlock()
		if left != 0 {
			t.Error("a request is pending for ever")
		}
		cancel()
		<-done
	})
}

// TestExport: sampled records go on, others do not.
func TestExport(t *testing.T) {
	t.Parallel()
	r := New()
	n := 0
	r.Export(func(*Record) { n++ })
	sampled := request(200, time.Millisecond)
	sampled.Sampled = true
	r.Record(sampled)
	r.Record(request(500, time.Millisecond))
	r.Export(nil)
	r.Record(sampled)
	if n != 1 {
		t.Errorf("%d records were exported", n)
	}
}

// TestView: a request as operators see it: its spans in the order of their begins, with the wait before the call, and the deployment of its first call.
func TestView(t *testing.T) {
	t.Parallel()
	r := New()
	root := request(500, 40*time.Millisecond)
	root.Reason, root.More = "user", &More{Message: "broken"}
	first := callOf(root, 2)
	first.Place, first.Depth, first.Begin, first.Replica = entry, 0, root.Begin+int64(30*time.Millisecond), "Web#001"
	wait := first
	wait.Kind, wait.Origin, wait.Begin, wait.End = Wait, "proxy", root.Begin+1, first.Begin
	span := callOf(root, 9)
	span.Kind, span.Begin, span.Parent = Span, first.Begin+1, 2
	span.More = &More{Name: "tokenize", Attributes: []Attribute{{"n", int64(3)}}, Links: []Link{{Span: 5}}}
	for _, rec := range []Record{wait, first, span, root} {
		r.Record(rec)
	}
	k, kept, _ := r.Find(root.Request)
	v := k.View(kept)
	if v.Kept != "failed" || v.Status != 500 || v.Reason != "user" || v.Message != "broken" || v.Deployment != "Web" || v.Route != "/" || v.Milliseconds != 40 {
		t.Errorf("%+v", v.Request)
	}
	if len(v.TraceID) != 32 || v.Kind != "http" || v.ID != root.Request.String() {
		t.Errorf("%+v", v.Request)
	}
	kinds := ""
	for _, s := range v.Spans {
		kinds += s.Kind + " "
	}
	if kinds != "http wait call span " {
		t.Fatalf("spans %s", kinds)
	}
	if w := v.Spans[1]; w.Origin != "proxy" || w.ID != v.Spans[2].ID || w.Milliseconds < 29 || w.Milliseconds > 30 {
		t.Errorf("%+v", w)
	}
	if s := v.Spans[3]; s.Name != "tokenize" || s.Attributes["n"] != int64(3) || s.Parent != v.Spans[2].ID || len(s.Links) != 1 {
		t.Errorf("%+v", s)
	}
}

// TestList: which kept requests a query chooses, the newest first.
func TestList(t *testing.T) {
	t.Parallel()
	r := New()
	failed, slow := request(503, 0), request(200, 3*time.Second)
	slow.Begin, slow.End, slow.Sampled = slow.Begin+10, slow.End+10, true
	r.Record(failed)
	r.Record(slow)
	for name, c := range map[string]struct {
		q    helvetype.RequestQuery
		want string
	}{
		"all":         {helvetype.RequestQuery{}, "slow failed "},
		"one":         {helvetype.RequestQuery{Limit: 1}, "slow "},
		"failed":      {helvetype.RequestQuery{Kept: "failed"}, "failed "},
		"sampled":     {helvetype.RequestQuery{Kept: "sampled"}, "slow "},
		"status":      {helvetype.RequestQuery{Status: 503}, "failed "},
		"longer":      {helvetype.RequestQuery{LongerThan: time.Second}, "slow "},
		"app":         {helvetype.RequestQuery{App: "shop"}, "slow failed "},
		"another app": {helvetype.RequestQuery{App: "chat"}, ""},
	} {
		got := ""
		for _, one := range r.List(c.q).Requests {
			got += one.Kept + " "
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

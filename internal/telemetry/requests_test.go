package telemetry

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestRequestSeries: a series per method and status, in order; a status of 400 or more is an error, and an unknown method is OTHER.
func TestRequestSeries(t *testing.T) {
	t.Parallel()
	var q Requests
	if got := q.Counts(); len(got) != 0 {
		t.Errorf("%v before the first request", got)
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "get", "BREW", ""} {
		q.End(method, 399, time.Millisecond, nil)
	}
	q.End("GET", 400, 3*time.Millisecond, nil)
	got := ""
	for _, k := range q.Counts() {
		got += fmt.Sprintln(k.Method, k.Status, k.Calls.Started, k.Calls.Failed, k.Calls.Busy, k.Calls.Buckets[:3])
	}
	want := `CONNECT 399 1 0 1ms [1 0 0]
DELETE 399 1 0 1ms [1 0 0]
GET 399 1 0 1ms [1 0 0]
GET 400 1 1 3ms [0 0 1]
HEAD 399 1 0 1ms [1 0 0]
OPTIONS 399 1 0 1ms [1 0 0]
OTHER 399 3 0 3ms [3 0 0]
PATCH 399 1 0 1ms [1 0 0]
POST 399 1 0 1ms [1 0 0]
PUT 399 1 0 1ms [1 0 0]
TRACE 399 1 0 1ms [1 0 0]
`
	if got != want {
		t.Errorf("%s", got)
	}
}

// TestRequestSeriesAreBounded: goroutines count more kinds than there are series. No request is lost, each kind with a series has all
// its requests, and the rest is in one series.
func TestRequestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	var q Requests
	var counting sync.WaitGroup
	const goroutines, kinds = 4, 3 * seriesMax
	for g := range goroutines {
		counting.Go(func() {
			for i := range kinds {
				q.End("GET", 200+(i+g*seriesMax/2)%kinds, time.Millisecond, nil)
				if g == 0 && i%50 == 0 {
					q.Counts()
				}
			}
		})
	}
	counting.Wait()
	all := q.Counts()
	if len(all) != seriesMax+1 {
		t.Fatalf("%d series, want %d", len(all), seriesMax+1)
	}
	for _, k := range all {
		want := uint64(goroutines)
		if k.Status == 0 {
			want *= kinds - seriesMax
		}
		if k.Calls.Started != want || k.Calls.Ended() != want || (k.Status == 0) != (k.Method == Other) {
			t.Errorf("%s %d: %d requests, want %d", k.Method, k.Status, k.Calls.Started, want)
		}
	}
}

// TestRequestsAllocateNothing: a request whose series is there allocates nothing, and neither does one above the bound. The test is not
// parallel, because allocations are counted over the whole process.
func TestRequestsAllocateNothing(t *testing.T) { //nolint:paralleltest // see above
	var q Requests
	for i := range seriesMax {
		q.End("GET", 200+i, time.Millisecond, nil)
	}
	for _, method := range []string{"GET", "POST"} {
		if n := testing.AllocsPerRun(100, func() { q.End(method, 200, time.Millisecond, nil) }); n != 0 {
			t.Errorf("%s: %v allocations", method, n)
		}
	}
}

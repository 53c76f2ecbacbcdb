package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// TestKept: the lines of an access log are records that a query chooses from, in both forms, also with an id that has spaces.
func TestKept(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 5, 4, 10, 15, 2, 31_000_000, time.UTC)
	lines := []Line{
		{begun, 1300 * time.Microsecond, "127.0.0.1:51234", "POST", "/", 200, "r-1", 12, "hello", "Ingress#001"},
		{begun.Add(time.Second), 20 * time.Millisecond, "127.0.0.1:51235", "GET", "/shop", 503, "an id of a client", 0, "shop", "Shop#002"},
		{begun.Add(2 * time.Second), time.Millisecond, "127.0.0.1:51236", "GET", "", 404, "-3", 9, "", ""},
	}
	for _, json := range []bool{false, true} {
		kept := &Kept{}
		for i := range lines {
			if json {
				kept.Write(lines[i].appendJSON(nil)) //nolint:errcheck // it never fails
			} else {
				kept.Write(lines[i].appendText(nil)) //nolint:errcheck // the same
			}
		}
		for name, c := range map[string]struct {
			q    helvetype.LogQuery
			want []int
		}{
			"all": {helvetype.LogQuery{}, []int{0, 1, 2}}, "an application": {helvetype.LogQuery{App: "shop"}, []int{1}}, "a deployment": {helvetype.LogQuery{App: "hello", Deployment: "Ingress"}, []int{0}},
			"a request": {helvetype.LogQuery{Request: "an id of a client"}, []int{1}}, "an id with a hyphen": {helvetype.LogQuery{Request: "-3"}, []int{2}}, "failed ones": {helvetype.LogQuery{Level: "warn"}, []int{1}}, "a status": {helvetype.LogQuery{Text: " 404 "}, []int{2}},
			"since": {helvetype.LogQuery{Since: begun.Add(time.Second)}, []int{1, 2}}, "the newest": {helvetype.LogQuery{Tail: 1}, []int{2}}, "a client": {helvetype.LogQuery{Text: ":51234"}, []int{0}},
		} {
			var got, want []string
			err := kept.Read(t.Context(), c.q, func(l *helvetype.LogLine, _ uint64) error {
				got = append(got, fmt.Sprint(l.Time.Equal(begun), l.Level, l.App, l.Deployment, l.Replica, l.Request, l.Text, l.Attributes))
				return nil
			})
			for _, i := range c.want {
				l, level, deployment := lines[i], "INFO", strings.Split(lines[i].Replica, "#")[0]
				if l.Status >= 500 {
					level = "WARN"
				}
				route := l.Route
				if route == "" && !json {
					route = "-"
				}
				text := fmt.Sprintf("%s %s %d %s", l.Method, route, l.Status, l.Took)
				want = append(want, fmt.Sprint(l.Begun.Equal(begun), level, l.App, deployment, l.Replica, l.Request, text, map[string]string{"bytes": fmt.Sprint(l.Bytes), "client": l.Client}))
			}
			if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("JSON %v, %s:\n%s, %v; want\n%s", json, name, strings.Join(got, "\n"), err, strings.Join(want, "\n"))
			}
		}
	}
}

// TestKeptIsBounded: the oldest lines go when there are too many, and a reader that follows gets the lines to come.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	kept := &Kept{}
	line := Line{Begun: time.Unix(0, 0), Method: "GET", Route: "/", Status: 200, Request: "old"}
	kept.Write(line.appendText(nil)) //nolint:errcheck // it never fails
	line.Request = "many"
	batch := bytes.Repeat(line.appendText(nil), 1000)
	for range KeptBytes/len(batch) + 1 {
		kept.Write(batch) //nolint:errcheck // the same
	}
	if kept.bytes > KeptBytes {
		t.Errorf("%d bytes are kept", kept.bytes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := errors.New("ended")
	seen := 0
	err := kept.Read(ctx, helvetype.LogQuery{Follow: true}, func(l *helvetype.LogLine, _ uint64) error {
		switch {
		case l == nil && seen > 0:
			line.Request = "new"
			kept.Write(line.appendText(nil)) //nolint:errcheck // the same
		case l == nil:
		case l.Request == "old":
			t.Error("the oldest line is there")
		case l.Request == "new":
			return ended
		default:
			seen++
		}
		return nil
	})
	if !errors.Is(err, ended) || seen < 1000 {
		t.Errorf("%d lines, %v", seen, err)
	}
}

// TestKeptForASlowReader: a reader that follows learns how many lines were dropped before it came back.
func TestKeptForASlowReader(t *testing.T) {
	t.Parallel()
	kept := &Kept{}
	line := Line{Begun: time.Unix(0, 0), Method: "GET", Route: "/", Status: 200, Request: "many"}
	batch := bytes.Repeat(line.appendText(nil), 1000)
	line.Request = "first"
	for range 3 * KeptBytes / len(batch) { // the reader comes later: it has not missed these
		kept.Write(batch) //nolint:errcheck // it never fails
	}
	kept.Write(line.appendText(nil)) //nolint:errcheck // the same
	const batches = 2*KeptBytes/60_000 + 1
	ended := errors.New("ended")
	var seen, missed int
	follows := false
	err := kept.Read(t.Context(), helvetype.LogQuery{Follow: true}, func(l *helvetype.LogLine, n uint64) error {
		switch {
		case l == nil && follows:
			return ended
		case l == nil:
			follows = true
			for range batches {
				kept.Write(batch) //nolint:errcheck // the same
			}
		case !follows && n > 0:
			t.Errorf("%d lines are missed before the first", n)
		case follows:
			seen, missed = seen+1, missed+int(n)
		}
		return nil
	})
	if !errors.Is(err, ended) || missed == 0 || seen+missed != 1000*batches {
		t.Errorf("%d lines and %d missed of %d, %v", seen, missed, 1000*batches, err)
	}
}

// TestKeptHasLinesThatWait: a query finds the lines of all requests that ended before it, also of one whose line waits for others, and does not wait where none can.
func TestKeptHasLinesThatWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept := &Kept{}
		l := New(kept, false)
		read := func(want int, atMost time.Duration) {
			t.Helper()
			begun, n := time.Now(), 0
			err := kept.Read(t.Context(), helvetype.LogQuery{}, func(*helvetype.LogLine, uint64) error { n++; return nil })
			if took := time.Since(begun); n != want || err != nil || took > atMost {
				t.Errorf("%d lines after %s, %v; want %d after %s at most", n, took, err, want, atMost)
			}
		}
		read(0, 0)
		ask(l, "a")
		ask(l, "b")
		read(2, interval)
		time.Sleep(2 * interval)
		read(2, 0)
	})
}

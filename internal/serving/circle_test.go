package serving

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// TestCircle: calls of several requests that wait for each other's slots are named, also over two deployments, and calls that will end are not.
func TestCircle(t *testing.T) {
	t.Parallel()
	// A wait is a call that waits at a deployment. Its callers are written from the outermost on: "A1" is call 1 at the replica of A, which holds a slot there.
	type wait struct{ at, callers string }
	for _, test := range []struct {
		name  string
		slots map[string]int
		waits []wait
		held  map[string]int // slots of other calls
		want  string         // the deployments in a circle
	}{
		{"each request waits for the slots of all", map[string]int{"A": 2}, []wait{{"A", "A1 B1"}, {"A", "A2 B2"}}, nil, "A"},
		{"a call from outside waits behind them", map[string]int{"A": 2}, []wait{{"A", ""}, {"A", "A1"}, {"A", "A2"}}, nil, "A"},
		{"two calls of one caller", map[string]int{"A": 2}, []wait{{"A", "A1"}, {"A", "A1"}}, map[string]int{"A": 1}, ""},
		{"another call has a slot", map[string]int{"A": 3}, []wait{{"A", "A1"}, {"A", "A2"}}, map[string]int{"A": 1}, ""},
		{"two deployments wait for each other", map[string]int{"A": 2, "B": 1}, []wait{{"B", "A1"}, {"B", "A2"}, {"A", "B3"}}, nil, "A B"},
		{"a slow deployment below", map[string]int{"A": 2, "B": 1}, []wait{{"B", "A1"}, {"B", "A2"}, {"A", ""}}, map[string]int{"B": 1}, ""},
		{"one behind a circle is in none", map[string]int{"A": 2, "B": 1}, []wait{{"A", "A1"}, {"A", "A2"}, {"B", ""}}, map[string]int{"B": 1}, "A"},
		{"one whose slots are held by calls that wait at a circle", map[string]int{"A": 2, "B": 1}, []wait{{"A", "A1"}, {"A", "A2"}, {"A", "B3"}, {"B", ""}}, nil, "A B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var all []*Deployment
				var noted atomic.Int32
				named := map[string]*Deployment{}
				for _, name := range []string{"A", "B"} {
					d := New(slog.New(slog.DiscardHandler), "node", "app", name)
					d.All = func() []*Deployment { return all }
					d.Circled = func(string) { noted.Add(1) }
					r := &fakeReplica{}
					r.Init(t.Context(), name+"#1", "node", max(test.slots[name], 1))
					d.Router.Update(nil, []router.Replica{r})
					all, named[name] = append(all, d), d
				}
				holders := map[string]bool{}
				var ends []string
				var places []*Place
				outside := map[string]bool{} // the calls without a caller
				for i, w := range test.waits {
					info := &call.Info{Place: &call.Place{App: "app", Deployment: w.at, Method: "M"}, Call: uint64(100 + i), Link: call.Awaited}
					var above *call.Info
					for _, c := range strings.Fields(w.callers) {
						above = &call.Info{Place: &call.Place{App: "app", Deployment: c[:1], Method: "M"}, Call: uint64(c[1]), Replica: c[:1] + "#1", Above: above, Link: call.Awaited}
						holders[c] = true
					}
					info.Above = above
					outside[hexID(info.Call)] = above == nil
					p := named[w.at].NewPlace(info, &placed{name: fmt.Sprint(i), all: &ends})
					places = append(places, p)
				}
				for name, d := range named {
					r := replicaOf(d.Router.Replicas()[0]).base()
					for c := range holders {
						if c[:1] == name {
							r.gate.TryAcquire()
						}
					}
					for range test.held[name] {
						r.gate.TryAcquire()
					}
				}
				for i, p := range places {
					p.Enter(fmt.Sprint(i))
				}
				time.Sleep(7 * time.Second)
				synctest.Wait()
				var got []string
				for _, d := range all {
					if d.Cycle() != "" {
						got = append(got, d.Name)
					}
				}
				if strings.Join(got, " ") != test.want || int(noted.Load()) != len(got) {
					t.Errorf("in a circle: %q, want %q; noted %d times", got, test.want, noted.Load())
				}
				for _, d := range all {
					if none, unlisted := d.Calls(nil, NoWaits); len(none) != 0 || unlisted != 0 {
						t.Errorf("a list without calls that wait for a slot has %v, and counts %d", none, unlisted)
					}
					calls, _ := d.Calls(nil, 10)
					for _, c := range calls {
						if d.Cycle() != "" && strings.HasSuffix(c.WaitsFor, "behind a circle of calls") != outside[c.ID] {
							t.Errorf("call %s waits for %s", c.ID, c.WaitsFor)
						}
					}
				}
				for _, p := range places {
					p.Cancel(nil, call.NewError("x", "the test is over"))
				}
				time.Sleep(2 * time.Second)
				for _, d := range all {
					if d.Cycle() != "" || d.watching.Load() {
						t.Errorf("%s: %q after the calls have left", d.Name, d.Cycle())
					}
				}
			})
		})
	}
}

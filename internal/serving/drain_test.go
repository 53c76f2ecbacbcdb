package serving

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// TestDrain: a drain ends with the last call, or with its context, and then its error names the calls that are left and the reason.
func TestDrain(t *testing.T) {
	t.Parallel()
	at := &call.Place{App: "app", Deployment: "D", Method: "M"}
	stopped := errors.New("a second signal came")
	for name, c := range map[string]struct {
		app  string        // "" for app
		ends time.Duration // when the running call ends; 0 for never
		cut  time.Duration // when the drain is cut off; 0 for never
		took time.Duration
		says string // "" for no error
	}{
		"calls finish": {ends: 5 * time.Second, took: 5 * time.Second},
		"the grace is over": {took: 20 * time.Second,
			says: "app/D: 1 call waited for a slot, 1 call still ran in replica D#1 when its time to finish was over (graceful_shutdown_timeout_s 20)"},
		"the drain is cut off": {cut: 3 * time.Second, took: 3 * time.Second,
			says: "app/D: 1 call waited for a slot, 1 call still ran in replica D#1 when it was cut off (a second signal came)"},
		"of an actor": {app: "_hidden.actor.A", took: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := slog.New(slog.DiscardHandler)
				d, idle := New(log, "node", cmp.Or(c.app, "app"), "D"), New(log, "node", "app", "Idle")
				d.Become(State{Grace: 20 * time.Second}, 2, nil)
				r := &fakeReplica{}
				r.Init(t.Context(), "D#1", "node", 1)
				d.Router.Update(nil, []router.Replica{r})
				var ends []string
				running, waiting := &placed{name: "running", all: &ends}, &placed{name: "waiting", all: &ends}
				d.NewPlace(&call.Info{Place: at}, running).Enter("one")
				place := d.NewPlace(&call.Info{Place: at}, waiting)
				place.Enter("one")
				if c.ends > 0 {
					time.AfterFunc(c.ends, func() {
						running.slot.Gate().Release(nil) // the call that waits gets the slot, and ends at once
						waiting.slot.Gate().Release(nil)
					})
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if c.cut > 0 {
					time.AfterFunc(c.cut, func() { cancel(stopped) })
				}
				draining, release := Draining(ctx, 20*time.Second)
				defer release()
				begun := time.Now()
				err := Drain(draining, []*Deployment{d, idle})
				if took := time.Since(begun).Round(10 * time.Millisecond); took != c.took {
					t.Errorf("it took %s", took)
				}
				if c.says == "" && err != nil || c.says != "" && (err == nil || err.Error() != c.says || !errors.Is(err, ErrUnfinished)) {
					t.Error(err)
				}
			})
		})
	}
}

// TestTimes: a deployment has at least the time of the deployments that call it.
func TestTimes(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, c := range map[string]struct {
		grace, want map[string]time.Duration
		uses        map[string][]string
		longest     time.Duration
	}{
		"alone":                       {map[string]time.Duration{"A": 2 * s}, map[string]time.Duration{"A": 2 * s}, nil, 2 * s},
		"a caller with less":          {map[string]time.Duration{"A": 2 * s, "B": 20 * s}, map[string]time.Duration{"A": 2 * s, "B": 20 * s}, map[string][]string{"A": {"B"}}, 20 * s},
		"a caller with more":          {map[string]time.Duration{"A": 20 * s, "B": 2 * s}, map[string]time.Duration{"A": 20 * s, "B": 20 * s}, map[string][]string{"A": {"B"}}, 20 * s},
		"a caller of a caller":        {map[string]time.Duration{"A": 9 * s, "B": s, "C": 2 * s}, map[string]time.Duration{"A": 9 * s, "B": 9 * s, "C": 9 * s}, map[string][]string{"B": {"C"}, "A": {"B"}}, 9 * s},
		"a cycle, and a name of none": {map[string]time.Duration{"A": s, "B": 2 * s}, map[string]time.Duration{"A": 2 * s, "B": 2 * s}, map[string][]string{"A": {"B", "X"}, "B": {"A"}}, 2 * s},
		"none at all":                 {nil, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.uses == nil {
				c.uses = map[string][]string{"A": nil}
			}
			if longest := Times(c.grace, c.uses); longest != c.longest || !maps.Equal(c.grace, c.want) {
				t.Errorf("%v, the longest %s", c.grace, longest)
			}
		})
	}
}

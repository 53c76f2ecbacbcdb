package controller

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// ofVersion is an application with one deployment, whose code is identified by a version.
func ofVersion(version string, replicas int, construct func() error) deploy.App {
	def := appOf(map[string]int{"A": replicas}, construct)
	def.Graph.Deployments[0].Options.Version = version
	return def
}

// TestUnchangedDeploy: a deploy of the code and the options that run makes no revision and says so. Each difference makes one.
func TestUnchangedDeploy(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		second func() deploy.App
		want   int // revisions
	}{
		"the same":        {func() deploy.App { return ofVersion("1", 2, nil) }, 1},
		"another message": {func() deploy.App { d := ofVersion("1", 2, nil); d.Message = "again"; return d }, 1},
		"another version": {func() deploy.App { return ofVersion("2", 2, nil) }, 2},
		"another number":  {func() deploy.App { return ofVersion("1", 3, nil) }, 2},
		"another source":  {func() deploy.App { d := ofVersion("1", 2, nil); d.Source = "files"; return d }, 2},
		"another route":   {func() deploy.App { d := ofVersion("1", 2, nil); d.Graph.RoutePrefix = "/b"; return d }, 2},
		"a longer history": {func() deploy.App {
			d := ofVersion("1", 2, nil)
			d.Submitted = json.RawMessage(`{"history_limit": 3}`)
			return d
		}, 2},
		"unknown code": {func() deploy.App { return ofVersion("", 2, nil) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := store.NewMemory()
				n := newTestNode(Settings{Store: s})
				n.closeAfter(t)
				n.deploy(t, ofVersion("1", 2, nil))
				unchanged, added := false, false
				def := x.second()
				def.Unchanged, def.Added = func() { unchanged = true }, func() { added = true }
				n.deploy(t, def)
				if got := len(keys(t, s, "revisions/")); got != x.want || unchanged != (x.want == 1) || !added {
					t.Errorf("%d revisions, want %d; unchanged %t, added %t", got, x.want, unchanged, added)
				}
			})
		})
	}
}

// TestOverridesInPlace: an override of an application whose code nothing identifies keeps the replicas, and a deploy keeps the override.
func TestOverridesInPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, ofVersion("", 2, nil))
		first := n.running("app", "A")[0].ID
		now, _, _ := n.Deployed("app", 0)
		if errs := now.Override(map[string]json.RawMessage{"A": json.RawMessage(`{"max_ongoing_requests": 20}`)}); len(errs) > 0 {
			t.Fatal(errs)
		}
		now.Changes = now.Number
		n.deploy(t, now)
		n.wantRunning(t, "overridden", 2)
		still := false
		for _, r := range n.running("app", "A") {
			still = still || r.ID == first
		}
		if !still {
			t.Error("an override has replaced a replica")
		}
		n.deploy(t, ofVersion("", 2, nil))
		now, _, _ = n.Deployed("app", 0)
		if e := now.Graph.Deployments[0].Options.Effective(); e.MaxOngoingRequests != 20 || e.Sources["max_ongoing_requests"] != spec.FromOverride {
			t.Errorf("%d from %s", e.MaxOngoingRequests, e.Sources["max_ongoing_requests"])
		}
		if r := record(t, s, store.RevisionKey("app", 3)); len(r.Overrides) != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// TestChangeOfRollout: a change of the options of a revision that is still rolled out takes its place with its code. The replicas of the revision before, to which the
// application has gone back for a moment, are none of it.
func TestChangeOfRollout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{Store: store.NewMemory()})
		n.closeAfter(t)
		n.deploy(t, ofVersion("", 1, nil))
		before := n.running("app", "A")[0].ID
		loaded := make(chan struct{})
		second := make(chan error, 1)
		go func() { second <- n.Deploy(t.Context(), ofVersion("", 1, func() error { <-loaded; return nil })) }()
		synctest.Wait()
		now, _, _ := n.Deployed("app", 0)
		if errs := now.Override(map[string]json.RawMessage{"A": json.RawMessage(`{"max_ongoing_requests": 20}`)}); len(errs) > 0 {
			t.Fatal(errs)
		}
		now.Changes = now.Number
		third := make(chan error, 1)
		go func() { third <- n.Deploy(t.Context(), now) }()
		synctest.Wait()
		close(loaded)
		if err := <-second; !errors.Is(err, deploy.ErrSuperseded) {
			t.Error(err)
		}
		if err := <-third; err != nil {
			t.Fatal(err)
		}
		n.wantRunning(t, "after the change", 1)
		if n.running("app", "A")[0].ID == before {
			t.Error("a replica with the code of revision 1 stands for revision 3, which has the code of 2")
		}
	})
}

// TestChangeOfFormer: a change of the options of a revision that another deploy has replaced since is refused, and so is one of an application that was deleted: the
// deploy and the delete would else be undone.
func TestChangeOfFormer(t *testing.T) {
	t.Parallel()
	for name, since := range map[string]func(*testing.T, *testNode){
		"deployed": func(t *testing.T, n *testNode) { n.deploy(t, ofVersion("2", 1, nil)) },
		"deleted": func(t *testing.T, n *testNode) {
			if err := n.Delete(t.Context(), "app"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{Store: store.NewMemory()})
				n.closeAfter(t)
				n.deploy(t, ofVersion("1", 1, nil))
				now, _, _ := n.Deployed("app", 0)
				now.Changes = now.Number
				since(t, n)
				if err := n.Deploy(t.Context(), now); !errors.Is(err, deploy.ErrChanged) {
					t.Error(err)
				}
			})
		})
	}
}

// TestUndoOfChange: an automatic rollback to a revision that was a change of options starts replicas with its code.
func TestUndoOfChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{Store: store.NewMemory()})
		n.closeAfter(t)
		n.deploy(t, ofVersion("", 1, nil))
		now, _, _ := n.Deployed("app", 0)
		now.Changes = now.Number
		n.deploy(t, now)
		n.Mu.Lock()
		good := n.Apps["app"].Current
		n.Mu.Unlock()
		n.deploy(t, ofVersion("", 1, nil))
		bad := n.running("app", "A")[0].ID
		if err := n.undoChange("app", &fleet.Change{Rollout: rollout.New(good.Number, good.Number+1, time.Now()), Back: good}, "too many calls fail", 0); err != nil {
			t.Fatal(err)
		}
		n.wantRunning(t, "after the rollback", 1)
		if n.running("app", "A")[0].ID == bad {
			t.Error("the replica of the bad revision serves on")
		}
	})
}

// TestOutcomes: the record of an application says what became of its revisions, and the revisions above the limit are deleted with their outcomes.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		limited := func(version string, construct func() error) deploy.App {
			def := ofVersion(version, 1, construct)
			def.Submitted = json.RawMessage(`{"history_limit": 3}`)
			return def
		}
		n.deploy(t, limited("1", nil))
		if err := n.Deploy(t.Context(), limited("2", func() error { return errors.New("no port") })); err == nil {
			t.Fatal("a constructor that fails is no error")
		}
		o := record(t, s, store.AppKey("app")).Outcomes
		if o[1].State != store.Ran || o[2].State != store.Failed || !strings.Contains(o[2].Reason, "no port") {
			t.Errorf("%+v", o)
		}
		for _, version := range []string{"3", "4", "5"} {
			n.deploy(t, limited(version, nil))
		}
		app := record(t, s, store.AppKey("app"))
		if got := keys(t, s, "revisions/"); len(got) != 3 || len(app.Outcomes) != 3 || app.Revision != 5 || app.Outcomes[5].State != store.Ran {
			t.Errorf("%v, %+v", got, app)
		}
	})
}

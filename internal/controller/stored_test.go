package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/restore"
	"github.com/helve-serve/helve/internal/store"
)

// TestRollback: the revision before, or one of a number, is deployed again with its code, as a new revision; the number of replicas stays.
func TestRollback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(nil)
		n := d.node()
		defer n.kill()
		made := counts{}
		version := func(name string) deploy.App {
			def := appOf(map[string]int{"A": 1}, func() error { made.add(name); return nil })
			def.Home = name // the program keeps the code
			return def
		}
		n.deploy(t, version("one"))
		if err := n.Rollback(t.Context(), "app", 0, restore.Change{}); err == nil || !strings.Contains(err.Error(), "no revision before") {
			t.Error(err)
		}
		n.deploy(t, version("two"))
		if err := n.Scale(t.Context(), "app", "A", 3, "ann", ""); err != nil {
			t.Fatal(err)
		}
		broken := appOf(map[string]int{"A": 1}, func() error { return errors.New("no licence") })
		if err := n.Deploy(t.Context(), broken); err == nil {
			t.Error("no error")
		}
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		made.clear()
		if err := n.Rollback(t.Context(), "app", 0, restore.Change{}); err != nil {
			t.Fatal(err)
		}
		n.wantStatus(t, "the revision that serves is not passed by", helvetype.ApplicationRunning, 4, 3)
		if r := record(t, d.store, store.RevisionKey("app", 4)); r.RollbackOf != 2 || made.of("one")+made.of("two") != 0 {
			t.Errorf("%+v, replicas were made of %v", r, made.all)
		}
		if err := n.Rollback(t.Context(), "app", 0, restore.Change{}); err != nil {
			t.Fatal(err)
		}
		n.wantStatus(t, "rolled back", helvetype.ApplicationRunning, 5, 3)
		if made.of("one") != 3 || made.of("two") != 0 {
			t.Errorf("replicas were made of %v", made.all)
		}
		if r := record(t, d.store, store.RevisionKey("app", 5)); r.RollbackOf != 1 {
			t.Errorf("%+v", r)
		}
		made.clear()
		if err := n.Rollback(t.Context(), "app", 2, restore.Change{}); err != nil {
			t.Fatal(err)
		}
		n.wantStatus(t, "rolled forward", helvetype.ApplicationRunning, 6, 3)
		if made.of("two") != 3 {
			t.Errorf("replicas were made of %v", made.all)
		}
		made.clear()
		if err := n.Rollback(t.Context(), "app", 2, restore.Change{}); err != nil {
			t.Fatal(err)
		}
		n.wantStatus(t, "rolled back to what runs", helvetype.ApplicationRunning, 7, 3)
		if made.of("two") != 0 {
			t.Errorf("replicas of the same code were replaced: %v", made.all)
		}
		for revision, want := range map[int]string{77: "no revision 77", -1: "no revision before"} {
			if err := n.Rollback(t.Context(), "app", revision, restore.Change{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%d: %v", revision, err)
			}
		}
		if err := n.Rollback(t.Context(), "none", 1, restore.Change{}); err == nil || !strings.Contains(err.Error(), `no application "none"`) {
			t.Error(err)
		}
	})
}

// TestDeployWhoseEndIsNotStored: a deploy is not acknowledged before the store says that it has ended.
func TestDeployWhoseEndIsNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(func(string) (deploy.App, error) { return appOf(map[string]int{"A": 1}, nil), nil })
		n := d.node()
		err := n.Deploy(t.Context(), appOf(map[string]int{"A": 1}, func() error {
			n.link.set(func() { n.link.down = true })
			return nil
		}))
		if !errors.Is(err, errDown) || !strings.Contains(err.Error(), "the next node may deploy it again") {
			t.Error(err)
		}
		n.wantStatus(t, "it runs", helvetype.ApplicationRunning, 1, 1)
		n.kill()
		next := d.restored(t)
		defer next.kill()
		next.wantStatus(t, "it was deployed again", helvetype.ApplicationRunning, 1, 1)
		if a := record(t, d.store, store.AppKey("app")); a.Attempt != nil {
			t.Errorf("%+v", a)
		}
	})
}

// TestDeployWhoseProgramHasGone: a deploy that the store has goes on when its program is killed; before that nothing of it stays.
func TestDeployWhoseProgramHasGone(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first=%v", first), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDurable(nil)
				n := d.node()
				defer n.kill()
				revision := 1
				if !first {
					n.deploy(t, appOf(map[string]int{"A": 1}, nil))
					revision = 2
				}
				ctx, gone := context.WithCancel(t.Context())
				app := appOf(map[string]int{"A": 2}, func() error {
					gone()
					return nil
				})
				if err := n.Deploy(ctx, app); err != nil {
					t.Error(err)
				}
				n.wantStatus(t, "the program was killed while the constructor ran", helvetype.ApplicationRunning, revision, 2)
				app.Graph.Deployments[0].Options.NumReplicas = 3
				if err := n.Deploy(ctx, app); err == nil {
					t.Error("a program that had gone before has deployed")
				}
				n.wantStatus(t, "the program was killed before", helvetype.ApplicationRunning, revision, 2)
			})
		})
	}
}

// TestStoreRefusesDeploy: a store without space refuses the deploy, which is an event; all that runs goes on.
func TestStoreRefusesDeploy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(func(string) (deploy.App, error) { return appOf(map[string]int{"A": 2}, nil), nil })
		n := d.node()
		defer n.kill()
		n.deploy(t, appOf(map[string]int{"A": 2}, nil))
		n.link.set(func() { n.link.down = true })
		if err := n.Deploy(t.Context(), appOf(map[string]int{"A": 3}, nil)); !errors.Is(err, errDown) {
			t.Error(err)
		}
		if err := n.testNode.Delete(t.Context(), "app"); !errors.Is(err, errDown) {
			t.Error(err)
		}
		if err := n.Scale(t.Context(), "app", "A", 5, "ann", ""); !errors.Is(err, errDown) {
			t.Error(err)
		}
		n.wantStatus(t, "the store is full", helvetype.ApplicationRunning, 1, 2)
		events, _ := n.set.Events.Since(0, 1000)
		refused := 0
		for _, e := range events {
			if e.Reason == "not_stored" && e.Object.App == "app" && strings.Contains(e.Message, errDown.Error()) {
				refused++
			}
		}
		if refused != 3 {
			t.Errorf("%d events of three refusals", refused)
		}
	})
}

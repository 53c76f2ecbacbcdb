package controller

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/store"
)

// TestOtherNumberAlone: a deploy that changes the number of replicas alone scales the deployment. With another version it updates it.
func TestOtherNumberAlone(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		version string
		number  int
		want    string
	}{
		"more":               {"1", 4, "upscale upscale_completed"},
		"fewer":              {"1", 1, "downscale downscale_completed"},
		"more of other code": {"2", 4, "config_update_started config_update_completed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				n.closeAfter(t)
				n.deploy(t, ofVersion("1", 2, nil))
				synctest.Wait()
				from := n.set.Events.Last()
				n.deploy(t, ofVersion(x.version, x.number, nil))
				n.wantRunning(t, "deployed", x.number)
				var went []string
				events, _ := n.set.Events.Since(from, 1000)
				for _, ev := range events {
					if ev.Object.Kind == helvetype.KindDeployment {
						went = append(went, ev.Reason)
					}
				}
				if got := strings.Join(went, " "); got != x.want {
					t.Errorf("%s, want %s", got, x.want)
				}
			})
		})
	}
}

// TestLowerNumber: a deploy of other code that also lowers the number of replicas takes no replica away before the new code has run. The replicas go with those
// that take their place.
func TestLowerNumber(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"the new revision fails": true, "it runs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{Store: store.NewMemory()})
				n.closeAfter(t)
				n.deploy(t, ofVersion("1", 4, nil))
				first := map[string]bool{}
				for _, r := range n.running("app", "A") {
					first[r.ID] = true
				}
				loaded, over := make(chan error), make(chan error, 1)
				go func() { over <- n.Deploy(t.Context(), ofVersion("2", 1, func() error { return <-loaded })) }()
				synctest.Wait()
				if got := len(n.running("app", "A")); got != 4 {
					t.Errorf("%d replicas run while the new one loads, want 4", got)
				}
				if fails {
					loaded <- errors.New("no model")
					if err := <-over; err == nil {
						t.Error("a constructor that fails is no error")
					}
					n.wantRunning(t, "after the failure", 4)
					for _, r := range n.running("app", "A") {
						if !first[r.ID] {
							t.Error("a replica was stopped and started again")
						}
					}
					return
				}
				loaded <- nil
				if err := <-over; err != nil {
					t.Error(err)
				}
				n.wantRunning(t, "after the change", 1)
			})
		})
	}
}

// TestModelsThatStay: of replicas that are too many one goes whose models others have, although it has more of them.
func TestModelsThatStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{Store: store.NewMemory()})
		n.closeAfter(t)
		n.deploy(t, ofVersion("1", 3, nil))
		all := n.running("app", "A")
		for i, models := range [][]string{{"fr", "de"}, {"es"}, {"fr", "de"}} {
			serving.BaseOf(all[i].Running.(*mortalReplica)).SetModels(models)
		}
		if err := n.Scale(t.Context(), "app", "A", 2, "ann", ""); err != nil {
			t.Fatal(err)
		}
		n.wantRunning(t, "scaled down", 2)
		for _, r := range n.running("app", "A") {
			if r == all[1] {
				return
			}
		}
		t.Error("the only replica with the model es has stopped")
	})
}

package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/spec"
)

// counts are the numbers of replicas of the deployments A and B that run.
func (n *testNode) counts() [2]int {
	return [2]int{len(n.running("app", "A")), len(n.running("app", "B"))}
}

// TestTheLoopLooksAtWhatHasChanged: a change of one deployment makes the loop look at no other.
func TestTheLoopLooksAtWhatHasChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		if err := n.Deploy(t.Context(), appOf(map[string]int{"A": 1, "B": 1}, func() error { return nil })); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.Mu.Lock()
		a := n.Apps["app"]
		a.Deployments["B"].Wanted = 2 // the loop is not told
		n.Mu.Unlock()
		if err := n.Scale(t.Context(), "app", "A", 2, "", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := n.counts(); got != [2]int{2, 1} {
			t.Errorf("after a change of A: %v replicas, want 2 and 1", got)
		}
		n.Mu.Lock()
		a.WakeLocked()
		n.Mu.Unlock()
		synctest.Wait()
		if got := n.counts(); got != [2]int{2, 2} {
			t.Errorf("after a look at the whole: %v replicas, want 2 and 2", got)
		}
	})
}

// TestADeploymentThatWaitsIsLookedAt: in an application that runs, a deployment is scaled up with the deployment that it uses, of
// which no replica was ever ready. It starts when that is ready.
func TestADeploymentThatWaitsIsLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		scale := func(number int, names ...string) {
			t.Helper()
			for _, name := range names {
				if err := n.Scale(t.Context(), "app", name, number, "", ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, version := range []string{"1", "2"} { // the second has no replica from the beginning
			def := appOf(map[string]int{"A": 1, "B": 1}, func() error {
				time.Sleep(time.Second) // fake time
				return nil
			})
			for i := range def.Graph.Deployments {
				d := &def.Graph.Deployments[i]
				if d.Options.Version = version; d.Name == "A" {
					d.Uses = []string{"B"}
				}
			}
			n.deploy(t, def)
			scale(0, "A", "B")
			time.Sleep(5 * time.Minute) // the rollout is not watched any more
		}
		scale(1, "B", "A")
		time.Sleep(1500 * time.Millisecond)
		if got := n.counts(); got != [2]int{0, 1} {
			t.Errorf("after a second and a half: %v replicas, want 0 and 1", got)
		}
		time.Sleep(time.Second)
		if got := n.counts(); got != [2]int{1, 1} {
			t.Errorf("after a second more: %v replicas, want 1 and 1", got)
		}
	})
}

// earlyHost is a host that starts before the deployments that its own uses are ready, and waits for them.
type earlyHost struct{ host.Host }

func (earlyHost) StartsEarly() bool { return true }

func (h earlyHost) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	if err := l.AwaitUses(ctx); err != nil {
		return nil, err
	}
	return h.Host.Start(ctx, l)
}

// TestAnEarlyStartSeesMinReady: in a first deploy, the start of A waits until B has been ready for min_ready_s, and then goes on although nothing else happens.
func TestAnEarlyStartSeesMinReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := startTestNode(Settings{}, host.Settings{}, func(d *host.Deployment, cd *codec.Codec) host.Host {
			return earlyHost{&inprocess.Host{Deployment: d, Node: "local", Codec: cd}}
		})
		n.closeAfter(t)
		def := appOf(map[string]int{"A": 1, "B": 4}, nil)
		def.Attempts = true
		def.Graph.Deployments[0].Uses = []string{"B"}
		o, err := def.Graph.Deployments[1].Options.Merge([]byte(`{"rollout_config": {"min_ready_s": 1, "steps": [1, 2], "step_pause_s": 3}}`), spec.FromFile)
		if err != nil {
			t.Fatal(err)
		}
		def.Graph.Deployments[1].Options = o
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Deploy(ctx, def); err != nil {
			t.Fatal(err)
		}
		if got := n.counts(); got != [2]int{1, 4} {
			t.Errorf("%v replicas, want 1 and 4", got)
		}
	})
}

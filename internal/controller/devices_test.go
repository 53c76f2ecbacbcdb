package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/spec"
)

// gpuHost has replicas in this process that hold GPUs, as Python workers do.
type gpuHost struct {
	host.Host
	gpus *ledger.Ledger
}

func (h gpuHost) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	if _, err := l.Reserve(ctx); err != nil {
		return nil, err
	}
	r, err := h.Host.Start(ctx, l)
	if err != nil {
		h.gpus.Free(l.ID)
		return nil, err
	}
	return &gpuReplica{r, func() { h.gpus.Free(l.ID) }}, nil
}

type gpuReplica struct {
	host.Replica
	free func()
}

func (r *gpuReplica) Stop(ctx context.Context) error {
	defer r.free()
	return r.Replica.Stop(ctx)
}

// newGPUNode is a node with GPUs.
func newGPUNode(t *testing.T, names ...string) (*testNode, *ledger.Ledger) {
	t.Helper()
	gpus := ledger.New(placement.Unstated("", names...))
	n := startTestNode(Settings{}, host.Settings{Ledger: gpus}, func(d *host.Deployment, cd *codec.Codec) host.Host {
		return gpuHost{mortalHost{&inprocess.Host{Deployment: d, Node: "local", Codec: cd}}, gpus}
	})
	n.closeAfter(t)
	return n, gpus
}

// gpuApp is an application whose replicas have a GPU each.
func gpuApp(numbers map[string]int, version string, construct func() error) deploy.App {
	def := appOf(numbers, construct)
	def.Python.Interpreter = "true"
	for i := range def.Graph.Deployments {
		d := &def.Graph.Deployments[i]
		d.Language, d.Options.Resources.GPUs, d.Options.Version = "python", 1, version
	}
	return def
}

// TestRoomForAnUpdate: where the old replicas hold every GPU, one makes room at a time: the others serve until the new one is ready.
func TestRoomForAnUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := newGPUNode(t, "0", "1", "2")
		n.deploy(t, gpuApp(map[string]int{"A": 3}, "1", nil))
		var mu sync.Mutex
		var served []int // old replicas in service when a new one is constructed
		n.deploy(t, gpuApp(map[string]int{"A": 3}, "2", func() error {
			mu.Lock()
			defer mu.Unlock()
			old := 0
			for _, r := range n.running("app", "A") {
				if r.Of.Definition.Options.Version == "1" {
					old++
				}
			}
			served = append(served, old)
			return nil
		}))
		n.wantRunning(t, "after the update", 3)
		if len(served) != 3 || served[0] != 2 || served[1] < 1 {
			t.Errorf("%v old replicas were in service when the new ones were constructed, want 2, then 1 at least", served)
		}
	})
}

// TestRoomOfAReplicaThatWaits: a replica of the revision before that waits for a GPU gives its turn to one of the new revision, before and after the first of these is ready.
func TestRoomOfAReplicaThatWaits(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"at the begin": 500 * time.Millisecond, "when a new one is ready": 1500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, _ := newGPUNode(t, "0", "1", "2")
				other := gpuApp(map[string]int{"B": 1}, "1", nil)
				other.Graph.App = "other"
				n.deploy(t, other)
				var started atomic.Int32
				n.deploy(t, gpuApp(map[string]int{"A": 2}, "1", func() error { started.Add(1); return nil }))
				if err := n.Scale(t.Context(), "app", "A", 3, "ann", ""); err != nil { // the third waits for the GPU of the other application
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // fake time
				begun, next := time.Now(), make(chan error, 1)
				go func() {
					next <- n.Deploy(t.Context(), gpuApp(map[string]int{"A": 3}, "2", func() error { time.Sleep(time.Second); return nil })) // fake time
				}()
				time.Sleep(time.Until(begun.Add(after))) // fake time
				n.Delete(t.Context(), "other")           //nolint:errcheck // it is there
				if err := <-next; err != nil {
					t.Error(err)
				}
				n.wantRunning(t, "after the update", 3)
				if got := started.Load(); got != 2 {
					t.Errorf("%d replicas of the revision before have started, want 2", got)
				}
			})
		})
	}
}

// TestRoomIsGivenBack: an update that fails after an old replica has made room leaves the old revision as it was.
func TestRoomIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, gpus := newGPUNode(t, "0")
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		err := n.Deploy(t.Context(), gpuApp(map[string]int{"A": 1}, "2", func() error { return errors.New("it does not start") }))
		if err == nil || !strings.Contains(err.Error(), "it does not start") {
			t.Error(err)
		}
		n.wantRunning(t, "after the failure", 1)
		if v := n.running("app", "A")[0].Of.Definition.Options.Version; v != "1" || len(gpus.Held()) != 1 {
			t.Errorf("version %s runs, and %v is held", v, gpus.Held())
		}
	})
}

// TestRoomThatWouldNotDo: no old replica makes room for an update for which the GPUs of the old replicas are too few. The update waits, and goes back when it has made no progress for long.
func TestRoomThatWouldNotDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := newGPUNode(t, "0", "1")
		other := gpuApp(map[string]int{"C": 1}, "1", nil)
		other.Graph.App = "other"
		n.deploy(t, other)
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		before := n.running("app", "A")
		larger := gpuApp(map[string]int{"A": 1}, "2", nil)
		larger.Graph.Deployments[0].Options.Resources.GPUs = 2
		if err := n.Deploy(t.Context(), larger); err == nil || !strings.Contains(err.Error(), "needs 2 GPUs, and 0 of 2 are free: app/A#002 holds 1, other/C#001 holds 1") {
			t.Error(err)
		}
		if now := n.running("app", "A"); !slices.Equal(now, before) {
			t.Error("the old replica has made room for an update that cannot start")
		}
	})
}

// TestRoomOfALeavingDeployment: a deployment that the application has no more makes room, and comes back if the update fails.
func TestRoomOfALeavingDeployment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, gpus := newGPUNode(t, "0")
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		// While A does without the replica that has made room, none is started in its place, which would want the GPU of B.
		left := func() string {
			n.Mu.Lock()
			defer n.Mu.Unlock()
			d := n.Apps["app"].Deployments["A"]
			return fmt.Sprintf("%d replicas of A, %d failures", len(d.Replicas), d.Failures.Number())
		}
		var during string
		if err := n.Deploy(t.Context(), gpuApp(map[string]int{"B": 1}, "1", func() error { during = left(); return errors.New("it does not start") })); err == nil {
			t.Error("it has started")
		}
		if during != "0 replicas of A, 0 failures" {
			t.Errorf("when B is constructed: %s", during)
		}
		n.wantRunning(t, "after the failure", 1)
		n.deploy(t, gpuApp(map[string]int{"B": 1}, "1", nil))
		synctest.Wait()
		if a, b := len(n.running("app", "A")), len(n.running("app", "B")); a != 0 || b != 1 || len(gpus.Held()) != 1 {
			t.Errorf("%d replicas of A and %d of B, %v", a, b, gpus.Held())
		}
	})
}

// waitOf is the wait of the only replica of a deployment.
func (n *testNode) waitOf(app, deployment string) (w helvetype.Wait, state helvetype.DeploymentState, message string) {
	d := n.Status().Applications[app].Deployments[deployment]
	if len(d.Replicas) == 1 && d.Replicas[0].Wait != nil {
		w = *d.Replicas[0].Wait
	}
	return w, d.Status, d.Message
}

// TestNoRoom: replicas of another application make no room. The replica that does not fit waits, and the status says which replica holds what it needs; it starts when that has ended.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := newGPUNode(t, "0")
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		other := gpuApp(map[string]int{"C": 1}, "1", nil)
		other.Graph.App = "other"
		deployed := make(chan error, 1)
		go func() { deployed <- n.Deploy(t.Context(), other) }()
		time.Sleep(time.Hour)
		const missing = "needs 1 GPU, and 0 of 1 are free: app/A#001 holds 1"
		if w, state, message := n.waitOf("other", "C"); w.For != "room on the node" || w.Reason != missing || state != helvetype.DeploymentUpdating ||
			message != "replica C#002 waits for room on the node: "+missing {
			t.Errorf("%+v, %s, %q", w, state, message)
		}
		n.wantRunning(t, "the first", 1)
		if err := n.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		if err := <-deployed; err != nil {
			t.Error(err)
		}
		other.Graph.App = "third"
		other.Graph.Deployments[0].Options.Resources.GPUs = 2
		if err := n.Deploy(t.Context(), other); err == nil || !strings.Contains(err.Error(), `deployment "C": ray_actor_options: replica 1 of 1 needs 2 GPUs, and this node has 1`) {
			t.Error(err)
		}
	})
}

// TestTurnOfAnUpdate: a GPU that an old replica gives back for its successor goes to that, and not to a replica of another application that has waited for longer.
func TestTurnOfAnUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := newGPUNode(t, "0")
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		other := gpuApp(map[string]int{"C": 1}, "1", nil)
		other.Graph.App = "other"
		go n.Deploy(t.Context(), other) //nolint:errcheck // it waits until the end of the test
		synctest.Wait()
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "2", nil))
		n.wantRunning(t, "after the update", 1)
		if w, _, _ := n.waitOf("other", "C"); w.Reason != "needs 1 GPU, and 0 of 1 are free: app/A#003 holds 1" {
			t.Error(w)
		}
	})
}

// TestNotWantedAnyMore: a replica that waits for room ends when fewer are wanted, and starts nothing when room comes back.
func TestNotWantedAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, gpus := newGPUNode(t, "0", "1")
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		scale := func(replicas, records int) {
			t.Helper()
			if err := n.Scale(t.Context(), "app", "A", replicas, "", ""); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			d := n.Status().Applications["app"].Deployments["A"]
			if len(d.Replicas) != records || len(gpus.Held()) != min(replicas, 2) {
				t.Errorf("%d wanted: %d replicas, %v", replicas, len(d.Replicas), gpus.Held())
			}
			if d.Failures != 0 {
				t.Errorf("%d failures", d.Failures)
			}
		}
		scale(4, 4)
		held := gpus.Held() // any of the replicas that start together has got the second device
		want := fmt.Sprintf("needs 1 GPU, and 0 of 2 are free: app/%s, %s hold 2, and 1 more wait too", held[0].Holder, held[1].Holder)
		if d := n.Status().Applications["app"].Deployments["A"]; held[0].Holder != "A#001" || !strings.Contains(d.Message, want) {
			t.Errorf("%s\nwant %s", d.Message, want)
		}
		scale(2, 2)
		scale(1, 1)
		scale(2, 2)
	})
}

// statusLog is a log of a user's that reads the status of its node with every record.
type statusLog struct {
	slog.Handler
	status func()
	seen   *atomic.Int64
}

func (l statusLog) Handle(_ context.Context, r slog.Record) error {
	l.seen.Add(1)
	l.status()
	return nil
}

func (l statusLog) Enabled(context.Context, slog.Level) bool { return true }

// TestLogReadsTheStatus: the controller is not locked while it logs steps of a start and what a deployment asks for in vain.
func TestLogReadsTheStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n *testNode
		var seen atomic.Int64
		n = startTestNode(Settings{Logger: slog.New(statusLog{slog.DiscardHandler, func() { n.Status() }, &seen})}, host.Settings{}, func(d *host.Deployment, cd *codec.Codec) host.Host {
			return notingHost{mortalHost{&inprocess.Host{Deployment: d, Node: "local", Codec: cd}}}
		})
		n.closeAfter(t)
		def := gpuApp(map[string]int{"A": 1}, "1", nil)
		def.Graph.Deployments[0].Options.Resources = spec.Resources{Custom: map[string]float64{"licence": 1}}
		n.deploy(t, def)
		synctest.Wait()
		if seen.Load() < 3 { // the step, the resource, and that the replica is ready
			t.Errorf("%d records", seen.Load())
		}
	})
}

// notingHost has a step before each start.
type notingHost struct{ host.Host }

func (h notingHost) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	l.Note("packages_installing", "pip installs")
	return h.Host.Start(ctx, l)
}

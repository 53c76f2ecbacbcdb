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

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/spec"
)

// gpuHost has replicas in this process that hold GPUs, as Python workers do.
type gpuHost struct {
	host.Host
	deployment *host.Deployment
	gpus       *devices.Set
}

func (h gpuHost) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	err := l.AwaitDevices(ctx, func() error {
		_, err := h.gpus.Take(l.ID, h.deployment.Name, h.deployment.Options.Resources.GPUs)
		return err
	})
	if err != nil {
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
func newGPUNode(t *testing.T, names ...string) (*testNode, *devices.Set) {
	t.Helper()
	gpus := devices.New(names)
	n := startTestNode(Settings{}, host.Settings{Devices: gpus}, func(d *host.Deployment, cd *codec.Codec) host.Host {
		return gpuHost{mortalHost{&inprocess.Host{Deployment: d, Node: "local", Codec: cd}}, d, gpus}
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

// TestRoomThatWouldNotDo: an update for which the GPUs of the old replicas are too few fails, and no old replica makes room for it.
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
		if err := n.Deploy(t.Context(), larger); err == nil || !strings.Contains(err.Error(), "wants 2 GPUs, and 0 of 2 are free; held by A (1), C (1)") {
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

// TestNoRoom: replicas of another application make no room, and the error names their deployment.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := newGPUNode(t, "0")
		n.deploy(t, gpuApp(map[string]int{"A": 1}, "1", nil))
		other := gpuApp(map[string]int{"C": 1}, "1", nil)
		other.Graph.App = "other"
		if err := n.Deploy(t.Context(), other); err == nil || !strings.Contains(err.Error(), "wants 1 GPU, and 0 of 1 are free; held by A (1)") {
			t.Error(err)
		}
		other.Graph.Deployments[0].Options.Resources.GPUs = 2
		if err := n.Deploy(t.Context(), other); err == nil || !strings.Contains(err.Error(), `deployment "C": ray_actor_options.num_gpus: wants 2 GPUs, and this node has 1`) {
			t.Error(err)
		}
		n.wantRunning(t, "the first", 1)
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

package host

import (
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/worker"
)

// newIdleWorkers has no worker yet.
func newIdleWorkers() *Workers {
	return NewWorkers(Settings{Logger: slog.New(slog.DiscardHandler), Codec: codec.New(), Node: "local", Changed: func() {}})
}

// newDeployment is a deployment as it serves, without replicas.
func newDeployment() *serving.Deployment {
	return serving.New(slog.New(slog.DiscardHandler), "local", "app", "D")
}

// TestIDsAheadOfTheSnapshot: workers and replicas that are started after the state was saved have ids that the next node does not give
// out.
func TestIDsAheadOfTheSnapshot(t *testing.T) {
	t.Parallel()
	ws := newIdleWorkers()
	defer ws.Close(errors.New("the test is over"))
	for _, id := range []uint64{0, 1, idsAhead - 1, idsAhead, 10*idsAhead + 3} {
		ws.mu.Lock()
		ws.lastID = id
		ws.mu.Unlock()
		if saved, _ := ws.Snapshot(); saved < id+idsAhead {
			t.Errorf("%d ids were given out, and the next begins at %d", id, saved)
		}
	}
}

// TestDevicesOfFormerWorkers: a worker of the node before keeps its GPU until it is known that its process is gone.
func TestDevicesOfFormerWorkers(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	gpus, changed := ledger.New(placement.Unstated("", "0")), make(chan struct{}, 9)
	ws := NewWorkers(Settings{
		Logger: slog.New(slog.DiscardHandler), Codec: codec.New(), Node: "local", Ledger: gpus, Changed: func() { changed <- struct{}{} },
	})
	defer ws.Close(errors.New("the test is over"))
	record := roster.Worker{
		ID: "app-1", App: "app", Token: strings.Repeat("0", 64), Process: worker.Identity{PID: gone.Process.Pid, Started: 1},
		Devices: &placement.Holding{Holder: "D#001", Deployment: "D", Amount: 1, Devices: []string{"0"}},
	}
	err := ws.UseDir(t.TempDir(), time.Minute, func(string) (uint64, []roster.Worker) { return 1, []roster.Worker{record} })
	if err != nil {
		t.Fatal(err)
	}
	wait := gpus.Ask("D#002", "D", placement.Demand{GPUs: placement.One})
	if wait.Holding().Holder != "" {
		t.Error("it was given to another")
	}
	ws.Dismiss("app-1", "the test wants it")
	<-changed
	<-wait.Done()
}

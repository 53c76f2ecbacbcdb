package node

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/machine"
	"github.com/helve-serve/helve/internal/placement"
)

// TestLooksAtGPUs: a node looks at the memory of GPUs without a question, while a replica holds one, and says once that the driver names other processes.
func TestLooksAtGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := New(Settings{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		runs := 0
		n.observed.gpus = machine.NewGPUsOf(func(context.Context, []string) ([]byte, error) {
			runs++
			return []byte("1073741824, GPU-1, 512\n"), nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs != 0 {
			t.Errorf("without a GPU that is held the tool has run %d times", runs)
		}
		n.workers.Ledger().Keep(placement.Holding{Holder: "A#1", Deployment: "app/A", Amount: 1, Devices: []string{"0"}})
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs < 3 || runs > 5 {
			t.Errorf("in a minute the tool has run %d times", runs)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if said := strings.Count(log.String(), "the memory of GPUs that replicas use is not known"); said != 1 {
			t.Errorf("said %d times: %s", said, log.String())
		}
	})
}

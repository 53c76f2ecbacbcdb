package host

import (
	"context"
	"github.com/helve-serve/helve/internal/telemetry"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/protocol"
)

// Calls are counted where the end of a worker does not take the count along: in the node's process by the instance itself, and for a
// replica in a worker by the node, when a call is sent and when its end is known. For example, of three calls that a worker
// had when it died the node has counted three, and three errors. The node does not see calls that run in a Go worker under
// slots that it lent: the worker counts those, and is asked.

// countTime is how long a status waits for workers to report their counts. A worker that does not answer is shown with its last
// report.
const countTime = 200 * time.Millisecond

// CountAll asks the Go workers that answer as a rule for their counts.
func (ws *Workers) CountAll() {
	ws.mu.Lock()
	var ask []*Worker
	for _, w := range ws.all {
		if w.peer != nil && w.stuck == nil && w.graph != nil {
			ask = append(ask, w)
		}
	}
	ws.mu.Unlock()
	if len(ask) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ws.ctx, countTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range ask {
		wg.Go(func() { ws.askCounts(ctx, w) }) //nolint:errcheck // the last report stands
	}
	wg.Wait()
}

// askCounts asks a Go worker for the counts of calls under lent slots.
func (ws *Workers) askCounts(ctx context.Context, w *Worker) error {
	if w.graph == nil { // Python
		return nil
	}
	reply, err := protocol.Ask(ctx, w.peer, protocol.Counts{})
	if err != nil {
		return err
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for id, counts := range reply.Replicas {
		if r := w.replicas[id]; r != nil {
			c := telemetry.Counts{Started: counts.Started, Failed: counts.Failed, Late: counts.Late, Busy: counts.Busy}
			if last := r.lent.Load(); last != nil { // of two that ask at once, the first may get its answer last
				c.Raise(*last)
			}
			r.lent.Store(&c)
		}
	}
	return nil
}

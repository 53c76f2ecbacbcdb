package session

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/helve-serve/helve/internal/wire"
)

// leavingWorker is a worker that counts the announcements of its end.
type leavingWorker struct {
	Worker
	left int
}

func (w *leavingWorker) ID() string          { return "app-1" }
func (w *leavingWorker) App() string         { return "app" }
func (w *leavingWorker) Leave(_ wire.Goaway) { w.left++ }

// TestGoaway: a worker announces its end on its first connection. The announcement of a driver, or on another connection of a worker,
// means nothing.
func TestGoaway(t *testing.T) {
	t.Parallel()
	first, second := &leavingWorker{}, &leavingWorker{}
	driver := func(context.Context, string, json.RawMessage) (any, error) { return nil, nil }
	for _, set := range []Settings{{Worker: first}, {Worker: second, Secondary: true}, {Driver: driver}} {
		set.Results = NewResults(0)
		New(set).Goaway(wire.Goaway{Reason: "leaving"})
	}
	if first.left != 1 || second.left != 0 {
		t.Errorf("the first connection: %d, another: %d", first.left, second.left)
	}
}

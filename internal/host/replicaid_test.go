package host

import (
	"log/slog"
	"regexp"
	"testing"
)

// TestReplicaID: ids of replicas are short, and no id comes twice.
func TestReplicaID(t *testing.T) {
	t.Parallel()
	ws := NewWorkers(Settings{Logger: slog.New(slog.DiscardHandler)})
	form, seen := regexp.MustCompile(`^Down#[0-9a-z]{3}$`), map[string]bool{}
	for range 2000 {
		id := ws.ReplicaID("Down")
		if seen[id] || !form.MatchString(id) {
			t.Fatal(id)
		}
		seen[id] = true
	}
	ws.lastID = 32*32*32 - 1
	if id := ws.ReplicaID("Down"); id != "Down#1000" {
		t.Error(id)
	}
}

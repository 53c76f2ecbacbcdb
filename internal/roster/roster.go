// Package roster has the workers of a node as its state describes them, for the next node that takes them over.
package roster

import (
	"encoding/hex"
	"fmt"

	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/worker"
)

// Worker describes a worker in the node's state. It holds its token: the file is the user's alone.
type Worker struct {
	ID       string          `json:"id"`
	App      string          `json:"app"`
	Key      string          `json:"key,omitempty"` // of a Go worker
	Token    string          `json:"token"`         // hex
	Process  worker.Identity `json:"process"`
	Replicas []Replica       `json:"replicas"`
	// Devices is the holding of the replica of a Python worker until its process is gone; nil for none.
	Devices *placement.Holding `json:"devices,omitempty"`
}

// Replica describes a replica of a worker in the node's state.
type Replica struct {
	ID         string `json:"id"`
	Deployment string `json:"deployment"`
}

// Check says what is wrong with a record: its names become paths and process ids.
func (w *Worker) Check() error {
	if token, err := hex.DecodeString(w.Token); err != nil || len(token) != 32 || w.ID == "" || w.Process.PID <= 1 {
		return fmt.Errorf("worker %q: malformed", w.ID)
	}
	return nil
}

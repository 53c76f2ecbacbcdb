package wire

import (
	"encoding/json"
	"fmt"
)

// Resume describes the replicas that a worker has after it has lost its node. The worker sends it to the node that it finds next,
// which may be the old one, started again.
type Resume struct {
	Replicas []Resumed `json:"replicas"`
}

// Resumed is one replica that runs on in the worker.
type Resumed struct {
	Replica    string `json:"replica"`
	Deployment string `json:"deployment"`
	// Executing is the number of calls that were cancelled when the node went and that have not ended. They hold slots.
	// When one of them ends, the worker tells the node, by return_block.
	Executing int      `json:"executing"`
	Config    string   `json:"config,omitempty"` // digest of its user config (spec.ConfigDigest)
	Models    []string `json:"models,omitempty"`
	Started   uint64   `json:"started,omitempty"`       // calls from former nodes; of a Go worker
	Failed    uint64   `json:"failed,omitempty"`        // of Started
	Health    bool     `json:"health,omitempty"`        // it has a health check
	Reports   bool     `json:"routing_stats,omitempty"` // it has stats for routing
	Ready     bool     `json:"ready,omitempty"`         // it has a readiness check
	// Scales says that it has numbers for autoscaling policies.
	Scales bool `json:"autoscaling_stats,omitempty"`
	// Methods is the table of methods of a Python class, as in the reply to start_replica.
	Methods json.RawMessage `json:"methods,omitempty"`
}

// Check returns an error if the description of a worker is not possible.
func (r *Resume) Check() error {
	seen := map[string]bool{}
	for _, x := range r.Replicas {
		switch {
		case x.Replica == "" || seen[x.Replica]:
			return fmt.Errorf("resume: replica %q without a name, or twice", x.Replica)
		case x.Executing < 0 || x.Executing > maxIncoming:
			return fmt.Errorf("resume: replica %q executes %d calls", x.Replica, x.Executing)
		}
		seen[x.Replica] = true
	}
	return nil
}

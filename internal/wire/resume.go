package wire

import (
	"encoding/json"
	"fmt"
)

// Resume is what a worker has that lost its node and found another, or the same one started anew.
type Resume struct {
	Replicas []Resumed `json:"replicas"`
}

// Resumed is one replica that lives on.
type Resumed struct {
	Replica    string `json:"replica"`
	Deployment string `json:"deployment"`
	// Executing are its calls that were cancelled when the node went and have not ended. They hold slots; each that ends is
	// told by return_block.
	Executing int      `json:"executing"`
	Config    string   `json:"config,omitempty"` // digest of the user config that it has (spec.ConfigDigest)
	Models    []string `json:"models,omitempty"`
	Started   uint64   `json:"started,omitempty"`       // calls from the nodes before; of a Go worker
	Failed    uint64   `json:"failed,omitempty"`        // of these
	Health    bool     `json:"health,omitempty"`        // it has a health check
	Reports   bool     `json:"routing_stats,omitempty"` // it has stats for routing
	// Methods are what a Python class has, as in the reply of start_replica.
	Methods json.RawMessage `json:"methods,omitempty"`
}

// Check says what is wrong with what a worker tells.
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

package wire

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
	Health    bool     `json:"health,omitempty"`        // it has a health check
	Reports   bool     `json:"routing_stats,omitempty"` // it has stats for routing
}

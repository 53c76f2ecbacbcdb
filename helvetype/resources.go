package helvetype

// The names of resources in [Status].Resources and [ReplicaStatus].Resources. Other resources have the names that the node was started with.
const (
	// ResourceCPU counts processors.
	ResourceCPU = "CPU"
	// ResourceGPU counts GPUs.
	ResourceGPU = "GPU"
	// ResourceMemory counts bytes of memory.
	ResourceMemory = "memory"
)

// Resource is the account of one thing that replicas ask of a node. For example, of a node that was started with --num-cpus 4 two replicas hold 1.5 CPUs each: Total is 4, Held 3 and Free 1.
type Resource struct {
	// Total is the amount that the node gives out. It is nil if none was stated: then amounts are recorded, and no replica waits.
	Total *float64 `json:"total,omitempty"`
	// Held is the amount that replicas have asked for and hold, until their processes are gone.
	Held float64 `json:"held"`
	// Free is the part of Total that no replica holds; nil without Total. It is 0 if replicas hold more, because less was stated since their start.
	Free *float64 `json:"free,omitempty"`
	// Used is the use that was measured, of memory and processors, by the processes in which the replicas are: that of the node is one of them if replicas are in it. Memory that two processes share counts
	// twice. It is 0 where the system does not say it.
	Used float64 `json:"used,omitempty"`
}

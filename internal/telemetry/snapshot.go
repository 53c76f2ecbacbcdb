package telemetry

import "github.com/helve-serve/helve/helvetype"

// Snapshot is what a node counts, at one moment.
type Snapshot struct {
	Version      string
	HTTP         string // URL of the ingress, "" without one
	Events       uint64 // so far
	Applications []Application
	Requests     []RequestCounts // of HTTP, by route, method and status
	User         []UserFamily    // metrics that programs have defined
	Ongoing      int             // HTTP requests to applications that are not answered yet
	Disk         *Disk           // nil for a node that keeps its state in memory
}

// Disk has the counts of a node that keeps its state on disk.
type Disk struct {
	Writes  uint64 // of transactions and blobs
	Syncs   uint64 // calls of fsync and fdatasync for them
	Failing bool   // the last write failed
}

// Application is one application in a [Snapshot].
type Application struct {
	Name, Route  string
	State        helvetype.ApplicationState
	SharedMemory *helvetype.SharedMemory
	Deployments  []Deployment
}

// Deployment is one deployment in a [Snapshot]. Calls are those of all its replicas, also of replicas that are gone.
type Deployment struct {
	Name     string
	State    helvetype.DeploymentState
	Wanted   int // replicas
	Queued   int
	Starts   uint64 // how often a replica became ready
	Calls    Counts
	Replicas []Replica
}

// Replica is one replica in a [Snapshot].
type Replica struct {
	ID      string
	State   helvetype.ReplicaState // "" for a replica that is gone
	Started bool                   // the replica was ready once
	Healthy bool
	Running int // calls
	Calls   Counts
}

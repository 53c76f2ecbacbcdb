package telemetry

import (
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Snapshot is what a node counts, at one moment.
type Snapshot struct {
	Version      string
	HTTP         string // URL of the ingress, "" without one
	Events       uint64 // so far
	Applications []Application
	Requests     []RequestCounts // of HTTP, by route, method and status
	User         []UserFamily    // metrics that programs have defined
	Ongoing      int             // HTTP requests to applications that are not answered yet
	Serving      bool            // the ingress serves, and does not drain
	Transitions  []TransitionCount
	References   helvetype.References // results that are kept
	Loop         Loop
	Disk         *Disk // nil for a node that keeps its state in memory
	Spans        Spans
}

// TransitionCount is how often objects of a kind have had an event for a reason. For example, replicas of deployment D of the application hello died 3
// times. Deployment is "" for events of applications.
type TransitionCount struct {
	Kind, Reason, Application, Deployment string
	Number                                uint64
}

// Loop has the numbers of the controller's loop.
type Loop struct {
	Number uint64        // of turns
	Last   time.Duration // of the last turn
}

// Spans are the spans of sampled requests that a receiver has taken, and those that were dropped on the way to it.
type Spans struct {
	Sent, Dropped uint64
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
	Ingress      string // name of the ingress deployment
	Revision     int    // the number of the revision that should run
	State        helvetype.ApplicationState
	SharedMemory *helvetype.SharedMemory
	Deployments  []Deployment
}

// Deployment is one deployment in a [Snapshot]. Calls are those of all its replicas, also of replicas that are gone.
type Deployment struct {
	Name   string
	State  helvetype.DeploymentState
	Wanted int // replicas
	Ready  int // replicas that get calls
	// Autoscaling describes the autoscaler; nil for a deployment without one.
	Autoscaling *helvetype.Autoscaling
	Queued      int
	Rejected    uint64 // calls that have failed because too many waited
	Starts      uint64 // how often a replica became ready
	Calls       Counts
	Memory      uint64 // bytes of the processes of the replicas
	Replicas    []Replica

	Origins   map[string]int // the calls that wait, by where they come from; those that are not 0
	Callers   map[Caller]CallerCounts
	Waits     DurationCounts // for a slot, of calls that were queued; calls that found a slot at once are not in it
	Lifecycle LifecycleCounts
}

// Replica is one replica in a [Snapshot].
type Replica struct {
	ID      string
	State   helvetype.ReplicaState // "" for a replica that is gone
	Started bool                   // the replica was ready once
	Healthy bool
	Running int // calls
	// Utilization is how much of its slots the replica has used in the last ten minutes, in percent.
	Utilization float64
	Calls       Counts
	Memory      uint64        // bytes of its process; 0 if that is not known
	GPUMemory   uint64        // bytes of GPUs that its process uses, with its children; 0 if that is not known
	CPU         time.Duration // of its process
	Process     int           // its process, as far as the reader needs it: see Numbers of package fleet; 0 if that is not known
	Models      []string      // that it has loaded or is loading; shared, and must not be changed
	Loop        LoopDelays    // of its event loop; zero for a replica without one
}

// LoopDelays are by how many milliseconds timers of an event loop were late, in all, and the number of those timers.
type LoopDelays struct {
	Sum    float64
	Number uint64
}

// AddLoops adds the delays of event loops by the ids of replicas.
func (s *Snapshot) AddLoops(all map[string]LoopDelays) {
	if len(all) == 0 {
		return
	}
	for i := range s.Applications {
		for j := range s.Applications[i].Deployments {
			d := &s.Applications[i].Deployments[j]
			for k := range d.Replicas {
				d.Replicas[k].Loop = all[d.Replicas[k].ID]
			}
		}
	}
}

// Package host starts, stops and watches replicas. A [Host] does so for one deployment and one kind of replica: in this process
// ([InProcess]), in the Go worker that the replicas of an application share ([GoWorker]), or in a Python worker of its own
// ([PythonWorker]). Code above this package holds a [Host] and its [Replica] values and never asks for the kind.
//
// [Workers] has the child processes: it spawns them, opens their connections, takes their output and their reports, notices when a worker
// does not answer, and reaps them. A node that takes the place of a killed node takes over its workers: to recover a replica is to
// start it with a process that exists ([Launch].Worker).
//
// A node that has a state directory starts workers that outlive it. For example, it is killed while a Go worker executes three calls: the
// worker cancels them, keeps its replicas and dials the node's socket. The next node finds the worker in the state of the one before,
// by process id and start time, and expects it ([Workers.TakeOver]); replicas that the worker still has serve again, the three calls are
// counted at their gates until they have ended, and nothing is started in the place of a replica before its old process is seen gone.
//
// Calls between replicas of one Go worker run there without a frame, under slots that the node lends to the worker (package lending).
package host

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/worker"
)

// Host starts the replicas of one deployment, as one revision of its application has it. Its methods may be called from any
// goroutine.
type Host interface {
	// Start makes a replica ready to serve: its process runs, and its constructor, its first Reconfigure and its first health check
	// have succeeded. With l.Worker the replica exists already, and Start goes on with it. ctx ends when the start is given up.
	// An [*EndedError] says that the process ended, an [*OverdueError] that the node gave the start up, a [*LostError] that
	// a process that should have been taken over is gone, ErrNotResumed that it does not have the replica; a [*call.Error] is the
	// replica's own failure.
	Start(ctx context.Context, l Launch) (Replica, error)
	// InProcess says that the replicas live in this process.
	InProcess() bool
	// StartsEarly says that a start may begin before the deployments that this one uses are ready: it waits for them itself
	// ([Launch].AwaitUses), after the slow part that does not need them. For example, a Python interpreter comes up meanwhile.
	StartsEarly() bool
	// Method describes a method for an ingress.
	Method(name string) Method
	// Methods are the methods that handles can call, as far as they are known: those of a Python class are when a replica of it was ready.
	Methods() []protocol.Method
	// Adopt gives a replica the options of this deployment. The replica was started by the host of another revision, whose code and
	// process are the same, and the number of its slots has been set. For example, a deploy that changes health_check_timeout_s
	// alone has each replica adopted, and the next check of each may take as long as the new timeout.
	Adopt(r Replica)
}

// Method is a method of a deployment as an ingress calls it.
type Method struct {
	In     string // the kind of its input: "none", "string", "bytes", "json", "request" or "asgi" ([Method.HTTP])
	Stream bool   // a Python method gives a stream although the graph does not say so
}

// HTTP says that a method in Python answers requests by itself: it takes a Request, or is an ASGI application.
func (m Method) HTTP() bool { return m.In == "request" || m.In == "asgi" }

// Replica is a replica that was started. Its methods may be called from any goroutine.
type Replica interface {
	serving.Replica
	// Stop closes the instance, and ends a process that no other replica is in. It is called once.
	Stop(ctx context.Context) error
	// Reconfigure gives the replica a user config. An error of the user's method is a [*call.Error].
	Reconfigure(ctx context.Context, config json.RawMessage) error
	// SetRank gives the replica another rank. Code in Go does not see ranks.
	SetRank(ctx context.Context, rank Rank) error
	// HasHealthCheck says whether CheckHealth asks the user's code.
	HasHealthCheck() bool
	CheckHealth(ctx context.Context) error
	// HasReadyCheck says whether CheckReady asks the user's code.
	HasReadyCheck() bool
	CheckReady(ctx context.Context) error
	// Sign asks the replica's process for a sign of life. It is nil at once in this process.
	Sign(ctx context.Context) error
	// HasRoutingStats says whether RoutingStats asks the user's code. The stats are JSON.
	HasRoutingStats() bool
	RoutingStats(ctx context.Context) (json.RawMessage, error)
	// HasAutoscalingStats says whether AutoscalingStats asks the user's code, for numbers for autoscaling policies.
	HasAutoscalingStats() bool
	AutoscalingStats(ctx context.Context) (map[string]float64, error)
	// Drain lets the replica's code know that its drain has begun. It does not wait, and is called once or more often.
	Drain()
	// Lend says whether the replica may lend slots to its own worker. Lend(false) asks for the slots back that are lent, and none is lent
	// until Lend(true).
	Lend(on bool)
	// The replica is busy while calls run or wait in the control queue.
	telemetry.Counted
	// Running is how many calls hold a slot.
	Running() int
	// Serve notes whether the replica is in service. A worker without a replica in service may be as busy as it likes: for example,
	// a constructor that loads a model for a minute does not answer, and the worker is not unresponsive.
	Serve(on bool)
	// Process describes the process; the zero Process in this process.
	Process() Process
	// Ended is closed when the process of the replica has ended and each of its calls has been answered; nil in this process.
	Ended() <-chan struct{}
	// Ending describes the end of the process. It is called once, after Ended.
	Ending() Ending
}

// Rank is the number of a replica among the replicas of its deployment, from 0 upwards, and World how many are wanted.
type Rank struct{ Rank, World int }

// Process is the process of a replica.
type Process struct {
	PID          int
	GPUs         []string                // names of devices
	Unresponsive *helvetype.Unresponsive // nil while it answers
	Constructing *helvetype.Unresponsive // the code of a constructor holds up the process, which may be right: a constructor may take its time. nil if it does not
}

// Asked is a replica, or the process in which one starts, for questions to that process. One that is in no other process has no Worker method.
type Asked interface{ Process() Process }

// Ending is how the process of a replica ended. One process may have had several replicas: for example, a crash of a Go worker
// with two replicas of A and one of B is First for one of the three, and FirstOfDeployment for one of A and for that of B.
type Ending struct {
	Exit              helvetype.Exit
	First             bool // no other replica of the process was told before
	FirstOfDeployment bool
}

// Deployment describes a deployment, as one revision of its application has it, to the host of its replicas.
type Deployment struct {
	App, Name string
	Spec      spec.Deployment
	Options   spec.Effective
	Class     *instance.Class // nil for code that lives in another executable
}

// restore gives an error that a worker has answered with the errors back that the application has registered.
func (d *Deployment) restore(cd *codec.Codec, err error) error {
	e, ok := err.(*call.Error) //nolint:errorlint // as the worker sent it
	if !ok {
		return err
	}
	var known *codec.ErrorRegistry
	if d.Class != nil {
		known = d.Class.Errors
	}
	return known.Restore(cd, e)
}

// Launch says which replica to start, and how the start is followed. The functions may be called from any goroutine.
type Launch struct {
	ID   string          // unique on the node
	Life context.Context // ends when the node closes
	// Version names the version of the replica's code.
	Version string
	// Rank gives the rank of the replica. It is called once, right before the constructor runs.
	Rank func() Rank
	// Config gives the user config for the constructor, nil for none. It is called once, right before the constructor runs.
	Config func() json.RawMessage
	// Models is told the ids of the models that the replica has, whenever they change, already while it starts.
	Models func(r Replica, ids []string)
	// Waits is told what the start waits for, until done is called.
	Waits func(reason string) (done func())
	// AwaitUses waits until the deployments that this one uses are ready.
	AwaitUses func(ctx context.Context) error
	// Reserve takes the part of the node that the replica asks for, and waits while the node has no room. It is called at most once, before the process starts. May be nil.
	Reserve func(ctx context.Context) (placement.Holding, error)
	// Note is told a step of the start, for the events of the node. May be nil.
	Note func(reason, message string)
	// In is told the process in which the replica starts, as soon as there is one. It is not called in this process.
	In func(w *Worker)
	// Worker is the process that has the replica already: see [Workers.TakeOver]. nil for a new replica.
	Worker *Worker
	// Configured is told, for a replica that was taken over, the digest of the user config that it has ([spec.ConfigDigest]).
	Configured func(digest string)
}

// The reasons that [Launch].Waits is told.
const (
	WaitsForProcess     = "its worker process to connect"
	WaitsForConstructor = "its constructor or its first checks"
	WaitsForUses        = "the deployments that it uses"
)

// ErrNotResumed says that a worker that was taken over does not have the replica: it was stopped just before.
var ErrNotResumed = errors.New("its worker does not have it any more")

// EndedError says that the process of a replica ended while the replica was started.
type EndedError struct {
	text string
	exit worker.Exit
	// Begun says that the process had begun to start the replica.
	Begun bool
}

func (e *EndedError) Error() string { return e.text + ": " + e.exit.Reason() }

// Exit describes the end of the process to the user, as the end of a replica.
func (e *EndedError) Exit(replica string) *helvetype.Exit { return exitOf(replica, e.exit, "") }

// OverdueError is the failure of a start that the node gave up, because the worker said nothing in time.
type OverdueError struct{ call *call.Error }

func (e *OverdueError) Error() string { return e.call.Error() }
func (e *OverdueError) Unwrap() error { return e.call }

// LostError says that a worker of the node before is gone.
type LostError struct{ cause error }

func (e *LostError) Error() string { return "it was lost with its node: " + e.cause.Error() }
func (e *LostError) Unwrap() error { return e.cause }

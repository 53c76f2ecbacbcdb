// Package profiler takes profiles of the processes of replicas: one when an operator asks for it, and, where an operator has turned it on, a short one of each process again and again
// (continuous.go).
package profiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/capture"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/protocol"
)

// Source is the node with the replicas.
type Source interface {
	// Asked is a replica, or the process in which it starts.
	Asked(app, deployment, replica string) (host.Asked, error)
	// Status is a copy of the present state.
	Status() helvetype.Status
}

// Profiler takes the profiles of a node. Its methods may be called from any goroutine.
type Profiler struct {
	node    Source
	process capture.Process // of the node
	ctx     context.Context // ends the continuous profiles, at the end of the node

	mu    sync.Mutex
	on    *continuous   // nil while profiles are taken on demand only
	holds int           // profiles on demand that are being taken: no continuous one begins meanwhile
	round chan struct{} // closed at the end of the continuous profiles under way; nil for none
}

// New makes the profiler of a node. It ends with ctx.
func New(ctx context.Context, node Source) *Profiler { return &Profiler{node: node, ctx: ctx} }

// profileSlack is how much longer than a profile its worker may take to answer: the memory of a large heap is counted after the time of the profile.
const profileSlack = 30 * time.Second

// endTime bounds the wait for the answer of a worker that is told to end a profile.
const endTime = time.Second

// toldPeriod is how often a question for stacks looks whether the worker has told by itself that its event loop stands.
const toldPeriod = 200 * time.Millisecond

// Take takes a profile of the process of a replica over the time d, and gives it as a file of pprof. A Go worker has all replicas of its application in one process;
// replicas in this process have the profile of the node. A Python replica whose event loop stands has told its stacks by itself, and these are the answer;
// so has one whose constructor holds up the loop. Continuous profiles wait meanwhile.
func (p *Profiler) Take(ctx context.Context, of helvetype.Object, kind profile.Kind, d time.Duration) ([]byte, error) {
	r, err := p.node.Asked(of.App, of.Deployment, of.Replica)
	if err != nil {
		return nil, &helvetype.OperationError{Code: helvetype.CodeNotFound, Message: err.Error(), Next: "helve status lists the replicas"}
	}
	defer p.hold(ctx)()
	return p.take(ctx, r, of, kind, d)
}

func (p *Profiler) take(ctx context.Context, r host.Asked, of helvetype.Object, kind profile.Kind, d time.Duration) ([]byte, error) {
	asked, apart := r.(interface{ Worker() protocol.Caller })
	if !apart {
		file, err := p.process.Take(ctx, kind, d)
		if busy, ok := errors.AsType[*capture.BusyError](err); ok {
			return nil, busyError(busy.Other)
		}
		return file, err
	}
	worker := asked.Worker()
	if worker == nil {
		return nil, &helvetype.OperationError{Code: helvetype.CodeUnavailable, Message: "the process of replica " + of.Replica + " has not connected yet", Next: "repeat the command"}
	}
	if kind == profile.Stacks {
		d = 0
		waiting, stop := untilTold(ctx, r)
		defer stop()
		ctx = waiting
	}
	taken, err := ask(ctx, worker, protocol.Profile{Replica: of.Replica, Kind: string(kind), Seconds: protocol.SecondsOf(d)})
	if err != nil && kind == profile.Stacks {
		if file := told(r); file != nil {
			return file, nil
		}
	}
	switch {
	case errors.Is(err, errStands):
		return nil, &helvetype.OperationError{
			Code: helvetype.CodeDeadlineExceeded, Message: fmt.Sprintf("replica %s has not answered within %s: its process is stopped, or its event loop stands", of.Replica, d+profileSlack),
			Next: fmt.Sprintf("helve profile %s --stacks shows where an event loop stands", of), Err: err,
		}
	case err != nil:
		return nil, err
	case taken.Busy != "":
		return nil, busyError(taken.Busy)
	case taken.Pprof != nil:
		return taken.Pprof, nil
	}
	stacks, err := profile.FromPython(taken.Stacks)
	if err != nil {
		return nil, err
	}
	return stacks.Encode(), nil
}

// errStands is the end of a question that a worker has not answered in time.
var errStands = errors.New("the worker does not answer")

// ask asks a worker for a profile. When ctx ends, or the worker does not answer in time, it is told to end the profile.
func ask(ctx context.Context, w protocol.Caller, request protocol.Profile) (protocol.Profiled, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, request.Seconds.Duration()+profileSlack, errStands)
	defer cancel()
	taken, err := protocol.Ask(waiting, w, request)
	if e, ok := errors.AsType[*call.Error](err); waiting.Err() != nil && (!ok || !e.Remote) {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		protocol.Ask(ending, w, protocol.EndProfile{Replica: request.Replica}) //nolint:errcheck // a worker that has ended takes no profile
		return taken, context.Cause(waiting)
	}
	return taken, err
}

// untilTold gives a context that ends when the worker of a replica has told that its event loop stands: it will not answer before the loop turns.
func untilTold(ctx context.Context, r host.Asked) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		look := time.NewTicker(toldPeriod)
		defer look.Stop()
		for told(r) == nil {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	return ctx, cancel
}

// told are the stacks of a worker that does not answer now, as a profile; nil for a worker that answers, or has told none.
func told(r host.Asked) []byte {
	process := r.Process()
	u := cmp.Or(process.Unresponsive, process.Constructing)
	if u == nil {
		return nil
	}
	if p := profile.FromTracebacks(u.Stacks, u.Since); len(p.Samples) > 0 {
		return p.Encode()
	}
	return nil
}

func busyError(other string) error {
	return &helvetype.OperationError{Code: helvetype.CodeAborted, Message: capture.Busy(other), Next: "repeat the command then"}
}

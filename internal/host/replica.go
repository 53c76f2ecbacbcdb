package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/lending"
	"github.com/helve-serve/helve/internal/probe"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// workerReplica is a replica in a worker.
type workerReplica struct {
	serving.Base
	worker *Worker
	dep    *Deployment
	launch Launch
	wire   transport.Wire
	slots  lending.Slots // of a Go worker

	options                                                 atomic.Pointer[spec.Effective] // of the revision that the replica belongs to; dep has the options of its start
	methods                                                 []protocol.Method              // of a Python class; set before the replica serves
	healthCheck, readyCheck, routingStats, autoscalingStats bool                           // the replica has them; set before it serves
	inService                                               atomic.Bool
	stopping                                                atomic.Bool
	draining                                                atomic.Bool     // the worker has been told of the drain
	lent                                                    *telemetry.Lent // counters of calls under lent slots; nil: none are lent
}

// newReplica makes a replica in the worker. It fails if the worker has ended.
func (w *Worker) newReplica(d *Deployment, l Launch, python bool) (*workerReplica, error) {
	ws := w.workers
	r := &workerReplica{
		worker: w, dep: d, launch: l,
		wire: transport.Wire{Peer: w.peer, Replica: l.ID, Python: python, Codec: ws.set.Codec},
	}
	r.Init(l.Life, l.ID, ws.set.Node, d.Options.MaxOngoingRequests)
	r.options.Store(&d.Options)
	r.slots.Init(&r.Base, w.peer, func() bool { return r.options.Load().RequestRouter.Policy == spec.PowerOfTwo })
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all[w.id] != w {
		r.End(errors.New("its worker ended"))
		return nil, &EndedError{fmt.Sprintf("deployment %s: its worker ended", d.Name), w.proc.Exit(), false}
	}
	w.replicas[l.ID] = r
	if w.page != nil {
		lent, ok := w.page.FindOrTake(l.ID)
		if ok {
			r.lent = lent
			r.CountsWith(lent.Started)
			// The slot is free when nothing refers to the replica any more: until then its counts are read.
			runtime.AddCleanup(r, (*telemetry.Lent).Free, lent)
		}
	}
	return r, nil
}

// adopt gives the replica the options of another revision. The worker has no part in them: the node counts slots and watches times.
func (r *workerReplica) adopt(d *Deployment) {
	r.options.Store(&d.Options)
	r.slots.Fit()
}

// forget takes the replica out of its worker, and ends its time: the context of a start that failed would stay until the node closes.
func (r *workerReplica) forget() {
	r.End(errors.New("the replica has stopped"))
	r.worker.workers.mu.Lock()
	defer r.worker.workers.mu.Unlock()
	delete(r.worker.replicas, r.ID())
}

// Lend allows or ends the lending of slots to the worker.
func (r *workerReplica) Lend(on bool) { r.slots.Lend(on) }

func (r *workerReplica) Instance() *instance.Instance   { return nil }
func (r *workerReplica) Transport() transport.Transport { return &r.wire }
func (r *workerReplica) HasHealthCheck() bool           { return r.healthCheck }
func (r *workerReplica) HasReadyCheck() bool            { return r.readyCheck }
func (r *workerReplica) HasRoutingStats() bool          { return r.routingStats }
func (r *workerReplica) HasAutoscalingStats() bool      { return r.autoscalingStats }

func (r *workerReplica) Serve(on bool) {
	r.inService.Store(on)
	if !on {
		r.stopping.Store(true)
	}
}

func (r *workerReplica) Ended() <-chan struct{} { return r.worker.stopped }

// Drain does not wait for the answer: a worker of another version does not know the request, and serves on.
func (r *workerReplica) Drain() {
	if r.draining.Swap(true) {
		return
	}
	r.worker.workers.wg.Go(func() {
		protocol.Ask(r.Done(), r.worker.peer, protocol.Drain{Replica: r.ID()}) //nolint:errcheck // see above
	})
}

func (r *workerReplica) Stop(ctx context.Context) error {
	defer r.forget()
	err := r.worker.stopReplica(ctx, r.ID())
	if r.worker.graph == nil { // a Python worker is its replica
		r.worker.Stop(ctx)
	}
	return err
}

func (r *workerReplica) Reconfigure(ctx context.Context, config json.RawMessage) error {
	config, err := r.worker.workers.set.Secrets.UserConfig(config)
	if err != nil {
		return err
	}
	_, err = protocol.Ask(ctx, r.worker.peer, protocol.Reconfigure{
		Replica: r.ID(), UserConfig: config, TimeoutS: protocol.SecondsOf(r.options.Load().ConstructTimeout),
	})
	if errors.Is(err, wire.ErrEnded) && ctx.Err() == nil {
		return errors.New("its worker ended while it was given the user config")
	}
	return r.restore(err)
}

// SetRank tells a Python replica its rank.
func (r *workerReplica) SetRank(ctx context.Context, rank Rank) error {
	if !r.wire.Python {
		return nil
	}
	_, err := protocol.Ask(ctx, r.worker.peer, protocol.SetRank{Replica: r.ID(), Rank: rank.Rank, WorldSize: rank.World})
	return r.restore(err)
}

func (r *workerReplica) CheckHealth(ctx context.Context) error {
	_, err := protocol.Ask(ctx, r.worker.peer, protocol.CheckHealth{
		Replica: r.ID(), TimeoutS: protocol.SecondsOf(r.options.Load().HealthCheckTimeout),
	})
	return r.restore(err)
}

func (r *workerReplica) CheckReady(ctx context.Context) error {
	_, err := protocol.Ask(ctx, r.worker.peer, protocol.CheckReady{
		Replica: r.ID(), TimeoutS: protocol.SecondsOf(r.options.Load().ReadinessTimeout),
	})
	return r.restore(err)
}

// Sign asks the worker for a sign of life.
func (r *workerReplica) Sign(ctx context.Context) error { return r.worker.sign(ctx) }

func (r *workerReplica) RoutingStats(ctx context.Context) (json.RawMessage, error) {
	reply, err := protocol.Ask(ctx, r.worker.peer, protocol.RoutingStats{
		Replica: r.ID(), TimeoutS: protocol.SecondsOf(r.options.Load().RoutingStatsTimeout),
	})
	return reply.Stats, err
}

func (r *workerReplica) AutoscalingStats(ctx context.Context) (map[string]float64, error) {
	reply, err := protocol.Ask(ctx, r.worker.peer, protocol.AutoscalingStats{Replica: r.ID(), TimeoutS: protocol.SecondsOf(probe.AutoscalingTimeout)})
	return reply.Numbers, r.restore(err)
}

func (r *workerReplica) restore(err error) error {
	return r.worker.workers.set.Secrets.Hide(r.dep.restore(r.worker.workers.set.Codec, err))
}

// Counts are the calls that the node has sent, and the calls under lent slots, which the worker counts in its page: for example, of three
// calls that a worker had when it died, one of them under a lent slot, three have started and failed.
func (r *workerReplica) Counts() telemetry.Counts {
	c := r.Calls().Counts()
	if r.lent == nil {
		return c
	}
	lent := r.lent.Counts()
	select {
	case <-r.worker.stopped:
		lent.Settle() // the calls that ran have ended with the process
	default:
	}
	c.Add(lent)
	return c
}

func (r *workerReplica) Process() Process { return r.worker.Process() }

// Process describes the process of the worker; the zero Process before it is known.
func (w *Worker) Process() Process {
	w.workers.mu.Lock()
	defer w.workers.mu.Unlock()
	p := Process{GPUs: w.holding.Devices}
	if w.proc != nil {
		p.PID = w.proc.PID()
	}
	if s := w.stuck; s != nil {
		p.Unresponsive = &helvetype.Unresponsive{Since: s.since, Stacks: s.stacks}
	}
	if len(w.servingLocked()) == 0 {
		p.Constructing = w.constructing
	}
	return p
}

func (r *workerReplica) Ending() Ending {
	w := r.worker
	w.workers.mu.Lock()
	defer w.workers.mu.Unlock()
	e := Ending{First: !w.described[""], FirstOfDeployment: !w.described[r.dep.Name]}
	w.described[""], w.described[r.dep.Name] = true, true
	e.Exit = *exitOf(r.ID(), w.proc.Exit(), w.killReason)
	return e
}

// construct has the worker start the replica. If the worker does not answer in time the node ends its process, unless other replicas
// serve in it: then it is unresponsive for them too, and unresponsive_after_s and max_unresponsive_s say what happens. The node
// watches the time itself, because the code that takes too long may hold up the worker's own timers. For example, a Python
// constructor that waits for a lock without await holds up the event loop.
func (r *workerReplica) construct(ctx context.Context, code *protocol.Code) (protocol.Started, error) {
	w, o := r.worker, r.dep.Options
	ws := w.workers
	config, err := ws.set.Secrets.UserConfig(r.launch.Config())
	if err != nil {
		return protocol.Started{}, fmt.Errorf("deployment %s: %w", r.dep.Name, err)
	}
	defer r.launch.Waits(WaitsForConstructor)()
	request := protocol.StartReplica{
		Replica: r.ID(), App: r.dep.App, Deployment: r.dep.Name, Code: code,
		UserConfig: config, TimeoutS: protocol.SecondsOf(o.ConstructTimeout),
		UnresponsiveAfterS: protocol.SecondsOf(o.UnresponsiveAfter),
	}
	if code != nil {
		rank := r.launch.Rank()
		request.Rank, request.WorldSize, request.CodeVersion = rank.Rank, rank.World, r.launch.Version
		request.MaxOngoingRequests = o.MaxOngoingRequests
	}
	answered := make(chan startAnswer, 1)
	ws.wg.Go(func() {
		s, err := protocol.Ask(ws.ctx, w.peer, request) // the answer is awaited also when ctx has ended
		answered <- startAnswer{s, err}
	})
	overdue := time.NewTimer(o.ConstructTimeout + overdueTime)
	defer overdue.Stop()
	select {
	case a := <-answered:
		return a.started, r.startError(ctx, a.err)
	case <-ctx.Done():
		ws.wg.Go(func() { r.stopLater(answered) })
		return protocol.Started{}, r.startError(ctx, call.EndOf(ctx))
	case <-overdue.C:
	}
	e := *call.NewError(helvetype.ReasonDeadline, fmt.Sprintf("it is not ready after construct_timeout_s (%s)", o.ConstructTimeout))
	ws.mu.Lock()
	alone := len(w.servingLocked()) == 0
	ws.mu.Unlock()
	if alone {
		w.ending.Store(true)
		w.proc.Kill()
		<-w.stopped
		e.Message += "; its process was ended: " + w.proc.Exit().Reason()
	} else {
		ws.wg.Go(func() { r.stopLater(answered) })
	}
	return protocol.Started{}, &OverdueError{&e}
}

// startAnswer is the answer of a worker that was asked to start a replica.
type startAnswer struct {
	started protocol.Started
	err     error
}

// stopLater stops a replica that is not wanted any more and that its worker may still start: the worker may live on for other replicas.
func (r *workerReplica) stopLater(answered <-chan startAnswer) {
	if a := <-answered; a.err == nil {
		ctx, cancel := context.WithTimeout(r.worker.workers.ctx, closeTime)
		defer cancel()
		r.worker.stopReplica(ctx, r.ID()) //nolint:errcheck // it ends with its worker at the latest
	}
}

// startError is the failure of a start, in terms of the replica.
func (r *workerReplica) startError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*call.Error](err); ok {
		return r.restore(err)
	}
	// The start may also be given up because another connection ended, a driver's, with the same error.
	if errors.Is(err, wire.ErrEnded) && ctx.Err() == nil {
		<-r.worker.stopped // a worker that lost its connection is killed
		return &EndedError{fmt.Sprintf("deployment %s: its worker ended while the constructor ran", r.dep.Name), r.worker.proc.Exit(), true}
	}
	return fmt.Errorf("deployment %s: %w", r.dep.Name, err)
}

// Worker is the process of the replica, for questions that are not about one replica. A replica in this process has no such method.
func (r *workerReplica) Worker() protocol.Caller { return r.worker.peer }

// Worker is the connection to the worker, for questions about the process. It is nil until the process has connected.
func (w *Worker) Worker() protocol.Caller {
	w.workers.mu.Lock()
	defer w.workers.mu.Unlock()
	if w.peer == nil {
		return nil
	}
	return w.peer
}

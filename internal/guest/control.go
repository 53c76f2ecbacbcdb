package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
)

// operations are the control requests that a Go worker answers.
func (g *Guest) operations() protocol.Table {
	return protocol.NewTable("Go workers",
		protocol.On(g.ping), protocol.On(g.startReplica), protocol.On(g.stopReplica), protocol.On(g.drain),
		protocol.On(g.grantBlock), protocol.On(g.recallBlock), protocol.On(g.handover), protocol.On(g.freeBlock),
		protocol.On(g.checkHealth), protocol.On(g.checkReady), protocol.On(g.reconfigure), protocol.On(g.routingStats), protocol.On(g.autoscalingStats),
		protocol.On(g.loadedModels), protocol.On(g.loadModel),
		protocol.On(g.profile), protocol.On(g.endProfile),
	)
}

// answer answers a control request of the node. Errors that the application has registered travel with the reply.
func (g *Guest) answer(ctx context.Context, op string, body json.RawMessage) (any, error) {
	out, err := g.control.Serve(ctx, op, body)
	if err == nil {
		return out, nil
	}
	e := call.AsError(err)
	if call.ErrorIn(err) == nil && ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		e = call.FromCause(err) // the request's own time is over; an error of the user's has a reason
	}
	if e.Cause != nil && e.Known == nil {
		known := *e
		g.errors().Describe(g.codec, &known)
		e = &known
	}
	return nil, e
}

// errors has the errors that the application has registered.
func (g *Guest) errors() *codec.ErrorRegistry {
	for _, c := range g.set.Classes {
		return c.Errors
	}
	return nil
}

// find is the replica of a request.
func (g *Guest) find(id string) (*hosted, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.replicas[id]; h != nil {
		return h, nil
	}
	return nil, call.NewError(helvetype.ReasonReplicaUnavailable, "the replica is not in this worker")
}

func (g *Guest) ping(context.Context, protocol.Ping) (done protocol.Done, err error) {
	return done, nil
}

func (g *Guest) startReplica(ctx context.Context, req protocol.StartReplica) (started protocol.Started, err error) {
	class := g.set.Classes[req.Deployment]
	if req.Code != nil {
		class = g.set.Classes[req.Code.Import].Named(req.Deployment, req.Code.Args)
	}
	if class == nil {
		return started, fmt.Errorf("deployment %s is not written in Go", req.Deployment)
	}
	g.drains.Add(req.Replica)
	r, err := instance.Start(ctx, class, req.Replica, req.UserConfig, req.TimeoutS.Duration())
	if err != nil {
		g.drains.Forget(req.Replica)
		return started, err
	}
	l := linkOf(ctx)
	g.handing.Lock()
	gone := ctx.Err() != nil || l.handedOver()
	if !gone {
		g.host(l, r, req.UserConfig)
	}
	g.handing.Unlock()
	if gone { // the node that wanted it
		g.drains.Forget(req.Replica)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), orphanCloseTime)
		defer cancel()
		return started, errors.Join(errNodeLeft, r.Close(closing))
	}
	return protocol.Started{Methods: methods(class), Health: r.CanTell(), Ready: r.TellsReadiness(), RoutingStats: r.Reports(), AutoscalingStats: r.ReportsLoad()}, nil
}

func methods(c *instance.Class) (out []protocol.Method) {
	for _, name := range slices.Sorted(maps.Keys(c.Methods)) {
		out = append(out, protocol.Method{Name: name, Shape: string(c.Methods[name].Shape), HTTP: c.Methods[name].InKind()})
	}
	return out
}

// stopReplica closes a replica. A replica that is not here is stopped already.
func (g *Guest) stopReplica(ctx context.Context, req protocol.StopReplica) (done protocol.Done, err error) {
	g.mu.Lock()
	h := g.replicas[req.Replica]
	delete(g.replicas, req.Replica)
	g.mu.Unlock()
	if h == nil {
		return done, nil
	}
	defer g.drains.Forget(req.Replica)
	g.withdrawSlots(h.session.Load())
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	defer h.instance.Scope.Metrics.Flush()
	return done, h.instance.Close(ctx)
}

func (g *Guest) drain(_ context.Context, req protocol.Drain) (done protocol.Done, err error) {
	g.drains.Begin(req.Replica)
	return done, nil
}

func (g *Guest) grantBlock(ctx context.Context, req protocol.GrantBlock) (done protocol.Done, err error) {
	h, err := g.find(req.Replica)
	if err == nil {
		g.addSlots(h, h.sessionWith(linkOf(ctx)), req)
	}
	return done, err
}

func (g *Guest) recallBlock(ctx context.Context, req protocol.RecallBlock) (recalled protocol.Recalled, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return recalled, err
	}
	if s := h.sessionWith(linkOf(ctx)); s != nil {
		recalled.Slots = s.slots.Recall(req.Number)
	}
	return recalled, err
}

func (g *Guest) checkHealth(ctx context.Context, req protocol.CheckHealth) (done protocol.Done, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return done, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	return done, h.instance.CheckHealth(ctx)
}

func (g *Guest) checkReady(ctx context.Context, req protocol.CheckReady) (done protocol.Done, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return done, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	return done, h.instance.CheckReady(ctx)
}

func (g *Guest) reconfigure(ctx context.Context, req protocol.Reconfigure) (done protocol.Done, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return done, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	if err := h.instance.Reconfigure(ctx, req.UserConfig); err != nil {
		return done, err
	}
	h.setConfig(req.UserConfig)
	return done, nil
}

func (g *Guest) routingStats(ctx context.Context, req protocol.RoutingStats) (stats protocol.Stats, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return stats, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	stats.Stats, err = h.instance.RoutingStats(ctx, g.codec)
	return stats, err
}

func (g *Guest) autoscalingStats(ctx context.Context, req protocol.AutoscalingStats) (n protocol.Numbers, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return n, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	n.Numbers, err = h.instance.AutoscalingStats(ctx)
	return n, err
}

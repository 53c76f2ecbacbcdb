// Package inprocess has the replicas of Go deployments that live in the process of the node. Their methods run on goroutines of the node, and a panic in a goroutine that user
// code has started ends the node; all other kinds of replicas have processes of their own ([host.GoWorker], [host.PythonWorker]).
package inprocess

import (
	"context"
	"encoding/json"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/transport"
)

// Host has replicas of Go deployments in this process.
type Host struct {
	Deployment *host.Deployment
	Node       string // id of the node
	Codec      *codec.Codec
	Drains     *instance.Drains       // of the replicas in this process; nil for none
	Metrics    *telemetry.UserMetrics // gets the metrics that the code of replicas defines; nil: they are not kept
	Secrets    *secret.Resolver       // may be nil
	Trace      *trace.Recorder        // takes records of calls; may be nil
	// Strict is the codec that every call passes through, although it need not; None for none.
	Strict call.Codec
	// OutOfLine says that no method runs on its caller's goroutine.
	OutOfLine bool
}

var _ host.Host = (*Host)(nil)

// InProcess is true.
func (h *Host) InProcess() bool { return true }

// StartsEarly is false: a constructor may call the deployments that its own uses.
func (h *Host) StartsEarly() bool { return false }

// Method describes a method by the class of the deployment.
func (h *Host) Method(name string) host.Method {
	if m, failure := h.Deployment.Class.Lookup(name); failure == nil {
		return host.Method{In: m.InKind()}
	}
	return host.Method{In: "json"}
}

// Methods are the methods of the description.
func (h *Host) Methods() []protocol.Method { return host.Described(h.Deployment) }

// Adopt does nothing: a replica in this process has no options of its own.
func (h *Host) Adopt(host.Replica) {}

// Start runs the constructor.
func (h *Host) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	d := h.Deployment
	config, err := h.Secrets.UserConfig(l.Config())
	if err != nil {
		return nil, err
	}
	done := l.Waits(host.WaitsForConstructor)
	h.Drains.Add(l.ID)
	i, err := instance.Start(ctx, d.Class, l.ID, config, d.Options.ConstructTimeout)
	done()
	if err != nil {
		h.Drains.Forget(l.ID)
		return nil, h.Secrets.Hide(err)
	}
	if h.Trace != nil {
		i.Trace = h.Trace
	}
	local := &transport.Local{Replica: i, Codec: h.Codec}
	r := &localReplica{instance: i, codec: h.Codec, transport: local, drains: h.Drains, secrets: h.Secrets}
	r.Init(l.Life, l.ID, h.Node, d.Options.MaxOngoingRequests)
	r.CountedBy(i)
	strict := h.Strict
	if strict == call.None && d.Options.StrictCodec {
		strict = call.Msgpack
	}
	switch {
	case strict != call.None:
		r.transport = &transport.Encoded{Local: local, Default: strict}
	case !h.OutOfLine:
		r.callable = i
	}
	if h.Metrics != nil {
		r.metrics = h.Metrics.Source()
		i.Scope.Metrics.ReportTo(func(number uint64, metrics []byte) {
			r.metrics.Report(number, metrics) //nolint:errcheck // the report is well formed
		})
	}
	i.Scope.WatchModels(func(ids []string) {
		r.SetModels(ids)
		l.Models(r, ids)
	})
	return r, nil
}

// localReplica is a replica in this process.
type localReplica struct {
	serving.Base
	instance  *instance.Instance
	callable  *instance.Instance // the instance, where callers run its methods themselves
	codec     *codec.Codec
	transport transport.Transport
	drains    *instance.Drains
	secrets   *secret.Resolver
	metrics   *telemetry.UserSource // nil for none
}

func (r *localReplica) Instance() *instance.Instance   { return r.callable }
func (r *localReplica) Transport() transport.Transport { return r.transport }
func (r *localReplica) HasHealthCheck() bool           { return r.instance.CanTell() }
func (r *localReplica) CheckHealth(ctx context.Context) error {
	return r.secrets.Hide(r.instance.CheckHealth(ctx))
}
func (r *localReplica) HasReadyCheck() bool { return r.instance.TellsReadiness() }
func (r *localReplica) CheckReady(ctx context.Context) error {
	return r.secrets.Hide(r.instance.CheckReady(ctx))
}
func (r *localReplica) Sign(context.Context) error { return nil }
func (r *localReplica) HasRoutingStats() bool      { return r.instance.Reports() }
func (r *localReplica) HasAutoscalingStats() bool  { return r.instance.ReportsLoad() }
func (r *localReplica) AutoscalingStats(ctx context.Context) (map[string]float64, error) {
	numbers, err := r.instance.AutoscalingStats(ctx)
	return numbers, r.secrets.Hide(err)
}

// Scope is for package moves: the models of the instance.
func (r *localReplica) Scope() *instance.Scope { return r.instance.Scope }

func (r *localReplica) Counts() telemetry.Counts { return r.instance.Counts() }
func (r *localReplica) Lend(bool)                {}
func (r *localReplica) Drain()                   { r.drains.Begin(r.ID()) }
func (r *localReplica) Serve(bool)               {}
func (r *localReplica) Process() host.Process    { return host.Process{} }
func (r *localReplica) Ended() <-chan struct{}   { return nil }
func (r *localReplica) Ending() host.Ending      { return host.Ending{} }

// AddCallers adds the calls of the instance: the node sees no call that its caller runs itself.
func (r *localReplica) AddCallers(all map[telemetry.Caller]telemetry.CallerCounts) {
	r.instance.Callers().AddTo(all)
}

func (r *localReplica) Stop(ctx context.Context) error {
	defer r.drains.Forget(r.ID())
	defer func() {
		if r.metrics != nil {
			r.instance.Scope.Metrics.Flush()
			r.metrics.Close()
		}
	}()
	return r.instance.Close(ctx)
}

func (r *localReplica) Reconfigure(ctx context.Context, config json.RawMessage) error {
	config, err := r.secrets.UserConfig(config)
	if err != nil {
		return err
	}
	return r.secrets.Hide(r.instance.Reconfigure(ctx, config))
}

// SetRank does nothing.
func (r *localReplica) SetRank(context.Context, host.Rank) error { return nil }

func (r *localReplica) RoutingStats(ctx context.Context) (json.RawMessage, error) {
	return r.instance.RoutingStats(ctx, r.codec)
}

package helve

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
)

// App is an application while it is being built: a graph of deployments with one ingress. A Build function makes it
// and hands it to [Run], never directly: workers are the same executable and build the same graph again.
// It is not safe for concurrent use.
type App struct{ g graph.App }

// NewApp begins an application. Mistakes in names, options and bindings are collected and returned by [Run], together.
func NewApp(name string) *App { return &App{graph.App{Name: name, RoutePrefix: "/"}} }

// Name is the name of the application.
func (a *App) Name() string { return a.g.Name }

// ScaleTogether has a policy decide for all deployments with [Options].Autoscaling, in the place of their own policies. An autoscaling_policy of a file takes its place.
func (a *App) ScaleTogether(p *helvetype.ApplicationPolicy) { a.g.Together = p }

// Isolation is the kind of process in which the replicas of a Go deployment run.
type Isolation string

const (
	// InNode replicas share the node's process: a call from the node is a function call.
	InNode = Isolation(spec.InNode)
	// Process replicas run in a worker, a child process: a crash ends the worker and not the node. All Process deployments
	// of an application revision share one worker per node.
	Process = Isolation(spec.Process)
)

// Limits bound the resources of a worker process. A field that is 0 is no limit. A cgroup enforces Memory and CPUs where
// cgroup v2 is delegated to the node. Elsewhere RLIMIT_DATA limits the memory, so that allocations fail instead of a kill of
// the process, CPUs are not limited, and the log says so.
type Limits struct {
	// Memory is in bytes.
	Memory int64
	// CPUs is in cores.
	CPUs float64
	// OpenFiles is the number of file descriptors.
	OpenFiles int
}

// BackpressureAnswer says how HTTP answers a request that the limit of queued calls has refused.
type BackpressureAnswer struct {
	// StatusCode is 503 or 429. Default 503.
	StatusCode int
	// RetryAfter is the time in the header Retry-After, as whole seconds; 0 is no header. Default 1 s.
	RetryAfter *time.Duration
}

// Options of a deployment. Fields whose zero is legal are pointers (new(0) in Go 1.26); nil takes the default.
type Options struct {
	// NumReplicas is how many replicas run. Default 1.
	NumReplicas *int
	// Autoscaling has the number of replicas follow the load, in place of NumReplicas. Default nil: the number stays.
	Autoscaling *helvetype.AutoscalingOptions
	// MaxOngoingRequests is how many calls one replica executes at a time, over all callers. Default 5.
	MaxOngoingRequests *int
	// MaxQueuedRequests is how many calls of one origin may wait for a slot: each calling deployment, the HTTP proxy and
	// everything else are an origin. More fail at once with reason backpressure. Default -1, no limit.
	MaxQueuedRequests *int
	// UserConfig is given to the instance's Reconfigure(context.Context, C) error before it is ready, and again when it
	// changes ([System.Reconfigure]). Its JSON must decode into C. Reconfigure is not called if it is nil.
	UserConfig any
	// ConstructTimeout is how long a replica may take to be ready: constructor, Reconfigure and first health check. Default
	// 20 minutes.
	ConstructTimeout *time.Duration
	// MaxConstructorRetries bounds how often starts that fail are repeated, with three times the number of replicas, before
	// a deployment that never ran is given up. Default 20. The first application of [Run] is not retried at all.
	MaxConstructorRetries *int
	// HealthCheckPeriod is how often an instance that implements [HealthChecker] is asked, give or take a tenth. Default
	// 10 s.
	HealthCheckPeriod *time.Duration
	// HealthCheckTimeout is how long a check may take. Default 30 s.
	HealthCheckTimeout *time.Duration
	// HealthCheckFailures is after how many failed checks in a row the replica is replaced. Default 3.
	HealthCheckFailures int
	// ReadinessPeriod is how often an instance with CheckReady is asked, give or take a tenth; ReadinessTimeout is how long it may take. Default 5 s.
	ReadinessPeriod, ReadinessTimeout time.Duration
	// ReadinessFailures is after how many failed readiness checks in a row the replica gets no more calls, and ReadinessSuccesses after how
	// many good ones it gets some again. Default 1.
	ReadinessFailures, ReadinessSuccesses int
	// Ejection is when a replica whose calls fail for reasons of the system gets no calls for a while.
	Ejection helvetype.EjectionOptions
	// Rollout is how an update replaces replicas.
	Rollout helvetype.RolloutOptions
	// GracefulShutdownTimeout is how long a replica that stops may go on with the calls that it runs. Default 20 s.
	GracefulShutdownTimeout *time.Duration
	// MaxReplicasPerNode is how many replicas one node may have. The other replicas wait, and the status says so. Default 0, no limit.
	MaxReplicasPerNode int
	// Backpressure is the answer to HTTP requests over MaxQueuedRequests.
	Backpressure BackpressureAnswer
	// Routing is how replicas are picked. Default PowerOfTwoChoices{}.
	Routing Routing
	// RoutingStatsPeriod is how often instances that implement [RoutingReporter] are asked, give or take a tenth, where Routing is a
	// policy of your own. Default 10 s.
	RoutingStatsPeriod *time.Duration
	// RoutingStatsTimeout is how long they may take. Default 30 s.
	RoutingStatsTimeout *time.Duration
	// Isolation is where replicas live. Default InNode. Python deployments always have a process each.
	Isolation Isolation
	// Env are variables of the worker's environment, beside the node's own, which they replace. Env, Dir and Limits are for
	// deployments with processes. Each replica of a [Python] deployment has a process. The deployments of an application with
	// Isolation Process share one: its variables are the variables of all of them, and its limits are the sums.
	Env map[string]string
	// Dir is the worker's working directory. Default: the node's.
	Dir string
	// Limits bound each worker process.
	Limits Limits
	// GPUs is how many GPUs of the node each replica of a [Python] deployment has: a whole number, or the part of a GPU that replicas share. Its process
	// sees these alone. A replica that finds none free is started again later.
	GPUs float64
	// WarmSpare keeps a process ready for the next start of a replica of a [Python] deployment, with the modules of the deployment imported.
	WarmSpare bool
	// UnresponsiveAfter is how long a worker may leave the node without an answer, or a Python worker's event loop may
	// stand, before that is an event and shown in [System.Status], with stacks. Default 5 s.
	UnresponsiveAfter *time.Duration
	// MaxUnresponsive is the time without an answer after which the worker is killed and replaced. Default 0, never, because a
	// slow worker may not be broken. A [HealthChecker] can tell the difference.
	MaxUnresponsive *time.Duration
	// StrictCodec encodes and decodes calls between deployments of one process as if they were apart.
	StrictCodec bool
	// Version takes part in the deployment's code version: replicas go on over a deploy of the same version ([System.Deploy]).
	Version string
	// Default is the method for calls that name no method. Default: the ingress method, else Call.
	Default string
	// Uses are the handles and methods that the constructor captures: the edges of the graph. A replica is started when a replica
	// of each of those deployments is ready, or was; deployments that use each other start together.
	Uses []Target
}

// spec is the options as the packages below this one have them.
func (o Options) spec() (spec.Options, []error) {
	s, errs := spec.FromGo(o, func(v any) ([]byte, error) { return graph.Codec.Append(nil, call.JSON, v) }) // field names as everywhere
	if o.Routing != nil {
		policy, make := o.Routing.routing()
		if policy == spec.Custom && make == nil {
			errs = append(errs, spec.OptionMistake("request_router", "CustomRouting(nil): give a function that makes a policy"))
		}
		s.RequestRouter.Policy = policy
	}
	if o.Autoscaling != nil && o.NumReplicas != nil {
		errs = append(errs, spec.OptionMistake("autoscaling_config", "a deployment has NumReplicas or Autoscaling, not both"))
	}
	return s, errs
}

// Effective gives the options with every default filled in, and the source of each value. Its error lists the options that are out of range.
func (o Options) Effective() (EffectiveOptions, error) {
	s, errs := o.spec()
	if len(errs) > 0 {
		return EffectiveOptions{}, errors.Join(graph.InGo(errs)...)
	}
	full := s.Effective()
	e := EffectiveOptions{Options: o, Sources: make(map[string]string, len(full.Sources))}
	for path, from := range full.Sources {
		e.Sources[path] = string(from)
	}
	full.ToGo(&e.Options)
	switch full.RequestRouter.Policy {
	case spec.PowerOfTwo:
		e.Routing = PowerOfTwoChoices{}
	case spec.ConsistentHash:
		e.Routing = ConsistentHash{&full.RequestRouter.VirtualNodes, &full.RequestRouter.FallbackReplicas}
	}
	return e, errors.Join(graph.InGo(s.Validate())...)
}

// EffectiveOptions are options in which every field that has a default is set.
type EffectiveOptions struct {
	Options
	// Sources has the source of each value: "default", "code", "file" or "override". Its keys are the names that the options
	// have in Python and in files (docs/options.md), for example "limits.memory".
	Sources map[string]string
}

// Target is the end of an edge of the graph: a [Handle], or a bound [Method] or [Stream].
type Target interface{ target() *graph.Deployment }

// Closer is implemented by instances that hold resources, such as a connection or the memory of a device.
type Closer interface {
	// Close gives the resources back. It is called once, when the replica has finished its calls, or when
	// GracefulShutdownTimeout has passed; ctx ends with the rest of that time. Its error is logged.
	Close(ctx context.Context) error
}

// HealthChecker is implemented by instances that can fail without the end of their process.
type HealthChecker interface {
	// CheckHealth returns an error if the instance does not work any more. It is called before the replica gets its first
	// call and then every HealthCheckPeriod ([Options]), beside calls. A replica is replaced after HealthCheckFailures in a row.
	CheckHealth(ctx context.Context) error
}

// ReadyChecker is implemented by instances that should get no calls at times, for example while they load another model.
type ReadyChecker interface {
	// CheckReady returns an error while no calls should be sent to the instance. It is called when the replica has started and then every ReadinessPeriod
	// ([Options]), beside calls. The replica finishes its calls, and gets calls again when CheckReady returns nil. The last replica goes on getting calls.
	CheckReady(ctx context.Context) error
}

// RoutingReporter is implemented by instances that have values for a [RoutingPolicy], such as the free part of a cache.
type RoutingReporter interface {
	// RoutingStats returns values that encode as JSON; policies read them with [ReplicaView.Stats]. It is called when the
	// replica is ready and then every RoutingStatsPeriod ([Options]), beside calls.
	RoutingStats(ctx context.Context) (map[string]any, error)
}

// The runtime asserts interfaces of its own with the same methods.
var (
	_ instance.Closer          = Closer(nil)
	_ instance.HealthChecker   = HealthChecker(nil)
	_ instance.ReadyChecker    = ReadyChecker(nil)
	_ instance.RoutingReporter = RoutingReporter(nil)
)

// Deploy adds a deployment written in Go. construct makes one replica's instance; its ctx ends when the node closes.
// R is usually a pointer to a struct. Every exported method of R with a shape of [MethodOf] or [ActionOf] can be called.
func Deploy[R any](app *App, name string, construct func(ctx context.Context) (R, error), opts Options) Handle[R] {
	d := vertex[R](app, name, opts)
	var untyped func(context.Context) (any, error)
	if construct != nil {
		untyped = func(ctx context.Context) (any, error) { return construct(ctx) }
	}
	app.g.AddGo(d, graph.Code{Construct: untyped, Default: opts.Default, Configured: opts.UserConfig != nil})
	return Handle[R]{d: d}
}

// vertex makes a deployment with instances of type R, which is not yet in the graph.
func vertex[R any](app *App, name string, opts Options) *graph.Deployment {
	return &graph.Deployment{App: &app.g, Name: name, Receiver: reflect.TypeFor[R](), Declare: opts.declare}
}

// declare reads the options for the graph.
func (o Options) declare() (d graph.Declaration) {
	d.Options, d.Mistakes = o.spec()
	for _, u := range o.Uses {
		d.Uses = append(d.Uses, use(u))
	}
	if o.Routing != nil {
		_, d.Policy = o.Routing.routing()
	}
	if o.Autoscaling != nil {
		d.Scaling = o.Autoscaling.Policy
	}
	return d
}

// use is the edge to a target.
func use(t Target) graph.Use {
	if t == nil {
		return graph.Use{}
	}
	u := graph.Use{Deployment: t.target()}
	if m, ok := t.(interface{ bound() *graph.Binding }); ok {
		u.Binding = m.bound()
	}
	return u
}

// Ingress is the entry of an application for clients outside: a [Method], a [Stream], or a deployment that is an http.Handler
// ([HTTP]). It is sealed.
type Ingress interface {
	ingress() (*graph.Binding, spec.IngressKind)
}

// Ingress makes i the application's ingress, served over HTTP under "/" (see the package comment for the rules).
func (a *App) Ingress(i Ingress) {
	var b *graph.Binding
	var kind spec.IngressKind
	if i != nil {
		b, kind = i.ingress()
	}
	a.g.SetIngress(b, kind)
}

// HTTP is the ingress of a deployment that is an http.Handler, or of a [Python] class that serves HTTP: its __call__ takes a request, or it has
// serve.ingress. R is then an interface that includes http.Handler, such as http.Handler itself. The handler gets requests of every method, type and path, and may
// also upgrade the connection. Each request is a call: it waits in the queue, takes a slot of the replica until ServeHTTP
// returns (there are 100, unless [Options].MaxOngoingRequests says another number), and its context has the values of a method's context. The handler sees the path without the application's
// [App.RoutePrefix] ([RoutePrefixFrom]); the prefix is put before the paths in Location and Content-Location of its answers.
//
// With [Process], and in a build, the handler runs in a worker, and only the parts of requests and answers travel: the worker has no server of
// HTTP. It finds no difference, with these exceptions: a connection that it has taken over holds the slot until it is closed, and
// [http.Request].TLS says only that there was TLS.
func HTTP[R http.Handler](h Handle[R]) Ingress {
	d := h.d
	if d == nil {
		d = graph.NoDeployment
	}
	return handler{graph.Binding{Deployment: d, Name: handlerName}}
}

// handlerName is the name in messages of the method of an ingress that is a handler.
const handlerName = "ServeHTTP"

type handler struct{ b graph.Binding }

func (h handler) ingress() (*graph.Binding, spec.IngressKind) { return &h.b, spec.IngressHTTP }

// RoutePrefix sets the path under which the ingress is served over HTTP; default "/". "" serves it to handles only.
func (a *App) RoutePrefix(prefix string) { a.g.RoutePrefix = prefix }

// Errors registers errors that keep their identity when they leave their process: values, for errors.Is, and types, given
// as (*T)(nil), for errors.As. The error of a call whose method returned one of them, wrapped or not, unwraps to it.
func (a *App) Errors(errs ...error) {
	for _, e := range errs {
		a.g.AddError(e)
	}
}

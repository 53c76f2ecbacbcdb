package helve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/guest"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// App is an application while it is being built: a graph of deployments with one ingress. A Build function makes it
// and hands it to [Run], never directly: workers are the same executable and build the same graph again.
// It is not safe for concurrent use.
type App struct {
	name        string
	deployments []*deployment
	ingress     *binding
	kind        spec.IngressKind
	prefix      string
	errors      codec.ErrorRegistry
	mistakes    []error
	sealed      bool
	external    *external // nil if its code is here
}

// deployment is one vertex of the graph. All handles to the deployment point to it.
type deployment struct {
	app      *App
	name     string
	class    *instance.Class // nil for Python
	receiver reflect.Type
	options  Options
	python   *pythonSource
	bound    []string // Python: the methods that the graph binds

	used sync.Map // names of the deployments that its replicas have used, also if the graph does not declare them

	dep  atomic.Pointer[serving.Deployment] // set in a node
	port atomic.Pointer[guest.Port]         // set in a worker
}

// NewApp begins an application. Mistakes in names, options and bindings are collected and returned by [Run], together.
func NewApp(name string) *App { return &App{name: name, prefix: "/"} }

// Name is the name of the application.
func (a *App) Name() string { return a.name }

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

// Options of a deployment. Fields whose zero is legal are pointers (new(0) in Go 1.26); nil takes the default.
type Options struct {
	// NumReplicas is how many replicas run. Default 1.
	NumReplicas *int
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
	// 10 s. After three failures in a row the replica is replaced.
	HealthCheckPeriod *time.Duration
	// HealthCheckTimeout is how long a check may take. Default 30 s.
	HealthCheckTimeout *time.Duration
	// GracefulShutdownTimeout is how long a replica that stops may go on with the calls that it runs. Default 20 s.
	GracefulShutdownTimeout *time.Duration
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
	s, errs := spec.FromGo(o, func(v any) ([]byte, error) { return theCodec.Append(nil, call.JSON, v) }) // field names as everywhere
	if o.Routing != nil {
		policy, make := o.Routing.routing()
		if policy == spec.Custom && make == nil {
			errs = append(errs, spec.OptionMistake("request_router", "CustomRouting(nil): give a function that makes a policy"))
		}
		s.RequestRouter.Policy = policy
	}
	return s, errs
}

// Effective gives the options with every default filled in, and the source of each value. Its error lists the options that are out of range.
func (o Options) Effective() (EffectiveOptions, error) {
	s, errs := o.spec()
	if len(errs) > 0 {
		return EffectiveOptions{}, errors.Join(inGo(errs)...)
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
	return e, errors.Join(inGo(s.Validate())...)
}

// inGo gives mistakes in options the names that the options have in Go.
func inGo(errs []error) []error {
	named := slices.Clone(errs)
	for i, err := range errs {
		if m, ok := errors.AsType[*spec.Mistake](err); ok {
			named[i] = m.InGo()
		}
	}
	return named
}

// EffectiveOptions are options in which every field that has a default is set.
type EffectiveOptions struct {
	Options
	// Sources has the source of each value: "default", "code", "file" or "override". Its keys are the names that the options
	// have in Python and in files (docs/options.md), for example "limits.memory".
	Sources map[string]string
}

// Target is the end of an edge of the graph: a [Handle], or a bound [Method] or [Stream].
type Target interface{ target() *deployment }

// Closer is implemented by instances that hold resources, such as a connection or the memory of a device.
type Closer interface {
	// Close gives the resources back. It is called once, when the replica has finished its calls, or when
	// GracefulShutdownTimeout has passed; ctx ends with the rest of that time. Its error is logged.
	Close(ctx context.Context) error
}

// HealthChecker is implemented by instances that can fail without the end of their process.
type HealthChecker interface {
	// CheckHealth returns an error if the instance does not work any more. It is called before the replica gets its first
	// call and then every HealthCheckPeriod ([Options]), beside calls. A replica is replaced after three failures in a row.
	CheckHealth(ctx context.Context) error
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
	_ instance.RoutingReporter = RoutingReporter(nil)
)

// Deploy adds a deployment written in Go. construct makes one replica's instance; its ctx ends when the node closes.
// R is usually a pointer to a struct. Every exported method of R with a shape of [MethodOf] or [ActionOf] can be called.
func Deploy[R any](app *App, name string, construct func(ctx context.Context) (R, error), opts Options) Handle[R] {
	t := reflect.TypeFor[R]()
	d := &deployment{app: app, name: name, receiver: t, options: opts}
	d.class = &instance.Class{
		App: app.name, Deployment: name, Home: app, Methods: instance.Methods(t), Default: opts.Default, Errors: &app.errors,
	}
	d.class.Configure = instance.Configure(t, theCodec)
	if d.class.Configure == nil && opts.UserConfig != nil {
		d.addOptionError("user_config", "%s has no method Reconfigure(context.Context, C) error", t)
	}
	if construct == nil {
		_ = d.addError("the constructor is nil")
	} else {
		d.class.Construct = func(ctx context.Context) (any, error) { return construct(ctx) }
	}
	if opts.Default != "" && d.class.Methods[opts.Default] == nil {
		d.addOptionError("default", "%s has no method %q that handles can call", t, opts.Default)
	}
	app.deployments = append(app.deployments, d)
	return Handle[R]{d: d}
}

// addOptionError adds an error about an option of the deployment to the errors that [Run] returns.
func (d *deployment) addOptionError(path, format string, args ...any) {
	d.app.mistakes = append(d.app.mistakes, spec.InDeployment(d.name, spec.OptionMistake(path, format, args...))...)
}

// addError adds an error about the deployment to the errors that [Run] returns, unless the graph is complete. It also returns the
// error, which calls of a binding that is made later return.
func (d *deployment) addError(format string, args ...any) error {
	err := fmt.Errorf("deployment %q: "+format, append([]any{d.name}, args...)...)
	if d.app != nil && !d.app.sealed {
		d.app.mistakes = append(d.app.mistakes, err)
	}
	return err
}

// Ingress is the entry of an application for clients outside: a [Method], a [Stream], or a deployment that is an http.Handler
// ([HTTP]). It is sealed.
type Ingress interface {
	ingress() (*binding, spec.IngressKind)
}

// Ingress makes i the application's ingress, served over HTTP under "/" (see the package comment for the rules).
func (a *App) Ingress(i Ingress) {
	var b *binding
	var kind spec.IngressKind
	if i != nil {
		b, kind = i.ingress()
	}
	switch {
	case b == nil || b.d == noDeployment:
		a.mistakes = append(a.mistakes, errors.New("ingress: a zero value; bind a method with MethodOf or a stream with StreamOf, or give HTTP(handle)"))
	case a.ingress != nil:
		a.mistakes = append(a.mistakes, fmt.Errorf("ingress: set twice, to %s and %s", a.ingress, b))
	case b.d.app != a:
		a.mistakes = append(a.mistakes, fmt.Errorf("ingress: deployment %q belongs to application %q", b.d.name, b.d.app.name))
	default:
		a.ingress, a.kind = b, kind
	}
}

// HTTP is the ingress of a deployment that is an http.Handler. The handler gets requests of every method, type and path, and may
// also upgrade the connection. Each request is a call: it waits in the queue, takes a slot of the replica until ServeHTTP
// returns, and its context has the values of a method's context. The handler sees the path without the application's
// [App.RoutePrefix] ([RoutePrefixFrom]); the prefix is put before the paths in Location and Content-Location of its answers. Such
// replicas run in the node's process only, also if [Config].Isolation moves all others.
func HTTP[R http.Handler](h Handle[R]) Ingress {
	d := h.d
	if d == nil {
		d = noDeployment
	}
	return handler{binding{d: d, name: handlerName}}
}

// handlerName is the name in messages of the method of an ingress that is a handler.
const handlerName = "ServeHTTP"

type handler struct{ b binding }

func (h handler) ingress() (*binding, spec.IngressKind) { return &h.b, spec.IngressHTTP }

// RoutePrefix sets the path under which the ingress is served over HTTP; default "/". "" serves it to handles only.
func (a *App) RoutePrefix(prefix string) { a.prefix = prefix }

// Errors registers errors that keep their identity when they leave their process: values, for errors.Is, and types, given
// as (*T)(nil), for errors.As. The error of a call whose method returned one of them, wrapped or not, unwraps to it.
func (a *App) Errors(errs ...error) {
	for _, e := range errs {
		if err := a.errors.Add(e); err != nil {
			a.mistakes = append(a.mistakes, err)
		}
	}
}

// seal ends the building: it settles defaults and returns the graph, or all mistakes together.
func (a *App) seal() (spec.Graph, error) {
	a.sealed = true
	g := spec.Graph{App: a.name, RoutePrefix: a.prefix}
	if a.ingress != nil {
		d := a.ingress.d
		g.Ingress = &spec.IngressSpec{Deployment: d.name, Method: a.ingress.name, Kind: a.kind}
		switch c := d.class; {
		case a.kind == spec.IngressHTTP:
			g.Ingress.Method = ""
			if c == nil {
				a.mistakes = append(a.mistakes, fmt.Errorf("deployment %q: ingress: a deployment in Python is no http.Handler", d.name))
			} else if d.options.Isolation == Process {
				d.addOptionError("isolation", "an ingress of helve.HTTP must be in the node's process, requests and responses do not travel to a worker yet")
			}
		case c != nil && c.Default == "" && a.ingress.err == nil:
			c.Default = a.ingress.name
		}
	}
	errs := a.mistakes
	for _, d := range a.deployments {
		opts, wrong := d.options.spec()
		errs = append(errs, spec.InDeployment(d.name, wrong...)...)
		s := spec.Deployment{Name: d.name, Language: "go", Options: opts}
		for _, u := range d.options.Uses {
			if u == nil || u.target() == nil {
				errs = append(errs, fmt.Errorf("deployment %q: uses: a zero handle or method", d.name))
				continue
			}
			if t := u.target(); t.app != a {
				errs = append(errs, fmt.Errorf("deployment %q: uses: deployment %q belongs to application %q", d.name, t.name, t.app.name))
			} else if !slices.Contains(s.Uses, t.name) {
				s.Uses = append(s.Uses, t.name)
			}
		}
		if d.python != nil {
			s.Language, s.Import = "python", d.python.importPath
			for _, name := range d.bound {
				s.Methods = append(s.Methods, spec.Method{Name: name, Shape: "unary"})
			}
		} else {
			d.describe(&s)
		}
		g.Deployments = append(g.Deployments, s)
	}
	errs = append(errs, g.Validate()...)
	errs = append(errs, a.misnamed()...)
	errs = append(errs, a.unencodable(false)...)
	if len(errs) > 0 {
		return g, fmt.Errorf("application %q: %w", a.name, errors.Join(inGo(errs)...))
	}
	return g, nil
}

// unencodable are the types of bound methods of which no value can leave a process, where it has to.
// apart says that all deployments are in processes of their own.
func (a *App) unencodable(apart bool) (errs []error) {
	for _, d := range a.deployments {
		if d.class == nil || d.options.Isolation != Process && !d.options.StrictCodec && !apart {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(d.class.Methods)) {
			m := d.class.Methods[name]
			if !m.Bound {
				continue
			}
			for what, t := range map[string]reflect.Type{"input": m.In, "output": m.Out} {
				if t == nil {
					continue
				}
				if err := codec.Check(t); err != nil {
					errs = append(errs, fmt.Errorf("deployment %q: method %s: its %s %w", d.name, name, what, err))
				}
			}
		}
	}
	return errs
}

// misnamed are the mistakes in bindings by name, of which only the whole graph can tell.
func (a *App) misnamed() (errs []error) {
	if a.ingress != nil {
		if err := a.ingress.misnamed(); err != nil {
			errs = append(errs, fmt.Errorf("ingress: %w", err))
		}
	}
	for _, d := range a.deployments {
		for _, u := range d.options.Uses {
			if u, ok := u.(interface{ bound() *binding }); ok {
				if err := u.bound().misnamed(); err != nil {
					errs = append(errs, fmt.Errorf("deployment %q: uses: %w", d.name, err))
				}
			}
		}
	}
	return errs
}

// misnamed says why a binding by name leads nowhere. Types are compared where calls do not encode.
func (b *binding) misnamed() error {
	if b == nil || b.types == nil || b.err != nil || b.d.class == nil {
		return nil //nolint:nilerr // said where the binding was made
	}
	m, e := b.d.class.Lookup(b.name)
	if e == nil && b.types.stream != (m.Shape == instance.Stream) {
		e = m.Mismatch()
	}
	if e != nil {
		return errors.New(e.Message)
	}
	if o := b.d.options; o.Isolation != Process && !o.StrictCodec {
		if why := m.Misfit(b.types.in, b.types.out); why != "" {
			return fmt.Errorf("deployment %s: %s", b.d.name, why)
		}
	}
	return nil
}

func (d *deployment) describe(s *spec.Deployment) {
	s.Receiver = d.receiver.String()
	if d.class.Default == "" && d.class.Methods["Call"] != nil {
		d.class.Default = "Call"
	}
	for _, m := range d.class.Methods {
		s.Methods = append(s.Methods, spec.Method{
			Name: m.Name, Shape: string(m.Shape), In: spec.DescribeType(m.In), Out: spec.DescribeType(m.Out), InKind: m.InKind(),
		})
	}
}

func (a *App) classes() map[string]*instance.Class {
	cs := map[string]*instance.Class{}
	for _, d := range a.deployments {
		if d.class != nil {
			cs[d.name] = d.class
		}
	}
	return cs
}

func (a *App) policies() map[string]func() router.Policy {
	ps := map[string]func() router.Policy{}
	for _, d := range a.deployments {
		if d.options.Routing != nil {
			if _, make := d.options.Routing.routing(); make != nil {
				ps[d.name] = make
			}
		}
	}
	return ps
}

// noteUse tells the node that a replica of from uses the deployment to.
func (a *App) noteUse(from, to string) {
	caller := a.find(from)
	if caller == nil || from == to {
		return
	}
	if _, told := caller.used.LoadOrStore(to, true); told {
		return
	}
	if dep := caller.dep.Load(); dep != nil {
		dep.Uses(to)
	} else if p := caller.port.Load(); p != nil {
		p.Uses(to)
	}
}

// find is a deployment by its name, nil if there is none.
func (a *App) find(name string) *deployment {
	for _, d := range a.deployments {
		if d.name == name {
			return d
		}
	}
	return nil
}

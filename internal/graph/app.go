package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/guest"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/trace"
)

// Codec encodes options, arguments and results for every application of this process. It is a cache of type plans.
var Codec = codec.New() //nolint:gochecknoglobals // a cache, the same for every system

// App is an application. It is built on one goroutine, and read only after [App.Seal].
type App struct {
	// Name is the name of the application, and RoutePrefix the path of its ingress over HTTP; "" serves it to handles only.
	Name, RoutePrefix string
	// IngressOptions are the options of the ingress; nil for none.
	IngressOptions *spec.IngressOptions
	// Part says that another application takes deployments of this one, which then needs no ingress.
	Part bool
	// External is the executable that has the code of the application; nil if this one has.
	External *External
	// Together is an autoscaling policy for all deployments; nil for none.
	Together *helvetype.ApplicationPolicy
	// Drains are the drains of the replicas in the process that runs the application; nil before it runs.
	Drains atomic.Pointer[instance.Drains]
	// Node is the connection to the node, in a worker; nil elsewhere, and before the worker runs.
	Node atomic.Pointer[guest.Guest]
	// Recorder takes the spans of user code, in a node; nil elsewhere, and before the application runs.
	Recorder atomic.Pointer[trace.Recorder]

	deployments []*Deployment
	ingress     *Binding
	kind        spec.IngressKind
	errors      codec.ErrorRegistry
	mistakes    []error
	places      []*call.Place // of the bindings that were made while the graph was built
	sealed      bool
}

// External is an application whose code is in another executable.
type External struct {
	// Path is the file of the executable, and Application the name of the application in it; "" for the only one.
	Path, Application string
	// Args are the arguments with which the executable starts.
	Args []string
}

// Loaded returns the application that another executable has described: handles find its deployments by name.
func Loaded(g spec.Graph) *App {
	a := &App{Name: g.App, RoutePrefix: g.RoutePrefix, sealed: true}
	for _, d := range g.Deployments {
		a.deployments = append(a.deployments, &Deployment{App: a, Name: d.Name})
	}
	return a
}

// Code is the code of a deployment in Go.
type Code struct {
	// Construct makes an instance. It is a mistake if it is nil.
	Construct func(context.Context) (any, error)
	// Default is the name of the default method, "" if the program names none.
	Default string
	// Configured says that the program gives the instances a user config.
	Configured bool
}

// AddGo adds a deployment in Go.
func (a *App) AddGo(d *Deployment, c Code) {
	t := d.Receiver
	d.Class = &instance.Class{
		App: a.Name, Deployment: d.Name, Home: a, Construct: c.Construct, Methods: instance.Methods(t), Default: c.Default,
		Configure: instance.Configure(t, Codec), Errors: &a.errors,
	}
	if d.Class.Configure == nil && c.Configured {
		d.AddOptionMistake("user_config", "%s has no method Reconfigure(context.Context, C) error", t)
	}
	if c.Construct == nil {
		_ = d.AddMistake("the constructor is nil")
	}
	if c.Default != "" && d.Class.Methods[c.Default] == nil {
		d.AddOptionMistake("default", "%s has no method %q that handles can call", t, c.Default)
	}
	a.deployments = append(a.deployments, d)
}

// Deployments are the deployments of the application, in the order in which they were added.
func (a *App) Deployments() []*Deployment { return a.deployments }

// Find returns a deployment by its name. It is nil if there is none.
func (a *App) Find(name string) *Deployment {
	for _, d := range a.deployments {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Sealed reports whether the building has ended.
func (a *App) Sealed() bool { return a.sealed }

// AddError registers an error that keeps its identity between processes.
func (a *App) AddError(e error) {
	if err := a.errors.Add(e); err != nil {
		a.mistakes = append(a.mistakes, err)
	}
}

// Errors are the errors that keep their identity between processes.
func (a *App) Errors() *codec.ErrorRegistry { return &a.errors }

// SetIngress makes a binding the entry of the application for clients outside. A nil binding is a mistake.
func (a *App) SetIngress(b *Binding, kind spec.IngressKind) {
	switch {
	case b == nil || b.Deployment == NoDeployment:
		a.mistakes = append(a.mistakes, errors.New("ingress: a zero value; bind a method with MethodOf or a stream with StreamOf, or give HTTP(handle)"))
	case a.ingress != nil:
		a.mistakes = append(a.mistakes, fmt.Errorf("ingress: set twice, to %s and %s", a.ingress, b))
	case b.Deployment.App != a:
		a.mistakes = append(a.mistakes, fmt.Errorf("ingress: deployment %q belongs to application %q", b.Deployment.Name, b.Deployment.App.Name))
	default:
		a.ingress, a.kind = b, kind
	}
}

// handlerSlots is the MaxOngoingRequests of the ingress that is an http.Handler, unless its options say another number. Handlers of net/http are
// written for many requests at a time, and five browsers that hold a stream each would keep all others out of the five slots of a method.
const handlerSlots = 100

// Seal ends the building: it settles defaults and returns the description of the graph, or all mistakes together.
func (a *App) Seal() (spec.Graph, error) {
	a.sealed = true
	g := spec.Graph{App: a.Name, RoutePrefix: a.RoutePrefix, IngressOptions: a.IngressOptions}
	if a.Together != nil {
		var err error
		if g.Together, err = json.Marshal(a.Together); err != nil {
			a.mistakes = append(a.mistakes, err)
		}
	}
	for _, d := range a.deployments {
		d.Declaration = d.Declare()
	}
	if a.ingress != nil {
		g.Ingress = a.sealIngress()
	}
	errs := a.mistakes
	for _, d := range a.deployments {
		errs = append(errs, spec.InDeployment(d.Name, d.Mistakes...)...)
		if a.kind == spec.IngressHTTP && a.ingress.Deployment == d && d.Options.MaxOngoingRequests == 0 {
			d.Options.MaxOngoingRequests = handlerSlots
		}
		s := spec.Deployment{Name: d.Name, Language: "go", Options: d.Options}
		for _, u := range d.Uses {
			switch t := u.Deployment; {
			case t == nil:
				errs = append(errs, fmt.Errorf("deployment %q: uses: a zero handle or method", d.Name))
			case t.App != a:
				errs = append(errs, fmt.Errorf("deployment %q: uses: deployment %q belongs to application %q", d.Name, t.Name, t.App.Name))
			case !slices.Contains(s.Uses, t.Name):
				s.Uses = append(s.Uses, t.Name)
			}
		}
		if d.Python != nil {
			s.Language, s.Import = "python", d.Python.ImportPath
			for _, name := range d.bound {
				s.Methods = append(s.Methods, spec.Method{Name: name, Shape: "unary"})
			}
		} else {
			d.describe(&s)
		}
		g.Deployments = append(g.Deployments, s)
	}
	validate := g.Validate
	if a.Part {
		validate = g.ValidatePart
	}
	errs = append(errs, validate()...)
	errs = append(errs, a.misnamed()...)
	errs = append(errs, a.Unencodable(false)...)
	if len(errs) > 0 {
		return g, fmt.Errorf("application %q: %w", a.Name, errors.Join(InGo(errs)...))
	}
	return g, nil
}

// sealIngress describes the ingress. A method ingress is the default method of its deployment.
func (a *App) sealIngress() *spec.IngressSpec {
	d := a.ingress.Deployment
	s := &spec.IngressSpec{Deployment: d.Name, Method: a.ingress.Name, Kind: a.kind}
	switch c := d.Class; {
	case a.kind == spec.IngressHTTP:
		s.Method = ""
	case c != nil && c.Default == "" && a.ingress.Err == nil:
		c.Default = a.ingress.Name
	}
	return s
}

// InGo gives mistakes in options the names that the options have in Go.
func InGo(errs []error) []error {
	named := slices.Clone(errs)
	for i, err := range errs {
		if m, ok := errors.AsType[*spec.Mistake](err); ok {
			named[i] = m.InGo()
		}
	}
	return named
}

// Unencodable returns an error for each type of a bound method of which no value can leave a process, where it has to. If apart is
// true, every deployment is in a process of its own.
func (a *App) Unencodable(apart bool) (errs []error) {
	for _, d := range a.deployments {
		if d.Class == nil || !d.encodes() && !apart {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(d.Class.Methods)) {
			m := d.Class.Methods[name]
			if !m.Bound {
				continue
			}
			for what, t := range map[string]reflect.Type{"input": m.In, "output": m.Out} {
				if t == nil {
					continue
				}
				if err := codec.Check(t); err != nil {
					errs = append(errs, fmt.Errorf("deployment %q: method %s: its %s %w", d.Name, name, what, err))
				}
			}
		}
	}
	return errs
}

// misnamed returns the mistakes in bindings by name, which can be found in the whole graph only.
func (a *App) misnamed() (errs []error) {
	if a.ingress != nil {
		if err := a.ingress.misnamed(); err != nil {
			errs = append(errs, fmt.Errorf("ingress: %w", err))
		}
	}
	for _, d := range a.deployments {
		for _, u := range d.Uses {
			if err := u.Binding.misnamed(); err != nil {
				errs = append(errs, fmt.Errorf("deployment %q: uses: %w", d.Name, err))
			}
		}
	}
	return errs
}

// Classes are the Go deployments, by name.
func (a *App) Classes() map[string]*instance.Class {
	cs := map[string]*instance.Class{}
	for _, d := range a.deployments {
		if d.Class != nil {
			cs[d.Name] = d.Class
		}
	}
	return cs
}

// Place keeps the place of a binding, so that [App.Rename] reaches it.
func (a *App) Place(p call.Place) *call.Place {
	if !a.sealed {
		a.places = append(a.places, &p)
	}
	return &p
}

// Rename gives the application, which is complete, another name. A worker does so when its node runs deployments of the application as a part of
// another one: the worker's calls then go to the deployments of that one.
func (a *App) Rename(name string) {
	a.Name = name
	for _, p := range a.places {
		p.App = name
	}
	for _, d := range a.deployments {
		if d.Class != nil {
			d.Class.App = name
		}
	}
}

// Draining is closed when the drain begins of the replica whose method, handler or constructor received ctx; nil elsewhere.
func Draining(ctx context.Context) <-chan struct{} {
	var home any
	replica := ""
	if i := call.InfoFrom(ctx); i != nil && i.Place != nil {
		home, replica = i.Home, i.Replica
	} else if s := instance.ScopeFrom(ctx); s != nil {
		home, replica = s.Home, s.Replica
	}
	if app, ok := home.(*App); ok {
		return app.Drains.Load().Of(replica)
	}
	return nil
}

// Traces takes the spans of the method that received ctx; nil outside of methods.
func Traces(ctx context.Context) trace.Sink {
	i := call.InfoFrom(ctx)
	if i == nil || i.Place == nil {
		return nil
	}
	app, _ := i.Home.(*App)
	if app == nil {
		return nil
	}
	if w := app.Node.Load(); w != nil {
		return w.Traces()
	}
	if r := app.Recorder.Load(); r != nil {
		return r
	}
	return nil
}

// Policies make the routing policies of the program's own, by the names of their deployments.
func (a *App) Policies() map[string]func() router.Policy {
	ps := map[string]func() router.Policy{}
	for _, d := range a.deployments {
		if d.Policy != nil {
			ps[d.Name] = d.Policy
		}
	}
	return ps
}

package graph

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/port"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// Deployment is one vertex of the graph. All handles to the deployment point to it.
type Deployment struct {
	App  *App
	Name string
	// Receiver is the type of the instances, and an interface for Python. It is nil for a deployment of another executable.
	Receiver reflect.Type
	// Class is the code of the deployment; nil for Python.
	Class *instance.Class
	// Python is the source of a deployment in Python; nil for Go.
	Python *Python
	// Declare reads the options that the program set. [App.Seal] calls it, and not before: a program may add to the slices and maps in its
	// options as long as it builds. For example, two deployments that use each other are both made before either can be in a list of uses.
	Declare func() Declaration
	// Declaration is the result of Declare; zero before the end of the building.
	Declaration

	bound  []string                               // Python: the methods that the graph binds
	remote atomic.Pointer[protocol.IngressMethod] // what a node in another process says about its deployment; nil for others
	used   sync.Map                               // names of the deployments that its replicas have used, also if the graph does not declare them

	// Serving is the deployment as it serves in this node; nil elsewhere, and before the start. [Deployment.Current] follows it over
	// the end of its application.
	Serving atomic.Pointer[serving.Deployment]
	// Port sends calls to the node, from a worker or from a program that is attached; nil in a node.
	Port atomic.Pointer[port.Port]
}

// Declaration has the options of a deployment.
type Declaration struct {
	// Options are the options that the program set, and Mistakes the errors of their reading.
	Options  spec.Options
	Mistakes []error
	// Uses are the declared edges of the graph.
	Uses []Use
	// Policy makes a routing policy of the program's own; nil without.
	Policy func() router.Policy
	// Scaling is an autoscaling policy in Go; nil without.
	Scaling *helvetype.AutoscalingPolicy
}

// Use is the end of a declared edge.
type Use struct {
	Deployment *Deployment // nil for a zero handle or method
	Binding    *Binding    // nil for a handle, and for a zero method
}

// NoDeployment is the deployment of the bindings of a zero handle.
var NoDeployment = &Deployment{App: &App{}} //nolint:gochecknoglobals // never written to

// encodes reports whether calls between replicas of one process are encoded, or the replicas are in a process of their own.
func (d *Deployment) encodes() bool {
	return d.Options.Isolation == spec.Process || d.Options.StrictCodec
}

// AddOptionMistake notes a mistake in the option of that path (docs/options.md).
func (d *Deployment) AddOptionMistake(path, format string, args ...any) {
	d.App.mistakes = append(d.App.mistakes, spec.InDeployment(d.Name, spec.OptionMistake(path, format, args...))...)
}

// AddMistake notes a mistake in the deployment, unless the graph is complete. It also returns the error, which calls of a binding that
// is made later return.
func (d *Deployment) AddMistake(format string, args ...any) error {
	err := fmt.Errorf("deployment %q: "+format, append([]any{d.Name}, args...)...)
	if d.App != nil && !d.App.sealed {
		d.App.mistakes = append(d.App.mistakes, err)
	}
	return err
}

// describe adds type and methods of a deployment in Go to its description.
func (d *Deployment) describe(s *spec.Deployment) {
	s.Receiver = d.Receiver.String()
	if d.Class.Default == "" && d.Class.Methods["Call"] != nil {
		d.Class.Default = "Call"
	}
	for _, m := range d.Class.Methods {
		s.Methods = append(s.Methods, spec.Method{
			Name: m.Name, Shape: string(m.Shape), In: spec.DescribeType(m.In), Out: spec.DescribeType(m.Out), InKind: m.InKind(),
		})
	}
}

// Current is the deployment as it serves in this node, nil elsewhere. If its application was deleted, Current is the deployment that
// has its name now, as long as the type is the same: handles are good for names. For example, a program deletes the application
// "shop" and deploys its next build; a handle of the first build reaches the second.
func (d *Deployment) Current() *serving.Deployment {
	dep := d.Serving.Load()
	if dep == nil || !dep.Down() {
		return dep
	}
	next := dep.Successor()
	if next == nil {
		return dep
	}
	app, _ := next.Home().(*App)
	if app == nil {
		return dep
	}
	if own := app.Find(d.Name); own == nil || own.Receiver != d.Receiver {
		return dep
	}
	d.Serving.Store(next)
	return next
}

// NoteUse tells the node, once, that a replica of the deployment from uses the deployment to: an edge that the graph may not have.
func (a *App) NoteUse(from, to string) {
	caller := a.Find(from)
	if caller == nil || from == to {
		return
	}
	if _, noted := caller.used.LoadOrStore(to, true); noted {
		return
	}
	if dep := caller.Serving.Load(); dep != nil {
		dep.Uses(to)
	} else if p := caller.Port.Load(); p != nil {
		p.Uses(to)
	}
}

// Misfit returns an error if a handle for receivers of type t does not fit the deployment, which was found by name. Every
// interface fits a deployment of another executable, whose type is not known here.
func (d *Deployment) Misfit(t reflect.Type) error {
	switch {
	case d.remote.Load() != nil:
		return d.lacks(t)
	case t == d.Receiver || t.Kind() == reflect.Interface && (t.NumMethod() == 0 || d.Receiver == nil):
		return nil
	case t.Kind() == reflect.Interface && d.Python == nil && !d.Receiver.Implements(t):
		return fmt.Errorf("deployment %q is %s, which does not implement %s", d.Name, d.Receiver, t)
	case t.Kind() != reflect.Interface:
		return fmt.Errorf("deployment %q is %s, not %s", d.Name, d.Receiver, t)
	}
	return nil
}

// Unknown returns the error for a name that no deployment has. It lists the deployments of a, unless that is nil.
func Unknown(app, name string, a *App) *call.Error {
	e := &call.Error{Code: helvetype.CodeUnavailable, Reason: helvetype.ReasonDeploymentUnavailable, App: app, Deployment: name,
		Message: fmt.Sprintf("no deployment %q in application %q", name, app)}
	if a != nil {
		var names []string
		for _, d := range a.deployments {
			names = append(names, d.Name)
		}
		e.Message += "; it has " + strings.Join(names, ", ")
	}
	return e
}

// bind notes a method of a deployment in Python.
func (d *Deployment) bind(method string) {
	if !slices.Contains(d.bound, method) {
		d.bound = append(d.bound, method)
	}
}

package graph

import (
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/internal/port"
	"github.com/helve-serve/helve/internal/protocol"
)

// Remote returns a deployment of a node in another process, with an application that has this deployment alone. Its handles may have any type
// whose methods it has: an interface, or the type of its instances if this program knows that. in describes the deployment.
func Remote(app, name string, in protocol.IngressMethod, p *port.Port) *Deployment {
	a := &App{Name: app, sealed: true}
	d := &Deployment{App: a, Name: name}
	a.deployments = []*Deployment{d}
	d.lead(in, p)
	d.Describe(in)
	return d
}

// Describe notes the present description of a remote deployment: a later revision may have other methods.
func (d *Deployment) Describe(in protocol.IngressMethod) { d.remote.Store(&in) }

// lead points the handles of the deployment to a port.
func (d *Deployment) lead(in protocol.IngressMethod, p *port.Port) {
	if in.Language == "python" {
		d.Python = &Python{}
	}
	d.Port.Store(p)
}

// lacks is an error if an interface has a method that the deployment does not have. The methods of another type are found out when they are
// called: for example, Close is a method of an instance, and not for handles.
func (d *Deployment) lacks(t reflect.Type) error {
	methods := d.remote.Load().Methods
	if t.Kind() != reflect.Interface || len(methods) == 0 {
		return nil
	}
	if problem := missingMethods(t, methods); problem != "" {
		return fmt.Errorf("deployment %q does not fit %s: %s", d.Name, t, problem)
	}
	return nil
}

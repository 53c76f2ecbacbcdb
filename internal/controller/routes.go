package controller

import (
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/proxy"
)

// publish gives the proxy the routes of the applications that run, and of those that start for the first time.
func (c *Controller) publish() error {
	c.publishing.Lock() // of two that publish, the one that looks later writes later
	defer c.publishing.Unlock()
	c.mu.Lock()
	var routes []proxy.Route
	for _, a := range c.apps {
		if a.status == helvetype.ApplicationRunning {
			c.set.Proxy.Open()
		}
		of := a.current
		if a.status == helvetype.ApplicationDeleting {
			continue
		} else if a.previous != nil { // until all of the new revision runs
			of = a.previous
		} else if a.status != helvetype.ApplicationRunning && a.status != helvetype.ApplicationDeploying {
			continue
		}
		g := of.def.Graph
		if a.deleted || g.Ingress == nil || g.RoutePrefix == "" {
			continue
		}
		d := a.deployments[g.Ingress.Deployment]
		if a.previous == nil && a.deployingLocked() || a.restored && d.starts == 0 && d.wanted > 0 { // the methods of a class in Python are not known yet
			routes = append(routes, proxy.Route{Prefix: g.RoutePrefix, App: a.name, Starting: true})
			continue
		}
		if a.restored {
			c.set.Proxy.Open()
		}
		e := d.now
		if a.previous != nil && d.former != nil {
			e = d.former
		}
		method := e.host.Method(g.Ingress.Method)
		name, kind := deploy.Entry(g.Ingress, method)
		place := &call.Place{App: a.name, Deployment: d.name, Method: name, Prefix: c.set.Proxy.External(g.RoutePrefix), Home: a.current.def.Home}
		route := d.serving.Route(place, method.In, kind)
		route.Options = g.IngressOptions
		route.Prefix = g.RoutePrefix // the proxy matches paths without its root path
		routes = append(routes, route)
	}
	if c.set.Lost != nil {
		for app, prefix := range c.set.Lost() {
			taken := func(r proxy.Route) bool { return r.App == app || r.Prefix == prefix }
			if c.apps[app] == nil && !slices.ContainsFunc(routes, taken) {
				routes = append(routes, proxy.Route{Prefix: prefix, App: app, Starting: true, Lost: true})
			}
		}
	}
	c.mu.Unlock()
	return c.set.Proxy.SetRoutes(routes)
}

// Publish gives the proxy the routes again, after a change of [Settings.Lost].
func (c *Controller) Publish() {
	c.publish() //nolint:errcheck // such a route collides with none
}

// Readiness says of every application whether it answers requests: it runs, and no deployment is without a replica that should have one.
func (c *Controller) Readiness() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]bool, len(c.apps))
	for name, a := range c.apps {
		if a.failure == nil || !a.current.def.KeepFailed { // an application that is there to be seen only
			all[name] = a.readyLocked()
		}
	}
	return all
}

func (a *application) readyLocked() bool {
	if a.deleted || a.status == helvetype.ApplicationDeleting || a.previous == nil && a.status != helvetype.ApplicationRunning && !a.current.def.Restored {
		return false
	}
	ingress := ""
	if in := a.current.def.Graph.Ingress; in != nil {
		ingress = in.Deployment
	}
	for _, d := range a.deployments {
		if d.dropped || len(d.serving.Router.Replicas()) > 0 {
			continue
		}
		if d.name == ingress || d.former != nil || d.wanted > 0 {
			return false
		}
	}
	return true
}

package controller

import (
	"maps"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/proxy"
)

// publish gives the proxy the routes of the applications that run, of those that start for the first time, and of those that have failed to.
func (c *Controller) publish() error {
	c.publishing.Lock() // of two that publish, the one that looks later writes later
	defer c.publishing.Unlock()
	c.Mu.Lock()
	var routes []proxy.Route
	for _, a := range c.Apps {
		if a.Own == helvetype.ApplicationRunning {
			c.set.Proxy.Open()
		}
		of := a.Current
		if a.Own == helvetype.ApplicationDeleting {
			continue
		} else if a.Previous != nil { // until all of the new revision runs
			of = a.Previous
		} else if a.Own != helvetype.ApplicationRunning && a.Own != helvetype.ApplicationDeploying {
			continue
		}
		g := of.Def.Graph
		if a.Deleted || g.Ingress == nil || g.RoutePrefix == "" {
			continue
		}
		d := a.Deployments[g.Ingress.Deployment]
		if a.Previous == nil && a.DeployingLocked() || a.Restored && d.Starts == 0 && d.Wanted > 0 { // the methods of a class in Python are not known yet
			routes = append(routes, proxy.Route{Prefix: g.RoutePrefix, App: a.Name, Starting: true})
			continue
		}
		if a.Restored {
			c.set.Proxy.Open()
		}
		e := d.Now
		if a.Previous != nil && d.Former != nil {
			e = d.Former
		}
		method := e.Host.Method(g.Ingress.Method)
		name, kind := deploy.Entry(g.Ingress, method)
		place := &call.Place{App: a.Name, Deployment: d.Name, Method: name, Prefix: c.set.Proxy.External(g.RoutePrefix), Home: a.Current.Def.Home}
		route := d.Serving.Route(place, method.In, kind)
		route.Options = g.IngressOptions
		route.Prefix = g.RoutePrefix // the proxy matches paths without its root path
		routes = append(routes, route)
	}
	// The requests of an application that does not serve do not go to the one of a shorter prefix. For example, "/" serves and "/shop" has failed to start: /shop is
	// answered with 503. Another application may take the prefix.
	unserved := func(app, prefix string, lost bool) {
		if prefix != "" && !slices.ContainsFunc(routes, func(r proxy.Route) bool { return r.App == app || r.Prefix == prefix }) {
			routes = append(routes, proxy.Route{Prefix: prefix, App: app, Starting: true, Lost: lost, Failed: !lost})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Apps)) {
		if a := c.Apps[name]; a.Own == helvetype.ApplicationDeployFailed && a.Current.Def.KeepFailed && !a.Deleted && a.Current.Def.Graph.Ingress != nil {
			unserved(name, a.Current.Def.Graph.RoutePrefix, false)
		}
	}
	if c.set.Failed != nil {
		for app, prefix := range c.set.Failed() {
			if c.Apps[app] == nil {
				unserved(app, prefix, false)
			}
		}
	}
	if c.set.Lost != nil {
		for app, prefix := range c.set.Lost() {
			if c.Apps[app] == nil {
				unserved(app, prefix, true)
			}
		}
	}
	c.Mu.Unlock()
	return c.set.Proxy.SetRoutes(routes)
}

// Publish gives the proxy the routes again, after a change of [Settings.Lost] or [Settings.Failed].
func (c *Controller) Publish() {
	c.publish() //nolint:errcheck // such a route collides with none
}

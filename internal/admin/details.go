package admin

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"

	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/rest"
)

func (a *Server) applications(c *ask) {
	a.tag(c)
	answer(c.w, http.StatusOK, a.instance(c.r.Context(), c.query.Get("api_type")).Reference())
}

// wholeInstance answers with the fields of Helve's own too.
func (a *Server) wholeInstance(c *ask) {
	a.tag(c)
	answer(c.w, http.StatusOK, a.instance(c.r.Context(), c.query.Get("api_type")))
}

func (a *Server) about(c *ask) {
	answer(c.w, http.StatusOK, rest.About{
		PID: os.Getpid(), Version: a.set.Version, StartedAt: a.started, HTTP: a.set.Node.HTTP(), URLs: a.set.Node.URLs(), Admin: a.addresses(), State: a.set.State, Draining: a.set.Node.Draining(),
		Applications: slices.Sorted(maps.Keys(a.set.Node.Applications())), Paths: a.paths(),
	})
}

// addresses are the URLs of this interface over TCP.
func (a *Server) addresses() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.listening)
}

func (a *Server) status(c *ask) {
	a.tag(c)
	answer(c.w, http.StatusOK, a.set.Node.Status())
}

// Applications is the answer to GET /api/v1/applications.
type Applications struct {
	// Generation is the generation of the target.
	Generation   uint64                        `json:"generation"`
	Applications map[string]details.AppDetails `json:"applications"`
}

func (a *Server) list(c *ask) {
	var list Applications
	if a.set.Operator != nil {
		list.Generation = a.set.Operator.Generation()
	}
	a.tag(c)
	list.Applications = a.instance(c.r.Context(), "").Applications
	answer(c.w, http.StatusOK, list)
}

func (a *Server) one(c *ask) {
	name := c.path("app")
	a.tag(c)
	status, ok := a.set.Node.Status().Applications[name]
	if !ok {
		c.w.Header().Del("ETag")
		a.failed(c, a.absent(name))
		return
	}
	app := details.App(name, status, a.set.Node.Applications()[name], details.Here(a.set.Node.HTTP()))
	answer(c.w, http.StatusOK, app)
}

// instance describes the node, with the applications of a source; "" for all.
func (a *Server) instance(ctx context.Context, source string) details.Instance {
	host, port := details.Address(a.set.Node.HTTP())
	here := details.Here(a.set.Node.HTTP())
	in := details.Instance{
		ControllerInfo: here, ProxyLocation: "Disabled", Proxies: map[string]details.ProxyStatus{},
		Applications: map[string]details.AppDetails{}, TargetGroups: []details.TargetGroup{}, Draining: a.set.Node.Draining(), Version: a.set.Version,
	}
	if port > 0 {
		in.ProxyLocation = "EveryNode"
		in.HTTPOptions = &details.HTTPOptions{Host: host, Port: port}
		in.Proxies[details.NodeID] = details.ProxyStatus{Actor: here, Status: "HEALTHY"}
	}
	if a.set.Operator != nil {
		if s, err := a.set.Operator.Settings(ctx); err == nil {
			in.TargetCapacity = s.TargetCapacity
			if in.HTTPOptions != nil && json.Unmarshal(s.HTTPOptions, in.HTTPOptions) == nil {
				in.HTTPOptions.Host, in.HTTPOptions.Port = host, port // the address is that of the listener
			}
		}
	}
	status, deployed := a.set.Node.Status(), a.set.Node.Applications()
	in.References, in.Resources = status.References, status.Resources
	for _, name := range slices.Sorted(maps.Keys(status.Applications)) {
		app := details.App(name, status.Applications[name], deployed[name], here)
		if source != "" && app.Source != source {
			continue
		}
		in.Applications[name] = app
		if app.RoutePrefix != nil && port > 0 {
			here := details.Target{IP: host, Port: port, InstanceID: details.NodeID, Name: details.NodeID}
			in.TargetGroups = append(in.TargetGroups, details.TargetGroup{Targets: []details.Target{here}, RoutePrefix: *app.RoutePrefix, Protocol: "HTTP", AppName: name})
		}
	}
	return in
}

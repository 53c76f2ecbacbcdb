package proxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// serveNodePaths serves the paths that every node has.
func (p *Proxy) serveNodePaths(w http.ResponseWriter, r *http.Request) {
	setRequestID(w, r)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		plainError(w, r, http.StatusMethodNotAllowed, helvetype.CodeUnimplemented, "only GET and HEAD here")
		return
	}
	switch r.URL.Path {
	case "/-/healthz":
		p.healthz(w, r)
	case "/-/readyz":
		p.readyz(w, r)
	case "/-/routes":
		routes := map[string]string{}
		for _, rt := range *p.routes.Load() {
			if !rt.Starting {
				routes[rt.Prefix] = rt.App
			}
		}
		if len(routes) == 0 && !p.opened.Load() {
			unready(w, r, unpopulated)
			return
		}
		b, _ := json.Marshal(routes)
		w.Header()["Content-Type"] = applicationJSON
		w.Write(b) //nolint:errcheck // the client may be gone
	default:
		p.notFound(w, r)
	}
}

// The texts of Ray Serve, which programs compare: for a node that drains, and for one on which no application has been ready.
const (
	draining    = "This node is being drained."
	unpopulated = "Route table is not populated yet."
)

// Open makes the node healthy: an application has been ready. It stays healthy if that application fails later.
func (p *Proxy) Open() { p.opened.Store(true) }

// healthz tells a load balancer whether to send requests to the node. The state of one application does not matter:
// an application that fails must not take the others from the load balancer, and a restart of the node would end
// them.
func (p *Proxy) healthz(w http.ResponseWriter, r *http.Request) {
	switch {
	case p.draining.Load():
		unready(w, r, draining)
	case !p.opened.Load():
		unready(w, r, unpopulated)
	default:
		success(w)
	}
}

// readyz reports whether the applications in the parameter app can answer; without the parameter, all applications.
func (p *Proxy) readyz(w http.ResponseWriter, r *http.Request) {
	if p.draining.Load() {
		unready(w, r, draining)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		plainError(w, r, http.StatusBadRequest, helvetype.CodeInvalidArgument, err.Error())
		return
	}
	apps, names := p.states(), query["app"]
	if len(names) == 0 {
		if names = slices.Collect(maps.Keys(apps)); len(names) == 0 {
			unready(w, r, "there is no application")
			return
		}
	}
	var waiting []string
	for _, name := range names {
		switch ready, known := apps[name]; {
		case !known:
			plainError(w, r, http.StatusNotFound, helvetype.CodeNotFound, fmt.Sprintf("there is no application %q", name))
			return
		case !ready:
			waiting = append(waiting, name)
		}
	}
	if len(waiting) > 0 {
		slices.Sort(waiting)
		unready(w, r, "not ready: "+strings.Join(waiting, ", "))
		return
	}
	success(w)
}

// states reports of every application whether it can answer.
func (p *Proxy) states() map[string]bool {
	if p.apps != nil {
		return p.apps()
	}
	all := map[string]bool{}
	for _, rt := range *p.routes.Load() {
		all[rt.App] = !rt.Starting
	}
	return all
}

func success(w http.ResponseWriter) {
	w.Header()["Content-Type"] = textPlain
	w.Write([]byte("success")) //nolint:errcheck // the client may be gone
}

func unready(w http.ResponseWriter, r *http.Request, why string) {
	plainError(w, r, http.StatusServiceUnavailable, helvetype.CodeUnavailable, why)
}

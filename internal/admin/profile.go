package admin

import (
	"net/http"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/profile"
)

func profileKinds() (kinds []string) {
	for _, k := range profile.Kinds() {
		kinds = append(kinds, string(k))
	}
	return kinds
}

// profileReplica answers with a profile of a replica's process. A client that leaves ends it.
func (a *Server) profileReplica(c *ask) {
	o := a.operator(c)
	if o == nil {
		return
	}
	of := helvetype.Object{Kind: helvetype.KindReplica, App: c.path("app"), Deployment: c.path("deployment"), Replica: c.path("replica")}
	kind, format := profile.Kind(c.query.Get("kind")), c.query.Get("format")
	if kind == "" {
		kind = profile.CPU
	}
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(profileMax + answerTime)) //nolint:errcheck // tests without a connection
	var file []byte
	var err error
	if last := c.number("last", 0); last > 0 {
		file, err = o.LastProfile(c.r.Context(), of, time.Duration(last)*time.Second)
	} else {
		file, err = o.Profile(c.r.Context(), of, kind, time.Duration(c.number("seconds", profile.DefaultSeconds))*time.Second)
	}
	media := ""
	if err == nil {
		file, media, err = profile.In(format, file, of.String()+" "+string(kind))
	}
	if err != nil {
		a.failed(c, err)
		return
	}
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.w.Header().Set("Content-Type", media)
	c.w.Write(file) //nolint:errcheck // the client has gone
}

// profiling says whether continuous profiles are taken.
func (a *Server) profiling(c *ask) {
	a.get(c, func(o Operator) (any, error) { return o.Profiling(c.r.Context()) })
}

// setProfiling turns continuous profiles on or off.
func (a *Server) setProfiling(c *ask) {
	var body profilingBody
	if !a.decode(c, &body) {
		return
	}
	detail := "continuous profiles off"
	if body.Continuous {
		detail = "continuous profiles on"
	}
	a.change(c, "node", detail, "", func(o Operator) (any, error) { return o.SetProfiling(c.r.Context(), body.Continuous) })
}

func (a *Server) tracing(c *ask) {
	a.get(c, func(o Operator) (any, error) { return o.Tracing(c.r.Context(), c.by, nil) })
}

// setTracing changes which requests are sampled.
func (a *Server) setTracing(c *ask) {
	var change helvetype.TracingChange
	if a.decode(c, &change) {
		a.change(c, "node", "tracing", "", func(o Operator) (any, error) { return o.Tracing(c.r.Context(), c.by, &change) })
	}
}

package admin

import (
	"context"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/profile"
)

// The profiles have the paths of net/http/pprof. That package is not imported: its init registers them with http.DefaultServeMux, and an
// application whose ingress serves that one would show them to its clients.

// profileMax bounds the time of a CPU profile or a trace.
const (
	profileSeconds = profile.MaxSeconds
	profileMax     = profileSeconds * time.Second
)

// Profiles is the answer to GET /debug/pprof/.
type Profiles struct {
	Profiles []string `json:"profiles"`
}

func (a *Server) profiles(c *ask) {
	names := []string{"profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	answer(c.w, http.StatusOK, Profiles{names})
}

func (a *Server) profile(c *ask) {
	w, name, debug := c.w, c.path("name"), c.number("debug", 0)
	seconds := c.number("seconds", 1)
	if name == "profile" {
		seconds = c.number("seconds", 30)
	}
	p := pprof.Lookup(name)
	if p == nil && name != "profile" && name != "trace" {
		fail(w, http.StatusNotFound, "there is no profile %q; GET /debug/pprof/ lists them", name)
		return
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(profileMax + answerTime)) //nolint:errcheck // tests without a connection
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "application/octet-stream")
	if p != nil {
		if name == "heap" && c.number("gc", 0) > 0 {
			runtime.GC()
		}
		if debug > 0 {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		p.WriteTo(w, debug) //nolint:errcheck // the reader has gone
		return
	}
	begin, end := pprof.StartCPUProfile, pprof.StopCPUProfile
	if name == "trace" {
		begin, end = trace.Start, trace.Stop
	}
	if err := begin(w); err != nil {
		fail(w, http.StatusConflict, "%s: %s", name, strings.TrimSpace(err.Error()))
		return
	}
	defer end()
	wait, cancel := context.WithTimeout(c.r.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	<-wait.Done()
}

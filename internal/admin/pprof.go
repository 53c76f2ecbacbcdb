package admin

import (
	"context"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"
)

// The profiles have the paths of net/http/pprof. That package is not imported: its init registers them with http.DefaultServeMux, and an
// application whose ingress serves that one would show them to its clients.

// profileMax bounds the time of a CPU profile or a trace.
const profileMax = 5 * time.Minute

// Profiles is the answer to GET /debug/pprof/.
type Profiles struct {
	Profiles []string `json:"profiles"`
}

func profiles(w http.ResponseWriter, _ *http.Request) {
	names := []string{"profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	answer(w, http.StatusOK, Profiles{names})
}

func profile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	number := func(param string, def int) (int, bool) {
		text := r.URL.Query().Get(param)
		if text == "" {
			return def, true
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > int(profileMax.Seconds()) {
			fail(w, http.StatusBadRequest, "%s %q: must be a number from 0 to %d", param, text, int(profileMax.Seconds()))
			return 0, false
		}
		return n, true
	}
	debug, ok := number("debug", 0)
	if !ok {
		return
	}
	gc, ok := number("gc", 0)
	if !ok {
		return
	}
	def := 1
	if name == "profile" {
		def = 30
	}
	seconds, ok := number("seconds", def)
	if !ok {
		return
	}
	p := pprof.Lookup(name)
	if p == nil && name != "profile" && name != "trace" {
		fail(w, http.StatusNotFound, "there is no profile %q; GET /debug/pprof/ lists them", name)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "application/octet-stream")
	if p != nil {
		if name == "heap" && gc > 0 {
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
	wait, cancel := context.WithTimeout(r.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	<-wait.Done()
}

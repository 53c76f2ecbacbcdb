package admin

import (
	"net/http"
	"strings"

	"github.com/helve-serve/helve/internal/dashboard"
)

// withPages serves the dashboard in front of the table of routes: its files need no token, and a browser that comes to / is led there. An address of / has two
// answers: "curl http://127.0.0.1:8265/" has JSON, because it accepts any type, and a browser asks for text/html.
func (a *Server) withPages(routes http.Handler) http.Handler {
	if a.set.Dashboard == nil {
		return routes
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case strings.HasPrefix(path, dashboard.Root):
			a.set.Dashboard.ServeHTTP(w, r)
		case path+"/" == dashboard.Root, path == "/" && dashboard.Wanted(r):
			w.Header().Add("Vary", "Accept")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Location", strings.TrimPrefix(dashboard.Root, "/")) // a relative one, for a proxy that adds a prefix
			w.WriteHeader(http.StatusSeeOther)
		default:
			if path == "/" {
				w.Header().Add("Vary", "Accept")
			}
			routes.ServeHTTP(w, r)
		}
	})
}

// visit says that a user of a browser comes to the dashboard from another site, for example by a link in a chat. It reads nothing of the node: the answer is a
// page without data, which no other page may show in a frame.
func visit(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" &&
		(strings.HasPrefix(r.URL.Path, dashboard.Root) || r.URL.Path+"/" == dashboard.Root || r.URL.Path == "/" && dashboard.Wanted(r))
}

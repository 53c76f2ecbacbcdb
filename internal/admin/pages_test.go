package admin

import (
	"net/http"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/dashboard"
)

const browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"

// dashed is a server with the files of the dashboard.
func dashed(t *testing.T) operated {
	t.Helper()
	o := operate(t)
	o.set.Dashboard = dashboard.New("")
	h := o.handler()
	o.unix, o.tcp, o.open = o.server(trusted(h)), o.server(o.local(h)), o.server(o.remote(h))
	return o
}

// TestPages: the files of the dashboard need no token, also off the loopback interface, and a browser at / is led to them. Data need one as before.
func TestPages(t *testing.T) {
	t.Parallel()
	o := dashed(t)
	for name, s := range map[string]*http.Server{"loopback": o.tcp, "open": o.open, "socket": o.unix} {
		for _, path := range []string{"/ui/", "/ui/app.js", "/ui/apps/shop/Ranker", "/ui/apps/shop/Ranker%23003"} {
			w := o.send(t, s, "", "GET "+path, "", browser)
			if w.Code != 200 || w.Header().Get("Content-Security-Policy") == "" {
				t.Errorf("%s %s: %d %s", name, path, w.Code, w.Body)
			}
		}
		for _, path := range []string{"/", "/ui"} {
			w := o.send(t, s, "", "GET "+path, "", browser)
			if w.Code != 303 || w.Header().Get("Location") != "ui/" {
				t.Errorf("%s %s: %d %v", name, path, w.Code, w.Header())
			}
		}
		if w := o.send(t, s, "", "GET /ui/none.js", ""); w.Code != 404 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := o.ask(t, "", "GET /", "", "Accept: */*"); w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Vary") != "Accept" || !strings.Contains(w.Body.String(), `"/ui/"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := o.send(t, o.open, "", "GET /", "", "Accept: */*"); w.Code != 401 {
		t.Errorf("about a node off the loopback interface: %d", w.Code)
	}
	if w := o.send(t, o.open, "", "GET /api/v1/status", "", browser); w.Code != 401 {
		t.Errorf("data off the loopback interface: %d", w.Code)
	}
	if w := operate(t).ask(t, "", "GET /ui/", "", browser); w.Code != 404 || strings.Contains(w.Body.String(), `"/ui/"`) {
		t.Errorf("a node without a dashboard: %d %s", w.Code, w.Body)
	}
}

// TestVisits: a link on another site leads to the dashboard, and nothing else of another site gets an answer.
func TestVisits(t *testing.T) {
	t.Parallel()
	o := dashed(t)
	link := []string{browser, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	for _, s := range []*http.Server{o.tcp, o.open} {
		for path, want := range map[string]int{"/ui/": 200, "/ui/apps/shop": 200, "/ui": 303, "/": 303, "/api/v1/status": 403, "/metrics": 403, "/uix": 403} {
			if w := o.send(t, s, "", "GET "+path, "", link...); w.Code != want {
				t.Errorf("%s: %d, want %d", path, w.Code, want)
			}
		}
		for name, headers := range map[string][]string{
			"a frame":         {browser, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"},
			"a script":        {"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"},
			"a form":          append([]string{"Origin: http://evil.example"}, link...),
			"a page by fetch": {browser, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"},
		} {
			if w := o.send(t, s, "", "GET /ui/app.js", "", headers...); w.Code != 403 {
				t.Errorf("%s: %d", name, w.Code)
			}
		}
		if w := o.send(t, s, "", "POST /ui/", "", link...); w.Code != 403 {
			t.Errorf("a POST of another site: %d", w.Code)
		}
	}
}

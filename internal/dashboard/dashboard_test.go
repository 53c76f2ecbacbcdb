package dashboard

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// get asks a handler for a path, with pairs of names and values of headers.
func get(h *Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return body
}

// TestPaths: files are files, views are the page, and a file that is not there is no page.
func TestPaths(t *testing.T) {
	t.Parallel()
	h := New("")
	for path, want := range map[string]struct {
		status int
		kind   string
		has    string
	}{
		"/ui/":                                {200, "text/html; charset=utf-8", `src="./app.js"`},
		"/ui/index.html":                      {200, "text/html; charset=utf-8", `src="./app.js"`},
		"/ui/app.js":                          {200, "text/javascript; charset=utf-8", "import"},
		"/ui/style.css":                       {200, "text/css; charset=utf-8", "{"},
		"/ui/icon.svg":                        {200, "image/svg+xml", "<svg"},
		"/ui/vendor/preact/LICENSE-preact":    {200, "text/plain; charset=utf-8", "MIT"},
		"/ui/apps/shop":                       {200, "text/html; charset=utf-8", `src="./../app.js"`},
		"/ui/apps/shop/Ranker/Ranker%23003":   {200, "text/html; charset=utf-8", `src="./../../../app.js"`},
		"/ui/apps/app.js/index.html":          {200, "text/html; charset=utf-8", `src="./../../app.js"`},
		"/ui/requests":                        {200, "text/html; charset=utf-8", "<title>"},
		"/ui/none.js":                         {404, "text/plain; charset=utf-8", "none.js"},
		"/ui/pages/none.js":                   {404, "text/plain; charset=utf-8", "pages/none.js"},
		"/ui/vendor/preact":                   {404, "text/plain; charset=utf-8", "vendor/preact"},
		"/ui/vendor/":                         {404, "text/plain; charset=utf-8", "vendor"},
		"/ui/ui/..%2fweb.go":                  {404, "text/plain; charset=utf-8", ""},
		"/ui/web.go":                          {404, "text/plain; charset=utf-8", ""},
		"/ui/" + strings.Repeat("a/", 2_000):  {404, "text/plain; charset=utf-8", ""},
		"/ui/vendor/uplot/uPlot.esm.js?v=1&x": {200, "text/javascript; charset=utf-8", "uPlot"},
	} {
		r := get(h, http.MethodGet, path)
		if body := text(t, r); r.StatusCode != want.status || r.Header.Get("Content-Type") != want.kind || !strings.Contains(body, want.has) {
			t.Errorf("%.80s: %d %s %.200s", path, r.StatusCode, r.Header.Get("Content-Type"), body)
		}
		if p := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; script-src 'self';") || strings.Contains(p, "unsafe") {
			t.Errorf("%.80s: the policy is %q", path, p)
		}
		for name := range headers {
			if r.Header.Get(name) == "" {
				t.Errorf("%.80s has no header %s", path, name)
			}
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if r := get(h, method, "/ui/app.js"); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" || r.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %v", method, r.StatusCode, r.Header)
		}
	}
	if r := get(h, http.MethodHead, "/ui/app.js"); r.StatusCode != 200 || r.Header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %d %v", r.StatusCode, r.Header)
	}
}

// TestETags: a file that a browser has is not sent again, and the page of another depth is another one.
func TestETags(t *testing.T) {
	t.Parallel()
	h := New("")
	tags := map[string]string{}
	for _, path := range []string{"/ui/app.js", "/ui/", "/ui/apps/shop", "/ui/style.css"} {
		tag := get(h, http.MethodGet, path).Header.Get("ETag")
		if other, there := tags[tag]; there || len(tag) < 10 {
			t.Errorf("%s and %s have the tag %q", path, other, tag)
		}
		tags[tag] = path
		if r := get(h, http.MethodGet, path, "If-None-Match", tag); r.StatusCode != 304 || r.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s again: %d", path, r.StatusCode)
		}
		if r := get(h, http.MethodGet, path, "If-None-Match", `"of the version before"`); r.StatusCode != 200 {
			t.Errorf("%s after an upgrade: %d", path, r.StatusCode)
		}
	}
	if a, b := get(h, http.MethodGet, "/ui/events"), get(h, http.MethodGet, "/ui/logs"); a.Header.Get("ETag") != b.Header.Get("ETag") {
		t.Error("one page has two tags")
	}
}

// TestDirectory: the files of a directory are read anew, and nothing beside it.
func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(s string) {
		if err := os.WriteFile(filepath.Join(dir, "app.js"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := New(dir)
	for _, s := range []string{"first", "second"} {
		write(s)
		if r := get(h, http.MethodGet, "/ui/app.js"); text(t, r) != s {
			t.Errorf("%d, want %q", r.StatusCode, s)
		}
	}
	if r := get(h, http.MethodGet, "/ui/"); r.StatusCode != 404 || !strings.Contains(text(t, r), "index.html") {
		t.Errorf("a directory without a page: %d", r.StatusCode)
	}
	if r := get(h, http.MethodGet, "/ui/../dashboard.go"); r.StatusCode == 200 && strings.Contains(text(t, r), "package dashboard") {
		t.Error("a file beside the directory")
	}
}

// TestWanted: browsers want the page; curl, and clients of JSON, do not.
func TestWanted(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/htmlx": false,
		"text/html": true, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true, "application/json, TEXT/HTML;q=0.1": true,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		if Wanted(r) != want {
			t.Errorf("%q: %v", accept, !want)
		}
	}
	post := httptest.NewRequest(http.MethodPost, "/", nil)
	post.Header.Set("Accept", "text/html")
	if Wanted(post) {
		t.Error("a POST")
	}
}

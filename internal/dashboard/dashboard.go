// Package dashboard serves the files of the dashboard: a page for browsers that shows a node and has buttons for operators. The files have no data of the
// node, and need no token: the page asks the REST API with the token of its user.
//
// A path below /ui/ that is no file is a view of the page, and its answer is the page itself, index.html. For example, /ui/apps/shop/Ranker is the view of a
// deployment: the page reads the address and shows that deployment. Files have their own names at the top, or are in directories of files; a file there that
// does not exist is an error, so that a wrong import in a module is no page in its place.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/web"
)

// Root is the path of the dashboard.
const Root = "/ui/"

// Variable names the environment variable with the directory from which a node serves the files of the dashboard, in place of those in the binary: an
// engineer who changes a file sees it after a reload of the page.
const Variable = "HELVE_WEB"

// index is the file of the page.
const index = "index.html"

// policy is the content security policy: all that the page has and asks for is of this node, and no other page may have it in a frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// headers are on each answer. A browser asks each time whether its file is the present one, so that the page after an upgrade has no module of the version
// before.
//
//nolint:gochecknoglobals // constants
var headers = map[string]string{
	"Content-Security-Policy":      policy,
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-cache",
}

// kinds are the content types of files by the ends of their names. The table of the machine may lack them, or have others.
//
//nolint:gochecknoglobals // constants
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".png":  "image/png",
	".json": "application/json",
}

// answerTime bounds a whole answer.
const answerTime = time.Minute

// Handler answers the requests below [Root]. It is safe for concurrent use.
type Handler struct {
	files fs.FS
	// fixed says that the files do not change while the program runs, so that their digests are kept.
	fixed   bool
	digests sync.Map // of names to digests
	zipped  sync.Map // of names to the files with gzip
}

// New gives a handler of the files in the directory dir, which are read with each request; with "", of those in the binary.
func New(dir string) *Handler {
	if dir != "" {
		return &Handler{files: os.DirFS(dir)}
	}
	return &Handler{files: web.Files, fixed: true}
}

// ServeHTTP answers GET and HEAD with a file or the page.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) //nolint:errcheck // tests without a connection
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the dashboard has files to read; changes go to /api/v1/", http.StatusMethodNotAllowed)
		return
	}
	name, view := strings.TrimPrefix(r.URL.Path, Root), ""
	if isView(name) {
		name, view = index, name
	}
	b, err := fs.ReadFile(h.files, name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid), err != nil && h.isDirectory(name):
		http.Error(w, "the dashboard has no file "+name, http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, "the dashboard's file "+name+" was not read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	if name == index {
		b = relative(b, view)
	}
	kind := kinds[path.Ext(name)]
	if kind == "" {
		kind = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Vary", "Accept-Encoding")
	tag := h.digest(name, b)
	if z := h.compressed(name, b); z != nil && takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		b, tag = z, tag+"-gzip" // other bytes have another tag
	}
	w.Header().Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// isView says whether a path below the root is a view of the page. A name at the top with a dot is a file; no view has one.
func isView(name string) bool {
	first, _, deeper := strings.Cut(name, "/")
	if !deeper {
		return !strings.Contains(first, ".")
	}
	return !slices.Contains(directories, first) && strings.Count(name, "/") <= depthMax
}

// depthMax bounds the slashes in the path of a view. No view has as many.
const depthMax = 8

// directories have files; no view begins with their names.
//
//nolint:gochecknoglobals // constants
var directories = []string{"ui", "pages", "vendor", "tests"}

func (h *Handler) isDirectory(name string) bool {
	info, err := fs.Stat(h.files, strings.TrimSuffix(name, "/"))
	return err == nil && info.IsDir()
}

// relative makes the addresses of files in the page relative to the address of a view, so that the page works behind a proxy that adds a prefix. For example,
// /ui/app.js is ../../app.js for the view apps/shop/, and app.js of a proxy's https://host.example/helve/ui/ is found below /helve/ui/.
func relative(page []byte, view string) []byte {
	up := "./" + strings.Repeat("../", strings.Count(view, "/"))
	return bytes.ReplaceAll(page, []byte(`="`+Root), []byte(`="`+up))
}

// digest is the entity tag of a file with the contents b.
func (h *Handler) digest(name string, b []byte) string {
	keep := h.fixed && name != index // the page differs by the depth of its view
	if keep {
		if d, ok := h.digests.Load(name); ok {
			return d.(string) //nolint:forcetypeassert // only strings are stored
		}
	}
	sum := sha256.Sum256(b)
	d := hex.EncodeToString(sum[:16])
	if keep {
		h.digests.Store(name, d)
	}
	return d
}

// Reachable is the URL of an admin interface under which a browser on its machine finds it: a listener on all addresses is at the loopback interface too.
func Reachable(admin string) string {
	u, err := url.Parse(admin)
	if err != nil {
		return admin
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("localhost", u.Port())
	}
	return u.String()
}

// Wanted says whether the client of a request is a browser that shows a page, and not a program that reads JSON.
func Wanted(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			kind, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/html") {
				return true
			}
		}
	}
	return false
}

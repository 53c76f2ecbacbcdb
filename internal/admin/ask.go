package admin

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/dashboard"
	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/token"
)

// Bounds of a request. An author who may deploy sends files, and no file is larger.
const (
	bodyMax    = 4 << 20
	bodyTime   = 30 * time.Second // for the whole body
	answerTime = time.Minute      // for a whole answer; for each part of a stream
)

// ask is a request on its way through a handler.
type ask struct {
	w     http.ResponseWriter
	r     *http.Request
	route *route
	query url.Values
	by    helvetype.Author
	body  []byte
}

// path is a part of the path.
func (c *ask) path(name string) string { return c.r.PathValue(name) }

// handler serves the table of routes. Any other path is answered with an error in JSON.
func (a *Server) handler() http.Handler {
	mux := http.NewServeMux()
	byPath := map[string]map[string]*route{}
	for i := range a.routes {
		r := &a.routes[i]
		if byPath[r.path] == nil {
			byPath[r.path] = map[string]*route{}
		}
		byPath[r.path][r.method] = r
	}
	for path, methods := range byPath {
		pattern := path
		if strings.HasSuffix(path, "/") {
			pattern += "{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { a.dispatch(w, r, path, methods) })
	}
	mux.HandleFunc("/", a.missing)
	h := a.withPages(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Time{}) //nolint:errcheck // that of the request before on this connection
		if clean(r.URL.EscapedPath()) {
			h.ServeHTTP(w, r)
		} else { // the mux would redirect
			a.missing(w, r)
		}
	})
}

// clean says that a path has no empty parts and no dots. For example, /api/v1/why/../shop has both a shorter form and two meanings.
func clean(p string) bool {
	return p == "/" || p != "" && path.Clean(p) == strings.TrimSuffix(p, "/")
}

func (a *Server) missing(w http.ResponseWriter, r *http.Request) {
	text := ""
	if near := nearPaths(r.URL.Path, a.paths()); len(near) > 0 {
		text = "did you mean " + strings.Join(near, " or ") + "? "
	}
	fail(w, http.StatusNotFound, "there is no %s here; %sGET / lists the paths", r.URL.Path, text)
}

// nearMost is the largest number of paths that an error proposes.
const nearMost = 3

// nearPaths are the paths of the table that are nearest to a path that is not there, the nearest first. A parameter counts as the part of the path in its place: /api/v1/application/shop is near to
// /api/v1/applications/{app}.
func nearPaths(path string, known []string) (near []string) {
	parts := strings.Split(path, "/")
	patterns, filled := map[string]string{}, []string(nil)
	for _, pattern := range known {
		of := strings.Split(pattern, "/")
		for i, part := range of {
			if strings.HasPrefix(part, "{") && i < len(parts) && parts[i] != "" {
				of[i] = parts[i]
			}
		}
		name := strings.Join(of, "/")
		if _, there := patterns[name]; !there {
			patterns[name], filled = pattern, append(filled, name)
		}
	}
	for range nearMost {
		best := nearest.Of(path, filled, max(2, len(path)/4)) //nolint:mnd // as a name with a typo
		if best == "" {
			return near
		}
		near = append(near, patterns[best])
		filled = slices.DeleteFunc(filled, func(name string) bool { return name == best })
	}
	return near
}

// paths are the paths of the table, and that of the dashboard.
func (a *Server) paths() (paths []string) {
	for i := range a.routes {
		paths = append(paths, a.routes[i].path)
	}
	if a.set.Dashboard != nil {
		paths = append(paths, dashboard.Root)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// dispatch finds the method of a path, makes the checks of the table, and serves the request.
func (a *Server) dispatch(w http.ResponseWriter, r *http.Request, path string, methods map[string]*route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	of := methods[method]
	if of == nil {
		allow := slices.Sorted(maps.Keys(methods))
		if methods[http.MethodGet] != nil {
			allow = append(allow, http.MethodHead)
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		fail(w, http.StatusMethodNotAllowed, "%s takes %s, not %s", path, strings.Join(allow, ", "), r.Method)
		return
	}
	c := &ask{w: w, r: r, route: of, by: authorOf(r)}
	if refused := a.permitted(c); refused != nil {
		a.failed(c, refused)
		return
	}
	var err error
	if c.query, err = of.checkQuery(r.URL.RawQuery); err != nil {
		fail(w, http.StatusBadRequest, "%s", err)
		return
	}
	if (of.body != nil || r.ContentLength != 0) && !a.readBody(c) {
		return
	}
	if of.changes {
		if c.by.Seen, err = a.seen(r.Header.Values("If-Match")); err != nil {
			a.note(c, c.r.URL.Path, "", err)
			a.failed(c, err)
			return
		}
	}
	of.serve(a, c)
}

// permitted says why the author may not.
func (a *Server) permitted(c *ask) error {
	has, needs := token.Rank(c.by.Role), token.Rank(c.route.role)
	switch {
	case has >= needs && (c.by.Name != anonymous || !c.route.private):
		return nil
	case c.by.Name == anonymous:
		err := &helvetype.OperationError{
			Code: helvetype.CodeUnauthenticated, Message: fmt.Sprintf("%s %s needs a token with the role %s", c.route.method, c.r.URL.Path, c.route.role),
			Next: "send the header Authorization: Bearer TOKEN; the first token is in the file " + token.First + " of the node's directory (helve token list shows all)",
		}
		a.refused(c.r, c.by, c.route.operation, err.Message)
		return err
	}
	err := &helvetype.OperationError{
		Code:    helvetype.CodePermissionDenied,
		Message: fmt.Sprintf("the token %q has the role %q, and %s %s needs %s", c.by.Name, c.by.Role, c.route.method, c.r.URL.Path, c.route.role),
		Next:    "take a token with that role: helve token add NAME --role " + string(c.route.role),
	}
	a.refused(c.r, c.by, c.route.operation, err.Message)
	return err
}

// refused adds a request that its author may not make to the audit log. The operation is "request" where the author was refused before the route was known.
func (a *Server) refused(r *http.Request, by helvetype.Author, operation, why string) {
	e := helvetype.AuditEntry{At: time.Now().UTC(), Author: by, Operation: operation, Object: r.URL.Path, Error: why}
	if operation == "request" {
		e.Detail = r.Method
	}
	if a.set.Audit.Refused(e) {
		a.set.Logger.WarnContext(r.Context(), "a request was refused", "operation", operation, "path", r.URL.Path, "by", by.Name, "address", by.Address, "error", why)
	}
}

// checkQuery gives the parameters, each of which the route has.
func (r *route) checkQuery(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("the query does not parse: %w", err)
	}
	if r.anyQuery {
		return query, nil
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		i := slices.IndexFunc(r.query, func(p param) bool { return p.name == name })
		if i < 0 {
			takes := "no parameters"
			if len(r.query) > 0 {
				var names []string
				for _, p := range r.query {
					names = append(names, p.name)
				}
				takes = strings.Join(names, ", ")
			}
			return nil, fmt.Errorf("%s has no parameter %q; it takes %s", r.path, name, takes)
		}
		if len(query[name]) > 1 {
			return nil, fmt.Errorf("the parameter %q is there %d times", name, len(query[name]))
		}
		if err := r.query[i].check(query.Get(name)); err != nil {
			return nil, err
		}
	}
	return query, nil
}

// check gives an error for a text that is no value of the parameter.
func (p param) check(text string) error {
	switch {
	case p.kind == "integer":
		if p.max == 0 {
			if _, err := strconv.ParseUint(text, 10, 63); err != nil {
				return fmt.Errorf("%s %q: must be a number that is not negative", p.name, text)
			}
		} else if n, err := strconv.Atoi(text); err != nil || n < p.min || n > p.max {
			return fmt.Errorf("%s %q: must be a number from %d to %d", p.name, text, p.min, p.max)
		}
	case p.kind == "boolean":
		if !slices.Contains([]string{"", "1", "true", "0", "false"}, text) {
			return fmt.Errorf("%s %q: must be true or false", p.name, text)
		}
	case p.words != nil && text != "" && !slices.Contains(p.words, text):
		return fmt.Errorf("%s %q: must be %s or %s", p.name, text, strings.Join(p.words[:len(p.words)-1], ", "), p.words[len(p.words)-1])
	}
	return nil
}

// number is an integer parameter; def without it.
func (c *ask) number(name string, def int) int {
	if n, err := strconv.Atoi(c.query.Get(name)); err == nil {
		return n
	}
	return def
}

// flag is a boolean parameter. A name without a value is true.
func (c *ask) flag(name string) bool {
	text := c.query.Get(name)
	return c.query.Has(name) && text != "0" && text != "false"
}

// patient gives the body of a request [bodyTime] from here on. Package net/http reads the rest of each body before it writes an answer, also that of a
// request that was refused, and has no limit for it: for example, 512 clients that promise ten bytes and send none would keep all others out.
func patient(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) //nolint:errcheck // tests without a connection
		}
		h.ServeHTTP(w, r)
	})
}

// readBody reads the body, and writes the answer if it is too large or too slow. A route without a body has no use for it.
func (a *Server) readBody(c *ask) bool {
	var err error
	c.body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, bodyMax))
	if err == nil { // a stream lasts longer than a body
		http.NewResponseController(c.w).SetReadDeadline(time.Time{}) //nolint:errcheck // tests without a connection
	}
	switch tooLarge, large := errors.AsType[*http.MaxBytesError](err); {
	case large:
		fail(c.w, http.StatusRequestEntityTooLarge, "the body has more than %d bytes", tooLarge.Limit)
	case err != nil:
		fail(c.w, http.StatusBadRequest, "the body was not read: %s", err)
	case len(c.body) == 0 && c.route.body != nil && !c.route.optional:
		fail(c.w, http.StatusBadRequest, "%s %s needs a body", c.route.method, c.route.path)
	default:
		return true
	}
	return false
}

// tagForm is the form of an ETag in the header If-Match.
var tagForm = regexp.MustCompile(`^(?:W/)?"([^"]*)"$`)

// seen is the generation of the header If-Match: 0 without it, and for "*". With several tags it is the present generation if that is among them.
func (a *Server) seen(header []string) (uint64, error) {
	if len(header) == 0 || a.set.Operator == nil {
		return 0, nil
	}
	var first uint64
	now := a.set.Operator.Generation()
	for _, tag := range strings.Split(strings.Join(header, ","), ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" {
			return 0, nil
		}
		of := tagForm.FindStringSubmatch(tag)
		if of == nil {
			return 0, &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf("If-Match: %q is no ETag", tag), Next: nextTag}
		}
		n, err := strconv.ParseUint(of[1], 10, 64)
		switch {
		case err != nil || tag[0] == 'W': // a tag of something else, or of a weaker comparison: it does not match
		case n == now:
			return n, nil
		case first == 0:
			first = n
		}
	}
	if first == 0 {
		return 0, &helvetype.OperationError{
			Code: helvetype.CodeFailedPrecondition, Message: fmt.Sprintf("If-Match has no generation of this node: it is \"%d\" now", now), Next: nextTag,
		}
	}
	return first, nil
}

const nextTag = `send If-Match with the ETag of an answer, such as "7"`

// failed answers with an error of an operation.
func (a *Server) failed(c *ask, err error) {
	e, ok := errors.AsType[*helvetype.OperationError](err)
	if !ok {
		a.set.Logger.Error("an operation has failed", "operation", c.route.operation, "path", c.r.URL.Path, "error", a.set.Scrub(err.Error()))
		e = &helvetype.OperationError{Code: helvetype.CodeInternal, Message: err.Error()}
	}
	clean := *e // user code may have put the value of a secret into its error
	clean.Message, clean.Next, clean.Mistakes = a.set.Scrub(e.Message), a.set.Scrub(e.Next), slices.Clone(e.Mistakes)
	for i := range clean.Mistakes {
		clean.Mistakes[i].Message, clean.Mistakes[i].Excerpt = a.set.Scrub(clean.Mistakes[i].Message), a.set.Scrub(clean.Mistakes[i].Excerpt)
	}
	e = &clean
	switch e.Code {
	case helvetype.CodeUnauthenticated:
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="helve"`)
	case helvetype.CodeUnavailable:
		c.w.Header().Set("Retry-After", "1")
	case helvetype.CodeFailedPrecondition:
		a.tag(c)
	}
	answer(c.w, rest.StatusOf(e.Code), e)
}

// tag sets the generation as the ETag of an answer.
func (a *Server) tag(c *ask) {
	if a.set.Operator != nil {
		c.w.Header().Set("ETag", fmt.Sprintf(`"%d"`, a.set.Operator.Generation()))
	}
}

// note adds a change to the audit log. The log of the node has the changes that were made, and failed changes whose reason is no mistake of the author.
func (a *Server) note(c *ask, object, detail string, err error) {
	e := helvetype.AuditEntry{At: time.Now().UTC(), Author: c.by, Operation: c.route.operation, Object: object, Detail: detail}
	level := slog.LevelInfo
	if err != nil {
		e.Error, level = a.set.Scrub(err.Error()), slog.LevelWarn
		if mistake, ok := errors.AsType[*helvetype.OperationError](err); ok {
			e.Error = a.set.Scrub(mistake.Message)
			if rest.StatusOf(mistake.Code) < http.StatusInternalServerError {
				level = slog.LevelDebug
			}
		}
	}
	a.set.Audit.Add(e)
	a.set.Logger.Log(c.r.Context(), level, "a change was asked for", "operation", e.Operation, "object", object, "by", c.by.Name, "address", c.by.Address, "detail", detail, "error", e.Error)
}

// Package cors lets pages of other origins read the answers of a server (https://fetch.spec.whatwg.org/#http-cors-protocol). For example, before a page of
// https://app.example.com sends JSON, its browser asks by OPTIONS, a preflight, whether it may; the answer names the methods and headers that
// are allowed.
package cors

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/spec"
)

// Policy answers browsers whose pages are of other origins than the node (https://fetch.spec.whatwg.org/#http-cors-protocol). A preflight is
// answered here, without a call: for example, before a page of https://app.example.com sends JSON, its browser asks by OPTIONS whether it
// may.
type Policy struct {
	any         bool // all origins
	exact       map[string]bool
	patterns    [][2]string // the text before and after the star
	methods     []string
	headers     map[string]bool // in lower case; nil for all
	credentials bool

	allowMethods, allowHeaders, exposeHeaders, maxAge string
}

// The defaults. The headers are the ones of Helve, and the type of a body.
var (
	methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	headers = []string{"Accept", "Content-Type", "X-Request-Id", "X-Request-Timeout-Seconds", "Serve-Multiplexed-Model-Id", "Traceparent"}
	expose  = []string{"X-Request-Id", "Retry-After"}
)

// New makes the answers for the options, which are checked; nil for nil. The methods that the application takes stand for those that the options do not
// name; nil is for all usual ones.
func New(o *spec.CORS, taken []string) *Policy {
	if o == nil {
		return nil
	}
	c := &Policy{exact: map[string]bool{}, credentials: o.Credentials, methods: or(o.Methods, or(taken, methods))}
	for _, origin := range o.Origins {
		if before, after, ok := strings.Cut(origin, "*"); origin == "*" {
			c.any = true
		} else if ok {
			c.patterns = append(c.patterns, [2]string{before, after})
		} else {
			c.exact[origin] = true
		}
	}
	if headers := or(o.Headers, headers); !slices.Contains(headers, "*") {
		c.headers, c.allowHeaders = map[string]bool{}, strings.Join(headers, ", ")
		for _, h := range headers {
			c.headers[strings.ToLower(h)] = true
		}
	}
	c.allowMethods, c.exposeHeaders = strings.Join(c.methods, ", "), strings.Join(or(o.ExposeHeaders, expose), ", ")
	if o.MaxAge > 0 {
		c.maxAge = strconv.Itoa(int(o.MaxAge.Seconds()))
	}
	return c
}

func or(list, initial []string) []string {
	if len(list) > 0 {
		return list
	}
	return initial
}

// allows reports whether pages of an origin may read answers.
func (c *Policy) allows(origin string) bool {
	if c.any || c.exact[origin] {
		return true
	}
	for _, p := range c.patterns {
		if len(origin) > len(p[0])+len(p[1]) && strings.HasPrefix(origin, p[0]) && strings.HasSuffix(origin, p[1]) {
			return !strings.ContainsAny(origin[len(p[0]):len(origin)-len(p[1])], "/:@")
		}
	}
	return false
}

// Answer sets the headers of an answer. It returns true if the request was a preflight, which it has answered: with 204 in any case, as the
// browser decides by the headers.
func (c *Policy) Answer(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	method := r.Header.Get("Access-Control-Request-Method")
	preflight := r.Method == http.MethodOptions && method != "" && len(r.Header["Origin"]) > 0
	if preflight {
		h["Vary"] = []string{"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
	} else if !c.any {
		h.Add("Vary", "Origin")
	}
	origin := r.Header["Origin"]
	if allowed := len(origin) == 1 && c.allows(origin[0]); allowed && (!preflight || slices.Contains(c.methods, method) && c.allowsHeaders(r)) {
		if c.any {
			h.Set("Access-Control-Allow-Origin", "*")
		} else {
			h.Set("Access-Control-Allow-Origin", origin[0])
		}
		if c.credentials {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
		if preflight {
			c.permit(h, r)
		} else {
			h.Set("Access-Control-Expose-Headers", c.exposeHeaders)
		}
	}
	if preflight {
		w.WriteHeader(http.StatusNoContent)
	}
	return preflight
}

// permit sets the headers of a preflight that is granted.
func (c *Policy) permit(h http.Header, r *http.Request) {
	h.Set("Access-Control-Allow-Methods", c.allowMethods)
	switch asked := r.Header.Get("Access-Control-Request-Headers"); {
	case asked == "":
	case c.headers == nil:
		h.Set("Access-Control-Allow-Headers", asked)
	default:
		h.Set("Access-Control-Allow-Headers", c.allowHeaders)
	}
	if c.maxAge != "" {
		h.Set("Access-Control-Max-Age", c.maxAge)
	}
}

// allowsHeaders reports whether a page may send the headers that the preflight names.
func (c *Policy) allowsHeaders(r *http.Request) bool {
	if c.headers == nil {
		return true
	}
	for _, line := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !c.headers[name] {
				return false
			}
		}
	}
	return true
}

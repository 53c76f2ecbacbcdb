package spec

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// IngressOptions are the settings of one application's ingress. A zero field has no effect.
type IngressOptions struct {
	MaxBody        int64         `json:"max_body,omitempty"`        // bytes of a request's body
	RequestTimeout time.Duration `json:"request_timeout,omitempty"` // of a request, with its time in the queue
	CORS           *CORS         `json:"cors,omitempty"`            // nil: pages of other origins read nothing
}

// CORS says which pages of other origins may send requests and read the answers.
type CORS struct {
	Origins       []string      `json:"origins"`                  // "https://app.example.com", "https://*.example.com", or "*" for all
	Methods       []string      `json:"methods,omitempty"`        // empty: GET, HEAD, POST, PUT, PATCH and DELETE
	Headers       []string      `json:"headers,omitempty"`        // that a page may send beside the simple ones; "*" for all
	ExposeHeaders []string      `json:"expose_headers,omitempty"` // that a page may read beside the simple ones
	Credentials   bool          `json:"credentials,omitempty"`    // with cookies
	MaxAge        time.Duration `json:"max_age,omitempty"`        // of the answer to a preflight, in the browser
}

// Check returns the mistakes, by their fields.
func (o *IngressOptions) Check() []error {
	if o == nil {
		return nil
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("ingress options: "+format, args...)) }
	if o.MaxBody < 0 {
		wrong("MaxBody: must not be negative, is %d", o.MaxBody)
	}
	if o.RequestTimeout < 0 {
		wrong("RequestTimeout: must not be negative, is %s", o.RequestTimeout)
	}
	c := o.CORS
	if c == nil {
		return errs
	}
	if len(c.Origins) == 0 {
		wrong(`CORS.Origins: must name origins, or be "*" for all`)
	}
	for _, origin := range c.Origins {
		if err := checkOrigin(origin); err != nil {
			wrong("CORS.Origins: %q: %w", origin, err)
		} else if origin == "*" && c.Credentials {
			wrong(`CORS.Credentials: needs the names of the origins, not "*": else every page could act for its visitor`)
		}
	}
	for field, names := range map[string][]string{"Methods": c.Methods, "Headers": c.Headers, "ExposeHeaders": c.ExposeHeaders} {
		for _, name := range names {
			if !isToken(name) {
				wrong("CORS.%s: %q is no name", field, name)
			}
		}
	}
	if c.MaxAge < 0 {
		wrong("CORS.MaxAge: must not be negative, is %s", c.MaxAge)
	}
	return errs
}

func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(strings.Replace(origin, "://*.", "://any.", 1))
	switch {
	case err != nil:
		return err
	case u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" || strings.Contains(u.Host, "*"):
		return errors.New(`an origin is scheme and host, such as "https://app.example.com" or "https://*.example.com", without a path`)
	case strings.ToLower(origin) != origin:
		return errors.New("browsers send an origin in lower case")
	}
	return nil
}

// isToken reports whether a text is a token of HTTP, such as the name of a method or of a header.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

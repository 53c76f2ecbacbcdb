package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/forwarded"
	"github.com/helve-serve/helve/internal/listen"
)

// Options are the settings of the ingress beside its limits. The zero value has the defaults.
type Options struct {
	// RequestTimeout is the longest time of a request, from its header to the end of its answer; 0 for no limit.
	RequestTimeout time.Duration
	// RootPath is put in front of every route prefix, for example "/serve"; "" for none.
	RootPath string
	// TrustForwarded are the networks of the peers whose X-Forwarded headers are believed, for example "10.0.0.0/8"; "unix" stands for the
	// clients of unix sockets.
	TrustForwarded []string
	// DrainDelay is the time from the beginning of a drain, in which the node calls itself unhealthy and serves as before.
	DrainDelay time.Duration
	// JSONLog has the access log in lines of JSON.
	JSONLog bool
	// TLS are the files of the certificate. The zero value is no TLS.
	TLS listen.Files
}

// Check returns an error if an option is wrong, with the name of its field. The files of the certificate are not read.
func (o Options) Check() error {
	switch {
	case o.RequestTimeout < 0:
		return fmt.Errorf("RequestTimeout: must not be negative, is %s", o.RequestTimeout)
	case o.DrainDelay < 0:
		return fmt.Errorf("DrainDelay: must not be negative, is %s", o.DrainDelay)
	case o.RootPath == "/":
		return fmt.Errorf("RootPath: must be empty for no path, is %q", o.RootPath)
	case o.RootPath != "":
		if err := CheckPrefix(o.RootPath); err != nil {
			return fmt.Errorf("RootPath: %s", strings.ReplaceAll(err.Error(), "route_prefix ", ""))
		}
	}
	if _, err := forwarded.Networks(o.TrustForwarded); err != nil {
		return err
	}
	if err := o.TLS.Check(); err != nil {
		return fmt.Errorf("TLS.%w", err)
	}
	return nil
}

// external is a request as applications see it: its scheme and host are as the client has sent them, and its path is without the root
// path. A proxy in front may have removed that already, so a path without it stays as it is. For example, with the root path
// "/serve" the paths "/serve/hello" and "/hello" are both "/hello".
func (p *Proxy) external(r *http.Request) *http.Request {
	switch {
	case r.TLS != nil:
		r = forwarded.Copy(r)
		r.URL.Scheme = "https"
	case r.URL.Scheme != "": // the client has sent a whole URL as its path, in which it says what it likes
		r = forwarded.Copy(r)
		r.URL.Scheme = "http"
	}
	if p.trusted != nil {
		r = p.trusted.Original(r)
	}
	if root := p.options.Load().RootPath; root != "" && under(root, r.URL.Path) {
		r = stripPrefix(root, forwarded.Copy(r))
	}
	return r
}

// under reports whether a prefix matches a path.
func under(prefix, path string) bool {
	return prefix == "/" || strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// External is the prefix of an application as its clients see it: with the root path in front.
func (p *Proxy) External(prefix string) string {
	if root := p.options.Load().RootPath; root != "" {
		return root + strings.TrimSuffix(prefix, "/")
	}
	return prefix
}

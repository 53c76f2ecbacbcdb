package cli

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/listen"
)

// httpLimits are the flags of [helve.HTTPLimits].
type httpLimits struct {
	connections, streams                            count
	memory, maxBody, maxHeader                      size
	headerTimeout, bodyTimeout, stallTimeout, idles wait
}

// httpFlags are the flags by the fields that they set.
var httpFlags = map[string]string{ //nolint:gochecknoglobals // a constant
	"Connections": "http-connections", "Streams": "http-streams", "Memory": "http-memory", "MaxBody": "http-max-body",
	"MaxHeader": "http-max-header", "HeaderTimeout": "http-header-timeout", "BodyTimeout": "http-body-timeout",
	"StallTimeout": "http-stall-timeout", "IdleTimeout": "http-idle-timeout",
}

func (l *httpLimits) flags(c *cobra.Command) {
	f := c.Flags()
	f.Var(&l.connections, "http-connections", "HTTP clients that may be connected (default 8192, at most half of the open files)")
	f.Var(&l.streams, "http-streams", "requests that one HTTP/2 connection may have under way (default 100)")
	f.Var(&l.memory, "http-memory", "bytes of requests and results that are held for all HTTP clients together (default 512MiB)")
	f.Var(&l.maxBody, "http-max-body", "largest body of an HTTP request to a method or stream (default 64MiB)")
	f.Var(&l.maxHeader, "http-max-header", "largest header of an HTTP request (default 64KiB)")
	f.Var(&l.headerTimeout, "http-header-timeout", "how long the header of an HTTP request may take to arrive (default 10s)")
	f.Var(&l.bodyTimeout, "http-body-timeout", "how long a whole HTTP request may take to arrive (default 5m)")
	f.Var(&l.stallTimeout, "http-stall-timeout", "how long an HTTP client may neither send nor take what is due (default 30s)")
	f.Var(&l.idles, "http-idle-timeout", "how long an HTTP connection may be without a request (default 2m)")
}

func (l *httpLimits) limits() helve.HTTPLimits {
	return helve.HTTPLimits{
		Connections: int(l.connections), Streams: int(l.streams), Memory: int64(l.memory), MaxBody: int64(l.maxBody), MaxHeader: int(l.maxHeader),
		HeaderTimeout: time.Duration(l.headerTimeout), BodyTimeout: time.Duration(l.bodyTimeout),
		StallTimeout: time.Duration(l.stallTimeout), IdleTimeout: time.Duration(l.idles),
	}
}

// limitError is an error of a limit, with the flag in place of the field; text follows "HTTPLimits: ".
func limitError(text string) error {
	field, rest, _ := strings.Cut(text, ": ")
	return usageError{fmt.Errorf("--%s: %s", httpFlags[field], withFlags(rest))}
}

// withFlags is the text of a mistake in which fields of [helve.Config] that the field at its beginning needs are flags.
func withFlags(text string) string {
	return strings.NewReplacer("half of HTTPLimits.Memory", "half of --http-memory", "half of Memory", "half of --http-memory", "needs StateDir", "needs --state-dir",
		"needs Certificate and Key", "needs --tls-certificate and --tls-key", "needs Key", "needs --tls-key").Replace(text)
}

// address is the URL of an application. A unix socket has none: its path is the same for all of them.
func address(base, prefix string) string {
	if strings.HasPrefix(base, listen.UnixScheme) {
		return base
	}
	return base + strings.TrimSuffix((&url.URL{Path: prefix}).EscapedPath(), "/")
}

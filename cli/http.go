package cli

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/listen"
)

// httpLimits are the flags of [helve.HTTPLimits].
type httpLimits struct {
	connections, streams                            int
	memory, maxBody, maxHeader                      size
	headerTimeout, bodyTimeout, stallTimeout, idles time.Duration
}

// httpFlags are the flags by the fields that they set.
var httpFlags = map[string]string{ //nolint:gochecknoglobals // a constant
	"Connections": "http-connections", "Streams": "http-streams", "Memory": "http-memory", "MaxBody": "http-max-body",
	"MaxHeader": "http-max-header", "HeaderTimeout": "http-header-timeout", "BodyTimeout": "http-body-timeout",
	"StallTimeout": "http-stall-timeout", "IdleTimeout": "http-idle-timeout",
}

func (l *httpLimits) flags(c *cobra.Command) {
	f := c.Flags()
	f.IntVar(&l.connections, "http-connections", 0, "HTTP clients that may be connected (default 8192, at most half of the open files)")
	f.IntVar(&l.streams, "http-streams", 0, "requests that one HTTP/2 connection may have under way (default 100)")
	f.Var(&l.memory, "http-memory", "bytes of requests and results that are held for all HTTP clients together (default 512MiB)")
	f.Var(&l.maxBody, "http-max-body", "largest body of an HTTP request to a method or stream (default 64MiB)")
	f.Var(&l.maxHeader, "http-max-header", "largest header of an HTTP request (default 64KiB)")
	f.DurationVar(&l.headerTimeout, "http-header-timeout", 0, "how long the header of an HTTP request may take to arrive (default 10s)")
	f.DurationVar(&l.bodyTimeout, "http-body-timeout", 0, "how long a whole HTTP request may take to arrive (default 5m)")
	f.DurationVar(&l.stallTimeout, "http-stall-timeout", 0, "how long an HTTP client may neither send nor take what is due (default 30s)")
	f.DurationVar(&l.idles, "http-idle-timeout", 0, "how long an HTTP connection may be without a request (default 2m)")
}

func (l *httpLimits) limits() helve.HTTPLimits {
	return helve.HTTPLimits{
		Connections: l.connections, Streams: l.streams, Memory: int64(l.memory), MaxBody: int64(l.maxBody), MaxHeader: int(l.maxHeader),
		HeaderTimeout: l.headerTimeout, BodyTimeout: l.bodyTimeout, StallTimeout: l.stallTimeout, IdleTimeout: l.idles,
	}
}

// fromEnv sets the flags from the environment of a node that a driver started, whose command line is not the user's: for example
// HELVE_HTTP_MEMORY is --http-memory.
func (l *httpLimits) fromEnv(c *cobra.Command) error { return fromEnv(c, httpFlags) }

func fromEnv(c *cobra.Command, flags map[string]string) error {
	for _, flag := range flags {
		name := "HELVE_" + strings.ReplaceAll(strings.ToUpper(flag), "-", "_")
		if v := os.Getenv(name); v != "" {
			if err := c.Flags().Set(flag, v); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// address is the URL of an application. A unix socket has none: its path is the same for all of them.
func address(base, prefix string) string {
	if strings.HasPrefix(base, listen.UnixScheme) {
		return base
	}
	return base + strings.TrimSuffix((&url.URL{Path: prefix}).EscapedPath(), "/")
}

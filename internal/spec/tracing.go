package spec

import (
	"fmt"
	"net/url"
)

// Tracing is the object tracing_config of a file: which requests are sampled, which are slow, and where the spans of sampled requests go.
type Tracing struct {
	Enabled bool `json:"enabled"`
	// Ratio is the part of the requests that are sampled if Enabled, from 0 to 1; nil for [DefaultRatio].
	Ratio *float64 `json:"sampling_ratio,omitempty"`
	// Slow is the time in seconds from which on the node keeps a request, 0 for none; nil for that of the node. Ray Serve has neither this field nor those below.
	Slow *float64 `json:"slow_request_s,omitempty"`
	// Endpoint is the URL of a receiver of OpenTelemetry (OTLP over HTTP), "" for none; nil for that with which the node was started.
	Endpoint *string `json:"otlp_endpoint,omitempty"`
	// Headers go with each request to Endpoint. Their values may have placeholders of package secret.
	Headers map[string]string `json:"otlp_headers,omitempty"`
}

// DefaultRatio is the part of the requests that are sampled without another number, as in Ray Serve.
const DefaultRatio = 0.01

// tracesPath is the path of OTLP for spans, below the address of a receiver.
const tracesPath = "/v1/traces"

// TracesURL is the URL for spans of an address of a receiver: one without a path gets that of the protocol, so http://host:4318 is http://host:4318/v1/traces. An error says what
// the address must be. A name and a password in it are a mistake, because logs have the address.
func TracesURL(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("must be a URL such as http://127.0.0.1:4318, is %q", endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = tracesPath
	}
	return u.String(), nil
}

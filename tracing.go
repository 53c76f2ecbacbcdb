package helve

import (
	"maps"

	"github.com/helve-serve/helve/internal/otlp"
)

// Tracing says which requests are sampled, and which receiver gets their spans. A field that is not set has the value of OpenTelemetry's variable, such as OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_TRACES_SAMPLER_ARG, and a file of applications can change all while the node runs: its tracing_config.
type Tracing struct {
	// Endpoint is the URL of a receiver of OpenTelemetry's protocol over HTTP, such as "http://127.0.0.1:4318" of a collector or of Jaeger. The spans of sampled requests go there, as
	// JSON, in batches. A URL without a path gets /v1/traces. "" for none.
	Endpoint string
	// Headers go with each request to the Endpoint, for example Authorization.
	Headers map[string]string
	// Ratio is the part of the requests that are sampled, from 0 to 1, of those whose client does not say it in the header traceparent. 0 is 0.01 if there is an Endpoint, and less than 0
	// is none. Sampled requests are kept in the node for some minutes too.
	Ratio float64
}

// settings are the Tracing for a node.
func (t Tracing) settings() otlp.Settings {
	s := otlp.Settings{Endpoint: t.Endpoint, Headers: maps.Clone(t.Headers)}
	if t.Ratio != 0 {
		s.Ratio = new(max(t.Ratio, 0))
	}
	return s
}

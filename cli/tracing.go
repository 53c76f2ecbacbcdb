package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/otlp"
	"github.com/helve-serve/helve/internal/spec"
)

// tracing are the flags for the spans of requests.
type tracing struct {
	endpoint string
	ratio    ratio
}

func (t *tracing) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.endpoint, "otlp-endpoint", "", "URL of a receiver of OpenTelemetry over HTTP, such as http://127.0.0.1:4318, for the spans of sampled requests (default OTEL_EXPORTER_OTLP_ENDPOINT)")
	c.Flags().Var(&t.ratio, "trace-ratio", "part of the requests that are sampled, 0 to 1 (default 0.01 with a receiver, else 0)")
}

func (t *tracing) check() error {
	if t.endpoint == "" {
		return nil
	}
	if _, err := spec.TracesURL(t.endpoint); err != nil {
		return usageError{fmt.Errorf("--otlp-endpoint %w", err)}
	}
	return nil
}

// settings are the flags for the node of a driver.
func (t *tracing) settings() otlp.Settings {
	s := otlp.Settings{Endpoint: t.endpoint}
	if t.ratio.set {
		s.Ratio = &t.ratio.part
	}
	return s
}

// config are the flags for [helve.Config].
func (t *tracing) config() helve.Tracing {
	c := helve.Tracing{Endpoint: t.endpoint}
	if t.ratio.set {
		if c.Ratio = t.ratio.part; c.Ratio == 0 {
			c.Ratio = -1 // 0 is not set there
		}
	}
	return c
}

// ratio is a flag for a part of the requests.
type ratio struct {
	part float64
	set  bool
}

func (r *ratio) String() string {
	if !r.set {
		return ""
	}
	return strconv.FormatFloat(r.part, 'g', -1, 64)
}

func (*ratio) Type() string { return "ratio" }

func (r *ratio) Set(text string) error {
	part, err := strconv.ParseFloat(text, 64)
	if err != nil || !(part >= 0 && part <= 1) {
		return fmt.Errorf("must be a number from 0 to 1, is %q", text)
	}
	r.part, r.set = part, true
	return nil
}

package otlp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/trace"
)

// grpcPort is the usual port of receivers of the form that the node does not speak.
const grpcPort = "4317"

// Settings say where spans go, and of how many requests. The zero Settings have no receiver.
type Settings struct {
	Endpoint string            // the URL of a receiver; "" for none
	Headers  map[string]string // of each request to it
	Resource []trace.Attribute // attributes of the process
	// Ratio is the part of the requests that are sampled; nil for [spec.DefaultRatio] with a receiver, and none without.
	Ratio *float64
	Way   Way
}

// SampledRatio is the part of the requests that are sampled.
func (s *Settings) SampledRatio() float64 {
	switch {
	case s.Ratio != nil:
		return *s.Ratio
	case s.Endpoint != "":
		return spec.DefaultRatio
	}
	return 0
}

// Check returns the mistakes, each behind the name of its field.
func (s *Settings) Check() error {
	var errs []error
	if s.Endpoint != "" {
		if _, err := spec.TracesURL(s.Endpoint); err != nil {
			errs = append(errs, fmt.Errorf("Endpoint: %w", err))
		}
	} else if len(s.Headers) > 0 {
		errs = append(errs, errors.New("Headers: needs Endpoint: headers are for one receiver"))
	}
	if r := s.Ratio; r != nil && !isPart(*r) {
		errs = append(errs, fmt.Errorf("Ratio: must be from 0 to 1, is %v", *r))
	}
	return errors.Join(errs...)
}

// isPart says whether a number is a part of requests. NaN is none.
func isPart(r float64) bool { return r >= 0 && r <= 1 }

// Over has the settings of s, and for each that s does not set that of the environment.
func (s Settings) Over(e Settings) Settings {
	switch {
	case s.Endpoint == "":
		s.Endpoint, s.Headers = e.Endpoint, e.Headers
	case e.Endpoint == "" && s.Headers == nil: // else they are for another receiver
		s.Headers = e.Headers
	}
	if s.Ratio == nil {
		s.Ratio = e.Ratio
	}
	s.Resource, s.Way = append(slices.Clone(e.Resource), s.Resource...), e.Way
	return s
}

// Target is the receiver of the settings; nil for none.
func (s *Settings) Target() (*Target, error) {
	if s.Endpoint == "" {
		return nil, nil //nolint:nilnil // no receiver is no mistake
	}
	at, err := spec.TracesURL(s.Endpoint)
	if err != nil {
		return nil, err
	}
	t := &Target{URL: at, Headers: s.Headers, Resource: s.Resource, Way: s.Way}
	if !slices.ContainsFunc(t.Resource, func(a trace.Attribute) bool { return a.Key == serviceName }) {
		t.Resource = append([]trace.Attribute{{Key: serviceName, Value: "helve"}}, t.Resource...)
	}
	return t, nil
}

const serviceName = "service.name"

// Environment reads the variables of OpenTelemetry: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, those of the [Way], such as OTEL_EXPORTER_OTLP_COMPRESSION, all also with TRACES_ in front of their last word,
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG; OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none turn all off. A value that is
// wrong has no effect, and a warning. An entry of env is NAME=VALUE, as in os.Environ; nil is the environment of the process.
func Environment(env []string) (s Settings, warnings []string) {
	if env == nil {
		env = os.Environ()
	}
	of := map[string]string{}
	for _, entry := range env {
		if name, v, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "OTEL_") {
			of[name] = strings.TrimSpace(v)
		}
	}
	if strings.EqualFold(of["OTEL_SDK_DISABLED"], "true") || of["OTEL_TRACES_EXPORTER"] == "none" {
		return s, nil
	}
	warn := func(name, text string) { warnings = append(warnings, name+": "+text) }
	name := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	if s.Endpoint = of[name]; s.Endpoint == "" {
		name = "OTEL_EXPORTER_OTLP_ENDPOINT"
		if base := of[name]; base != "" {
			s.Endpoint = strings.TrimSuffix(base, "/") + "/v1/traces"
		}
	}
	if s.Endpoint != "" {
		_, err := spec.TracesURL(of[name])
		u, _ := url.Parse(s.Endpoint)
		switch {
		case err != nil:
			warn(name, err.Error())
			s.Endpoint = ""
		case u.Port() == grpcPort || cmp.Or(of["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"], of["OTEL_EXPORTER_OTLP_PROTOCOL"]) == "grpc":
			warn(name, "the node sends spans over HTTP, and not by gRPC: the usual port of receivers for that is 4318")
		}
	}
	headers := pairs(of["OTEL_EXPORTER_OTLP_HEADERS"], func(text string) { warn("OTEL_EXPORTER_OTLP_HEADERS", text) })
	maps.Copy(headers, pairs(of["OTEL_EXPORTER_OTLP_TRACES_HEADERS"], func(text string) { warn("OTEL_EXPORTER_OTLP_TRACES_HEADERS", text) }))
	if len(headers) > 0 {
		s.Headers = headers
	}
	resource := pairs(of["OTEL_RESOURCE_ATTRIBUTES"], func(text string) { warn("OTEL_RESOURCE_ATTRIBUTES", text) })
	if service := of["OTEL_SERVICE_NAME"]; service != "" {
		resource[serviceName] = service
	}
	for _, key := range slices.Sorted(maps.Keys(resource)) {
		s.Resource = append(s.Resource, trace.Attribute{Key: key, Value: resource[key]})
	}
	s.Way = way(of, warn)
	s.Ratio = sampler(of["OTEL_TRACES_SAMPLER"], of["OTEL_TRACES_SAMPLER_ARG"], warn)
	return s, warnings
}

// sampler is the ratio of a sampler of OpenTelemetry; nil for none. The node heeds the decision of a client with each of them, as if its name began with parentbased.
func sampler(name, argument string, warn func(name, text string)) *float64 {
	ratio := 1.0
	switch strings.TrimPrefix(name, "parentbased_") {
	case "":
		return nil
	case "always_on":
	case "always_off":
		ratio = 0
	case "traceidratio":
		if argument == "" {
			break
		}
		r, err := strconv.ParseFloat(argument, 64)
		if err != nil || !isPart(r) {
			warn("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1, is "+strconv.Quote(argument))
			return nil
		}
		ratio = r
	default:
		warn("OTEL_TRACES_SAMPLER", "must be always_on, always_off or traceidratio, or one of these behind parentbased_, is "+strconv.Quote(name))
		return nil
	}
	return &ratio
}

// pairs reads a list such as key=value,other=a%20value.
func pairs(text string, wrong func(string)) map[string]string {
	all := map[string]string{}
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		key, v, ok := strings.Cut(entry, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(v))
		if key = strings.TrimSpace(key); !ok || key == "" || err != nil {
			wrong("must be KEY=VALUE, and others behind commas") // without the value, which may be a secret
			continue
		}
		all[key] = plain
	}
	return all
}

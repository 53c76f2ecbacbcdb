package node

import (
	"os"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/otlp"
	"github.com/helve-serve/helve/internal/settings"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/trace"
)

// newTracing makes the recorder of calls and the exporter of a node, with the settings of its start over the variables of OpenTelemetry.
func (n *Node) newTracing() {
	environment, warnings := otlp.Environment(n.set.Program.Env)
	for _, w := range warnings {
		n.log.Warn("a variable of OpenTelemetry has no effect, or another one than it says", "reason", w)
	}
	n.set.Tracing = n.set.Tracing.Over(environment)
	process := []trace.Attribute{{Key: "service.version", Value: n.set.Version}, {Key: "process.pid", Value: int64(os.Getpid())}}
	if host, err := os.Hostname(); err == nil {
		process = append(process, trace.Attribute{Key: "host.name", Value: host})
	}
	n.set.Tracing.Resource = append(process, n.set.Tracing.Resource...)
	n.trace = trace.New()
	n.spans = otlp.New(n.log, n.set.Version, n.set.Tracing.Way, nil)
	n.wg.Go(func() { n.trace.Collect(n.ctx) })
	n.wg.Go(func() { n.spans.Run(n.ctx) })
	ratio, receiver, err := n.tracing(nil)
	if err != nil {
		n.log.Error("no spans are sent", "error", err)
	}
	n.useTracing(nil, ratio, receiver)
}

// Recorder has the records of calls.
func (n *Node) Recorder() *trace.Recorder { return n.trace }

// tracing is the part of the requests that are sampled, and the receiver of their spans, by a tracing_config over the settings with which the node was started. nil is no
// tracing_config, and no receiver.
func (n *Node) tracing(t *spec.Tracing) (ratio float64, receiver *otlp.Target, err error) {
	s := n.set.Tracing
	switch {
	case t == nil:
	case !t.Enabled:
		return 0, nil, nil
	default:
		if s.Ratio == nil || t.Ratio != nil {
			s.Ratio = t.Ratio
		}
		if s.Ratio == nil {
			s.Ratio = new(spec.DefaultRatio)
		}
		if t.Endpoint != nil {
			s.Endpoint, s.Headers = *t.Endpoint, map[string]string{}
		}
		for name, text := range t.Headers {
			if s.Headers[name], err = n.secrets.Text(text); err != nil {
				return s.SampledRatio(), nil, &settings.Error{Field: "tracing_config.otlp_headers", Err: err}
			}
		}
	}
	receiver, err = s.Target()
	return s.SampledRatio(), receiver, err
}

// useTracing makes a tracing_config that of the node, for the requests that begin and end from now on; nil for none.
func (n *Node) useTracing(t *spec.Tracing, ratio float64, receiver *otlp.Target) {
	n.trace.SetRatio(ratio)
	slow := trace.DefaultSlow
	if t != nil && t.Slow != nil {
		slow = seconds(*t.Slow)
	}
	n.trace.SetSlow(slow)
	n.spans.Use(receiver)
	if receiver == nil {
		n.trace.Export(nil)
	} else {
		n.trace.Export(n.spans.Add)
	}
}

// Receiver is the receiver of spans, and the numbers of spans; the other fields are zero.
func (n *Node) Receiver() (t helvetype.Tracing) {
	t.Endpoint = n.spans.URL()
	t.Sent, t.Dropped = n.spans.Counts()
	return t
}

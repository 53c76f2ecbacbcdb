package settings

import (
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
)

// maxSlow is the longest time from which on a request is slow, in seconds.
const maxSlow = 24 * 60 * 60

// Traced are the settings with a change of the tracing, where the ratio is that of the node now. A tracing_config that is turned off comes back with its receiver, and samples what the change says. For example,
// a node that was started without tracing gets a ratio of 0.1: its settings have an enabled tracing_config with that ratio, and no receiver.
func (s Node) Traced(c helvetype.TracingChange, ratio float64) (Node, error) {
	wrong := func(text string, args ...any) (Node, error) {
		return s, &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf(text, args...)}
	}
	switch r, slow := c.Ratio, c.SlowFrom; {
	case c.Reset && (r != nil || slow != nil):
		return wrong("reset: must be alone: it drops all changes")
	case c.Reset:
		s.Tracing = nil
		return s, nil
	case r != nil && !(*r >= 0 && *r <= 1): // also NaN
		return wrong("sampling_ratio: must be from 0 to 1, is %v", *r)
	case slow != nil && !(*slow >= 0 && *slow <= maxSlow):
		return wrong("slow_request_s: must be seconds from 0 to %d, is %v", maxSlow, *slow)
	case r == nil && slow == nil:
		return wrong("nothing to change: sampling_ratio, slow_request_s or reset must be there")
	}
	t := spec.Tracing{Ratio: &ratio}
	if s.Tracing != nil {
		t = *s.Tracing
	}
	if !t.Enabled {
		t.Enabled, t.Ratio = true, &ratio
	}
	if c.Ratio != nil {
		t.Ratio = c.Ratio
	}
	if c.SlowFrom != nil {
		t.Slow = c.SlowFrom
	}
	s.Tracing = &t
	return s, nil
}

package settings

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
)

// TestTraced: a change of the tracing keeps the fields that it does not name, also those of a tracing_config of a file, and has mistakes.
func TestTraced(t *testing.T) {
	t.Parallel()
	file := &spec.Tracing{Enabled: true, Ratio: new(0.2), Slow: new(3.0), Endpoint: new("http://c:4318"), Headers: map[string]string{"token": "${!env:TOKEN}"}}
	off := &spec.Tracing{Endpoint: new("http://c:4318")}
	for name, c := range map[string]struct {
		before     *spec.Tracing
		change     helvetype.TracingChange
		want, fail string
	}{
		"a ratio":                   {nil, helvetype.TracingChange{Ratio: new(0.1)}, `{"enabled":true,"sampling_ratio":0.1}`, ""},
		"a time":                    {nil, helvetype.TracingChange{SlowFrom: new(0.5)}, `{"enabled":true,"sampling_ratio":0.01,"slow_request_s":0.5}`, ""},
		"over a file":               {file, helvetype.TracingChange{Ratio: new(1.0)}, `{"enabled":true,"sampling_ratio":1,"slow_request_s":3,"otlp_endpoint":"http://c:4318","otlp_headers":{"token":"${!env:TOKEN}"}}`, ""},
		"of a file that was off":    {off, helvetype.TracingChange{Ratio: new(0.5)}, `{"enabled":true,"sampling_ratio":0.5,"otlp_endpoint":"http://c:4318"}`, ""},
		"none":                      {file, helvetype.TracingChange{Ratio: new(0.0), SlowFrom: new(0.0)}, `{"enabled":true,"sampling_ratio":0,"slow_request_s":0,"otlp_endpoint":"http://c:4318","otlp_headers":{"token":"${!env:TOKEN}"}}`, ""},
		"reset":                     {file, helvetype.TracingChange{Reset: true}, `null`, ""},
		"reset with another":        {file, helvetype.TracingChange{Reset: true, Ratio: new(0.5)}, "", "reset: must be alone"},
		"nothing":                   {file, helvetype.TracingChange{}, "", "nothing to change"},
		"too much":                  {nil, helvetype.TracingChange{Ratio: new(1.5)}, "", "sampling_ratio: must be from 0 to 1, is 1.5"},
		"no number":                 {nil, helvetype.TracingChange{Ratio: new(math.NaN())}, "", "sampling_ratio: must be from 0 to 1, is NaN"},
		"a time before the request": {nil, helvetype.TracingChange{SlowFrom: new(-1.0)}, "", "slow_request_s: must be seconds from 0 to 86400, is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			was, _ := json.Marshal(c.before)
			next, err := Node{Tracing: c.before}.Traced(c.change, 0.01)
			if c.fail != "" {
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Errorf("%v", err)
				}
				return
			}
			got, _ := json.Marshal(next.Tracing)
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
			if is, _ := json.Marshal(c.before); string(is) != string(was) {
				t.Errorf("the settings before are changed: %s", is)
			}
		})
	}
}

package metrics

import (
	"fmt"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/machine"
	"github.com/helve-serve/helve/internal/telemetry"
)

// TestCallersAreBounded: of a deployment with very many callers the first by name have lines.
func TestCallersAreBounded(t *testing.T) {
	t.Parallel()
	s := example()
	d := &s.Applications[0].Deployments[0]
	d.Callers = map[telemetry.Caller]telemetry.CallerCounts{}
	for i := range 3 * callersMax {
		d.Callers[telemetry.Caller{Kind: telemetry.FromDeployment, App: "app", Deployment: fmt.Sprintf("E%03d", i)}] = telemetry.CallerCounts{Ended: 1}
	}
	text := scrape(t, s)
	if n := strings.Count(text, "helve_deployment_caller_calls_total{"); n != callersMax || !strings.Contains(text, `caller="app/E000"`) {
		t.Errorf("%d callers have lines", n)
	}
}

// TestGPUsAreShared: the metrics ask the driver's tool no more than the other readers of the process.
func TestGPUsAreShared(t *testing.T) {
	t.Parallel()
	if h := Handler(example()).(*handler); h.machine.gpus != machine.SharedGPUs() { //nolint:forcetypeassert // a test
		t.Error("the metrics have a look at the GPUs of their own")
	}
}

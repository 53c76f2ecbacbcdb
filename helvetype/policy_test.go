package helvetype

import (
	"context"
	"encoding/json"
	"testing"
	"time"
)

func ofLoad(context.Context, AutoscalingView) (float64, error) { return 1, nil }

// TestPolicyJSON: an autoscaling_config names the function of its policy, and the time of an answer.
func TestPolicyJSON(t *testing.T) {
	t.Parallel()
	p := Policy(ofLoad)
	p.Timeout = 1500 * time.Millisecond
	got, err := json.Marshal(AutoscalingOptions{MaxReplicas: 3, Policy: p})
	if want := `{"max_replicas":3,"policy":{"policy_function":"go:helvetype.ofLoad","timeout_s":1.5}}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// TestPolicyState: a state comes back with its type, and one of another type begins anew.
func TestPolicyState(t *testing.T) {
	t.Parallel()
	p := PolicyWithState(func(_ context.Context, _ AutoscalingView, n int) (float64, int, error) { return float64(n), n + 1, nil })
	for in, want := range map[string]string{"": "1", "4": "5", `"a text"`: "1"} {
		_, state, err := p.Ask(t.Context(), AutoscalingView{State: json.RawMessage(in)})
		if err != nil || string(state) != want {
			t.Errorf("%q: %s, %v", in, state, err)
		}
	}
}

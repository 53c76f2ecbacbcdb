package deploy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/spec"
)

// TestWarnings: a target that no replica can reach is a warning with both fields, and a policy without its function is one too.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config string
		most   int
		want   string
	}{
		{`{"max_replicas": 4, "target_ongoing_requests": 20}`, 5, `application "shop", deployment "Ranker": autoscaling_config.target_ongoing_requests is 20, above max_ongoing_requests (5)`},
		{`{"max_replicas": 4, "target_ongoing_requests": 5.5}`, 5, "target_ongoing_requests is 5.5, above"},
		{`{"max_replicas": 4, "target_ongoing_requests": 5}`, 5, ""},
		{`{"max_replicas": 4}`, 1, "target_ongoing_requests is 2, above max_ongoing_requests (1)"},
		{`{"max_replicas": 4, "target_ongoing_requests": 20, "policy": {"policy_function": "scaling:f"}}`, 5, ""},
		{`{"max_replicas": 4, "policy": {}}`, 5, `application "shop", deployment "Ranker": autoscaling_config.policy has no policy_function: the load decides`},
		{`{"max_replicas": 4, "policy": {"timeout_s": 5}}`, 5, "autoscaling_config.policy has no policy_function"},
		{`{"max_replicas": 4, "policy": {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy"}}`, 5, ""},
		{`{"max_replicas": 4, "policy": null}`, 5, ""},
		{``, 5, ""},
	} {
		a := App{Graph: spec.Graph{App: "shop", Deployments: []spec.Deployment{{Name: "Ranker", Options: spec.Options{MaxOngoingRequests: c.most, AutoscalingConfig: json.RawMessage(c.config)}}}}}
		if got := strings.Join(a.Warnings(), "\n"); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s with %d: %q", c.config, c.most, got)
		}
	}
}

// TestNotOverridden: an option that a patch clears without an override is named.
func TestNotOverridden(t *testing.T) {
	t.Parallel()
	all := map[string]json.RawMessage{"Ranker": json.RawMessage(`{"num_replicas": 3, "autoscaling_config": {"max_replicas": 4}}`), "": json.RawMessage(`{"route_prefix": "/a"}`)}
	for patch, want := range map[string]string{
		`{"deployments": {"Ranker": {"num_replicas": null}}}`:                                               "",
		`{"deployments": {"Ranker": {"max_ongoing_requests": null}}}`:                                       "Ranker.max_ongoing_requests has no override to clear",
		`{"deployments": {"Ranker": {"autoscaling_config": {"max_replicas": null, "min_replicas": null}}}}`: "Ranker.autoscaling_config.min_replicas has no override to clear",
		`{"deployments": {"Other": {"num_replicas": null, "max_ongoing_requests": null}}}`:                  "Other.max_ongoing_requests, Other.num_replicas have no override to clear",
		`{"deployments": {"Scaled": {"num_replicas": null}}}`:                                               "",
		`{"route_prefix": null}`:                                   "",
		`{"logging_config": null}`:                                 "logging_config has no override to clear",
		`{"deployments": {"Ranker": {"max_ongoing_requests": 3}}}`: "",
		`{"deployments": {"Ranker": null}}`:                        "",
		`{"deployments": {"Scaled": null}}`:                        "",
		`{"deployments": {"Other": null}}`:                         "Other has no override to clear",
	} {
		if got := NotOverridden(all, map[string]bool{"Scaled": true}, json.RawMessage(patch)); got != want {
			t.Errorf("%s: %q, want %q", patch, got, want)
		}
	}
}

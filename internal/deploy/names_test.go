package deploy_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/deploy"
)

// TestUnknownOptions: a null for an option that does not exist is a mistake with its name, like a value for it; a null for an option that exists, and values, are not.
func TestUnknownOptions(t *testing.T) {
	t.Parallel()
	for layer, want := range map[string]string{
		`{"num_replcas": null}`:                                       `deployment "Ranker": unknown option "num_replcas"; did you mean num_replicas?`,
		`{"nope": null}`:                                              `unknown option "nope"; there are num_replicas`,
		`{"nope": {"memory": null}}`:                                  `unknown option "nope"`,
		`{"limits": {"memry": null, "memory": 5}}`:                    `limits: unknown option "memry"; did you mean memory?`,
		`{"rollout_config": {"error_rate": {"factr": null}}}`:         `rollout_config.error_rate: unknown option "factr"; did you mean factor?`,
		`{"autoscaling_config": {"max_replcas": null}}`:               `autoscaling_config: max_replcas: there is no such field; did you mean max_replicas?`,
		`{"autoscaling_config": {"nope": null, "min_replicas": 6}}`:   `autoscaling_config: nope: there is no such field`,
		`{"num_replicas": null, "limits": null}`:                      "",
		`{"autoscaling_config": {"max_replicas": null}}`:              "",
		`{"autoscaling_config": {"policy": null, "min_replicas": 6}}`: "",
		`{"runtime_env": {"env_vars": {"B": null}}}`:                  "",
		`{"user_config": {"nope": null}, "limits": {"memory": null}}`: "",
		`{"num_replicas": "many"}`:                                    "", // the merged options have that mistake
		`null`:                                                        "",
		`7`:                                                           "",
	} {
		err := errors.Join(deploy.UnknownOptions(map[string]json.RawMessage{"": json.RawMessage(`{"nope": null}`), "Ranker": json.RawMessage(layer)})...)
		if text := ""; err != nil {
			if text = err.Error(); want == "" || !strings.Contains(text, want) || strings.Contains(text, "\n") {
				t.Errorf("%s: %s, want %q", layer, text, want)
			}
		} else if want != "" {
			t.Errorf("%s: no mistake, want %q", layer, want)
		}
	}
}

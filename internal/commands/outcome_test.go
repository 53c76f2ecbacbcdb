package commands

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// TestOutcomeOfSettings: the outcome of a file that changes no application says which settings of the node it has changed, the target capacity with the value before and after.
func TestOutcomeOfSettings(t *testing.T) {
	t.Parallel()
	capacity := func(before, after string) helvetype.ValueChange {
		return helvetype.ValueChange{Path: "target_capacity", Update: "in place", Before: json.RawMessage(before), After: json.RawMessage(after)}
	}
	unchanged := map[string]helvetype.Outcome{"shop": {Change: "unchanged", Revision: 1}}
	for name, x := range map[string]struct {
		a    helvetype.ApplyAnswer
		want string
	}{
		"a capacity":       {helvetype.ApplyAnswer{Applications: unchanged, Settings: []helvetype.ValueChange{capacity("50", "80")}}, "shop   unchanged   revision 1\n~ settings of the node\n    ~ target_capacity   50 % -> 80 %, for all applications of the node\n"},
		"the first one":    {helvetype.ApplyAnswer{Applications: unchanged, Settings: []helvetype.ValueChange{capacity("null", "0")}}, "    ~ target_capacity   not set (100 %) -> 0 %, for all applications of the node\n"},
		"its end":          {helvetype.ApplyAnswer{Settings: []helvetype.ValueChange{capacity("50", "null")}}, "~ settings of the node\n    ~ target_capacity   50 % -> not set (100 %), for all applications of the node\n"},
		"another setting":  {helvetype.ApplyAnswer{Applications: unchanged, Settings: []helvetype.ValueChange{{Path: "http_options.root_path", Update: "in place", After: json.RawMessage(`"/v1"`)}}}, "    + http_options.root_path   \"/v1\": in place\n"},
		"nothing":          {helvetype.ApplyAnswer{}, "nothing has changed: the file has no application\n"},
		"without settings": {helvetype.ApplyAnswer{Applications: unchanged}, "shop   unchanged   revision 1\n"},
	} {
		if got := outcomeText(x.a, false, "helve", 120); !strings.HasSuffix(got, x.want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, x.want)
		}
	}
}

// TestUnusedOption: an option without an effect says so beside its value.
func TestUnusedOption(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	effectiveText(&b, helvetype.EffectiveConfig{App: "shop", Revision: 2, Deployments: map[string][]helvetype.EffectiveValue{
		"Ranker": {{Path: "num_replicas", From: "override", Value: json.RawMessage("5"), Unused: "autoscaling_config sets the number of replicas"}},
	}}, 120)
	if want := "5, without effect: autoscaling_config sets the number of replicas\n"; !strings.HasSuffix(b.String(), want) {
		t.Error(b.String())
	}
}

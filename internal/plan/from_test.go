package plan_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/helve-serve/helve/internal/plan"
	"github.com/helve-serve/helve/internal/spec"
)

// TestSourceOfNumber: a plan says where the number of the options comes from, and which number an override of autoscaling_config takes the place of.
func TestSourceOfNumber(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct{ code, file, override, want string }{
		"default":                 {`{}`, `{}`, `{}`, "1 default, 0 "},
		"code":                    {`{"num_replicas": 2}`, `{}`, `{}`, "2 code, 0 "},
		"file":                    {`{"num_replicas": 2}`, `{"num_replicas": 3}`, `{}`, "3 file, 0 "},
		"override":                {`{"num_replicas": 2}`, `{}`, `{"num_replicas": 4}`, "4 override, 0 "},
		"autoscaler of the file":  {`{}`, `{"autoscaling_config": {"max_replicas": 4}}`, `{}`, "1 file, 0 "},
		"override over the code":  {`{"num_replicas": 2}`, `{}`, `{"autoscaling_config": {"max_replicas": 4}}`, "1 override, 2 code"},
		"override over a default": {`{}`, `{}`, `{"autoscaling_config": {"max_replicas": 4}}`, "1 override, 0 "},
	} {
		v := version(t, `{"import_path": "a:app"}`, map[string]string{"A": `{}`})
		o := &v.Graph.Deployments[0].Options
		code, err := spec.Options{}.Merge(json.RawMessage(x.code), spec.FromCode)
		if err == nil {
			*o, err = code.Merge(json.RawMessage(x.file), spec.FromFile)
		}
		if err == nil {
			*o, err = o.Merge(json.RawMessage(x.override), spec.FromOverride)
		}
		if err != nil {
			t.Fatal(err)
		}
		d, got := plan.Of(plan.Input{App: "shop", After: v}).Deployments[0], ""
		if got = fmt.Sprintf("%d %s, 0 ", d.Submitted, d.SubmittedFrom); d.Autoscaler != nil {
			got = fmt.Sprintf("%d %s, %d %s", d.Submitted, d.SubmittedFrom, d.Autoscaler.Replaces, d.Autoscaler.ReplacesFrom)
		}
		if got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

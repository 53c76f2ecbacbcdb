package plan_test

import (
	"fmt"
	"testing"

	"github.com/helve-serve/helve/internal/plan"
)

// TestByCapacity: a target capacity changes the number of replicas of a deployment, and the bounds of an autoscaler; the same capacity changes nothing.
func TestByCapacity(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		options   string
		scale     *plan.Scale
		now, then *float64
		want      string
	}{
		"half":            {`{"num_replicas": 4}`, nil, nil, new(50.0), "shop/A 4 -> 2"},
		"none":            {`{"num_replicas": 2}`, &plan.Scale{Replicas: 2, By: "deploy"}, nil, new(0.0), "shop/A 2 -> 0"},
		"back":            {`{"num_replicas": 2}`, &plan.Scale{Replicas: 5, By: "ann"}, new(0.0), nil, "shop/A 0 -> 5"},
		"the same":        {`{"num_replicas": 2}`, nil, new(50.0), new(50.0), ""},
		"nothing to stop": {`{"num_replicas": 1}`, nil, new(60.0), new(50.0), ""},
		"bounds":          {`{"autoscaling_config": {"min_replicas": 2, "max_replicas": 8}}`, &plan.Scale{Replicas: 3, By: "autoscaler", ByLoad: true}, nil, new(50.0), "shop/A 3 -> 3, 2 to 8 -> 1 to 4"},
		"an autoscaler":   {`{"autoscaling_config": {"min_replicas": 2, "max_replicas": 8}}`, &plan.Scale{Replicas: 6, By: "autoscaler", ByLoad: true}, nil, new(0.0), "shop/A 6 -> 0, 2 to 8 -> 0 to 0"},
	} {
		v, got := version(t, `{"import_path": "a:app"}`, map[string]string{"A": x.options}), ""
		in := plan.Input{App: "shop", Before: v, After: v, Capacity: plan.Capacity{Now: x.now, Then: x.then}, Scales: map[string]plan.Scale{}}
		if x.scale != nil {
			in.Scales["A"] = *x.scale
		}
		for _, c := range in.ByCapacity() {
			got += fmt.Sprintf("%s/%s %d -> %d", c.App, c.Deployment, c.Wanted, c.Next)
			if a := c.Autoscaler; a != nil {
				got += fmt.Sprintf(", %d to %d -> %d to %d", a.Before.Least, a.Before.Most, a.After.Least, a.After.Most)
			}
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

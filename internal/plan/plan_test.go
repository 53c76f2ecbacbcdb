package plan_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/plan"
	"github.com/helve-serve/helve/internal/spec"
)

// version is an application with deployments by name, each with options of a file.
func version(t testing.TB, application string, deployments map[string]string) *plan.Version {
	t.Helper()
	v := &plan.Version{Graph: spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: "A"}}}
	if err := json.Unmarshal([]byte(application), &v.Options); err != nil {
		t.Fatal(err)
	}
	for name, options := range deployments {
		d := spec.Deployment{Name: name, Language: "python"}
		var err error
		if d.Options, err = d.Options.Merge(json.RawMessage(options), spec.FromFile); err != nil {
			t.Fatal(err)
		}
		v.Graph.Deployments = append(v.Graph.Deployments, d)
	}
	return v
}

// line is a deployment of a plan in one line.
func line(d helvetype.DeploymentPlan) string {
	s := fmt.Sprintf("%s, %s", d.Change, d.Update)
	if d.Reason != "" {
		s += " (" + d.Reason + ")"
	}
	s += fmt.Sprintf(": %d of %d -> %d", d.Replicas, d.Wanted, d.Next)
	if d.Surge+d.Unavailable > 0 {
		s += fmt.Sprintf(" +%d -%d", d.Surge, d.Unavailable)
	}
	if d.Fit != "" {
		s += "; " + d.Fit
	}
	if d.NoSurge != "" {
		s += "; no more: " + d.NoSurge
	}
	return s
}

// TestPlans compares the plans of changes of one deployment.
func TestPlans(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		before, after string // "" for no deployment
		code          bool   // it is another one
		application   string
		scale         *plan.Scale
		rollback      bool
		returns       *plan.Scale // the number before a rollout under way
		gpus          float64
		want          string
	}{
		"nothing":                   {before: `{}`, after: `{}`, want: "unchanged, nothing: 1 of 1 -> 1"},
		"new":                       {after: `{"num_replicas": 2}`, want: "created, new replicas (it is new): 0 of 0 -> 2"},
		"gone":                      {before: `{}`, want: "deleted, nothing (the application does not have it any more): 1 of 1 -> 0"},
		"by the node":               {before: `{}`, after: `{"max_ongoing_requests": 7}`, want: "changed, nothing: 1 of 1 -> 1"},
		"in place":                  {before: `{"user_config": 1}`, after: `{"user_config": 2}`, want: "changed, in place (user_config has changed): 1 of 1 -> 1"},
		"without a config":          {before: `{"user_config": 1}`, after: `{}`, want: "changed, new replicas (a replica that has a user_config cannot be told that it has none): 1 of 1 -> 1 +1 -0"},
		"limits":                    {before: `{}`, after: `{"limits": {"open_files": 99}}`, want: "changed, new replicas (limits.open_files has changed): 1 of 1 -> 1 +1 -0"},
		"code":                      {before: `{"num_replicas": 10}`, after: `{"num_replicas": 10}`, code: true, want: "changed, new replicas (the code has changed): 10 of 10 -> 10 +2 -0"},
		"import path":               {before: `{}`, after: `{}`, code: true, application: `{"import_path": "b:app"}`, want: "changed, new application (import_path has changed): 1 of 1 -> 1 +1 -0"},
		"scaled, the file stays":    {before: `{"num_replicas": 2}`, after: `{"num_replicas": 2}`, scale: &plan.Scale{Replicas: 5, By: "ann"}, want: "unchanged, nothing: 5 of 5 -> 5"},
		"scaled, the file changes":  {before: `{"num_replicas": 2}`, after: `{"num_replicas": 3}`, scale: &plan.Scale{Replicas: 5, By: "ann"}, want: "changed, nothing: 5 of 5 -> 3"},
		"rolled back":               {before: `{"num_replicas": 2}`, after: `{"num_replicas": 3}`, scale: &plan.Scale{Replicas: 5, By: "ann"}, rollback: true, want: "changed, nothing: 5 of 5 -> 5"},
		"during a rollout":          {before: `{"num_replicas": 3}`, after: `{"num_replicas": 2}`, scale: &plan.Scale{Replicas: 3, By: "ann"}, rollback: true, returns: &plan.Scale{Replicas: 2}, want: "changed, nothing: 3 of 3 -> 2"},
		"a file during a rollout":   {before: `{"num_replicas": 3}`, after: `{"num_replicas": 4}`, scale: &plan.Scale{Replicas: 3, By: "ann"}, returns: &plan.Scale{Replicas: 2}, want: "changed, nothing: 3 of 3 -> 4"},
		"too many for one node":     {before: `{}`, after: `{"num_replicas": 3, "max_replicas_per_node": 2}`, want: "changed, nothing: 1 of 1 -> 3; 1 of 3 replicas would wait: max_replicas_per_node is 2"},
		"too many GPUs":             {before: `{}`, after: `{"num_replicas": 3, "ray_actor_options": {"num_gpus": 0.5}}`, gpus: 1, want: "changed, new replicas (ray_actor_options.num_gpus has changed): 1 of 1 -> 3 +0 -1; 1 of 3 replicas would wait: each needs 0.5 of a GPU, and none of 1 has that much free: shop/A (new), A (new) hold 1"},
		"no GPU left for the surge": {before: `{"ray_actor_options": {"num_gpus": 1}}`, after: `{"ray_actor_options": {"num_gpus": 1}}`, code: true, gpus: 1, want: "changed, new replicas (the code has changed): 1 of 1 -> 1 +0 -1; no more: needs 1 GPU, and 0 of 1 are free: shop/A (new) holds 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := plan.Input{App: "shop", Same: map[string]bool{"A": !x.code}, Rollback: x.rollback, On: nodeOf(int(x.gpus)), Running: map[string]int{}, Scales: map[string]plan.Scale{}}
			if x.returns != nil {
				in.Returns = map[string]plan.Scale{"A": *x.returns}
			}
			options := func(one string) map[string]string {
				if one == "" {
					return nil
				}
				return map[string]string{"A": one}
			}
			application := `{"import_path": "a:app"}`
			in.Before = version(t, application, options(x.before))
			if x.application != "" {
				application = x.application
			}
			in.After = version(t, application, options(x.after))
			if x.before != "" {
				in.Scales["A"] = plan.Scale{Replicas: in.Before.Graph.Deployments[0].Options.Effective().StartReplicas(), By: "deploy"}
				if x.scale != nil {
					in.Scales["A"] = *x.scale
				}
				in.Running["A"] = in.Scales["A"].Replicas
			}
			p := plan.Of(in)
			if len(p.Deployments) != 1 {
				t.Fatalf("%+v", p)
			}
			d := p.Deployments[0]
			if got := line(d); got != x.want {
				t.Errorf("\ngot  %s\nwant %s", got, x.want)
			}
			if (d.Change == plan.Unchanged) != (p.Change == plan.Unchanged) {
				t.Errorf("the application is %s, its deployment %s", p.Change, d.Change)
			}
			if x.scale != nil && d.ScaledBy != "ann" {
				t.Errorf("scaled by %q", d.ScaledBy)
			}
		})
	}
}

// TestPlanOfAutoscaler: a plan has the number that the deploy leaves, the bounds before and after, and the fields that differ.
func TestPlanOfAutoscaler(t *testing.T) {
	t.Parallel()
	const reason = "10.0 calls in the last 6 s / 2 a replica = 5.0"
	byLoad := plan.Scale{Replicas: 5, By: "autoscaler", Reason: reason, ByLoad: true}
	for name, x := range map[string]struct {
		before, after string
		scale         plan.Scale
		capacity      plan.Capacity
		want          string
	}{
		"nothing":             {before: `{"min_replicas": 1, "max_replicas": 8}`, after: `{"max_replicas": 8,   "min_replicas": 1}`, scale: byLoad, want: "5 -> 5; 1 to 8, 1 to 8; " + reason + ";"},
		"max below":           {before: `{"min_replicas": 1, "max_replicas": 8}`, after: `{"min_replicas": 1, "max_replicas": 4}`, scale: byLoad, want: "5 -> 4; 1 to 8, 1 to 4; " + reason + "; max_replicas 8 -> 4"},
		"max above":           {before: `{"min_replicas": 1, "max_replicas": 8}`, after: `{"min_replicas": 1, "max_replicas": 9}`, scale: byLoad, want: "5 -> 5; 1 to 8, 1 to 9; " + reason + "; max_replicas 8 -> 9"},
		"min above":           {before: `{"min_replicas": 1, "max_replicas": 8}`, after: `{"min_replicas": 6, "max_replicas": 8}`, scale: byLoad, want: "5 -> 6; 1 to 8, 6 to 8; " + reason + "; min_replicas 1 -> 6"},
		"another target":      {before: `{"max_replicas": 8}`, after: `{"max_replicas": 8, "target_ongoing_requests": 3}`, scale: byLoad, want: "5 -> 5; 1 to 8, 1 to 8; " + reason + "; target_ongoing_requests - -> 3"},
		"initial_replicas":    {before: `{"max_replicas": 8}`, after: `{"max_replicas": 8, "initial_replicas": 7}`, scale: byLoad, want: "5 -> 7; 1 to 8, 1 to 8; " + reason + "; initial_replicas - -> 7"},
		"fewer initial":       {before: `{"max_replicas": 8}`, after: `{"max_replicas": 8, "initial_replicas": 3}`, scale: byLoad, want: "5 -> 5; 1 to 8, 1 to 8; " + reason + "; initial_replicas - -> 3"},
		"to a number":         {before: `{"max_replicas": 8}`, after: `2`, scale: byLoad, want: "5 -> 2; 1 to 8, -; " + reason + "; max_replicas 8 -> -"},
		"from a number":       {before: `4`, after: `{"max_replicas": 8}`, scale: plan.Scale{Replicas: 4, By: "deploy"}, want: "4 -> 4; -, 1 to 8; ; max_replicas - -> 8"},
		"capacity":            {before: `{"max_replicas": 8}`, after: `{"max_replicas": 8}`, scale: byLoad, capacity: plan.Capacity{Then: new(50.0)}, want: "5 -> 4; 1 to 8, 1 to 4; " + reason + ";"},
		"no capacity":         {before: `{"max_replicas": 8}`, after: `{"max_replicas": 8}`, scale: byLoad, capacity: plan.Capacity{Then: new(0.0)}, want: "5 -> 0; 1 to 8, 0 to 0; " + reason + ";"},
		"capacity rises":      {before: `{"max_replicas": 8, "initial_replicas": 6}`, after: `{"max_replicas": 8, "initial_replicas": 6}`, scale: plan.Scale{Replicas: 1, ByLoad: true, By: "autoscaler"}, capacity: plan.Capacity{Now: new(50.0), Then: new(100.0), Rises: true}, want: "1 -> 6; 1 to 4, 1 to 8; ;"},
		"capacity on its way": {before: `{"max_replicas": 8, "initial_replicas": 6}`, after: `{"max_replicas": 8, "initial_replicas": 6}`, scale: plan.Scale{Replicas: 1, ByLoad: true, By: "autoscaler"}, capacity: plan.Capacity{Now: new(50.0), Then: new(50.0), Rising: true, Rises: true}, want: "1 -> 3; 3 to 4, 3 to 4; ;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := func(config string) *plan.Version {
				if config[0] == '{' {
					return version(t, `{}`, map[string]string{"A": `{"autoscaling_config": ` + config + `}`})
				}
				return version(t, `{}`, map[string]string{"A": `{"num_replicas": ` + config + `}`})
			}
			p := plan.Of(plan.Input{App: "shop", Before: of(x.before), After: of(x.after), Same: map[string]bool{"A": true}, Scales: map[string]plan.Scale{"A": x.scale}, Capacity: x.capacity})
			d := p.Deployments[0]
			bounds := func(b *helvetype.ReplicaBounds) string {
				if b == nil {
					return "-"
				}
				return fmt.Sprintf("%d to %d", b.Least, b.Most)
			}
			got := fmt.Sprintf("%d -> %d; %s, %s; %s;", d.Wanted, d.Next, bounds(d.Autoscaler.Before), bounds(d.Autoscaler.After), d.Autoscaler.Decision)
			for _, o := range d.Options {
				if field, ok := strings.CutPrefix(o.Path, "autoscaling_config."); ok {
					got += fmt.Sprintf(" %s %s -> %s", field, cmp.Or(string(o.Before), "-"), cmp.Or(string(o.After), "-"))
				}
			}
			if got != x.want {
				t.Errorf("\ngot  %s\nwant %s", got, x.want)
			}
			if d.ScaledBy != "" {
				t.Errorf("scaled by %q: the autoscaler has an entry of its own", d.ScaledBy)
			}
		})
	}
}

// TestPlanNamesHolders: the replicas that hold a device are named: by its id a replica that runs, and as new a replica that the change starts.
func TestPlanNamesHolders(t *testing.T) {
	t.Parallel()
	one := version(t, `{}`, map[string]string{"A": `{"ray_actor_options": {"num_gpus": 1}}`})
	three := version(t, `{}`, map[string]string{"A": `{"num_replicas": 3, "ray_actor_options": {"num_gpus": 1}}`})
	p := plan.Of(plan.Input{App: "shop", Before: one, After: three, Same: map[string]bool{"A": true}, On: nodeOf(2), Replicas: map[string][]string{"A": {"A#005"}}})
	if d := p.Deployments[0]; !strings.HasSuffix(d.Fit, ": shop/A (new), A#005 hold 2") {
		t.Errorf("%q", d.Fit)
	}
}

// TestPlanAtTargetCapacity: a plan has the replicas that run at the target capacity now, and those that will.
func TestPlanAtTargetCapacity(t *testing.T) {
	t.Parallel()
	one := version(t, `{"import_path": "a:app"}`, map[string]string{"A": `{"num_replicas": 4}`})
	p := plan.Of(plan.Input{
		App: "shop", Before: one, After: one, Same: map[string]bool{"A": true},
		Capacity: plan.Capacity{Now: new(50.0)},
	})
	if d := p.Deployments[0]; d.Wanted != 2 || d.Next != 4 || d.Change != plan.Changed || p.Change != plan.Changed {
		t.Errorf("%+v", p)
	}
}

// TestPlansHideSecrets: values of variables are not in a plan.
func TestPlansHideSecrets(t *testing.T) {
	t.Parallel()
	env := func(value string) string { return `{"runtime_env": {"env_vars": {"KEY": "` + value + `"}}}` }
	p := plan.Of(plan.Input{
		App: "shop", Before: version(t, env("hunter2"), map[string]string{"A": env("hunter2")}), After: version(t, env("hunter3"), map[string]string{"A": env("hunter3")}),
		Same: map[string]bool{"A": true},
	})
	text, err := json.Marshal(p)
	if err != nil || strings.Contains(string(text), "hunter") || strings.Count(string(text), `***`) != 4 || !strings.Contains(string(text), `"runtime_env.env_vars.KEY"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestPlanProperties holds of random changes: a plan from a version to itself changes nothing; the update of a deployment is the greatest of its options', or more
// if the code is another; an update of replicas may replace at least one; and the plan of the way back changes the same options.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	values := []string{
		`"num_replicas": 1`, `"num_replicas": 4`, `"max_ongoing_requests": 9`, `"user_config": {"a": 1}`, `"user_config": {"a": 2}`, `"limits": {"open_files": 64}`,
		`"rollout_config": {"max_surge": 0}`, `"ray_actor_options": {"num_gpus": 1}`, `"max_replicas_per_node": 2`, `"version": "2"`,
	}
	rank := map[string]int{"nothing": 0, "in place": 1, "new replicas": 2, "new application": 3}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		random := func() *plan.Version {
			all := map[string]string{}
			for _, name := range []string{"A", "B"} {
				if name == "B" && r.IntN(3) == 0 {
					continue
				}
				some := map[string]string{}
				for range r.IntN(4) {
					v := values[r.IntN(len(values))]
					some[strings.SplitN(v, ":", 2)[0]] = v
				}
				var fields []string
				for _, v := range some {
					fields = append(fields, v)
				}
				all[name] = "{" + strings.Join(fields, ",") + "}"
			}
			return version(t, `{"import_path": "m:`+string(rune('a'+r.IntN(2)))+`"}`, all)
		}
		a, b := random(), random()
		same := map[string]bool{"A": r.IntN(2) == 0, "B": r.IntN(2) == 0}
		if p := plan.Of(plan.Input{App: "shop", Before: a, After: a, Same: map[string]bool{"A": true, "B": true}}); p.Change != plan.Unchanged {
			t.Fatalf("seed %d: a version differs from itself: %+v", seed, p)
		}
		forth := plan.Of(plan.Input{App: "shop", Before: a, After: b, Same: same, On: nodeOf(r.IntN(3))})
		back := plan.Of(plan.Input{App: "shop", Before: b, After: a, Same: same})
		for i, d := range forth.Deployments {
			most := 0
			for _, o := range d.Options {
				most = max(most, rank[o.Update])
			}
			if rank[d.Update] < most || d.Change == plan.Changed && !same[d.Name] && rank[d.Update] < 2 {
				t.Fatalf("seed %d: %+v", seed, d)
			}
			if d.Change == plan.Changed && rank[d.Update] >= 2 && d.Next > 0 && d.Surge+d.Unavailable == 0 {
				t.Fatalf("seed %d: no replica of %s can be replaced: %+v", seed, d.Name, d)
			}
			if len(d.Options) != len(back.Deployments[i].Options) {
				t.Fatalf("seed %d: the way back changes other options: %+v, %+v", seed, d, back.Deployments[i])
			}
		}
	}
}

// TestPlanOfOverrides: the options for which an override holds are named with the value under it, also where nothing changes.
func TestPlanOfOverrides(t *testing.T) {
	t.Parallel()
	v := version(t, "{}", map[string]string{"A": `{"max_ongoing_requests": 5}`, "B": "{}"})
	v.Below = map[string]spec.Options{}
	for i, d := range v.Graph.Deployments {
		v.Below[d.Name] = d.Options
		if d.Name == "A" {
			o, err := d.Options.Merge([]byte(`{"max_ongoing_requests": 20}`), spec.FromOverride)
			if err != nil {
				t.Fatal(err)
			}
			v.Graph.Deployments[i].Options = o
		}
	}
	p := plan.Of(plan.Input{App: "shop", Before: v, After: v, Same: map[string]bool{"A": true, "B": true}, Scales: map[string]plan.Scale{"A": {Replicas: 1}, "B": {Replicas: 1}}})
	if p.Change != plan.Unchanged || len(p.Deployments) != 2 || len(p.Deployments[1].Overrides) != 0 {
		t.Fatalf("%+v", p)
	}
	o := p.Deployments[0].Overrides
	if len(o) != 1 || o[0].Path != "max_ongoing_requests" || string(o[0].Before) != "5" || string(o[0].After) != "20" || o[0].BeforeFrom != "file" || o[0].AfterFrom != "override" {
		t.Errorf("%+v", o)
	}
	before := version(t, "{}", map[string]string{"A": `{"max_ongoing_requests": 5}`, "B": "{}"})
	p = plan.Of(plan.Input{App: "shop", Before: before, After: v, Same: map[string]bool{"A": true, "B": true}})
	if d := p.Deployments[0]; len(d.Options) != 1 || d.Options[0].AfterFrom != "override" || len(d.Overrides) != 0 {
		t.Errorf("the plan of an override has the option twice: %+v", d)
	}
}

// TestLines: the history says what a change was, and of changes that need no replicas the values.
func TestLines(t *testing.T) {
	t.Parallel()
	of := func(options string) plan.Version {
		return *version(t, "{}", map[string]string{"A": options})
	}
	for name, x := range map[string]struct {
		before, after string
		code          bool
		want          string
	}{
		"nothing":   {`{}`, `{}`, false, ""},
		"a number":  {`{"num_replicas": 2}`, `{"num_replicas": 3}`, false, "A: num_replicas 2 -> 3, no restart"},
		"two":       {`{"num_replicas": 2}`, `{"num_replicas": 3, "max_ongoing_requests": 9}`, false, "A: num_replicas 2 -> 3, max_ongoing_requests 5 -> 9, no restart"},
		"in place":  {`{"user_config": 1}`, `{"user_config": 2}`, false, "A: in place (user_config)"},
		"the code":  {`{}`, `{}`, true, "A: new replicas (code)"},
		"autoscale": {`{}`, `{"autoscaling_config": {"max_replicas": 4}}`, false, "A: autoscaling_config.max_replicas none -> 4, no restart"},
	} {
		if got := strings.Join(plan.Lines(of(x.before), of(x.after), map[string]bool{"A": !x.code}, nil), "; "); got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

// A working_dir under another path needs no new replicas if it has the same files.
func TestPlanOfAnotherWorkingDir(t *testing.T) {
	t.Parallel()
	at := func(dir string) *plan.Version {
		return version(t, "{}", map[string]string{"A": `{"runtime_env":{"working_dir":"` + dir + `"}}`})
	}
	in := plan.Input{App: "shop", Before: at("/srv/v1"), After: at("/srv/v2"), Same: map[string]bool{"A": true}}
	if d := plan.Of(in).Deployments[0]; d.Update != "new replicas" {
		t.Errorf("with other files: %s", line(d))
	}
	in.SameFiles = map[string]bool{"A": true}
	if d := plan.Of(in).Deployments[0]; d.Update != "nothing" || d.Change != plan.Changed {
		t.Errorf("with the same files: %s", line(d))
	}
}

// nodeOf is a node with a number of GPUs.
func nodeOf(gpus int) placement.Node {
	var names []string
	for i := range gpus {
		names = append(names, strconv.Itoa(i))
	}
	return placement.Unstated("", names...)
}

// TestPatchedValues: the line about a patch for the audit log has values that can be no secret.
func TestPatchedValues(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		`{"deployments":{"Ranker":{"num_replicas":4,"user_config":{"pin":1234}}}}`:                                             "Ranker.num_replicas=4, Ranker.user_config",
		`{"deployments":{"B":{"user_config":7},"A":{"num_replicas":null}}}`:                                                    "A.num_replicas=null, B.user_config",
		`{"deployments":{"A":{"request_router":{"virtual_nodes":9}}}}`:                                                         "A.request_router.virtual_nodes=9",
		`{"deployments":{"A":{"ray_actor_options":{"num_cpus":0.5,"runtime_env":{"env_vars":{"KEY":"hunter2","PIN":1234}}}}}}`: "A.ray_actor_options.num_cpus=0.5, A.ray_actor_options.runtime_env",
		`{"deployments":{"A":{"num_replicas":"auto","nonsense":{"a":1}},"B":5}}`:                                               "A.nonsense, A.num_replicas, B",
		`{"args":1234,"external_scaler_enabled":true,"route_prefix":"/x"}`:                                                     "args, external_scaler_enabled=true, route_prefix",
		`{"history_limit":` + strings.Repeat("1", 50) + `}`:                                                                    "history_limit",
		`{"deployments":3}`: "deployments",
		`{}`:                "",
	} {
		if got := plan.PatchedValues(json.RawMessage(options)); got != want {
			t.Errorf("%s: %q, want %q", options, got, want)
		}
	}
}

// TestMeanings: each option says what it means.
func TestMeanings(t *testing.T) {
	t.Parallel()
	all := append(plan.Values(spec.Options{}.Effective().Values()), plan.Values(spec.Application{}.Effective().Values())...)
	for _, v := range all {
		if v.About == "" {
			t.Error(v.Path)
		}
		if v.Path == "history_limit" && v.About != "Number of revisions that are kept, for the history and for rollbacks." {
			t.Error(v.About)
		}
	}
	if len(all) < 40 {
		t.Error(len(all))
	}
}

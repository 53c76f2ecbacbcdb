package deploy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/spec"
)

// TestPoliciesOfExecutables: a policy in Go that the node does not have runs in a process of the executable that has the deployment, under the name that the deployment has there. Policies of one executable
// share the process, and a policy stays the same policy while neither it nor its executable changes.
func TestPoliciesOfExecutables(t *testing.T) {
	t.Parallel()
	in := func(name, from, class, function string) spec.Deployment {
		d := spec.Deployment{Name: name, Language: "go", Import: from, Class: class}
		d.Options.AutoscalingConfig = json.RawMessage(`{"max_replicas": 3, "policy": {"policy_function": "` + function + `"}}`)
		d.Options.Isolation = spec.Process
		return d
	}
	policies := func(a *App) (all []policy.Source) { return a.ScalingPolicies(nil, Settings{}) }
	of := func(all []policy.Source) (text []string) {
		for _, s := range all {
			text = append(text, s.PolicyName()+" is "+s.Of.Entry+" "+s.Of.Function)
		}
		return text
	}
	whole := &App{Graph: spec.Graph{App: "shop", Deployments: []spec.Deployment{in("A", "", "", "go:main.a"), in("B", "", "", "go:main.b")}}, Program: &host.Program{Path: "/bin/true"}}
	all := policies(whole)
	if diff := cmp.Diff([]string{"A is A go:main.a", "B is B go:main.b"}, of(all)); diff != "" {
		t.Fatal(diff)
	}
	if all[0].Go != nil || all[0].Key != all[1].Key || all[0].Version == all[1].Version {
		t.Errorf("%+v", all)
	}
	whole.Number = 7
	again := policies(whole)
	if all[0].Version != again[0].Version {
		t.Error("another revision of the same executable has another policy")
	}
	whole.Program = &host.Program{Path: "/bin/false"}
	if other := policies(whole); other[0].Version == all[0].Version || other[0].Key == all[0].Key {
		t.Error("another executable has the same policy")
	}
	whole.Graph.Together = json.RawMessage(`{"policy_function": "go:main.share"}`)
	if diff := cmp.Diff([]string{" is  go:main.share"}, of(policies(whole))); diff != "" {
		t.Error(diff)
	}

	const from = "exec:/bin/true#ranker"
	part := &App{
		Graph: spec.Graph{App: "shop", Deployments: []spec.Deployment{in("second", from, "Ranker", "go:main.a")}},
		Parts: map[string]*Part{from: {Graph: spec.Graph{App: "ranker"}, Program: host.Program{Path: "/bin/true"}}},
	}
	if diff := cmp.Diff([]string{"second is Ranker go:main.a"}, of(policies(part))); diff != "" {
		t.Error(diff)
	}
	refused := func(a *App, want string) {
		t.Helper()
		if _, err := policies(a)[0].Beside(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	part.Graph.Together = json.RawMessage(`{"policy_function": "go:main.share"}`)
	refused(part, "an executable that does not have all the deployments")
	part.Graph.Deployments[0].Name = "Ranker"
	if diff := cmp.Diff([]string{" is  go:main.share"}, of(policies(part))); diff != "" || policies(part)[0].Key == "" {
		t.Error(diff)
	}
	part.Graph.Deployments = append(part.Graph.Deployments, in("Other", "", "", "go:main.o"))
	refused(part, "an executable that does not have all the deployments")
	refused(&App{Graph: spec.Graph{App: "shop", Deployments: []spec.Deployment{in("A", "", "", "go:main.a")}}}, "no deployment of an executable that could run it")
}

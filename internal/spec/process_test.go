package spec

import (
	"fmt"
	"strings"
	"testing"
)

func TestGoWorker(t *testing.T) {
	t.Parallel()
	a := Options{Isolation: Process, Env: map[string]string{"A": "1"}, Limits: Limits{Memory: 1 << 30, CPUs: 1}}
	b := Options{Isolation: Process, Env: map[string]string{"A": "1", "B": "2"}, Dir: "/d", Limits: Limits{Memory: 1 << 29, OpenFiles: 50}}
	g := Graph{App: "a", Ingress: &IngressSpec{Deployment: "A"}, Deployments: []Deployment{
		{Name: "A", Language: "go", Options: a}, {Name: "B", Language: "go", Options: b}, {Name: "C", Language: "go"},
		{Name: "P", Language: "python", Options: Options{Env: map[string]string{"A": "other"}, Limits: Limits{Memory: 1 << 30}}},
	}}
	if errs := g.Validate(); len(errs) > 0 {
		t.Error(errs)
	}
	env, dir, l := g.GoWorker("")
	if fmt.Sprint(env) != "map[A:1 B:2]" || dir != "/d" || l != (Limits{Memory: 3 << 29, CPUs: 1, OpenFiles: 50}) {
		t.Errorf("%v %s %+v", env, dir, l)
	}
	b.Env, a.Dir = map[string]string{"A": "3"}, "/e"
	g.Deployments[0].Options, g.Deployments[1].Options = a, b
	g.Deployments[2].Options = Options{Dir: "/x", Limits: Limits{CPUs: 1}}
	got := fmt.Sprint(g.Validate())
	for _, want := range []string{
		`deployment "B": runtime_env.env_vars: A is "3" here and "1" in deployment "A"`, `deployment "B": runtime_env.working_dir: "/d" here and "/e" in deployment "A"`,
		`deployment "C": runtime_env.working_dir, limits.num_cpus: its replicas share the node's process`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

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

// TestLimitsFromResources: limits follow the resources where asked, as far as they are not set, and are refused where no worker could have them.
func TestLimitsFromResources(t *testing.T) {
	t.Parallel()
	const asks = `"ray_actor_options": {"num_cpus": 2, "memory": 4294967296}`
	for text, want := range map[string]Limits{
		`{` + asks + `}`: {},
		`{` + asks + `, "limits": {"from_resources": true}}`:                                             {Memory: 4 << 30, CPUs: 2, FromResources: true},
		`{` + asks + `, "limits": {"from_resources": true, "num_cpus": 3, "open_files": 99}}`:            {Memory: 4 << 30, CPUs: 3, OpenFiles: 99, FromResources: true},
		`{"limits": {"from_resources": true}}`:                                                           {CPUs: 1, FromResources: true},
		`{"ray_actor_options": {"memory": 1}, "limits": {"from_resources": true, "memory": 1000000000}}`: {Memory: 1e9, CPUs: 1, FromResources: true},
	} {
		o, err := Options{}.Merge([]byte(text), FromCode)
		if got := o.Effective().ProcessLimits(); err != nil || len(o.Validate()) > 0 || got != want {
			t.Errorf("%s: %+v %v %v", text, got, err, o.Validate())
		}
	}
	for text, want := range map[string]string{
		`{"ray_actor_options": {"num_cpus": 0}, "limits": {"from_resources": true}}`:     "ray_actor_options.memory, ray_actor_options.num_cpus, limits.from_resources: the replicas ask for no memory and no CPUs",
		`{"ray_actor_options": {"memory": 4096}, "limits": {"from_resources": true}}`:    "ray_actor_options.memory, limits.from_resources: no worker starts with 4096 bytes of memory; ask for at least 16777216",
		`{"ray_actor_options": {"num_cpus": 0.001}, "limits": {"from_resources": true}}`: "ray_actor_options.num_cpus, limits.from_resources: no worker starts with 0.001 CPUs; ask for at least 0.01",
	} {
		o, err := Options{}.Merge([]byte(text), FromCode)
		if got := fmt.Sprint(o.Validate()); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v %s", text, err, got)
		}
	}
	g := Graph{App: "a", Ingress: &IngressSpec{Deployment: "A"}, Deployments: []Deployment{
		{Name: "A", Language: "go", Options: Options{Isolation: Process, Limits: Limits{FromResources: true}}},
	}}
	if got := fmt.Sprint(g.Validate()); !strings.Contains(got, `deployment "A": limits.from_resources: its replicas, whose number changes, share a worker; set limits.memory and limits.num_cpus`) {
		t.Error(got)
	}
}

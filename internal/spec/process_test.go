package spec

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestProcessOptions(t *testing.T) {
	t.Parallel()
	in := Options{
		Isolation: Process, Env: map[string]string{"A": "1"}, Dir: "/srv", Limits: Limits{Memory: 1 << 30, CPUs: 1.5, OpenFiles: 100},
		UnresponsiveAfter: new(time.Second), MaxUnresponsive: new(time.Minute),
	}
	const want = `{"isolation":"process","runtime_env":{"env_vars":{"A":"1"},"working_dir":"/srv"},` +
		`"limits":{"memory":1073741824,"num_cpus":1.5,"open_files":100},"unresponsive_after_s":1,"max_unresponsive_s":60}`
	b, err := json.Marshal(in)
	var out Options
	if err != nil || string(b) != want || json.Unmarshal(b, &out) != nil || cmp.Diff(in, out) != "" {
		t.Errorf("%s %v", b, err)
	}
	e := in.Effective()
	if e.Limits != in.Limits || e.UnresponsiveAfter != time.Second || e.MaxUnresponsive != time.Minute || e.Sources["limits"] != FromCode {
		t.Errorf("%+v", e)
	}
	if e = (Options{}).Effective(); e.UnresponsiveAfter != 5*time.Second || e.MaxUnresponsive != 0 || e.Sources["env_vars"] != FromDefault {
		t.Errorf("%+v", e)
	}
	bad := Options{
		Env: map[string]string{"": "", "A=B": "", "HELVE_SOCKET": "", "C": "\x00"}, Dir: "\x00",
		Limits: Limits{Memory: 1, CPUs: math.NaN(), OpenFiles: -1}, UnresponsiveAfter: new(time.Duration(0)), MaxUnresponsive: new(-time.Second),
	}
	if errs := bad.Validate(); len(errs) != 10 {
		t.Errorf("%d: %v", len(errs), errs)
	}
}

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
	env, dir, l := g.GoWorker()
	if fmt.Sprint(env) != "map[A:1 B:2]" || dir != "/d" || l != (Limits{Memory: 3 << 29, CPUs: 1, OpenFiles: 50}) {
		t.Errorf("%v %s %+v", env, dir, l)
	}
	b.Env, a.Dir = map[string]string{"A": "3"}, "/e"
	g.Deployments[0].Options, g.Deployments[1].Options = a, b
	g.Deployments[2].Options = Options{Dir: "/x", Limits: Limits{CPUs: 1}}
	got := fmt.Sprint(g.Validate())
	for _, want := range []string{
		`deployment "B": env_vars: A is "3" here and "1" in deployment "A"`, `deployment "B": working_dir: "/d" here and "/e" in deployment "A"`,
		`deployment "C": working_dir, limits: its replicas share the node's process`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

package files_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/worker"
)

// place is a node, with a directory in which its operator has modules.
type place struct {
	t   *testing.T
	dir string
	url string
	*control.Operator
	node *node.Node
}

var ann = helvetype.Author{Name: "ann", Role: helvetype.RoleDeploy, Via: "socket"} //nolint:gochecknoglobals // a constant

// newPlace starts a node that keeps its state in memory. The functions change its settings.
func newPlace(t *testing.T, change ...func(*node.Settings)) *place {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	set := node.Settings{Program: host.Program{Path: exe, Env: worker.WithVariables(os.Environ(), map[string]string{"HELVE_CACHE": t.TempDir()}), Dir: dir}}
	for _, c := range change {
		c(&set)
	}
	n := node.New(set)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		n.Close(ctx) //nolint:errcheck // calls of a test that has failed may be cut off
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := n.Serve(l)
	if err != nil {
		t.Fatal(err)
	}
	return &place{t: t, dir: dir, url: url, Operator: n.Operator(), node: n}
}

// write writes a module.
func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// apply applies a file, and waits until its applications run or have failed.
func (p *place) apply(config string, change ...func(*helvetype.ApplyRequest)) (helvetype.ApplyAnswer, error) {
	r := helvetype.ApplyRequest{Config: config, Name: "serve.yaml", Dir: p.dir, Wait: true}
	for _, c := range change {
		c(&r)
	}
	return p.Apply(p.t.Context(), ann, r)
}

// applied is the outcome of each application of a file that a node takes: "created 1", for example.
func (p *place) applied(config string, change ...func(*helvetype.ApplyRequest)) map[string]string {
	p.t.Helper()
	a, err := p.apply(config, change...)
	if err != nil {
		p.t.Fatal(err)
	}
	return outcomes(a)
}

func outcomes(a helvetype.ApplyAnswer) map[string]string {
	all := map[string]string{}
	for app, of := range a.Applications {
		all[app] = strings.TrimSpace(fmt.Sprintf("%s %d %s", of.Change, of.Revision, of.Error))
	}
	return all
}

// get is the answer to a request for a path.
func (p *place) get(path string) string {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// same compares a map of outcomes.
func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("- wanted, + got:\n%s", diff)
	}
}

// shop is a module with an application, and two functions that make one.
const shop = `
import os
from pydantic import BaseModel
from helve import serve

@serve.deployment(max_ongoing_requests=3)
class Ranker:
    def __init__(self, factor: int = 1):
        self.factor, self.config = factor, None

    def reconfigure(self, config):
        self.config = config

    def __call__(self, request):
        return f"{self.factor} {self.config} {os.getpid()}"

class Args(BaseModel):
    factor: int

app = Ranker.bind(3)

def untyped(args):
    return Ranker.bind(int(args["factor"]) * 10)

def typed(args: Args):
    return Ranker.bind(args.factor)
`

// TestApply applies files with applications in Python.
func TestApply(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	const file = `
applications:
- name: shop
  route_prefix: /shop
  import_path: shop:app
  deployments:
  - name: Ranker
    num_replicas: 1
    user_config: {a: 1}
- name: typed
  route_prefix: /typed
  import_path: shop:typed
  args: {factor: 4}
- name: untyped
  route_prefix: /untyped
  import_path: shop.untyped
  args: {factor: "5"}
`
	same(t, p.applied(file), map[string]string{"shop": "created 1", "typed": "created 1", "untyped": "created 1"})
	first := p.get("/shop")
	if !strings.HasPrefix(first, "3 {'a': 1} ") {
		t.Errorf("shop answers %q", first)
	}
	if got := p.get("/typed"); !strings.HasPrefix(got, "4 None ") {
		t.Errorf("typed answers %q", got)
	}
	if got := p.get("/untyped"); !strings.HasPrefix(got, "50 None ") {
		t.Errorf("untyped answers %q", got)
	}

	// An option that changes in place leaves the process of the replica.
	changed := strings.Replace(file, "a: 1", "a: 2", 1)
	if got := p.applied(changed)["shop"]; got != "changed 2" {
		t.Errorf("a change of the user config is %q", got)
	}
	if got, want := p.get("/shop"), strings.Replace(first, "'a': 1", "'a': 2", 1); got != want {
		t.Errorf("shop answers %q, and not %q", got, want)
	}

	// Another file of the same source deletes the applications that it does not have; that of another source stays.
	other := func(r *helvetype.ApplyRequest) { r.Source = "other" }
	const mine = "applications: [{name: mine, import_path: 'shop:app', route_prefix: /mine}]"
	same(t, p.applied(mine, other), map[string]string{"mine": "created 1"})
	const less = "applications: [{name: untyped, import_path: 'shop:untyped', route_prefix: /untyped, args: {factor: '5'}}]"
	keep := func(r *helvetype.ApplyRequest) { r.Keep = true }
	if got := p.applied(less, keep); len(got) != 1 {
		t.Errorf("a request that keeps the others has the outcomes %v", got)
	}
	got := p.applied(less)
	if got["shop"] != "deleted 0" || got["typed"] != "deleted 0" || got["mine"] != "" {
		t.Errorf("the outcomes are %v", got)
	}
	fixture.Eventually(t, func() string {
		all := p.node.Status().Applications
		if len(all) == 2 && all["mine"].Status != "" {
			return ""
		}
		return fmt.Sprintf("the applications are %v", all)
	})

	// A generation that is not the present one is refused.
	before := p.Generation()
	_, err := p.apply(less, func(r *helvetype.ApplyRequest) { r.If = before + 1 })
	if e, ok := errors.AsType[*helvetype.OperationError](err); !ok || e.Code != helvetype.CodeFailedPrecondition {
		t.Errorf("a request for another generation gives %v", err)
	}
	if err := p.Delete(t.Context(), ann, "mine"); err != nil {
		t.Error(err)
	}
	if now := p.Generation(); now <= before {
		t.Errorf("the generation is %d after a delete, and was %d before", now, before)
	}
	if e, ok := errors.AsType[*helvetype.OperationError](p.Delete(t.Context(), ann, "nope")); !ok || e.Code != helvetype.CodeNotFound {
		t.Errorf("the delete of no application gives %v", e)
	}
}

// TestApplyMistakes looks at the errors of files and of the code behind them. Each has the line of the file.
func TestApplyMistakes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	p.write("broken.py", "import shop\n\nprint('about to fail')\nraise RuntimeError('no weights')\n")
	p.write("scaling.py", "class Stepped:\n    def __init__(self, step):\n        self.step = step\n\n    def __call__(self, ctx):\n        return self.step\n")
	p.write("dies.py", "import os\nprint('last words', flush=True)\nos._exit(7)\n")
	p.write("plain.py", "from helve import serve\n\n@serve.deployment\nclass Plain:\n    def __call__(self, request):\n        return 'x'\n\napp = Plain.bind()\nnumber = 3\n")
	p.write("runs.py", "from helve import serve\nimport plain\nserve.run(plain.app)\napp = plain.app\n")
	for name, x := range map[string]struct {
		app   string
		parts []string
	}{
		"no module":        {"import_path: nope:app", []string{"serve.yaml:2:", "there is no module 'nope' in " + p.dir, "import_path: nope:app"}},
		"no attribute":     {"import_path: shop:ap", []string{"serve.yaml:2:", "shop has no 'ap'; did you mean 'app'"}},
		"an error":         {"import_path: broken:app", []string{"serve.yaml:2:", "RuntimeError: no weights", "broken.py\", line 4"}},
		"the end":          {"import_path: dies:app", []string{"serve.yaml:2:", "exit status 7", "last words"}},
		"no application":   {"import_path: plain:number", []string{"it is an int, and must be an Application"}},
		"serve.run":        {"import_path: runs:app", []string{`if __name__ == "__main__"`}},
		"an argument":      {"import_path: shop:typed\n  args:\n    factor: x", []string{"serve.yaml:4:5: ", "factor: "}},
		"arguments":        {"import_path: shop:app\n  args: {a: 1}", []string{"serve.yaml:3:", "takes no arguments"}},
		"no deployment":    {"import_path: shop:app\n  deployments:\n  - name: Ranke", []string{"serve.yaml:4:", `has no deployment "Ranke"`, "it has Ranker"}},
		"no reconfigure":   {"import_path: plain:app\n  deployments:\n  - name: Plain\n    user_config: 1", []string{"serve.yaml:5:", "no method reconfigure"}},
		"an option":        {"import_path: shop:app\n  deployments:\n  - name: Ranker\n    num_replicas: -1", []string{"serve.yaml:5:", "num_replicas"}},
		"a far directory":  {"import_path: shop:app\n  runtime_env:\n    working_dir: s3://bucket/a.zip", []string{"serve.yaml:", "s3://"}},
		"no executable":    {"import_path: exec:/nope/nope#app", []string{"serve.yaml:2:", "there is no executable /nope/nope"}},
		"no wheel":         {"import_path: shop:app\n  runtime_env: {pip: [/nope/nope.whl]}", []string{"serve.yaml:3:", "nope.whl"}},
		"not there":        {"import_path: shop:app\n  runtime_env: {working_dir: /nope/dir}", []string{"serve.yaml:3:", "/nope/dir"}},
		"no policy":        {"import_path: shop:app\n  deployments:\n  - name: Ranker\n    autoscaling_config:\n      policy: {policy_function: 'nope:f'}", []string{"serve.yaml:6:", "the policy nope:f cannot be loaded: ModuleNotFoundError: No module named 'nope'"}},
		"no step":          {"import_path: shop:app\n  deployments:\n  - name: Ranker\n    autoscaling_config:\n      policy: {policy_function: 'scaling:Stepped'}", []string{"serve.yaml:6:", "the policy scaling:Stepped cannot be loaded: TypeError", "'step'"}},
		"a broken policy":  {"import_path: shop:app\n  autoscaling_policy: {policy_function: 'broken:f'}\n  deployments:\n  - {name: Ranker, autoscaling_config: {}}", []string{"serve.yaml:3:", "autoscaling_policy: the policy broken:f", "RuntimeError: no weights", "broken.py\", line 4"}},
		"no YAML":          {"import_path: [", []string{"serve.yaml:"}},
		"an unknown field": {"import_path: shop:app\n  rout_prefix: /", []string{"serve.yaml:3:3:", "rout_prefix", "route_prefix"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := p.apply(fmt.Sprintf("applications:\n- %s\n  name: %q\n", x.app, name), func(r *helvetype.ApplyRequest) { r.Source = name })
			e, ok := errors.AsType[*helvetype.OperationError](err)
			if !ok {
				t.Fatalf("it gives %v", err)
			}
			if e.Code != helvetype.CodeInvalidArgument || len(e.Mistakes) == 0 || e.Mistakes[0].Line == 0 {
				t.Errorf("it gives the code %d and the mistakes %+v", e.Code, e.Mistakes)
			}
			for _, part := range x.parts {
				if !strings.Contains(e.Message, part) {
					t.Errorf("it does not say %q:\n%s", part, e.Message)
				}
			}
		})
	}
}

// TestPlanMistakes: a plan finds all that an apply would refuse, in all applications of the file, each with its place.
func TestPlanMistakes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	for name, x := range map[string]struct {
		file  string
		lines []int
	}{
		"placeholders": {"applications:\n- import_path: shop:app\n  runtime_env:\n    env_vars:\n      A: ${env:HELVE_NO_A}\n      B: ${file:/nope}\n  deployments:\n  - {name: Ranker, user_config: {c: '${env:HELVE_NO_C}'}}\n", []int{5, 6, 8}},
		"applications": {"applications:\n- {name: a, route_prefix: /a, import_path: 'nope:app'}\n- {name: b, route_prefix: /b, import_path: 'shop:app'}\n- {name: c, route_prefix: /c, import_path: 'shop:nope'}\n", []int{2, 4}},
		"deployments":  {"applications:\n- import_path: shop:app\n  deployments:\n  - {name: Rankr, num_replicas: 2}\n  - {name: Nope, num_replicas: 2}\n", []int{4, 5}},
	} {
		_, err := p.Plan(t.Context(), helvetype.ApplyRequest{Config: x.file, Name: "serve.yaml", Dir: p.dir})
		e, ok := errors.AsType[*helvetype.OperationError](err)
		if !ok {
			t.Fatalf("%s: it gives %v", name, err)
		}
		var lines []int
		for _, m := range e.Mistakes {
			lines = append(lines, m.Line)
		}
		if e.Code != helvetype.CodeInvalidArgument || !slices.Equal(lines, x.lines) {
			t.Errorf("%s: it gives the code %d and mistakes in the lines %v, want %v:\n%s", name, e.Code, lines, x.lines, e.Message)
		}
	}
}

// TestFileWithoutApplications: a file that deletes all applications of its source has a warning, in its plan and in its deploy.
func TestFileWithoutApplications(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	plan := func() []string {
		of, err := p.Plan(t.Context(), helvetype.ApplyRequest{Config: "applications: []\n", Name: "serve.yaml", Dir: p.dir})
		if err != nil {
			t.Fatal(err)
		}
		return of.Warnings
	}
	if got := plan(); len(got) > 0 {
		t.Errorf("of a node without applications: %q", got)
	}
	p.applied("applications:\n- {name: a, route_prefix: /a, import_path: 'shop:app'}\n- {name: b, route_prefix: /b, import_path: 'shop:app'}\n")
	if got := plan(); !slices.Equal(got, []string{"the file has no applications, and would delete all that source default has: a, b"}) {
		t.Errorf("the plan warns of %q", got)
	}
	a, err := p.apply("applications: []\n")
	if err != nil || !slices.Equal(a.Warnings, []string{"the file has no applications, and has deleted all that source default has: a, b"}) {
		t.Errorf("the deploy warns of %q, %v", a.Warnings, err)
	}
}

// TestApplyPartly applies a file of which one application is refused: the other runs, and none is deleted.
func TestApplyPartly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	p.applied("applications: [{name: old, import_path: 'shop:app', route_prefix: /old}]")
	a, err := p.apply("applications:\n- {name: good, import_path: 'shop:app', route_prefix: /good}\n- {name: bad, import_path: 'nope:app', route_prefix: /bad}\n")
	if err != nil {
		t.Fatal(err)
	}
	if good, bad := a.Applications["good"], a.Applications["bad"]; good.Change != "created" || good.Code != 0 || bad.Change != "refused" || !strings.Contains(bad.Error, "serve.yaml:3:") || bad.Code != helvetype.CodeInvalidArgument || bad.Next == "" {
		t.Errorf("the outcomes are %+v", a.Applications)
	}
	if warnings := strings.Join(a.Warnings, "\n"); !strings.Contains(warnings, "old: not deleted") {
		t.Errorf("the warnings are %q", warnings)
	}
	if got := p.get("/old"); !strings.HasPrefix(got, "3 ") {
		t.Errorf("the application that the file does not have answers %q", got)
	}

	// A name that changes, with the route: the old application makes room.
	same(t, p.applied("applications: [{name: young, import_path: 'shop:app', route_prefix: /old}]"), map[string]string{"old": "deleted 0", "good": "deleted 0", "bad": "deleted 0", "young": "created 1"})
	if got := p.get("/old"); !strings.HasPrefix(got, "3 ") {
		t.Errorf("the renamed application answers %q", got)
	}

	// A revision whose constructor fails leaves the one before.
	p.write("bad.py", "from helve import serve\n\n@serve.deployment\nclass Ranker:\n    def __init__(self):\n        raise RuntimeError('no port')\n\n    def __call__(self, request):\n        return 'bad'\n\napp = Ranker.bind()\n")
	a, err = p.apply("applications: [{name: young, import_path: 'bad:app', route_prefix: /old}]")
	if err != nil {
		t.Fatal(err)
	}
	if of := a.Applications["young"]; !strings.Contains(of.Error, "no port") || of.Code != helvetype.CodeUnknown {
		t.Errorf("the outcome is %+v", of)
	}
	if got := p.get("/old"); !strings.HasPrefix(got, "3 ") {
		t.Errorf("after a deploy that failed the application answers %q", got)
	}
}

// TestApplySuperseded has a request whose module waits, and a second one for the same application: the last one wins, and the first is told.
func TestApplySuperseded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	gate := filepath.Join(p.dir, "gate")
	begun := filepath.Join(p.dir, "begun")
	p.write("slow.py", fmt.Sprintf("import os, time\nopen(%q, 'w').close()\nwhile not os.path.exists(%q):\n    time.sleep(0.01)\nfrom shop import app\n", begun, gate))
	t.Cleanup(func() { os.WriteFile(gate, nil, 0o600) }) //nolint:errcheck // the builder is ended anyway
	first := make(chan error, 1)
	go func() {
		_, err := p.apply("applications: [{name: shop, import_path: 'slow:app'}]")
		first <- err
	}()
	fixture.Eventually(t, func() string {
		if _, err := os.Stat(begun); err != nil {
			return "the first build has not begun"
		}
		return ""
	})
	same(t, p.applied("applications: [{name: shop, import_path: 'shop:app'}]"), map[string]string{"shop": "created 1"})
	e, ok := errors.AsType[*helvetype.OperationError](<-first)
	if !ok || e.Code != helvetype.CodeAborted || !strings.Contains(e.Message, "ann") {
		t.Errorf("the first request is told %v", e)
	}
}

// TestApplyForRay applies a module that imports ray, where no ray is installed.
func TestApplyForRay(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("fruit.py", "import ray\nfrom ray import serve\n\n@serve.deployment\nclass Mango:\n    def __call__(self, request):\n        return 'mango'\n\napp = Mango.bind()\n")
	const file = "applications: [{name: fruit, import_path: 'fruit:app', route_prefix: /}]"
	same(t, p.applied(file), map[string]string{"fruit": "created 1"})
	if got := p.get("/"); got != "mango" {
		t.Errorf("it answers %q", got)
	}
}

// broken is a module whose deployment fails in its constructor.
const broken = `
from helve import serve

@serve.deployment
class Broken:
    def __init__(self):
        raise ValueError("no model")

    def __call__(self, request):
        return "never"

app = Broken.bind()
`

// TestDeleteOfAFailedApplication deletes an application that never ran, in each way that an operator has.
func TestDeleteOfAFailedApplication(t *testing.T) {
	t.Parallel()
	const empty = "applications: []"
	for name, remove := range map[string]func(p *place) error{
		"delete":   func(p *place) error { return p.Delete(p.t.Context(), ann, "b1") },
		"shutdown": func(p *place) error { return p.Shutdown(p.t.Context(), ann) },
		"a file without it": func(p *place) error {
			a, err := p.apply(empty)
			if err == nil && a.Applications["b1"].Change != "deleted" {
				return fmt.Errorf("the outcomes are %v", outcomes(a))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.write("broken.py", broken)
			if got := p.applied("applications: [{name: b1, import_path: 'broken:app'}]")["b1"]; !strings.Contains(got, "no model") {
				t.Fatalf("the outcome is %q", got)
			}
			if got := p.node.Status().Applications["b1"].Status; got != helvetype.ApplicationDeployFailed {
				t.Fatalf("b1 is %s", got)
			}
			if err := remove(p); err != nil {
				t.Fatal(err)
			}
			fixture.Eventually(t, func() string {
				if a, there := p.node.Status().Applications["b1"]; there {
					return fmt.Sprintf("b1 is there: %s: %s", a.Status, a.Message)
				}
				return ""
			})
		})
	}
}

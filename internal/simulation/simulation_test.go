package simulation_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/simulation"
)

const step = "time_s,calls_per_s\n0,5\n30,60\n120,5\n"

// run runs the command with a load from the standard input.
func run(t *testing.T, load string, args ...string) (string, error) {
	t.Helper()
	c := simulation.Command("helve")
	var out bytes.Buffer
	c.SetArgs(append([]string{"simulate"}, args...))
	c.SetIn(strings.NewReader(load))
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.Execute()
	return out.String(), err
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSimulate: the command compares both autoscalers as text and as JSON, shows decisions, and draws.
func TestSimulate(t *testing.T) {
	t.Parallel()
	svg := filepath.Join(t.TempDir(), "load.svg")
	c := simulation.Command("helve")
	var out bytes.Buffer
	c.SetArgs([]string{"simulate", file(t, "load.csv", step), "--config", file(t, "c.yaml", "min_replicas: 1\nmax_replicas: 8\n"), "--svg", svg, "--decisions"})
	c.SetOut(&out)
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"calls in 210 s; 1 to 8 replicas, target 2", "replica-seconds", "Ray Serve", "1 -> ", "a replica = ", "The drawing is in "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if before, _, _ := strings.Cut(line, ": "); len(before) > 81 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	if b, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(b, []byte("<svg ")) || !bytes.Contains(b, []byte(`class="ours"`)) {
		t.Errorf("%v: %.100s", err, b)
	}
	c = simulation.Command("helve")
	out.Reset()
	c.SetArgs([]string{"simulate", "-", "-o", "json", "--parallel", "2"})
	c.SetIn(strings.NewReader(step))
	c.SetOut(&out)
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Config struct {
			Most int `json:"max_replicas"`
		} `json:"autoscaling_config"`
		Helve struct {
			Summary struct {
				Calls   int `json:"calls"`
				Changes int `json:"changes"`
			} `json:"summary"`
			Changes []struct {
				Reason string `json:"reason"`
			} `json:"changes"`
			Samples []json.RawMessage `json:"samples"`
		} `json:"helve"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Config.Most != 100 || got.Helve.Summary.Changes != len(got.Helve.Changes) || len(got.Helve.Changes) == 0 ||
		got.Helve.Changes[0].Reason == "" || len(got.Helve.Samples) != 210 {
		t.Errorf("%v: %+v", err, got.Helve.Summary)
	}
}

// TestPage: the example of docs/autoscaling.md prints what the page shows. Other processors round the last digit in another way.
func TestPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/autoscaling.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "cat > load.csv <<'END'\n")
	load, rest, _ := strings.Cut(rest, "END\n")
	_, rest, _ = strings.Cut(rest, "```\n\n```\n")
	want, _, ok := strings.Cut(rest, "```\n")
	got, err := run(t, load, "-", "--decisions")
	if !ok || err != nil || runtime.GOARCH == "amd64" && got != want {
		t.Errorf("%v: the page shows\n%s\nand the command prints\n%s", err, want, got)
	}
}

const applications = `
applications:
  - name: shop
    deployments:
      - {name: A, autoscaling_config: {max_replicas: 3}}
      - {name: B, num_replicas: auto, autoscaling_config: {max_replicas: 7}}
      - {name: C, num_replicas: 2}
`

// TestConfig: the configuration is a file of its own, or that of a deployment in a file of applications.
func TestConfig(t *testing.T) {
	t.Parallel()
	apps := file(t, "apps.yaml", applications)
	for _, c := range []struct{ args, want string }{
		{"--config " + apps + " --deployment A", "1 to 3 replicas"}, {"--config " + apps + " --deployment shop/B", "1 to 7 replicas"}, {"", "1 to 100 replicas"},
		{"--config " + file(t, "c.json", `{"autoscaling_config": {"min_replicas": 2, "max_replicas": 9}}`), "2 to 9 replicas"},
	} {
		if out, err := run(t, step, append([]string{"-"}, strings.Fields(c.args)...)...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, %s", c.args, err, out)
		}
	}
}

// TestWarnings: a warning says that a custom policy is not asked, of a deployment or of its application, and that options of the code are not known.
func TestWarnings(t *testing.T) {
	t.Parallel()
	const deployment = "    deployments: [{name: A, autoscaling_config: {max_replicas: 3}}]\n"
	for config, want := range map[string]string{
		"max_replicas: 8\n": "",
		"max_replicas: 8\npolicy: {policy_function: 'ray.serve.autoscaling_policy:default_autoscaling_policy'}\n": "",
		"max_replicas: 8\npolicy: {policy_function: 'scaling:f'}\n":                                               "the policy scaling:f is not asked here",
		"applications:\n  - name: shop\n" + deployment:                                                            "the code of the applications is not read",
		"applications:\n  - name: shop\n    autoscaling_policy: {policy_function: 'scaling:all'}\n" + deployment:  "the policy scaling:all is not asked here",
	} {
		var warnings bytes.Buffer
		c := simulation.Command("helve")
		c.SetArgs([]string{"simulate", "-", "--config", file(t, "c.yaml", config)})
		c.SetIn(strings.NewReader(step))
		c.SetOut(io.Discard)
		c.SetErr(&warnings)
		if err := c.Execute(); err != nil || !strings.Contains(warnings.String(), want) || want == "" && warnings.Len() > 0 {
			t.Errorf("%s: %v, %q", config, err, warnings.String())
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	apps, wrong, none := file(t, "apps.yaml", applications), file(t, "w.yaml", "max_replica: 3\n"), filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ args, load, want string }{
		{"", step, "simulate takes one argument, a file with the load (helve autoscale simulate --help shows an example)"},
		{none, step, "no such file or directory"},
		{"-", "time_s,calls_per_s\n0,x\n", `-: line 2, column 2: calls_per_s must be a number of 0 or more, is "x"`},
		{"- --config " + none, step, "--config: open "},
		{"- --config " + wrong, step, "max_replica: there is no such field; did you mean max_replicas?"},
		{"- --config " + apps, step, "2 deployments have an autoscaling_config: choose one with --deployment shop/A, or shop/B"},
		{"- --config " + apps + " --deployment C", step, "there is no deployment C with an autoscaling_config"},
		{"- --config " + wrong + " --deployment C", step, "there are no applications for --deployment"},
		{"- --deployment C", step, "give it with --config FILE"},
		{"- -o xml", step, `--output "xml": must be text, json or yaml`},
		{"- --duration 0", step, "--duration 0: must be above 0"},
		{"- --start -1", step, "--start -1: must be 0 or more"},
		{"- --start-fails 1", step, "--start-fails 1: must be from 0 to 0.99"},
		{"- --max-ongoing-requests 0", step, "--max-ongoing-requests 0: must be at least 1"},
		{"- --parallel 0", step, "--parallel 0: must be at least 1"},
	} {
		if _, err := run(t, c.load, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
}

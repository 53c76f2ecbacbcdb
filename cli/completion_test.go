package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBashWithoutCompletionPackage: a bash without the package bash-completion gets the words that the command offers, also behind = and for import paths.
func TestBashWithoutCompletionPackage(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err) // the commands of the pages and .ci/run need a bash too
	}
	root := command(nil)
	root.Use = "helve"
	var script strings.Builder
	root.SetOut(&script)
	root.SetArgs([]string{"completion", "bash"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "helve"), []byte("#!/bin/sh\nprintf '%s\\n' \"$*\" >&2\nprintf 'shop\\nshop/Ranker\\n:4\\n'\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"helve status ":               "__complete status \n",
		"helve scale shop/R":          "__complete scale shop/R\n",
		"helve run app:app --name=sh": "__complete run app:app --name=sh\n",
		"helve events --app ":         "__complete events --app \n",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			c := exec.CommandContext(t.Context(), bash, "--norc", "-c", script.String()+`
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
exec 3>&2 2>/dev/null
helve() { command helve "$@" 2>&3; }
__start_helve
`, "bash", line)
			c.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			out, err := c.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%v: it asks %q, want %q", err, out, want)
			}
		})
	}
}

// TestCommandsThatAreNone: a typo names the nearest command, in groups too, and is wrong usage.
func TestCommandsThatAreNone(t *testing.T) {
	for args, want := range map[string]string{
		"statsu":                   `did you mean "status"?`,
		"depoly serve.yaml":        `did you mean "deploy"?`,
		"token lst":                `did you mean "list"?`,
		"state exprt":              `did you mean "export"?`,
		"ray-compat serve statsu":  `did you mean "status"?`,
		"completion tcsh":          "completion has bash, fish, zsh",
		"completion bash x":        "takes no arguments",
		"version x":                "takes no arguments",
		"scale shop/Ranker -1":     "-1: the number of replicas must be at least 0",
		"scale shop/Ranker three":  `"three" is no whole number: scale takes the number of replicas, for example shop/Ranker 3`,
		"build app":                "must be MODULE:APPLICATION",
		"build exec:./ranker":      "build is for modules of Python",
		"stop now":                 "takes no arguments",
		"ray-compat serve nothing": "serve has build, config",
	} {
		if status, _, stderr := output(t, strings.Fields(args)...); status != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %q; want %q", args, status, stderr, want)
		}
	}
}

package rayserve

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
)

// line runs a command of Ray Serve, and gives the command line of Helve that it is.
func line(args string) (of string, err error) {
	root := &cobra.Command{Use: "serve", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(func(args []string) error {
		of = strings.Join(args, " ")
		return nil
	})...)
	root.SetArgs(strings.Fields(args))
	return of, root.Execute()
}

// TestLines: each command is a command line of Helve, and every flag of the reference is in effect or refused.
func TestLines(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"run app:app n=3 -d src -r --route-prefix /x": "run --ray-compat --app-dir src --reload app:app n=3 --route-prefix /x",
		"run app:app -a auto --blocking --name shop":  "run --ray-compat app:app --name shop",
		"start": "start --http 127.0.0.1:8000",
		"start --http-host 0.0.0.0 --http-port 80":                 "start --http 0.0.0.0:80",
		"start --http-host ::1":                                    "start --http [::1]:8000",
		"start --proxy-location Disabled":                          "start --http none",
		"start -a auto --grpc-port 9001 --grpc-disable-reflection": "start --http 127.0.0.1:8000",
		"build a:app b:app -o serve.yaml":                          "build a:app b:app --output-path serve.yaml",
		"build a:app -d src --grpc-enable-reflection":              "build a:app --app-dir src",
	} {
		if got, err := line(args); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", args, got, err, want)
		}
	}
	for args, want := range map[string]string{
		"run":                                                              "run takes a file",
		"run app:app --non-blocking":                                       "helve start makes a node that goes on",
		"run app:app --blocking=false":                                     "helve start makes a node that goes on",
		"run app:app -a ray://head:10001":                                  "serve deploy --address sends an application to a node that runs",
		"run app:app --runtime-env nope":                                   "no such file",
		"run app:app --runtime-env-json x":                                 "--runtime-env-json: ",
		"run app:app --working-dir s3://b/a":                               "must be a directory of this machine",
		"run app:app --runtime-env-json {\"pip\":[\"x\"]}":                 "runtime_env.pip: run has the packages and files of this machine",
		"run app:app --runtime-env-json {} --runtime-env a.yaml":           "give one of the two",
		"run app:app --runtime-env-json {\"env_vars\":{\"HELVE_NO_N\":1}}": "env_vars.HELVE_NO_N: must be a text",
		"start -a 10.0.0.7:6379":                                           "start makes a node on this machine",
		"start --grpc-servicer-functions a.b":                              "nodes have no gRPC proxy",
		"start --proxy-location Nowhere":                                   "must be EveryNode, HeadOnly or Disabled",
		"build a:app --grpc-servicer-functions f":                          "nodes have no gRPC proxy",
	} {
		if _, err := line(args); err == nil || !strings.Contains(err.Error(), want) || commands.StatusOf(err) != 2 {
			t.Errorf("%s: %v; want %q", args, err, want)
		}
	}
}

// TestRunEnters: the variables and the directory of a runtime_env are those of the program.
func TestRunEnters(t *testing.T) { //nolint:paralleltest // the directory and the variables are those of the process
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HELVE_TEST_KEY", "")
	if err := os.WriteFile("serve.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("env.yaml", []byte("env_vars: {HELVE_TEST_KEY: k-1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("work", 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := line("run serve.yaml --runtime-env env.yaml --working-dir work")
	if err != nil {
		t.Fatal(err)
	}
	now, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(got)
	if filepath.Base(now) != "work" || os.Getenv("HELVE_TEST_KEY") != "k-1" || !slices.Contains(words, ".") || !filepath.IsAbs(words[len(words)-1]) {
		t.Errorf("in %s with the key %q it runs %q", now, os.Getenv("HELVE_TEST_KEY"), got)
	}
}

package deploy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
)

// TestSourceOfEnvironment: a field of the runtime_env of a file is of the file, unless the code of the deployment has its own.
func TestSourceOfEnvironment(t *testing.T) {
	t.Parallel()
	code := []protocol.PythonDeployment{
		{Name: "A", Options: json.RawMessage(`{"runtime_env": {"working_dir": "/a", "env_vars": {"X": "1"}}}`)}, {Name: "B", Options: json.RawMessage(`{"num_replicas": 2}`)}, {Name: "C"},
	}
	environment := json.RawMessage(`{"working_dir": "/file", "env_vars": {"Y": "2"}, "pip": {"packages": ["six"]}}`)
	var all []spec.Deployment
	for _, d := range code {
		options, err := UnderApplication(environment, d.Options)
		if err != nil {
			t.Fatal(err)
		}
		one := spec.Deployment{Name: d.Name}
		if err := json.Unmarshal(options, &one.Options); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	OfFile(all, code, environment)
	for i, want := range []string{
		"runtime_env.env_vars file, runtime_env.pip.packages file, runtime_env.working_dir code",
		"num_replicas code, runtime_env.env_vars file, runtime_env.pip.packages file, runtime_env.working_dir file",
		"runtime_env.env_vars file, runtime_env.pip.packages file, runtime_env.working_dir file",
	} {
		var got []string
		for at, source := range all[i].Options.Sources {
			got = append(got, at+" "+string(source))
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s: %s, want %s", all[i].Name, text, want)
		}
	}
}

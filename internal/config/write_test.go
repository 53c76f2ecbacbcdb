package config_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/spec"
)

// TestWrite: a file that was written is read as it was meant, and its comments are the options of the code.
func TestWrite(t *testing.T) {
	t.Parallel()
	options := spec.Options{NumReplicas: 2, HealthCheckPeriod: 5 * time.Second, Env: map[string]string{"A": "true", "B": "#"}, UserConfig: json.RawMessage(`{"a":[1,"x: y"]}`)}
	written, err := config.Write([]config.Built{
		{Name: "yes", RoutePrefix: "/", ImportPath: "shop:app", Deployments: []config.BuiltDeployment{{"Ranker", options}, {"null", spec.Options{}}}},
		{Name: "a: b #c\n\"d\"", ImportPath: "exec:/srv/x y#app"},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := config.Read("f.yaml", written)
	if err != nil {
		t.Fatalf("%v\n%s", err, written)
	}
	one, two := f.Applications[0], f.Applications[1]
	if one.Name != "yes" || one.RoutePrefix != "/" || one.ImportPath != "shop:app" || two.Name != "a: b #c\n\"d\"" || two.RoutePrefix != "" || two.ImportPath != "exec:/srv/x y#app" {
		t.Errorf("%+v\n%s", f.Applications, written)
	}
	if string(one.Deployments["Ranker"]) != "{}" || string(one.Deployments["null"]) != "{}" {
		t.Errorf("%s\n%s", one.Deployments, written)
	}
	f, err = config.Read("f.yaml", []byte(strings.ReplaceAll(string(written), "    # ", "    ")))
	if err != nil {
		t.Fatalf("%v\n%s", err, written)
	}
	back, err := spec.Options{}.Merge(f.Applications[0].Deployments["Ranker"], spec.FromCode)
	if err != nil || len(spec.Changes(options.Effective(), back.Effective())) > 0 {
		t.Errorf("%v, %v\n%s", err, spec.Changes(options.Effective(), back.Effective()), written)
	}
}

// TestResolve: a file whose placeholders the node cannot fill has a mistake for each, and its line.
func TestResolve(t *testing.T) {
	t.Parallel()
	text := []byte("applications:\n- import_path: a:app\n  args: {a: \"${env:KEY}\"}\n  runtime_env:\n    env_vars: {B: \"${env:KEY}\", C: \"${env:NONE}\"}\n  foo: 1\n")
	source := secret.Source{Env: func(name string) (string, bool) { return "a value", name == "KEY" }}
	_, err := config.ReadAt("f.yaml", text, &secret.Resolver{Source: source})
	const want = "f.yaml:5:36: ${env:NONE}: the node has no environment variable NONE: set it where the node is started, or write ${env:NONE:-VALUE} with a default\n" +
		"   5 |     env_vars: {B: ***, C: ***}\n" +
		"     |                           ^~~\n" +
		"f.yaml:6:3: foo: an application has no such field\n" +
		"   6 |   foo: 1\n" +
		"     |   ^~~"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	source.Env = func(string) (string, bool) { return "", true }
	if _, err := config.ReadAt("f.yaml", bytes.Replace(text, []byte("  foo: 1\n"), nil, 1), &secret.Resolver{Source: source}); err != nil {
		t.Error(err)
	}
}

func FuzzWrite(f *testing.F) {
	for _, s := range []string{"a", "yes", "a: b", "#", "\n", "- x", "'", "010", "a:", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		written, err := config.Write([]config.Built{{Name: name, ImportPath: "a:b"}})
		if err != nil {
			t.Fatal(err)
		}
		file, err := config.Read("f.yaml", written)
		if err != nil { // of the name itself, such as an empty one
			if name == "" || strings.ContainsRune(name, 0x7f) || strings.ToValidUTF8(name, "") != name {
				return
			}
			t.Fatalf("%v\n%s", err, written)
		}
		if file.Applications[0].Name != name && strings.ToValidUTF8(name, "") == name {
			t.Errorf("%q is read as %q\n%s", name, file.Applications[0].Name, written)
		}
	})
}

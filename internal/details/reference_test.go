package details

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

// refused lists what the reference's schema refuses in an answer, by its rules for configurations.
func refused(in Instance) (wrong []string) {
	rule := func(where string, holds bool, text string) {
		if !holds {
			wrong = append(wrong, where+": "+text)
		}
	}
	remote := func(where string, options map[string]any) {
		env, _ := options["runtime_env"].(map[string]any)
		places, _ := env["py_modules"].([]any)
		if dir, has := env["working_dir"]; has {
			places = append(places, dir)
		}
		for _, place := range places {
			text, is := place.(string)
			rule(where, place == nil || is && strings.Contains(text, "://"), "working_dir and py_modules must be URIs")
		}
	}
	deployment := func(where string, config map[string]any) {
		rule(where, config["name"] != nil, "a deployment must have a name")
		if config["autoscaling_config"] != nil {
			n := config["num_replicas"]
			rule(where, n == nil || n == "auto", "num_replicas and autoscaling_config do not go together")
		}
		if options, is := config["ray_actor_options"].(map[string]any); is {
			remote(where, options)
		}
	}
	object := func(raw json.RawMessage) (o map[string]any) {
		json.Unmarshal(raw, &o) //nolint:errcheck // an object without fields breaks the rules
		return o
	}
	for name, app := range in.Applications {
		config := object(app.DeployedAppConfig)
		remote(name, config)
		all, _ := config["deployments"].([]any)
		for _, one := range all {
			fields, _ := one.(map[string]any)
			deployment(name+" in the file", fields)
		}
		for d, of := range app.Deployments {
			deployment(name+"/"+d, object(of.DeploymentConfig))
		}
	}
	return wrong
}

// TestReferenceTakesTheAnswer: configurations in the answer for the reference's clients keep its rules; those of Helve's own answer have the paths of the file.
func TestReferenceTakesTheAnswer(t *testing.T) {
	t.Parallel()
	options, err := spec.Options{}.Merge(json.RawMessage(`{"autoscaling_config":{"min_replicas":2,"max_replicas":3}}`), spec.FromFile)
	if err != nil {
		t.Fatal(err)
	}
	scaled := &host.Deployment{Name: "Scaled", Spec: spec.Deployment{Options: options}, Options: options.Effective()}
	fixed := &host.Deployment{Name: "Fixed", Options: spec.Options{}.Effective()}
	app := App("shop", helvetype.ApplicationStatus{Deployments: map[string]helvetype.DeploymentStatus{"Scaled": {}, "Fixed": {}}}, deploy.DeployedApp{
		Deployments: map[string]deploy.DeployedDeployment{"Scaled": deploy.Deployed(scaled, 2, nil, true), "Fixed": deploy.Deployed(fixed, 4, nil, false)},
	}, Here(""))
	app.DeployedAppConfig = json.RawMessage(`{"runtime_env":{"working_dir":".","py_modules":["/srv/a","https://h/b.zip"],"env_vars":{"A":"1"}},
		"deployments":[{"name":"Scaled","ray_actor_options":{"runtime_env":{"working_dir":"/srv/c"}}},{"name":"Fixed","ray_actor_options":{"runtime_env":{"working_dir":null}}}]}`)
	none := App("none", helvetype.ApplicationStatus{}, deploy.DeployedApp{}, Here(""))
	none.DeployedAppConfig = json.RawMessage(`null`)
	in := Instance{Applications: map[string]AppDetails{"shop": app, "none": none}}
	if wrong := refused(in.Reference()); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	if wrong := refused(in); len(wrong) == 0 {
		t.Error("the rules find no paths in an answer that has some")
	}
	got := in.Reference().Applications["shop"]
	for _, want := range []string{`"working_dir":"file://."`, `["file:///srv/a","https://h/b.zip"]`, `"file:///srv/c"`, `"env_vars":{"A":"1"}`, `"working_dir":null`} {
		if !strings.Contains(string(got.DeployedAppConfig), want) {
			t.Errorf("%s: want %s", got.DeployedAppConfig, want)
		}
	}
	if config := string(got.Deployments["Fixed"].DeploymentConfig); !strings.Contains(config, `"num_replicas":4`) {
		t.Error(config)
	}
}

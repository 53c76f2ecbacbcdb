package details

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

// TestReferenceHasNoOwnFields: each field of Helve's own has a value, and none of them is in the answer for the reference's clients.
func TestReferenceHasNoOwnFields(t *testing.T) {
	t.Parallel()
	replica, deployment, app, in := ReplicaDetails{}, DeploymentDetails{}, AppDetails{}, Instance{}
	own := map[string][]string{}
	for level, v := range map[string]reflect.Value{
		"replica": reflect.ValueOf(&replica), "deployment": reflect.ValueOf(&deployment), "application": reflect.ValueOf(&app), "instance": reflect.ValueOf(&in),
	} {
		own[level] = fill(v.Elem())
	}
	deployment.Replicas = []ReplicaDetails{replica}
	app.Deployments = map[string]DeploymentDetails{"D": deployment}
	in.Applications = map[string]AppDetails{"a": app}
	for _, shown := range []struct {
		name string
		of   Instance
		want bool
	}{{"ours", in, true}, {"the reference's", in.Reference(), false}} {
		b, err := json.Marshal(shown.of)
		if err != nil {
			t.Fatal(err)
		}
		var i map[string]any
		if err := json.Unmarshal(b, &i); err != nil {
			t.Fatal(err)
		}
		a := i["applications"].(map[string]any)["a"].(map[string]any)
		d := a["deployments"].(map[string]any)["D"].(map[string]any)
		r := d["replicas"].([]any)[0].(map[string]any)
		for level, object := range map[string]map[string]any{"instance": i, "application": a, "deployment": d, "replica": r} {
			if len(own[level]) == 0 {
				t.Fatalf("no fields of Helve's own in %s", level)
			}
			for _, name := range own[level] {
				if _, has := object[name]; has != shown.want {
					t.Errorf("%s: the field %s of %s is there: %v", shown.name, name, level, has)
				}
			}
		}
	}
	if len(in.Applications["a"].Deployments["D"].Replicas) != 1 || in.Applications["a"].Rollout == nil {
		t.Error("Reference has changed the instance that it was asked of")
	}
}

// fill sets the fields that are left out when they are empty, which are Helve's own, and returns their names in JSON.
func fill(v reflect.Value) (names []string) {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if options == "" {
			continue
		}
		names = append(names, name)
		some(v.Field(i))
	}
	return names
}

// some gives a value that is not zero.
func some(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x"), reflect.Zero(v.Type().Elem()))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		some(v.Field(0))
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	default:
		v.SetInt(1)
	}
}

// TestAddress: the host and port of an ingress, and those of a node without one.
func TestAddress(t *testing.T) {
	t.Parallel()
	for ingress, want := range map[string]struct {
		host string
		port int
	}{"": {"127.0.0.1", 0}, "http://127.0.0.1:8000": {"127.0.0.1", 8000}, "http://[::1]:80": {"::1", 80}, "https://models": {"models", 80}, "unix:/run/h.sock": {"127.0.0.1", 0}} {
		if host, port := Address(ingress); host != want.host || port != want.port {
			t.Errorf("%q: %s %d", ingress, host, port)
		}
	}
}

// TestDeployedByFile: the configuration of a file is shown without secrets, also of an application that is being deleted, and the path of its documentation.
func TestDeployedByFile(t *testing.T) {
	t.Parallel()
	was := deploy.DeployedApp{DocsPath: "/docs", Submitted: json.RawMessage(`{"name":"shop","runtime_env":{"env_vars":{"KEY":"hunter2"}}}`)}
	app := App("shop", helvetype.ApplicationStatus{Status: helvetype.ApplicationDeleting}, was, Here(""))
	if app.Source != Declarative || *app.DocsPath != "/docs" || !strings.Contains(string(app.DeployedAppConfig), `"KEY":"***"`) {
		t.Errorf("%+v: %s", app, app.DeployedAppConfig)
	}
	if app := App("shop", helvetype.ApplicationStatus{}, deploy.DeployedApp{}, Here("")); app.DocsPath != nil || app.DeployedAppConfig != nil {
		t.Errorf("of a program: %+v", app)
	}
}

// TestFirstDeployFailed: an application without deployments whose deploy has failed is of a file, because a program leaves no such application.
func TestFirstDeployFailed(t *testing.T) {
	t.Parallel()
	failed := App("shop", helvetype.ApplicationStatus{FailedDeploy: &helvetype.FailedDeploy{}}, deploy.DeployedApp{}, Here(""))
	if failed.Source != Declarative || failed.RoutePrefix != nil || failed.DeploymentTopology == nil {
		t.Errorf("%+v", failed)
	}
	if ran := App("shop", helvetype.ApplicationStatus{}, deploy.DeployedApp{}, Here("")); ran.Source != Imperative {
		t.Errorf("%+v", ran)
	}
}

// TestScaled: an application has its replicas when no deployment scales, and no number is out of bounds that have just changed.
func TestScaled(t *testing.T) {
	t.Parallel()
	auto := func(target int) *helvetype.Autoscaling {
		return &helvetype.Autoscaling{Target: target, Least: 3, Most: 4}
	}
	for name, c := range map[string]struct {
		of      DeploymentDetails
		over    bool
		failure string
	}{
		"runs":       {DeploymentDetails{Status: helvetype.DeploymentHealthy}, true, ""},
		"within":     {DeploymentDetails{Status: helvetype.DeploymentHealthy, Autoscaling: auto(3)}, true, ""},
		"new bounds": {DeploymentDetails{Status: helvetype.DeploymentHealthy, Autoscaling: auto(1)}, false, ""},
		"grows":      {DeploymentDetails{Status: helvetype.DeploymentUpscaling, Autoscaling: auto(3)}, false, ""},
		"shrinks":    {DeploymentDetails{Status: helvetype.DeploymentDownscaling}, false, ""},
		"changes":    {DeploymentDetails{Status: helvetype.DeploymentUpdating}, false, ""},
		"fails":      {DeploymentDetails{Status: helvetype.DeploymentUnhealthy, Message: "no database", Autoscaling: auto(1)}, true, "deployment A: no database"},
		"has failed": {DeploymentDetails{Status: helvetype.DeploymentDeployFailed}, true, "deployment A: it is DEPLOY_FAILED"},
		"no room":    {DeploymentDetails{Status: helvetype.DeploymentUpscaling, Replicas: []ReplicaDetails{{ReplicaID: "A#2", Waits: &helvetype.Wait{Reason: "needs 1 GPU"}}}}, false, "deployment A: replica A#2 needs 1 GPU"},
		"starts":     {DeploymentDetails{Status: helvetype.DeploymentUpscaling, Replicas: []ReplicaDetails{{ReplicaID: "A#2", Waits: &helvetype.Wait{For: "constructor"}}}}, false, ""},
	} {
		over, failure := AppDetails{Deployments: map[string]DeploymentDetails{"A": c.of, "B": {Status: helvetype.DeploymentHealthy}}}.Scaled("")
		if over != c.over || failure != c.failure {
			t.Errorf("%s: %t, %q", name, over, failure)
		}
		if over, failure := (AppDetails{Deployments: map[string]DeploymentDetails{"A": c.of, "B": {Status: helvetype.DeploymentHealthy}}}).Scaled("B"); !over || failure != "" {
			t.Errorf("%s, of B alone: %t, %q", name, over, failure)
		}
	}
}

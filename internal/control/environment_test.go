package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/deploy"
)

// deployNode keeps the application that it is asked to deploy.
type deployNode struct {
	node
	app deploy.App
}

func (n *deployNode) Deploy(_ context.Context, app deploy.App) error {
	n.app = app
	return nil
}

// TestRuntimeEnvs: variables of an application and of a deployment are merged by name, another key of the deployment is the whole value.
func TestRuntimeEnvs(t *testing.T) {
	t.Parallel()
	application := `{"env_vars":{"A":"1","B":"1"},"working_dir":"/app","pip":{"packages":["x","y"],"pip_check":true}}`
	for name, c := range map[string]struct {
		application, own string
		env              map[string]string
		dir              string
		packages         []string
		check            bool
	}{
		"neither":       {`{}`, ``, nil, "", nil, false},
		"of one":        {application, ``, map[string]string{"A": "1", "B": "1"}, "/app", []string{"x", "y"}, true},
		"of the other":  {`null`, `{"env_vars":{"B":"2"}}`, map[string]string{"B": "2"}, "", nil, false},
		"of both":       {application, `{"env_vars":{"B":"2"},"pip":{"packages":["z"]}}`, map[string]string{"A": "1", "B": "2"}, "/app", []string{"z"}, false},
		"none is named": {application, `null`, map[string]string{"A": "1", "B": "1"}, "/app", []string{"x", "y"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := `{"num_replicas":2}`
			if c.own != "" {
				options = `{"num_replicas":2,"runtime_env":` + c.own + `}`
			}
			n := &deployNode{}
			body := fmt.Sprintf(`{"app":{"name":"a","ingress":"D","runtime_env":%s,"deployments":[{"name":"D","class":"m:D","options":%s}]}}`, c.application, options)
			if _, err := control.NewDriver(n, new(control.Owners), new(claim.Claims)).Control(t.Context(), "deploy", json.RawMessage(body)); err != nil {
				t.Fatal(err)
			}
			o := n.app.Graph.Deployments[0].Options
			if !reflect.DeepEqual(o.Env, c.env) || o.Dir != c.dir || !reflect.DeepEqual(o.Pip.Packages, c.packages) || o.Pip.Check != c.check || o.NumReplicas != 2 {
				t.Errorf("%+v", o)
			}
		})
	}
	for name, env := range map[string]string{"no object": `[1]`, "a key that is not there": `{"conda":[]}`, "values of another kind": `{"env_vars":5}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := fmt.Sprintf(`{"app":{"name":"a","ingress":"D","runtime_env":%s,"deployments":[{"name":"D","class":"m:D"}]}}`, env)
			_, err := control.NewDriver(&deployNode{}, new(control.Owners), new(claim.Claims)).Control(t.Context(), "deploy", json.RawMessage(body))
			if err == nil || !strings.Contains(err.Error(), "runtime_env") {
				t.Error(err)
			}
		})
	}
}

package deploy_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// layered is an application whose deployment D has options of code and of a file.
func layered(t testing.TB, code, file string) deploy.App {
	t.Helper()
	d := spec.Deployment{Name: "D", Language: "python", Import: "m:D"}
	if err := json.Unmarshal([]byte(code), &d.Options); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.Options, err = d.Options.Merge(json.RawMessage(file), spec.FromFile); err != nil {
		t.Fatal(err)
	}
	g := spec.Graph{App: "a", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{d}}
	return deploy.App{Graph: g, Python: host.Python{Interpreter: "/srv/python"}}
}

// shown are some options with their sources.
func shown(a deploy.App) string {
	e := a.Graph.Deployments[0].Options.Effective()
	return fmt.Sprintf("replicas %d %s, ongoing %d %s, env %v %s, memory %d %s", e.NumReplicas, e.Sources["num_replicas"], e.MaxOngoingRequests, e.Sources["max_ongoing_requests"],
		e.Env, e.Sources["runtime_env.env_vars"], e.Limits.Memory>>20, e.Sources["limits.memory"])
}

// TestOverrides: an override is above the file, which is above the code; it stays over deploys and restarts until the option below changes; and null takes it away.
func TestOverrides(t *testing.T) {
	t.Parallel()
	const code, file = `{"num_replicas": 2, "limits": {"memory": 1073741824}}`, `{"max_ongoing_requests": 5, "runtime_env": {"env_vars": {"A": "1"}}}`
	patch := func(t *testing.T, a *deploy.App, text string) {
		t.Helper()
		all, err := deploy.MergeOverrides(a.Layers.Overrides(), map[string]json.RawMessage{"D": json.RawMessage(text)})
		if err != nil {
			t.Fatal(err)
		}
		if errs := a.Override(all); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	want := func(t *testing.T, a deploy.App, want string) {
		t.Helper()
		if got := shown(a); got != want {
			t.Errorf("\ngot  %s\nwant %s", got, want)
		}
	}
	const overridden = "replicas 2 code, ongoing 20 override, env map[A:1 B:2] override, memory 1024 code"
	over := func(t *testing.T) deploy.App {
		a := layered(t, code, file)
		patch(t, &a, `{"max_ongoing_requests": 20, "runtime_env": {"env_vars": {"B": "2"}}}`)
		return a
	}
	t.Run("precedence", func(t *testing.T) {
		t.Parallel()
		want(t, layered(t, code, file), "replicas 2 code, ongoing 5 file, env map[A:1] file, memory 1024 code")
		want(t, over(t), overridden)
	})
	t.Run("null takes it away", func(t *testing.T) {
		t.Parallel()
		a := over(t)
		patch(t, &a, `{"max_ongoing_requests": null}`)
		want(t, a, "replicas 2 code, ongoing 5 file, env map[A:1 B:2] override, memory 1024 code")
		patch(t, &a, `{"runtime_env": {"env_vars": {"B": null}}}`)
		if len(a.Layers.Overrides()) > 0 {
			t.Errorf("%s", a.Layers.Overrides())
		}
		a = over(t)
		patch(t, &a, `null`)
		want(t, a, "replicas 2 code, ongoing 5 file, env map[A:1] file, memory 1024 code")
	})
	t.Run("fields of an object add up", func(t *testing.T) {
		t.Parallel()
		a := layered(t, code, file)
		patch(t, &a, `{"autoscaling_config": {"max_replicas": 8}}`)
		patch(t, &a, `{"autoscaling_config": {"min_replicas": 2}}`)
		if got := string(a.Graph.Deployments[0].Options.AutoscalingConfig); got != `{"max_replicas":8,"min_replicas":2}` {
			t.Errorf("the upper bound and the lower one: %s", got)
		}
		patch(t, &a, `{"user_config": {"a": 1}}`)
		patch(t, &a, `{"user_config": {"b": 2}}`)
		if got := string(a.Graph.Deployments[0].Options.UserConfig); got != `{"b":2}` {
			t.Errorf("the user's object: %s", got)
		}
	})
	t.Run("the same file keeps it", func(t *testing.T) {
		t.Parallel()
		now, next := over(t), layered(t, code, file)
		if err := next.Inherit(&now); err != nil {
			t.Fatal(err)
		}
		want(t, next, overridden)
		if !deploy.SameOptions(&now, &next) {
			t.Error("a deploy of the same file changes options")
		}
	})
	t.Run("another value of the file drops it", func(t *testing.T) {
		t.Parallel()
		now, next := over(t), layered(t, code, `{"max_ongoing_requests": 8, "runtime_env": {"env_vars": {"A": "1"}}}`)
		if err := next.Inherit(&now); err != nil {
			t.Fatal(err)
		}
		want(t, next, "replicas 2 code, ongoing 8 file, env map[A:1 B:2] override, memory 1024 code")
	})
	t.Run("another value of the code drops it", func(t *testing.T) {
		t.Parallel()
		now := layered(t, code, file)
		patch(t, &now, `{"limits": {"memory": 2147483648, "open_files": 99}}`)
		next := layered(t, `{"limits": {"memory": 536870912}}`, file)
		if err := next.Inherit(&now); err != nil {
			t.Fatal(err)
		}
		if e := next.Graph.Deployments[0].Options.Effective(); e.Limits.Memory != 512<<20 || e.Limits.OpenFiles != 99 {
			t.Errorf("%+v", e.Limits)
		}
	})
	t.Run("records", func(t *testing.T) {
		t.Parallel()
		a := over(t)
		record, err := a.Record(t.Context(), host.Program{}, store.NewMemoryBlobs())
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(record)
		var read store.Revision
		if err == nil {
			err = json.Unmarshal(text, &read)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := deploy.Load(read, read.Graph, store.NewMemoryBlobs())
		if err != nil {
			t.Fatal(err)
		}
		want(t, again, overridden)
		if diff := cmp.Diff(a.Layers.Overrides(), again.Layers.Overrides()); diff != "" || !deploy.SameOptions(&a, &again) {
			t.Error(diff)
		}
		patch(t, &again, `null`)
		want(t, again, "replicas 2 code, ongoing 5 file, env map[A:1] file, memory 1024 code")
	})
	t.Run("mistakes", func(t *testing.T) {
		t.Parallel()
		for text, want := range map[string]string{
			`{"max_ongoing_requests": 0}`: `[deployment "D": max_ongoing_requests: must be at least 1, is 0]`,
			`{"nope": 1}`:                 `[deployment "D": unknown option "nope"`,
		} {
			a := layered(t, code, file)
			if got := fmt.Sprint(a.Override(map[string]json.RawMessage{"D": json.RawMessage(text)})); len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("%s: %s", text, got)
			}
		}
		if _, err := deploy.MergeOverrides(nil, map[string]json.RawMessage{"D": json.RawMessage(`7`)}); err == nil {
			t.Error("a number is an object of options")
		}
	})
}

package routing_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// pyZoo is Zoo as testdata/zoo.py has it.
type pyZoo interface {
	Where(context.Context, helve.None) (string, error)
	Hold(context.Context, helve.None) (string, error)
}

// TestPythonModels: calls go to the Python replica that has their model, also when they come from Go.
func TestPythonModels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sys := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("zoo")
		h := helve.Python[pyZoo](app, "Zoo", "testdata.zoo:Zoo", helve.Args{Positional: []any{dir}},
			helve.Options{NumReplicas: new(3), MaxOngoingRequests: new(1)})
		app.Ingress(helve.MethodOf(h, pyZoo.Where))
		return app, nil
	})
	h, err := helve.HandleOf[pyZoo](sys, "zoo", "Zoo")
	if err != nil {
		t.Fatal(err)
	}
	where, ctx := helve.MethodOf(h, pyZoo.Where), t.Context()
	at := map[string]string{}
	for range 5 {
		for _, id := range []string{"cat", "dog", "owl"} {
			got, err := where.With(helve.ModelID(id)).Call(ctx, helve.None{})
			if err != nil || at[id] != "" && at[id] != got {
				t.Fatalf("%s at %s and %s: %v", id, at[id], got, err)
			}
			at[id] = got
		}
	}
	loads := fixture.Lines(filepath.Join(dir, "loads"))
	if at["cat"] == at["dog"] || at["dog"] == at["owl"] || at["cat"] == at["owl"] || len(loads) != 3 {
		t.Errorf("new models go to the replica with the fewest: %v, loads %v", at, loads)
	}
	_, err = where.With(helve.ModelID("none")).Call(ctx, helve.None{})
	fixture.WantReason(t, err, helve.User)
	held := helve.MethodOf(h, pyZoo.Hold).With(helve.ModelID("cat")).Remote(ctx, helve.None{})
	for spilled := false; !spilled; { // a busy holder spills over, when the call has waited for it
		got, err := where.With(helve.ModelID("cat")).Call(ctx, helve.None{})
		if err != nil {
			t.Fatal(err)
		}
		spilled = got != at["cat"]
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := held.Result(ctx); err != nil || got != at["cat"] {
		t.Errorf("%s, %v", got, err)
	}
}

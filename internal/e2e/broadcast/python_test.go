package broadcast_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Told is the Go deployment that testdata/asker.py calls.
type Told struct{}

type toldIn struct {
	Text string `json:"text"`
}

func (Told) ID(ctx context.Context, in toldIn) (string, error) {
	return helve.ReplicaFrom(ctx).ID + " " + in.Text, nil
}
func (Told) Fail(_ context.Context, in toldIn) (string, error) { return "", errors.New(in.Text) }

type pyAsker interface {
	All(context.Context, helve.None) ([]string, error)
	Fails(context.Context, helve.None) ([]string, error)
	Chosen(context.Context, helve.None) ([]string, error)
}

var buildPyAsker = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("pyasker")
	told := helve.Deploy(app, "Told", func(context.Context) (Told, error) { return Told{}, nil }, helve.Options{NumReplicas: new(3)})
	asker := helve.Python[pyAsker](app, "Asker", "testdata.asker:Asker", helve.Args{Positional: []any{told}},
		helve.Options{Uses: []helve.Target{told}})
	app.Ingress(helve.MethodOf(asker, pyAsker.All))
	return app, nil
})

// TestPythonAsksEveryReplicaOfGo: broadcasts and selections of a Python caller reach Go replicas, wherever they are.
func TestPythonAsksEveryReplicaOfGo(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildPyAsker, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[pyAsker](s, "pyasker", "Asker")
		if err != nil {
			t.Fatal(err)
		}
		all, err := helve.MethodOf(h, pyAsker.All).Call(t.Context(), helve.None{})
		if len(slices.Compact(all)) != 3 || err != nil {
			t.Errorf("%v, %v", all, err)
		}
		fails, err := helve.MethodOf(h, pyAsker.Fails).Call(t.Context(), helve.None{})
		if len(fails) != 3 || err != nil || !strings.Contains(fails[0], "why") {
			t.Errorf("%v, %v", fails, err)
		}
		chosen, err := helve.MethodOf(h, pyAsker.Chosen).Call(t.Context(), helve.None{})
		if err != nil || len(chosen) != 2 || chosen[1] != chosen[0]+" y" {
			t.Errorf("%v, %v", chosen, err)
		}
	})
}

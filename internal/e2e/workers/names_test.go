package workers_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

const oddApp = `../x y#ü/%2F"\*`

// oddNames are names that would lead out of a directory, end a part of an id, or split a command.
var oddNames = []string{"../x", "a/b", "a#b", "ü", "a b", "..", "%2F", `"\`, strings.Repeat("é", 64)} //nolint:gochecknoglobals // a constant

// echo answers with the deployments of its call.
type echo struct{ next *helve.Method[string, string] }

func (e echo) Do(ctx context.Context, trail string) (string, error) {
	trail += "|" + helve.ReplicaFrom(ctx).Deployment
	if e.next == nil {
		return trail, nil
	}
	return e.next.Call(ctx, trail)
}

// buildOdd is a chain of deployments with odd names, in an application with one.
var buildOdd = fixture.Register(func() (*helve.App, error) { //nolint:gochecknoglobals // workers find it
	a := helve.NewApp(oddApp)
	var next *helve.Method[string, string]
	for _, name := range oddNames {
		o, used := helve.Options{}, next
		if used != nil {
			o.Uses = []helve.Target{*used}
		}
		m := helve.MethodOf(helve.Deploy(a, name, func(context.Context) (echo, error) { return echo{used}, nil }, o), echo.Do)
		next = &m
	}
	a.Ingress(*next)
	return a, nil
})

// TestOddNames: names are any text, and lead nowhere: calls find their deployments, also between processes, and files stay in their directories.
func TestOddNames(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			above := t.TempDir()
			c := helve.Config{Isolation: isolation, LogDir: filepath.Join(above, "logs"), StateDir: filepath.Join(above, "state")}
			s, err := c.Run(t.Context(), buildOdd)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(context.Background()) //nolint:errcheck // it is closed below
			h, err := helve.HandleOf[echo](s, oddApp, oddNames[len(oddNames)-1])
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(oddNames)
			slices.Reverse(want)
			if got, err := helve.MethodOf(h, echo.Do).Call(t.Context(), ""); err != nil || got != "|"+strings.Join(want, "|") {
				t.Fatalf("%q, %v; want the names %q", got, err, want)
			}
			for _, name := range oddNames {
				d := s.Status().Applications[oddApp].Deployments[name]
				if d.Status != helvetype.DeploymentHealthy || len(d.Replicas) != 1 || !strings.HasPrefix(d.Replicas[0].ID, name+"#") {
					t.Errorf("%q is %+v", name, d)
				}
				if err := s.Scale(t.Context(), oddApp, name, 2); err != nil {
					t.Error(err)
				}
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(above)
			if err != nil || len(entries) != 2 {
				t.Errorf("the directory above those of logs and state has %v, %v", entries, err)
			}
			logs, err := os.ReadDir(c.LogDir)
			for _, e := range logs {
				if e.IsDir() || strings.ContainsAny(e.Name(), `# "*\%`) {
					t.Errorf("the log directory has %q", e.Name())
				}
			}
			if err != nil || isolation == helve.Process && len(logs) == 0 {
				t.Errorf("the log directory has %v, %v", logs, err)
			}
		})
	}
}

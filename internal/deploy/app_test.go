package deploy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

// TestIdentity: the arguments of a worker count, and the number of replicas does not.
func TestIdentity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("one"), 0o700); err != nil {
		t.Fatal(err)
	}
	graph := func(o spec.Options) spec.Graph {
		o.Isolation = spec.Process
		return spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "go", Options: o}}}
	}
	own := host.Program{Path: path, Args: []string{"run"}}
	base := App{Graph: graph(spec.Options{})}
	same := base.Identity(own)
	more := App{Graph: graph(spec.Options{NumReplicas: 7})}
	if more.Identity(own) != same {
		t.Error("the number of replicas counts")
	}
	for name, id := range map[string]string{
		"environment": (&App{Graph: graph(spec.Options{Env: map[string]string{"A": "b"}})}).Identity(own),
		"arguments":   base.Identity(host.Program{Path: path}),
		"code":        (&App{Graph: base.Graph, Python: host.Python{Blob: []byte("x")}}).Identity(own),
		"program":     (&App{Graph: base.Graph, Program: &host.Program{Path: path + "2"}}).Identity(own),
	} {
		if id == same {
			t.Errorf("%s: does not count", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("two!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if base.Identity(own) == same {
		t.Error("another executable at the same path is the same")
	}
}

// TestOrigin: an application comes from the directory of its Python code, of its own program, or of the node's.
func TestOrigin(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for want, a := range map[string]App{
		"/node":    {},
		"/program": {Program: &host.Program{Dir: "/program"}},
		"/python":  {Python: host.Python{Dir: "/python"}, Program: &host.Program{Dir: "/program"}},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if got := a.Origin(host.Program{Dir: "/node"}); got != name+":"+want {
				t.Error(got)
			}
		})
	}
}

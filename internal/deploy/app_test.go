package deploy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/placement"
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

// TestArchivesAreReadOnce: the code of an application is that of its archives when it is checked. The identity and the host of a deployment are
// wanted while a lock is held, which no file may hold up.
func TestArchivesAreReadOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "modules.zip")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	a := App{
		Graph: spec.Graph{App: "app", Deployments: []spec.Deployment{{
			Name: "D", Language: "python", Options: spec.Options{Version: "1", PyModules: []string{path}},
		}}},
		Python: host.Python{Interpreter: "true"},
	}
	code := func() string {
		_, p := a.Place(a.Graph.Deployments[0], nil, Settings{})
		return a.Identity(host.Program{}) + p.Code.Compared
	}
	check := func() {
		if err := a.Check(host.Program{}); err != nil {
			t.Fatal(err)
		}
	}
	check()
	before := code()
	write("two")
	if code() != before {
		t.Error("the archive was read after the check")
	}
	check()
	if code() == before {
		t.Error("another archive at the same path is the same")
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

// TestGPUsOfReplicasThatWait: the replicas over max_replicas_per_node wait, and need no GPU of the node.
func TestGPUsOfReplicasThatWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		replicas, most, gpus int
		fits                 bool
	}{
		"no bound":              {4, 0, 4, true},
		"no bound, too few":     {4, 0, 3, false},
		"a bound":               {4, 1, 1, true},
		"a bound, too few":      {4, 2, 1, false},
		"a bound over the rest": {2, 3, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := spec.Options{NumReplicas: c.replicas, MaxReplicasPerNode: c.most}
			o.Resources.GPUs = 1
			a := App{Graph: spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "python", Options: o}}}}
			if err := a.CheckRoom(placement.Unstated("", []string{"0", "1", "2", "3"}[:c.gpus]...)); (err == nil) != c.fits {
				t.Error(err)
			}
		})
	}
}

// TestCodeOfRepeatedRevision: code that is a cloudpickle is the same for a rollback to the revision whose pickle the replicas have, and for no other deploy.
func TestCodeOfRepeatedRevision(t *testing.T) {
	t.Parallel()
	ran := App{Python: host.Python{Interpreter: "python", Digest: "one", SysPath: []string{}, Env: map[string]string{}}}
	again := App{Python: host.Python{Interpreter: "python", Digest: "one"}} // as the store gives it back
	other := App{Python: host.Python{Interpreter: "python", Digest: "two"}}
	packed := App{Python: host.Python{Interpreter: "python", Digest: "one", Packed: []host.Packed{{Path: "/srv/shop", Digest: "three"}}}}
	code := func(a *App) Code { return a.pythonCode("D", "") }
	for name, c := range map[string]struct {
		of            *App
		repeats, want bool
	}{
		"a rollback":               {&again, true, true},
		"a deploy":                 {&again, false, false},
		"a rollback to another":    {&other, true, false},
		"a rollback, other module": {&packed, true, false},
		"a pickle without a name":  {&App{}, true, false},
	} {
		if got := code(c.of).Same(code(&ran), c.repeats); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if code := code(&App{}); code.Same(code, true) {
		t.Error("a deployment without code is the same as another")
	}
}

package deploy

import (
	"testing"

	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

func TestPythonCodeHasNoDirectories(t *testing.T) {
	t.Parallel()
	made := func(python host.Python) string {
		a := App{Python: python, CodeVersions: map[string]string{"D": "3f1c"}}
		return a.pythonCode("D", "").Compared
	}
	a := made(host.Python{Interpreter: "/usr/bin/python3", SysPath: []string{"/srv/a", "/opt/venv/lib/python3.11/site-packages"}, Dir: "/srv/a"})
	if b := made(host.Python{Interpreter: "/usr/bin/python3", SysPath: []string{"/srv/b", "/opt/venv/lib/python3.11/site-packages"}, Dir: "/srv/b"}); a != b {
		t.Errorf("the same files in two directories are %s and %s", a, b)
	}
	if b := made(host.Python{Interpreter: "/usr/bin/python3", SysPath: []string{"/srv/a", "/opt/other/lib/python3.11/site-packages"}, Dir: "/srv/a"}); a == b {
		t.Error("other installed packages are the same code")
	}
	if b := made(host.Python{Interpreter: "/opt/python3", SysPath: []string{"/srv/a", "/opt/venv/lib/python3.11/site-packages"}, Dir: "/srv/a"}); a == b {
		t.Error("another interpreter is the same code")
	}
}

func TestSameFiles(t *testing.T) {
	t.Parallel()
	in := func(dir, digest, content string) *App {
		return &App{
			Graph:  spec.Graph{Deployments: []spec.Deployment{{Name: "D", Language: "python", Options: spec.Options{Dir: dir}}}},
			Python: host.Python{Packed: []host.Packed{{Path: dir, Digest: digest, Content: content}}},
		}
	}
	for _, c := range []struct {
		now, next *App
		same      bool
	}{
		{in("/srv/v1", "3f1c", "aa"), in("/srv/v2", "77b0", "aa"), true},
		{in("/srv/v1", "3f1c", "aa"), in("/srv/v2", "77b0", "bb"), false},
		{in("/a/shop", "3f1c", ""), in("/b/shop", "3f1c", "aa"), true}, // of a record that has no digest of its content
		{in("/srv/v1", "3f1c", ""), in("/srv/v2", "77b0", ""), false},
		{in("/srv/v1", "", ""), in("/srv/v2", "", ""), false}, // packed nowhere
	} {
		if got := SameFiles(c.now, c.next)["D"]; got != c.same {
			t.Errorf("%+v and %+v: %t", c.now.Python.Packed, c.next.Python.Packed, got)
		}
	}
}

func TestSamePlaces(t *testing.T) {
	t.Parallel()
	in := func(dir string, packed ...host.Packed) *App {
		return &App{Python: host.Python{SysPath: []string{dir}, Dir: dir, Packed: packed}}
	}
	if !SamePlaces(in("/srv/a"), in("/srv/a")) {
		t.Error("one directory is two places")
	}
	if SamePlaces(in("/srv/a"), in("/srv/b")) {
		t.Error("replicas would start in /srv/a, which the operator may remove")
	}
	if !SamePlaces(in("/srv/a", host.Packed{Path: "/srv/a", Digest: "3f1c"}), in("/srv/b")) {
		t.Error("the node has a copy of /srv/a")
	}
}

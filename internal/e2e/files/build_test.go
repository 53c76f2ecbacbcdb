package files_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Clerk is a deployment in Go.
type Clerk struct{}

// Serve says in which process it runs.
func (c *Clerk) Serve(_ context.Context, who string) (string, error) {
	return fmt.Sprintf("%s %d %s", who, os.Getpid(), os.Getenv("DESK")), nil
}

// _ is an application of the test binary, for files with exec:.
var _ = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("office")
	clerk := helve.Deploy(app, "Clerk", func(context.Context) (*Clerk, error) { return &Clerk{}, nil }, helve.Options{MaxOngoingRequests: new(3)})
	app.Ingress(helve.MethodOf(clerk, (*Clerk).Serve))
	return app, nil
})

// executable copies the test binary to a path. A text behind its end makes another build of it.
func executable(t *testing.T, path, text string) {
	t.Helper()
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, io.MultiReader(from, strings.NewReader(text)))
	if closed := to.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(path+".new", path) // a program that runs stays as it is
	}
	if err != nil {
		t.Fatal(err)
	}
}

// words are the words of the answer of an application to "who".
func (p *place) words(path string) []string {
	p.t.Helper()
	r := fixture.PostText(p.t, p.t.Context(), p.url+path, "who")
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Fields(strings.Trim(strings.TrimSpace(string(b)), `"`))
}

// TestApplyBuild: two applications of one executable have the names and options of the file, an equal file makes no revision, an option that changes in place leaves the
// workers, and another build of the executable gets new ones.
func TestApplyBuild(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := filepath.Join(p.dir, "office")
	executable(t, path, "")
	file := `
applications:
- name: first
  import_path: exec:office#office
  route_prefix: /first
  runtime_env: {env_vars: {DESK: one}}
- name: second
  import_path: exec:` + path + `#office
  route_prefix: /second
  deployments:
  - name: Clerk
    max_ongoing_requests: 7
`
	same(t, p.applied(file), map[string]string{"first": "created 1", "second": "created 1"})
	first, second := p.words("/first"), p.words("/second")
	if len(first) != 3 || first[0] != "who" || first[2] != "one" || len(second) != 2 || first[1] == second[1] {
		t.Fatalf("the applications answer %q and %q", first, second)
	}
	limits := func() string {
		var all []string
		for _, app := range []string{"first", "second"} {
			c, err := p.Config(t.Context(), app)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range c.Deployments["Clerk"] {
				if o.Path == "max_ongoing_requests" {
					all = append(all, fmt.Sprintf("%s from %s", o.Value, o.From))
				}
			}
		}
		return strings.Join(all, ", ")
	}
	if got := limits(); got != "3 from code, 7 from file" {
		t.Errorf("the limits are %s", got)
	}
	same(t, p.applied(file), map[string]string{"first": "unchanged 1", "second": "unchanged 1"})
	file = strings.Replace(file, "max_ongoing_requests: 7", "max_ongoing_requests: 8", 1)
	same(t, p.applied(file), map[string]string{"first": "unchanged 1", "second": "changed 2"})
	if got := p.words("/second"); got[1] != second[1] || limits() != "3 from code, 8 from file" {
		t.Errorf("after a change in place it answers %q in place of %q, with limits %s", got, second, limits())
	}
	executable(t, path, "another build")
	same(t, p.applied(file), map[string]string{"first": "changed 2", "second": "changed 3"})
	if got := [][]string{p.words("/first"), p.words("/second")}; got[0][1] == first[1] || got[1][1] == second[1] || got[0][2] != "one" {
		t.Errorf("another build answers %q", got)
	}
	a, err := p.apply(strings.Replace(file, "name: Clerk", "name: Clark", 1))
	if err != nil || a.Applications["second"].Change != "refused" || !strings.Contains(a.Applications["second"].Error, "serve.yaml:11:11") || !strings.Contains(a.Applications["second"].Error, "it has Clerk") {
		t.Errorf("a deployment that is not there: %+v, %v", a, err)
	}
	same(t, p.applied("applications: []\n"), map[string]string{"first": "deleted 0", "second": "deleted 0"})
}

// TestPlanKeepsNothing: a plan reads the code of applications in Python and Go, and leaves no copy of it. A plan of the code that runs has no changes.
func TestPlanKeepsNothing(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const module = "from helve import serve\n\n\n@serve.deployment\ndef word(request):\n    return 'one'\n\n\napp = word.bind()\n"
	s.write("one.py", module)
	executable(t, filepath.Join(s.dir, "office"), "")
	s.write("serve.yaml", "applications:\n- {name: py, route_prefix: /py, import_path: 'one:app'}\n- {name: go, route_prefix: /go, import_path: 'exec:office#office'}\n")
	s.deploy()
	blobs := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(s.root, "state", "blobs"))
		if err != nil || len(entries) == 0 {
			t.Fatalf("%d blobs, %v", len(entries), err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	before := blobs()
	if p := s.command("plan", "serve.yaml"); !strings.Contains(p, "2 unchanged") {
		t.Errorf("the plan of the code that runs: %s", p)
	}
	s.write("one.py", strings.Replace(module, "one", "two", 1))
	executable(t, filepath.Join(s.dir, "office"), "another build")
	if p := s.command("plan", "serve.yaml"); !strings.Contains(p, "2 changed") {
		t.Errorf("the plan of changed code: %s", p)
	}
	if after := blobs(); !slices.Equal(after, before) {
		t.Errorf("the plans have changed the blobs %q to %q", before, after)
	}
	s.deploy()
	if after := blobs(); slices.Equal(after, before) {
		t.Error("the deploy of the changed code has kept nothing")
	}
}

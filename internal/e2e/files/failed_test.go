package files_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// raising is a module that cannot be imported.
const raising = "def deep():\n    raise RuntimeError('no database')\n\n\ndeep()\n"

// failing is a file whose only application cannot be built.
func failing(app string) string {
	return "applications:\n- name: " + app + "\n  import_path: bad:app\n  route_prefix: /" + app + "\n"
}

// reasons lists the events of an application by their reasons.
func (p *place) reasons(app string) (all []string) {
	for _, ev := range p.node.Events().History(helvetype.Object{Kind: helvetype.KindApplication, App: app}) {
		all = append(all, ev.Reason)
	}
	return all
}

func TestFailedDeployIsInTheStatus(t *testing.T) {
	t.Parallel()
	t.Run("of an application that was not there", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.write("bad.py", raising)
		if _, err := p.apply(failing("shop")); err == nil || !strings.Contains(err.Error(), "no database") {
			t.Fatalf("got %v", err)
		}
		s := p.node.Status().Applications["shop"]
		if s.Status != helvetype.ApplicationDeployFailed || !strings.Contains(s.Message, "in deep") || s.FailedDeploy == nil {
			t.Fatalf("the status is %+v", s)
		}
		if got := p.get("/shop/x"); !strings.Contains(got, `application "shop" has failed to start`) {
			t.Errorf("a request: %s", got)
		}
		if f := s.FailedDeploy; f.By != "ann" || f.Source != "default" || f.At.IsZero() || !strings.Contains(f.Error, "RuntimeError: no database") {
			t.Errorf("the failure is %+v", f)
		}
		e, err := p.Explain(t.Context(), helvetype.Object{App: "shop"}, 0)
		if err != nil || !strings.Contains(e.Sentence, "by ann, has failed") || !strings.Contains(e.Sentence, "no database") || e.Next == "" {
			t.Errorf("why: %v, %+v", err, e)
		}
		if got := p.reasons("shop"); !slices.Equal(got, []string{"build_failed"}) {
			t.Errorf("the events are %q", got)
		}
		if err := p.Delete(t.Context(), ann, "shop"); err != nil {
			t.Fatal(err)
		}
		if _, there := p.node.Status().Applications["shop"]; there {
			t.Error("it is there after its delete")
		}
	})
	t.Run("of an application that runs", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.write("good.py", "from helve import serve\n\n\n@serve.deployment\ndef shop(request):\n    return 'good'\n\n\napp = shop.bind()\n")
		p.write("bad.py", raising)
		good := strings.Replace(failing("shop"), "bad:app", "good:app", 1)
		if _, err := p.apply(good); err != nil {
			t.Fatal(err)
		}
		if _, err := p.apply(failing("shop")); err == nil {
			t.Fatal("a module that raises an exception is deployed")
		}
		s := p.node.Status().Applications["shop"]
		if s.Status != helvetype.ApplicationDeployFailed || !strings.Contains(s.Message, "revision 1 serves on") || len(s.Deployments) != 1 {
			t.Errorf("the status is %+v", s)
		}
		if h, err := p.History(t.Context(), "shop"); err != nil || h.FailedDeploy == nil || len(h.Revisions) != 1 || h.Revisions[0].State != "running" {
			t.Errorf("the history is %+v, %v", h, err)
		}
		if _, err := p.apply(good); err != nil { // the deploy changes nothing
			t.Fatal(err)
		}
		if h, err := p.History(t.Context(), "shop"); err != nil || len(h.Revisions) != 1 {
			t.Errorf("the history is %+v, %v", h, err)
		}
		if s := p.node.Status().Applications["shop"]; s.Status != helvetype.ApplicationRunning || s.FailedDeploy != nil {
			t.Errorf("after a deploy that is well the status is %+v", s)
		}
	})
	t.Run("a file without the application forgets it, of its own source alone", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.write("bad.py", raising)
		if _, err := p.apply(failing("shop")); err == nil {
			t.Fatal("a module that raises an exception is deployed")
		}
		for _, source := range []string{"other", ""} {
			if _, err := p.apply("applications: []\n", func(r *helvetype.ApplyRequest) { r.Source = source }); err != nil {
				t.Fatal(err)
			}
			if _, there := p.node.Status().Applications["shop"]; there != (source == "other") {
				t.Errorf("source %q: the application is there: %v", source, there)
			}
		}
	})
	t.Run("not of a plan", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.write("bad.py", raising)
		if _, err := p.Plan(t.Context(), helvetype.ApplyRequest{Config: failing("shop"), Dir: p.dir}); err == nil {
			t.Fatal("a plan of a module that raises an exception is made")
		}
		if all := p.node.Status().Applications; len(all) != 0 {
			t.Errorf("the status is %+v", all)
		}
	})
}

func TestSameFileFromAnotherDirectory(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const module = "import os\n\nfrom helve import serve\n\nHERE = os.path.dirname(__file__)\n\n\n@serve.deployment\ndef shop(request):\n    return f'{os.getpid()} {HERE}'\n\n\napp = shop.bind()\n"
	p.write("good.py", module)
	config := strings.Replace(failing("shop"), "bad:app", "good:app", 1)
	if _, err := p.apply(config); err != nil {
		t.Fatal(err)
	}
	before := p.get("/shop")
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "good.py"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := func(r *helvetype.ApplyRequest) { r.Dir = other }
	a, err := p.apply(config, elsewhere)
	if err != nil || a.Applications["shop"].Error != "" {
		t.Fatalf("%v, %+v", err, a)
	}
	if after := p.get("/shop"); after != before {
		t.Errorf("the replica %q has become %q by a file with the same code", before, after)
	}
	if err := os.WriteFile(filepath.Join(other, "good.py"), []byte(module+"# changed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.apply(config, elsewhere); err != nil {
		t.Fatal(err)
	}
	if after := p.get("/shop"); after == before {
		t.Errorf("a replica of the code before answers: %q", after)
	}
	a, err = p.apply(config, elsewhere, func(r *helvetype.ApplyRequest) { r.Source = "other" })
	if warnings := strings.Join(a.Warnings, "\n"); err != nil || !strings.Contains(warnings, "was deployed by source default") {
		t.Errorf("another source takes it over with the warnings %q, %v", warnings, err)
	}
}

package files_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestApplySourceSuperseded has a file whose module waits, and a second file of the same source with another application: the last file says what there is, so the first one's
// application does not come, and that of the second stays. A file of another source is none of it.
func TestApplySourceSuperseded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	gate, begun := filepath.Join(p.dir, "gate"), filepath.Join(p.dir, "begun")
	p.write("slow.py", fmt.Sprintf("import os, time\nopen(%q, 'w').close()\nwhile not os.path.exists(%q):\n    time.sleep(0.01)\nfrom shop import app\n", begun, gate))
	t.Cleanup(func() { os.WriteFile(gate, nil, 0o600) }) //nolint:errcheck // the builder is ended anyway
	first := make(chan error, 1)
	go func() {
		_, err := p.apply("applications: [{name: a, import_path: 'slow:app', route_prefix: /a}]")
		first <- err
	}()
	fixture.Eventually(t, func() string {
		if _, err := os.Stat(begun); err != nil {
			return "the first build has not begun"
		}
		return ""
	})
	same(t, p.applied("applications: [{name: c, import_path: 'shop:app', route_prefix: /c}]", func(r *helvetype.ApplyRequest) { r.Source = "other" }), map[string]string{"c": "created 1"})
	select {
	case err := <-first:
		t.Fatalf("a file of another source ends the first: %v", err)
	default:
	}
	same(t, p.applied("applications: [{name: b, import_path: 'shop:app', route_prefix: /b}]"), map[string]string{"b": "created 1"})
	e, ok := errors.AsType[*helvetype.OperationError](<-first)
	if !ok || e.Code != helvetype.CodeAborted || !strings.Contains(e.Message, "ann") {
		t.Errorf("the first request is told %v", e)
	}
	if all := p.node.Status().Applications; len(all) != 2 || all["b"].Status == "" || all["c"].Status == "" {
		t.Errorf("the applications are %v", all)
	}
}

// TestApplyRefusedChangesNothing: a file of which no application is taken sets nothing of the node, and an application whose route a refused one wants stays.
func TestApplyRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	p.applied("applications: [{name: old, import_path: 'shop:app', route_prefix: /old}]")
	if _, err := p.apply("target_capacity: 50\napplications: [{name: bad, import_path: 'nope:app'}]"); err == nil {
		t.Error("a module that is not there is no error")
	}
	s, err := p.Settings(t.Context())
	if err != nil || s.TargetCapacity != nil {
		t.Errorf("a file that was refused has set the target capacity: %v, %v", s.TargetCapacity, err)
	}
	if _, err := p.apply("applications: [{name: young, import_path: 'shop:app', route_prefix: /old, deployments: [{name: Ranker, ray_actor_options: {num_gpus: 64}}]}]"); err == nil {
		t.Error("64 GPUs are no error")
	}
	if got := p.get("/old"); !strings.HasPrefix(got, "3 ") {
		t.Errorf("the application whose route a refused one wants answers %q", got)
	}
}

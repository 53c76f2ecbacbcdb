package workers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestNoOrphans kills a node, and a driver, with SIGKILL: their children end.
func TestNoOrphans(t *testing.T) {
	t.Parallel()
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command(fixture.Compile(t, "./examples/hello"), "run", "--http", "127.0.0.1:0", "--isolation", "process")
		out, _ := fixture.Launch(t, cmd)
		out.Line(t, "http://")
		pids := fixture.Children(t, cmd.Process.Pid)
		if len(pids) != 1 {
			t.Fatalf("children %v, want one worker", pids)
		}
		cmd.Process.Kill()
		fixture.AwaitExit(t, pids[0])
	})
	t.Run("driver", func(t *testing.T) {
		t.Parallel()
		script := filepath.Join(t.TempDir(), "script.py")
		code := `
from helve import serve
import sys

@serve.deployment
class Up:
    async def __call__(self, s: str) -> str:
        return s.upper()

serve.start(http_options={"port": None})
h = serve.run(Up.options(num_replicas=2).bind())
print("answer", h.remote("ready").result(), flush=True)
sys.stdin.read()
`
		if err := os.WriteFile(script, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Getenv("HELVE_PYTHON"), script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, _ := fixture.Launch(t, cmd)
		out.Line(t, "answer READY")
		nodes := fixture.Children(t, cmd.Process.Pid)
		if len(nodes) != 1 {
			t.Fatalf("children %v, want one node", nodes)
		}
		workers := fixture.Children(t, nodes[0])
		if len(workers) != 2 {
			t.Fatalf("workers %v, want two", workers)
		}
		cmd.Process.Kill()
		for _, pid := range append(workers, nodes...) {
			fixture.AwaitExit(t, pid)
		}
	})
}

// TestDriverKilledDuringDeploy: a constructor that takes for ever does not keep the node of a driver that is gone.
func TestDriverKilledDuringDeploy(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script.py")
	code := `
from helve import serve
import time

@serve.deployment
class Slow:
    def __init__(self):
        print("constructing", flush=True)
        time.sleep(3600)

serve.start(http_options={"port": None})
serve.run(Slow.bind(), route_prefix=None)
`
	if err := os.WriteFile(script, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Getenv("HELVE_PYTHON"), script)
	out, _ := fixture.Launch(t, cmd)
	out.Line(t, "constructing")
	nodes := fixture.Children(t, cmd.Process.Pid)
	workers := fixture.Children(t, nodes[0])
	if len(nodes) != 1 || len(workers) != 1 {
		t.Fatalf("nodes %v, workers %v", nodes, workers)
	}
	cmd.Process.Kill()
	for _, pid := range append(workers, nodes...) {
		fixture.AwaitExit(t, pid)
	}
}

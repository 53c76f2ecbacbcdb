package why_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/rest"
)

// scaled is an application of one deployment with an autoscaler.
const scaled = `
from helve import serve

@serve.deployment(max_ongoing_requests=5, autoscaling_config={"min_replicas": 1, "max_replicas": 4})
class Ranker:
    def __call__(self, request):
        return "ok"

app = Ranker.bind()
`

// TestCommandsOfScaling: a change with --wait waits for the replicas of another lower bound, an override that is not there is said to be none, a target that no replica reaches is a warning, a reader that closes the output is no
// error, and stop ends the service at an address.
func TestCommandsOfScaling(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if err := os.WriteFile(filepath.Join(s.root, "ranker.py"), []byte(scaled), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		text, err := s.command(t.Context(), s.root, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, text)
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
	run("deploy", "--wait", "--name", "shop", "ranker:app")
	run("set", "--wait", "shop/Ranker", "autoscaling_config.min_replicas=3")
	if text := run("status"); !strings.Contains(text, "Ranker HEALTHY 3/3") {
		t.Errorf("after set --wait: %s", text)
	}
	if text := run("set", "shop/Ranker", "max_ongoing_requests="); !strings.Contains(text, "shop unchanged") || !strings.Contains(text, "shop: Ranker.max_ongoing_requests has no override to clear") {
		t.Error(text)
	}
	if text := run("set", "--dry-run", "shop/Ranker", "autoscaling_config.target_ongoing_requests=20"); !strings.Contains(text, "autoscaling_config.target_ongoing_requests is 20, above max_ongoing_requests (5)") {
		t.Error(text)
	}
	for _, args := range [][]string{{"status"}, {"why"}, {"events"}, {"set", "--wait", "shop/Ranker", "max_ongoing_requests=6"}, {"config", "--effective", "-o", "json"}, {"history", "shop"}} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		reader.Close()
		c := s.command(t.Context(), s.root, args...)
		var said bytes.Buffer
		c.Stdout, c.Stderr = writer, &said
		err = c.Run()
		if writer.Close(); err != nil || strings.Contains(said.String(), "error") {
			t.Errorf("%v into a closed pipe: %v\n%s", args, err, said.String())
		}
	}
	all, err := filepath.Glob(filepath.Join(s.root, "run", "*", "admin.sock"))
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	node, err := rest.Dial(all[0])
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	stop := s.command(t.Context(), s.root, "stop")
	stop.Env = append(stop.Env, "HELVE_ADDRESS="+all[0], "HELVE_STATE_DIR="+filepath.Join(s.root, "other"))
	text, err := stop.CombinedOutput()
	if s.stopped = err == nil; err != nil || !strings.Contains(string(text), "the service of "+filepath.Join(s.root, "state")+" has ended") {
		t.Errorf("%v: %s", err, text)
	}
}

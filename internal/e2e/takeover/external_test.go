package takeover_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestExecutableOfADurableNode: an executable that a program has deployed serves on after kill -9 of the node, with the same workers, and after kill -9 of
// the keeper, although its file has been removed.
func TestExecutableOfADurableNode(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir, path, stock := filepath.Join(home, "state"), filepath.Join(home, "program"), fixture.Compile(t, "./cmd/helve")
	buildProgram(t, path, "1")
	start := func() *testNode {
		t.Helper()
		return startCommand(t, stock, "start", "--http", "127.0.0.1:0", "--state-dir", dir)
	}
	n := start()
	say := func(when string) {
		t.Helper()
		fixture.Eventually(t, func() string { // a connection may end with its node
			if got, err := asked(n.url, "x"); err != nil || got != "1: x" {
				return when + ": it answers " + got
			}
			return ""
		})
	}
	sys, err := helve.Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close(t.Context()) //nolint:errcheck // the node ends
	if err := sys.Deploy(t.Context(), helve.Executable("exec:"+path+"#program")); err != nil {
		t.Fatal(err)
	}
	say("deployed")
	workers := keptWorkers(t, n, dir)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(nodeOf(t, dir).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	say("the node was killed")
	if now := keptWorkers(t, n, dir); len(workers) == 0 || !slices.Equal(now, workers) {
		t.Errorf("workers %v, before %v", now, workers)
	}
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n.said.Ended()
	for _, pid := range workers {
		fixture.AwaitExit(t, pid)
	}
	n = start()
	say("the keeper was killed")
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n.said.Ended()
}

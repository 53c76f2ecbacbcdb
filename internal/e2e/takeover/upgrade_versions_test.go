package takeover_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestUpgradeOneVersionApart: a node is upgraded to one that speaks the protocol of the next version, and back to one of the version before, under traffic. The worker
// of an application stays through all of them, and so does a call that runs in it.
func TestUpgradeOneVersionApart(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir, program, held := filepath.Join(home, "state"), filepath.Join(home, "program"), filepath.Join(home, "held")
	buildProgram(t, program, "all")
	stock := map[string]string{}
	for name, protocols := range map[string]string{"before": "1-1", "now": "", "next": "2-3"} {
		stock[name] = filepath.Join(home, name)
		fixture.GoBuild(t, "-ldflags", speaking(protocols), "-o", stock[name], "./cmd/helve")
	}
	n := startCommand(t, stock["before"], "start", "--http", "127.0.0.1:0", "--state-dir", dir)
	sys, err := helve.Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := sys.Deploy(t.Context(), helve.Executable("exec:"+program+"#program")); err != nil {
		t.Fatal(err)
	}
	sys.Close(t.Context()) //nolint:errcheck // the application stays
	f := startTraffic(t, 4, func() (string, error) { return asked(n.url, "x") })
	f.reach("all", 20)
	workers := keptWorkers(t, n, dir)
	if err := syscall.Mkfifo(held, 0o600); err != nil {
		t.Fatal(err)
	}
	running := make(chan string, 1)
	go func() {
		got, err := asked(n.url, "pipe:"+held)
		running <- fmt.Sprint(got, " ", err)
	}()
	pipe, err := os.OpenFile(held, os.O_WRONLY, 0) // when the call has opened it too
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"now", "next", "now", "before"} {
		if out, err := exec.Command(stock[to], "upgrade", "--state-dir", dir).CombinedOutput(); err != nil {
			t.Fatalf("to %s: %v: %s\n%s", to, err, out, n.said.Text())
		}
		f.reach("all", 20)
		if now := keptWorkers(t, n, dir); !slices.Equal(now, workers) {
			t.Errorf("to %s: workers %v, before %v", to, now, workers)
		}
	}
	f.end()
	if _, err := pipe.WriteString("held"); err != nil {
		t.Error(err)
	}
	pipe.Close()
	if got := <-running; got != "all: held <nil>" {
		t.Errorf("the call that ran: %s", got)
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n.said.Ended()
}

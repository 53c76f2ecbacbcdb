package workers_test

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestHelloProgram drives the example from outside, in both isolations: a client gets the same answers.
func TestHelloProgram(t *testing.T) {
	t.Parallel()
	hello := fixture.Compile(t, "./examples/hello")
	for _, isolation := range []string{"node", "process"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(hello, "run", "--http", "127.0.0.1:0", "--isolation", isolation)
			out, _ := fixture.Launch(t, cmd)
			line := out.Line(t, "http://")
			url := line[strings.Index(line, "http://"):]
			for _, body := range []string{`"world"`, "world"} {
				if got := fixture.Post(t, url, body); got != "Hello world!" {
					t.Errorf("%s: %q", body, got)
				}
			}
			pids := fixture.Children(t, cmd.Process.Pid)
			if (len(pids) > 0) != (isolation == "process") {
				t.Errorf("children %v with --isolation %s", pids, isolation)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				fixture.AwaitExit(t, pid)
			}
		})
	}
	for name, test := range map[string]struct {
		args []string
		text string
	}{
		"isolation": {[]string{"run", "--isolation", "thread"}, `--isolation "thread": must be node or process`},
		"address":   {[]string{"run", "--http", "nowhere"}, "--http nowhere"},
		"name":      {[]string{"run", "goodbye"}, `no application "goodbye" in this binary, it contains hello`},
		"flag":      {[]string{"--htpp", "x"}, "--htpp"},
		"command":   {[]string{"sreve"}, "sreve"},
	} {
		t.Run("wrong "+name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(hello, test.args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.text) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestDrain: a close waits for the answers of calls that run.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			s, err := helve.Config{Isolation: isolation}.Run(t.Context(), fixture.BuildGo)
			if err != nil {
				t.Fatal(err)
			}
			h, err := helve.HandleOf[fixture.Service](s, "go", "Subject")
			if err != nil {
				t.Fatal(err)
			}
			var rs []*helve.Response[int]
			for range 20 { // more than there are slots: some are queued
				rs = append(rs, helve.MethodOf(h, fixture.Service.Work).Remote(t.Context(), 20))
			}
			if err := s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if _, err := r.Result(t.Context()); err != nil {
					t.Errorf("lost in the drain: %v", err)
				}
			}
			if _, err := helve.MethodOf(h, fixture.Service.Echo).Call(t.Context(), "late"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
				t.Errorf("after the close: %v", err)
			}
		})
	}
}

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/kernel"
)

// The test executable is also the first process of a container, as far as orphans are concerned.
func TestMain(m *testing.M) {
	if os.Getenv("CLI_TEST_RUN") != "" {
		os.Exit(Run([]string{"run", "--http", ""}, App("greeting", buildGreeter)))
	}
	script := os.Getenv("CLI_TEST_INIT")
	if script == "" {
		os.Exit(m.Run())
	}
	if !kernel.SetSubreaper(true) {
		panic("the orphans of this process go elsewhere")
	}
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
	if err != nil {
		panic(err)
	}
	fmt.Println("status", reap(p.Pid))
	os.Exit(0)
}

// TestFirstProcess: it reaps orphans, and ends as its child does.
func TestFirstProcess(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`pid=$(sh -c 'sh -c "exit 3" >/dev/null & echo $!'); while [ -d /proc/$pid ]; do :; done; exit 7`: "status 7",
		`kill -TERM $$`: "status 143",
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "CLI_TEST_INIT="+script)
		if out, err := cmd.CombinedOutput(); strings.TrimSpace(string(out)) != want || err != nil {
			t.Errorf("%s: %s, %v", script, out, err)
		}
	}
}

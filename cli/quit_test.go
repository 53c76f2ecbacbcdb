package cli

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestQuit: SIGQUIT has a node write its calls and events, and then the stacks of all goroutines, and ends it with Go's status.
func TestQuit(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "CLI_TEST_RUN=1", "HELVE_RUNTIME_DIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "greeting runs, without HTTP\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	ended, _ := errors.AsType[*exec.ExitError](cmd.Wait())
	if ended == nil || ended.ExitCode() != 2 {
		t.Errorf("%v, want status 2", ended)
	}
	rest := stderr.String()
	for _, want := range []string{"calls:\nno call waits or runs\n", "events:\n", "application greeting  DEPLOYING -> RUNNING", "SIGQUIT: quit", "goroutine "} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q in this order in:\n%s", want, stderr.String())
		}
		rest = after
	}
}

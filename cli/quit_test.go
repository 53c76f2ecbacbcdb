package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestQuit: SIGQUIT has a node write its calls and events, and then the stacks of all goroutines, and ends it with Go's status.
func TestQuit(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	dir := t.TempDir()
	cmd.Env = append(os.Environ(), "CLI_TEST_RUN=1", "HELVE_RUNTIME_DIR="+t.TempDir(), "TMPDIR="+dir, "PLANTED=planted-secret")
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
	for _, want := range []string{"calls:\nno call waits or runs\n", "events:\n", "application greeting  DEPLOYING -> RUNNING", "support bundle: " + dir, "SIGQUIT: quit", "goroutine "} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q in this order in:\n%s", want, stderr.String())
		}
		rest = after
	}
	names, _ := filepath.Glob(filepath.Join(dir, "helve-dump-*.tar.gz"))
	if len(names) != 1 {
		t.Fatalf("bundles: %v", names)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"helve-dump/goroutines.txt", "helve-dump/applications/greeting/why.json", "application greeting is RUNNING", "helve-dump/metrics.txt", "nothing is missing"} {
		if !bytes.Contains(all, []byte(want)) {
			t.Errorf("no %q in the bundle", want)
		}
	}
	if bytes.Contains(all, []byte("planted-secret")) {
		t.Error("a variable of the environment is in the bundle")
	}
}

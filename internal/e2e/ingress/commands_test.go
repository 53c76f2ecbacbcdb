package ingress_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestCommandsOfThePage runs the commands of docs/http.md, and compares their output with the page.
func TestCommandsOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```sh\n")
	script, rest, _ := strings.Cut(rest, "```")
	_, rest, _ = strings.Cut(rest, "```\n")
	want, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the page has no commands")
	}
	dir, err := os.MkdirTemp("", "http") // a short path, for the socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fixture.GoBuild(t, "-o", filepath.Join(dir, "hello"), "./examples/hello")
	address := fixture.FreeAddress(t)
	run := exec.CommandContext(t.Context(), "sh", "-e", "-c", strings.ReplaceAll(script, "127.0.0.1:8443", address))
	run.Dir, run.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := run.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	log, err := os.ReadFile(filepath.Join(dir, "hello.log"))
	if err != nil || !strings.Contains(string(log), "hello serves on https://"+address+"\nhello serves on unix:hello.sock\n") || !strings.Contains(string(log), `"status":400,`) {
		t.Errorf("%v %s", err, log)
	}
}

package takeover_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// buildProgram compiles testdata/program, whose answers say its version.
func buildProgram(t *testing.T, path, version string) {
	t.Helper()
	buildSpeaking(t, path, version, "")
}

// speaking is the linker's flag for a build that speaks other versions of the wire protocol than this code.
func speaking(protocols string) string {
	if protocols == "" {
		return ""
	}
	return " -X github.com/helve-serve/helve/internal/wire.protocolRange=" + protocols
}

// buildSpeaking is buildProgram with the versions of the wire protocol that the build speaks.
func buildSpeaking(t *testing.T, path, version, protocols string) {
	t.Helper()
	fixture.GoBuild(t, "-ldflags", "-X main.version="+version+speaking(protocols), "-o", path+".new", "./internal/e2e/takeover/testdata/program")
	if err := os.Rename(path+".new", path); err != nil { // as a deployment does: processes that run keep their file
		t.Fatal(err)
	}
}

// TestExecutable: an application in another executable is served, changes to another build of it without losing a request,
// and comes back after a crash as the build that was deployed, not as the file that is at its path by then.
func TestExecutable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	buildProgram(t, path, "1")
	ctx := t.Context()
	sys, err := helve.Run(ctx, helve.Executable("exec:"+path+"#program"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	in, err := sys.Ingress("program")
	if err != nil {
		t.Fatal(err)
	}
	say := helve.MethodNamed[string, string](in, "")
	if got, err := say.Call(ctx, "x"); got != "1: x" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	h, err := helve.HandleOf[any](sys, "program", "Counter")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for v, err := range helve.StreamNamed[int, int](h, "Count").Remote(ctx, 100).All() {
		if v != n || err != nil {
			t.Fatalf("%d, %v", v, err)
		}
		n++
	}
	if n != 100 {
		t.Errorf("%d items", n)
	}

	// A file of the same bytes is the same code: its replicas go on.
	before := processes(sys, "program")
	copied, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+".copy", copied, 0o700), os.Rename(path+".copy", path)); err != nil {
		t.Fatal(err)
	}
	if err := sys.Deploy(ctx, helve.Executable("exec:"+path+"#program")); err != nil {
		t.Fatal(err)
	}
	if after := processes(sys, "program"); len(after) != 4 || !maps.Equal(before, after) {
		t.Errorf("the replicas were %v and are %v", before, after)
	}

	buildProgram(t, path, "2")
	crash := helve.MethodNamed[int, helve.None](h, "Exit")
	if _, err := crash.Call(ctx, 3); helve.ReasonOf(err) != helve.ReplicaDied {
		t.Errorf("%v", err)
	}
	if got, err := say.Call(ctx, "x"); got != "1: x" || err != nil {
		t.Errorf("after a crash: %q, %v", got, err)
	}

	// Requests of all the time of the change: each is answered once, by one build or the other.
	var wg sync.WaitGroup
	var answered [3]atomic.Int64
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch got, err := say.Remote(ctx, "y").Result(ctx); {
				case err != nil:
					t.Errorf("lost: %v", err)
					return
				case got == "1: y":
					answered[1].Add(1)
				case got == "2: y":
					answered[2].Add(1)
				default:
					t.Errorf("%q", got)
				}
			}
		})
	}
	err = sys.Deploy(ctx, helve.Executable("exec:"+path+"#program"))
	if err != nil {
		t.Fatal(err)
	}
	for answered[2].Load() < 100 && !t.Failed() {
		if _, err := say.Call(ctx, "y"); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if got, err := say.Call(ctx, "x"); got != "2: x" || err != nil {
		t.Errorf("after the change: %q, %v", got, err)
	}

	// A build that does not start changes nothing.
	buildProgram(t, path, "broken")
	err = sys.Deploy(ctx, helve.Executable("exec:"+path+"#program"))
	if err == nil || !strings.Contains(err.Error(), "stays at revision 3") || !strings.Contains(err.Error(), "broken on purpose") {
		t.Errorf("%v", err)
	}
	if got, err := say.Call(ctx, "x"); got != "2: x" || err != nil {
		t.Errorf("after a failed change: %q, %v", got, err)
	}
	if s := sys.Status().Applications["program"]; s.Status != "DEPLOY_FAILED" || !strings.Contains(s.Message, "broken on purpose") {
		t.Errorf("%+v", s)
	}
}

// processes are the process ids of an application's replicas, by their ids.
func processes(sys *helve.System, app string) map[string]int {
	all := map[string]int{}
	for _, d := range sys.Status().Applications[app].Deployments {
		for _, r := range d.Replicas {
			all[r.ID] = r.PID
		}
	}
	return all
}

// TestNotAnExecutable: a file that is no build is refused, and the error names a remedy.
func TestNotAnExecutable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	buildProgram(t, program, "1")
	stock := filepath.Join(dir, "helve")
	fixture.GoBuild(t, "-o", stock, "./cmd/helve")
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"hello":                          "must be exec:PATH#APPLICATION",
		"exec:":                          "path of the executable is missing",
		"exec:" + dir + "/none#x":        "there is no executable",
		"exec:" + dir:                    "is a directory",
		"exec:" + plain:                  "is not executable",
		"exec:" + script:                 "not made by Go",
		"exec:" + goTool:                 "does not use",
		"exec:" + program + "#other":     `no application "other"`,
		"exec:" + program + "#mistaken":  "num_replicas",
		"exec:" + program + "#withRoute": "runs only in its own executable",
		"exec:" + program + "#mixed":     "deployment Embedder: a Python deployment runs only under its application's own executable",
		"exec:" + program:                "which application",
		"exec:" + stock:                  "contains no application",
	} {
		s, err := helve.Config{}.Run(t.Context(), helve.Executable(path))
		if err == nil {
			s.Close(context.Background())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
	_, err = helve.Config{}.Run(t.Context(), helve.Executable("exec:"+program+"#program", "-silent"))
	if err == nil || !strings.Contains(err.Error(), "without describing") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err = (helve.Config{}).Run(ctx, helve.Executable("exec:"+program+"#program")); err == nil {
		t.Error("ran although the context had ended")
	}
}

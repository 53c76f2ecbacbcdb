package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/spec"
)

// describeCase names how this test binary answers when a test starts it as an executable that is asked for a graph.
const describeCase = "HELVE_BUILD_TEST_CASE"

func TestMain(m *testing.M) {
	how := os.Getenv(describeCase)
	if how == "" {
		os.Exit(m.Run())
	}
	answer := os.NewFile(3, "answer")
	switch how {
	case "graph":
		app := os.Getenv(DescribeEnv)
		if app == Only {
			app = "single"
		}
		json.NewEncoder(answer).Encode(graph(app)) //nolint:errcheck // the test reads it
	case "mistake":
		g := graph("ranker")
		g.Deployments[0].Name = ""
		json.NewEncoder(answer).Encode(g) //nolint:errcheck // the test reads it
	case "damaged":
		fmt.Fprint(answer, `{"app": [`)
	case "fails":
		fmt.Fprintln(os.Stderr, "no model file")
		os.Exit(3)
	case "silent":
	case "hangs":
		fmt.Fprintln(os.Stderr, "started")
		select {}
	}
	os.Exit(0)
}

// graph is an application with one deployment in Go.
func graph(app string) spec.Graph {
	return spec.Graph{App: app, Ingress: &spec.IngressSpec{Deployment: "Ranker"}, Deployments: []spec.Deployment{{Name: "Ranker", Language: "go"}}}
}

// thisBinary is this test binary as an executable with applications. It is in the module of Helve itself, as the
// executables of users are not, which is why it has no version.
func thisBinary(t *testing.T) Build {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseImportPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		path, app string
		ok        bool
	}{
		"exec:/srv/ranker/v2#ranker": {"/srv/ranker/v2", "ranker", true},
		"exec:ranker":                {"ranker", "", true},
		"exec:a#b#c":                 {"a", "b#c", true},
		"exec:":                      {"", "", true},
		"module:Class":               {"", "", false},
		"":                           {"", "", false},
	} {
		if path, app, ok := ParseImportPath(in); path != want.path || app != want.app || ok != want.ok {
			t.Errorf("ParseImportPath(%q) = %q, %q, %t, want %q, %q, %t", in, path, app, ok, want.path, want.app, want.ok)
		}
	}
}

// TestOpen: an executable of this module is a build with a digest, and every other path is an error that says why.
func TestOpen(t *testing.T) {
	t.Parallel()
	if b := thisBinary(t); len(b.Digest) != 64 || !filepath.IsAbs(b.Path) {
		t.Errorf("the build is %+v, want a digest of 64 digits and an absolute path", b)
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	script := filepath.Join(dir, "script")
	for path, mode := range map[string]os.FileMode{text: 0o600, script: 0o700} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"no path":        {"", "the path of the executable is missing"},
		"no file":        {filepath.Join(dir, "none"), "there is no executable"},
		"directory":      {dir, "is a directory"},
		"not executable": {text, "chmod +x"},
		"not Go":         {script, "it was not made by Go"},
		"another module": {goTool, "does not use " + module},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b, err := Open(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open(%q) = %+v, %v, want an error with %q", c.path, b, err, c.want)
			}
		})
	}
}

// TestDescribe: an executable is asked for a graph by its environment, and every way in which it does not answer is an
// error with its path and its output.
func TestDescribe(t *testing.T) {
	t.Parallel()
	b := thisBinary(t)
	describe := func(t *testing.T, ctx context.Context, how, app string) (spec.Graph, error) {
		t.Helper()
		return b.Describe(ctx, app, Command{Env: append(os.Environ(), describeCase+"="+how), Dir: t.TempDir()})
	}
	for asked, want := range map[string]string{"ranker": "ranker", "": "single"} {
		t.Run("application "+want, func(t *testing.T) {
			t.Parallel()
			g, err := describe(t, t.Context(), "graph", asked)
			if err != nil {
				t.Fatal(err)
			}
			if g.App != want || len(g.Deployments) != 1 || g.Deployments[0].Options.Isolation != spec.Process {
				t.Errorf("the graph is %+v, want application %s with one deployment in a process", g, want)
			}
		})
	}
	for how, want := range map[string]string{
		"mistake": "application ranker",
		"damaged": "its description of application ranker does not parse",
		"fails":   "no model file",
		"silent":  "ended without describing an application",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			g, err := describe(t, t.Context(), how, "ranker")
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), b.Path) {
				t.Errorf("Describe gave %+v, %v, want an error with %q and the path", g, err, want)
			}
		})
	}
	t.Run("a context that ends", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("the deploy is called off")
		cancel(stopped)
		if _, err := describe(t, ctx, "hangs", "ranker"); err == nil {
			t.Error("Describe gave no error")
		}
	})
	t.Run("no such file", func(t *testing.T) {
		t.Parallel()
		gone := Build{Path: filepath.Join(t.TempDir(), "none")}
		if _, err := gone.Describe(t.Context(), "ranker", Command{}); err == nil || !strings.Contains(err.Error(), "does not start") {
			t.Errorf("Describe gave %v, want an error that says that the executable does not start", err)
		}
	})
}

// TestKeep: the copy has the executable's content and a name by its digest, a second call finds it, and a file that was
// replaced after Open is refused and leaves nothing behind.
func TestKeep(t *testing.T) {
	t.Parallel()
	b, dir := thisBinary(t), t.TempDir()
	path, err := b.Keep(dir)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(path) != keptPrefix+b.Digest[:keptDigits] {
		t.Errorf("the copy is %s, want a name with the digest %s", path, b.Digest)
	}
	copied, err := Open(path)
	if err != nil || copied.Digest != b.Digest {
		t.Errorf("the copy is %+v, %v, want digest %s", copied, err, b.Digest)
	}
	if again, err := (Build{Path: "/none", Digest: b.Digest}).Keep(dir); again != path || err != nil {
		t.Errorf("the second call gave %s, %v, want %s without a look at the original", again, err, path)
	}

	other := t.TempDir()
	replaced := Build{Path: path, Digest: strings.Repeat("0", 64)}
	if _, err := replaced.Keep(other); err == nil || !strings.Contains(err.Error(), "was replaced while it was being deployed") {
		t.Errorf("a file with another digest gave %v, want an error that says that it was replaced", err)
	}
	if left, err := os.ReadDir(other); len(left) > 0 || err != nil {
		t.Errorf("%v, %v are left of a copy that failed, want nothing", left, err)
	}
}

// TestTail: of a long output the end is kept, and an empty one gives way to another text.
func TestTail(t *testing.T) {
	t.Parallel()
	var long, empty tail
	for range 1000 {
		fmt.Fprint(&long, "0123456789")
	}
	fmt.Fprintln(&long, "the end")
	if got := long.or("other"); len(got) > 4<<10 || !strings.HasSuffix(got, "0123456789the end") {
		t.Errorf("%d bytes are kept that end with %q", len(got), got[max(0, len(got)-30):])
	}
	if got := empty.or("exit status 1"); got != "exit status 1" {
		t.Errorf("an empty output gives %q, want the other text", got)
	}
}

// TestKeepAtOnce: copies of one executable that are made at the same time are one file, from the first call that returns on. A worker knows its executable by that.
func TestKeepAtOnce(t *testing.T) {
	t.Parallel()
	b, dir := thisBinary(t), t.TempDir()
	const n = 4
	files := make(chan os.FileInfo, n)
	for range n {
		go func() {
			path, err := b.Keep(dir)
			if err != nil {
				t.Error(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Error(err)
			}
			files <- info
		}()
	}
	first := <-files
	for range n - 1 {
		if other := <-files; !os.SameFile(first, other) {
			t.Error("a copy was replaced by another one")
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the directory has %v, %v", left, err)
	}
}

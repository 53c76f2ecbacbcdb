package pack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExcludes compares the patterns with git itself.
func TestExcludes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	files := []string{
		"a.bin", "app.py", "data/a.csv", "data/keep/b.csv", "models/data/c.csv", "models/large.bin", "models/small.bin", "src/data.py", "src/deep/er/x.log", "x[1].txt", "x1.txt", "#note", "spaced name",
		"büro.txt", "src/a.b.c", "foo/bar/baz/q", "foo/q",
	}
	for name, patterns := range map[string][]string{
		"a name":                        {"*.bin"},
		"a directory":                   {"data/"},
		"a directory, not a file":       {"app.py/"},
		"from the root":                 {"/data"},
		"with a slash inside":           {"models/data"},
		"two stars first":               {"**/data"},
		"two stars inside":              {"foo/**/q"},
		"two stars last":                {"src/**"},
		"one star and no slash":         {"src/*"},
		"kept again":                    {"*.bin", "!small.bin"},
		"the last one decides":          {"!small.bin", "*.bin"},
		"nothing below a directory":     {"data/", "!data/a.csv"},
		"contents of a directory":       {"data/*", "!data/a.csv"},
		"a question mark":               {"x?.txt"},
		"a set":                         {"x[0-9].txt"},
		"a set of others":               {"x[!0-9]*"},
		"a bracket as it is":            {`x\[1\].txt`},
		"no set":                        {"x[1"},
		"a comment and an empty line":   {"#note", "", "   "},
		"a name that begins as one":     {`\#note`},
		"a space":                       {"spaced name  "},
		"letters of two bytes":          {"b?ro.txt", "bü*"},
		"points are points":             {"a.b?c", "srcxa"},
		"all":                           {"*"},
		"all but one":                   {"*", "!*/", "!app.py"},
		"a directory of any depth":      {"deep"},
		"stars beside letters":          {"src/**.log", "m**s/large.bin"},
		"the root and a star":           {"/*.bin"},
		"two slashes at its end":        {"data//"},
		"an exclamation mark by itself": {"!"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			git := func(in string, args ...string) string {
				c := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "core.quotepath=false"}, args...)...)
				c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
				c.Stdin = strings.NewReader(in)
				out, err := c.Output()
				if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
					t.Fatalf("git %v: %v", args, err)
				}
				return string(out)
			}
			git("", "init", "-q")
			write(t, filepath.Join(dir, ".gitignore"), strings.Join(patterns, "\n"))
			for _, f := range files {
				write(t, filepath.Join(dir, f), "")
			}
			ignored := "\n" + git(strings.Join(files, "\n"), "check-ignore", "--no-index", "--stdin")
			x := NewExcludes(patterns)
			for _, f := range files {
				if want, got := strings.Contains(ignored, "\n"+f+"\n"), x.Match(f, false); got != want {
					t.Errorf("%s of %q: %v, with git %v", f, patterns, got, want)
				}
			}
		})
	}
}

// TestScanExcludes: a file is left out if all lists leave it out.
func TestScanExcludes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shop")
	for _, f := range []string{"app.py", "a.bin", "data/b.csv", "data/c.bin"} {
		write(t, filepath.Join(dir, f), "12345678")
	}
	names := func(leave ...[]string) string {
		var all []Excludes
		for _, l := range leave {
			all = append(all, NewExcludes(l))
		}
		tree, err := Scan(dir, Default(), all...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range tree.entries {
			got = append(got, strings.TrimPrefix(e.name, "shop/"))
		}
		return strings.Join(got, " ")
	}
	for _, c := range []struct {
		leave [][]string
		want  string
	}{
		{nil, "shop a.bin app.py data data/b.csv data/c.bin"},
		{[][]string{{"*.bin"}}, "shop app.py data data/b.csv"},
		{[][]string{{"data/"}}, "shop a.bin app.py"},
		{[][]string{{"data/"}, {"*.bin"}}, "shop a.bin app.py data data/b.csv"},
		{[][]string{{"data/", "*.bin"}, nil}, "shop a.bin app.py data data/b.csv data/c.bin"},
	} {
		if got := names(c.leave...); got != c.want {
			t.Errorf("without %q: %s, want %s", c.leave, got, c.want)
		}
	}
}

// TestLargeDirectories: messages about large directories name the largest files.
func TestLargeDirectories(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shop")
	sparse := func(name string, mib int64) {
		write(t, filepath.Join(dir, name), "")
		if err := os.Truncate(filepath.Join(dir, name), mib<<20); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "app.py"), "print()")
	sparse("src/model.bin", 40)
	sparse("src/data/a.csv", 20)
	if tree, err := Scan(dir, Default()); err != nil || tree.Notice() != "" {
		t.Errorf("60 MiB: %q, %v", tree.Notice(), err)
	}
	sparse("src/data/b.csv", 10)
	sparse("src/other", 2)
	sparse("src/few", 1)
	tree, err := Scan(dir, Default())
	if err != nil {
		t.Fatal(err)
	}
	want := "the node keeps a copy of " + dir + " for this revision, 73 MiB: src/model.bin 40 MiB, src/data/ 30 MiB, src/other 2 MiB, src/few 1 MiB. " +
		"excludes of the runtime_env leaves out files that the program does not need"
	if got := tree.Notice(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	_, err = Scan(dir, Limits{Files: 100, Bytes: 50 << 20, Depth: 9})
	if err == nil || !strings.Contains(err.Error(), "more than 50 MiB, of those read: src/model.bin 40 MiB, src/data/ 30 MiB, src/few 1 MiB. excludes of") {
		t.Errorf("over the limit: %v", err)
	}
	if _, err = Scan(dir, Limits{Files: 100, Bytes: 50 << 20, Depth: 9}, NewExcludes([]string{"*.bin"})); err != nil {
		t.Errorf("without the largest: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

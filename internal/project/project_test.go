package project

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	for language, want := range map[string][]string{
		Go:     {".gitignore", "README.md", "go.mod", "main.go", "main_test.go"},
		Python: {".gitignore", "README.md", "app.py", "requirements.txt", "test_app.py"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "My models")
			got, err := Write(dir, language, "1.2.3")
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("got %v, %v", got, err)
			}
			for _, file := range got {
				b, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || strings.Contains(string(b), "{{") {
					t.Errorf("%s: %v\n%s", file, err, b)
				}
			}
			readme := filepath.Join(dir, "README.md")
			if err := os.WriteFile(readme, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, ".gitignore")); err != nil {
				t.Fatal(err)
			}
			_, err = Write(dir, language, "1.2.3")
			if err == nil || !strings.Contains(err.Error(), "README.md") || !strings.Contains(err.Error(), "not overwritten") {
				t.Errorf("got %v", err)
			}
			if b, _ := os.ReadFile(readme); string(b) != "mine" {
				t.Errorf("the file is %q now", b)
			}
			if _, err := os.Stat(filepath.Join(dir, ".gitignore")); err == nil {
				t.Error("a part of the project was written")
			}
		})
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{"a/My models": "my-models", "x_y/": "x-y", "/": "app", "2fast": "app-2fast", "ok": "ok"} {
		if got, err := nameOf(dir); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", dir, got, err, want)
		}
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	if got := require("1.2.3"); !strings.Contains(got, "helve v1.2.3\n") {
		t.Errorf("got %q", got)
	}
	if got := require("0.1.0-dev"); got != "" {
		t.Errorf("got %q", got)
	}
}

// TestGoProject: the test of a new project passes. A workspace has the project use this checkout.
func TestGoProject(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "first")
	if _, err := Write(dir, Go, "0.1.0-dev"); err != nil {
		t.Fatal(err)
	}
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "go.work")
	if err := os.WriteFile(work, []byte("go 1.26.0\nuse (\n\t.\n\t"+checkout+"\n)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"vet", "."}, {"test", "."}} {
		c := exec.Command("go", args...)
		c.Dir, c.Env = dir, append(os.Environ(), "GOWORK="+work)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	unformatted, err := exec.Command("gofmt", "-l", dir).CombinedOutput()
	if err != nil || len(unformatted) > 0 {
		t.Errorf("not gofmt'd: %s %v", unformatted, err)
	}
}

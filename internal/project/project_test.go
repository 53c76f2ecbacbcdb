package project

import (
	"os"
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

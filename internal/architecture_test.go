package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestArchitecture: the page is short, the files that it names exist, and it names every package.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	if n := strings.Count(page, "\n"); n > 150 {
		t.Errorf("%d lines, at most 150", n)
	}
	var files []string
	err = filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{".git", ".venv", "testdata", "node_modules"}, d.Name()) {
			return filepath.SkipDir
		}
		files = append(files, filepath.ToSlash(path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`([\\w./-]+\\.(?:go|py|md))`").FindAllStringSubmatch(page, -1) {
		name := m[1]
		if !slices.ContainsFunc(files, func(f string) bool { return f == "../"+name || strings.HasSuffix(f, "/"+name) }) {
			t.Errorf("it names %s, which does not exist", name)
		}
	}
	for _, layer := range layers {
		for _, p := range layer {
			if name := filepath.Base(p); strings.HasPrefix(p, "internal/") && strings.Count(p, "/") == 1 && !strings.Contains(page, name) {
				t.Errorf("it does not name package %s", p)
			}
		}
	}
}

package internal_test

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryFuzzTargetIsRun: make fuzz finds each fuzz target of the module, and no other.
func TestEveryFuzzTargetIsRun(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "../.ci/fuzz", "targets").Output()
	if err != nil {
		t.Fatal(err)
	}
	run, there := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(out)) {
		run[strings.Replace(strings.TrimSpace(line), " ", ": ", 1)] = true
	}
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	err = filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		for _, f := range target.FindAllStringSubmatch(string(text), -1) {
			there[path.Dir(strings.TrimPrefix(filepath.ToSlash(name), "../"))+": "+f[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want, got := slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(run)); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("make fuzz runs\n%s\nand there are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

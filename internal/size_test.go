package internal_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The largest numbers of lines, without tests. A package and its files are read as a whole by an engineer who is new to them.
const (
	packageLines = 3000
	fileLines    = 800
)

// larger has the packages that may have more lines, with their own limits and the reasons.
var larger = map[string]struct {
	lines int
	why   string
}{
	"internal/codec": {4500, "one plan of a type serves all encodings, in both directions: the plans and the readers and writers of each encoding use each other's unexported parts on the path of each call"},
	"internal/wire":  {6500, "one connection has the frames, the streams, the budgets and the resumption under one lock; a package for each would export the state of that lock"},
	".":              {3300, "the public API of Go programs is one package, because its generic types carry their methods; what is below them is in internal/client and internal/system"},
	"bench":          {4500, "a module of its own that is not shipped: a list of rows, which are read one at a time"},
}

// TestSizes: packages and files stay small.
func TestSizes(t *testing.T) {
	t.Parallel()
	packages := map[string]int{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", ".venv", "testdata", "node_modules"}, d.Name()) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		name, n := strings.TrimPrefix(filepath.ToSlash(path), "../"), bytes.Count(b, []byte("\n"))
		if n > fileLines {
			t.Errorf("%s has %d lines, at most %d", name, n, fileLines)
		}
		packages[filepath.ToSlash(filepath.Dir(name))] += n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if packages["."] == 0 || packages["internal/controller"] == 0 {
		t.Error("no packages were found")
	}
	for name, n := range packages {
		limit := packageLines
		if of, ok := larger[name]; ok {
			if n <= packageLines {
				t.Errorf("%s has %d lines: it is no exception any more", name, n)
			}
			limit = of.lines
		}
		if n > limit {
			t.Errorf("package %s has %d lines without tests, at most %d: move a part that stands alone into a package below it", name, n, limit)
		}
	}
	for name := range larger {
		if packages[name] == 0 {
			t.Errorf("there is no package %s", name)
		}
	}
}

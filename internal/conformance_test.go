package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestConformance holds docs/conformance.md: every behaviour is there once, those of the study first and then those of the control plane, with tests that exist or the
// reason why there is none.
func TestConformance(t *testing.T) {
	t.Parallel()
	const behaviours = 286
	doc, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	seen, tested := map[int]bool{}, 0
	code := map[string]string{} // of the tests of a directory or file
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		n, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if !strings.HasPrefix(line, "|") || err != nil {
			continue
		}
		if len(cells) != 4 || seen[n] || n < 1 || n > behaviours {
			t.Errorf("row %d: %d cells, or a number that is there twice or does not exist", n, len(cells))
			continue
		}
		seen[n] = true
		for i, c := range cells {
			if strings.TrimSpace(c) == "" {
				t.Errorf("row %d: cell %d is empty", n, i+1)
			}
		}
		if why, none := strings.CutPrefix(cells[2], "-- "); none {
			if len(why) < 10 || strings.TrimSpace(cells[3]) != "-" {
				t.Errorf("row %d: no test, and no reason", n)
			}
			continue
		}
		tested++
		var named []string
		for _, test := range strings.Split(cells[2], ", ") {
			where, name, ok := strings.Cut(strings.Trim(test, "` "), ": ")
			if !ok {
				t.Errorf("row %d: %q is not a test", n, test)
				continue
			}
			if code[where] == "" {
				code[where] = tests(t, where)
			}
			pattern := `(?m)^func ` + name + `\(`
			if strings.HasSuffix(where, ".py") {
				pattern = `(?m)^\s*(async )?def ` + name + `\(`
			}
			at := regexp.MustCompile(pattern).FindStringIndex(code[where])
			if at == nil {
				t.Errorf("row %d: there is no test %s in %s", n, name, where)
				continue
			}
			if where == "helve" || strings.HasPrefix(where, "internal/e2e/") {
				body, _, _ := strings.Cut(code[where][at[0]:], "\n}\n")
				named = append(named, runners(body)...)
			}
		}
		stated := strings.Split(strings.TrimSpace(cells[3]), ", ")
		for _, r := range named {
			if !slices.Contains(stated, r) {
				t.Errorf("row %d: its tests run over %s too", n, r)
			}
		}
		for _, r := range []string{"socket", "pipe", "attached"} { // runners that only tests have that name them
			if slices.Contains(stated, r) && !slices.Contains(named, r) {
				t.Errorf("row %d: none of its tests runs over %s", n, r)
			}
		}
	}
	if len(seen) != behaviours {
		t.Errorf("%d behaviours, want %d", len(seen), behaviours)
	}
	if tested < behaviours/2 {
		t.Errorf("%d rows name a test", tested)
	}
}

// runners are the runners in the code of an end-to-end test.
func runners(body string) (names []string) {
	if strings.Contains(body, "fixture.EachRunner(") {
		names = append(names, "local", "stubborn", "encoded", "encoded-json", "socket")
	}
	if strings.Contains(body, "fixture.EachCaller(") {
		names = append(names, "local", "stubborn", "encoded", "encoded-json", "socket", "attached")
	}
	if strings.Contains(body, "fixture.EachBubble(") {
		names = append(names, "local", "stubborn", "encoded", "encoded-json", "pipe")
	}
	for _, m := range regexp.MustCompile(`helvetest\.(Local|Stubborn|Encoded|Socket|Pipe|Process|Attached)[,})]`).FindAllStringSubmatch(body, -1) {
		names = append(names, strings.ToLower(m[1]))
	}
	return names
}

// tests is the code of the tests in a directory of the repository ("helve" is its root), or of one Python file.
func tests(t *testing.T, where string) string {
	t.Helper()
	files := []string{filepath.Join("..", where)}
	if !strings.HasSuffix(where, ".py") {
		if where == "helve" {
			where = "."
		}
		files, _ = filepath.Glob(filepath.Join("..", where, "*_test.go"))
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Error(err)
		}
		all.Write(b)
		all.WriteByte('\n')
	}
	return all.String()
}

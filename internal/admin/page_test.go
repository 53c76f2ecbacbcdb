package admin

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/rest.md")

const (
	page      = "../../docs/rest.md"
	pageBegin = "<!-- routes: go test ./internal/admin -run TestPage -update -->\n"
	pageEnd   = "<!-- end of routes -->"
)

// TestPage: the table of docs/rest.md is the table of routes.
func TestPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), pageBegin)
	_, after, end := strings.Cut(rest, pageEnd)
	if !ok || !end {
		t.Fatal("the page has no place for the table")
	}
	var table strings.Builder
	table.WriteString("\n| route | role | |\n|---|---|---|\n")
	for _, r := range routes() {
		about := r.about
		if names := paramNames(r.query); names != "" {
			about += ". Parameters: " + names
		}
		fmt.Fprintf(&table, "| `%s %s` | %s | %s |\n", r.method, r.path, r.role, about)
	}
	table.WriteString("\n")
	want := before + pageBegin + table.String() + pageEnd + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(b) != want {
		t.Error("docs/rest.md is not as the table; run go test ./internal/admin -run TestPage -update")
	}
}

func paramNames(params []param) string {
	var names []string
	for _, p := range params {
		names = append(names, "`"+p.name+"`")
	}
	return strings.Join(names, ", ")
}

package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests of this file hold the pages of the documentation, which are plain Markdown: their links, and the list of all pages in docs/index.md, of which
// the site makes its navigation.

var (
	pageLink    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	pageFence   = regexp.MustCompile("(?m)^ *```(?s:.*?)^ *```")
	pageHeading = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	pageCode    = regexp.MustCompile("`[^`\n]*`")
	indexEntry  = regexp.MustCompile(`(?m)^- \[[^\]]+\]\(([^)]+)\)`)
)

// pages returns the text of every page of the repository by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != ".." && (strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "node_modules", "site", "dist", "build"}, name)):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".md"):
			b, err := os.ReadFile(file)
			texts[filepath.ToSlash(file)] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// anchors returns the anchors that GitHub gives the headings of a page: small letters, digits, hyphens and underscores, with a number from the second
// heading of one text on.
func anchors(text string) []string {
	var found []string
	count := map[string]int{}
	for _, m := range pageHeading.FindAllStringSubmatch(pageFence.ReplaceAllString(text, ""), -1) {
		title := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.TrimSpace(m[1]), "$1")
		slug := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(title), "")
		slug = strings.ReplaceAll(slug, " ", "-")
		count[slug]++
		if n := count[slug]; n > 1 {
			slug += "-" + string(rune('0'+n-1))
		}
		found = append(found, slug)
	}
	return found
}

// TestLinks: every link of a page to a file or a heading of this repository leads there.
func TestLinks(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	links := 0
	for _, page := range slices.Sorted(maps.Keys(texts)) {
		text := pageCode.ReplaceAllString(pageFence.ReplaceAllString(texts[page], ""), "")
		for _, m := range pageLink.FindAllStringSubmatch(text, -1) {
			if regexp.MustCompile(`^[a-z]+:`).MatchString(m[1]) {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			if _, err := os.Stat(filepath.FromSlash(target)); err != nil {
				t.Errorf("%s: the link %s leads to no file", page, m[1])
			} else if anchor != "" && strings.HasSuffix(target, ".md") && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s: the link %s leads to no heading; there are %s", page, m[1], strings.Join(anchors(texts[target]), ", "))
			}
		}
	}
	if links < 150 {
		t.Errorf("%d links in %d pages", links, len(texts))
	}
}

// TestIndex: docs/index.md lists every page of docs/ once.
func TestIndex(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	listed := map[string]int{}
	for _, m := range indexEntry.FindAllStringSubmatch(texts["../docs/index.md"], -1) {
		listed[path.Join("../docs", m[1])]++
	}
	for page := range texts {
		if strings.HasPrefix(page, "../docs/") && page != "../docs/index.md" && listed[page] != 1 {
			t.Errorf("docs/index.md lists %s %d times, must list it once", page, listed[page])
		}
	}
	if len(listed) < 25 {
		t.Errorf("%d pages are listed", len(listed))
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	text := "# The life of a replica\n\n```\n# no heading\n```\n\n## `serve.run`, and [more](x.md)\n## ray.init, ray.shutdown\n## In Python\n### In Python\n"
	want := []string{"the-life-of-a-replica", "serverun-and-more", "rayinit-rayshutdown", "in-python", "in-python-1"}
	if got := anchors(text); !slices.Equal(got, want) {
		t.Errorf("%q, should be %q", got, want)
	}
}

// TestGoPage: docs/go.md names every exported type of the packages that users import.
func TestGoPage(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/go.md"]
	for dir, name := range map[string]string{"..": "helve", "../cli": "cli", "../helvetest": "helvetest", "../helvetype": "helvetype", "../metrics": "metrics"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					continue
				}
				for _, s := range g.Specs {
					if id := s.(*ast.TypeSpec).Name; id.IsExported() && !regexp.MustCompile("`(?:"+name+`\.)?`+id.Name+"`").MatchString(page) {
						t.Errorf("it does not name %s.%s", name, id.Name)
					}
				}
			}
		}
	}
}

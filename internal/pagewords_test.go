package internal_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestWordsOfPages holds the pages of the documentation to the limit of TestWords. Code and tables are left out, and so are two pages: the
// CHANGELOG, and docs/wire.md, which is for the few readers who write another end of the protocol. Three unclear sentences are allowed in every page.
func TestWordsOfPages(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	sum := 0
	for _, page := range slices.Sorted(maps.Keys(texts)) {
		if strings.HasSuffix(page, "/CHANGELOG.md") || page == "../docs/wire.md" || strings.HasPrefix(page, "../python/") {
			continue
		}
		count, all := 0, 0
		for _, paragraph := range paragraphs(texts[page]) {
			for i, s := range split(paragraph) {
				all++
				if why := unclear(s, i == 0); why != "" {
					count++
					t.Logf("%s: %q in: %s", page, why, s)
				}
			}
		}
		sum += all
		if count > 3 && count*100 > all*limit {
			t.Errorf("%s: %d of %d sentences are unclear, at most %d in 100 may be (-v lists them)", page, count, all, limit)
		}
	}
	if sum < 1000 {
		t.Errorf("only %d sentences were found", sum)
	}
}

// paragraphs returns the paragraphs and list items of a page, without its code, tables and headings.
func paragraphs(page string) []string {
	page = regexp.MustCompile(`(?s)<!--.*?-->`).ReplaceAllString(pageFence.ReplaceAllString(page, "\n\n"), "")
	var found []string
	open := false
	for line := range strings.Lines(page) {
		text := strings.TrimSpace(line)
		item := regexp.MustCompile(`^(?:[-*]|\d+\.) +`).FindString(text)
		switch {
		case text == "" || strings.HasPrefix(text, "|") || strings.HasPrefix(text, "#"):
			open = false
			continue
		case item != "" || !open:
			found = append(found, "")
		}
		open = true
		text = strings.TrimPrefix(text, item)
		text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.ReplaceAll(text, "**", ""), "$1")
		found[len(found)-1] += text + " "
	}
	return found
}

func TestParagraphs(t *testing.T) {
	t.Parallel()
	page := "# Title\n\nOne [link](x.md)\nand **more**.\n- An item\n  goes on.\n- Another.\n\n| a | table |\n\n```go\ncode\n```\n<!-- a comment -->\n1. A step.\n"
	want := []string{"One link and more. ", "An item goes on. ", "Another. ", "A step. "}
	if got := paragraphs(page); !slices.Equal(got, want) {
		t.Errorf("%q, should be %q", got, want)
	}
}

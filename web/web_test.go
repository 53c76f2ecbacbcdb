package web_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/web"
)

// sources has the text of each file of the directory by its path, without tests and programs that are not served.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "tests" || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		b, err := os.ReadFile(name)
		files[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// unserved says that a file of the directory is no part of the binary: programs in Go, types and settings for checkers, notes.
func unserved(name string) bool {
	return !strings.Contains(name, "/") && (strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".d.ts") || strings.HasSuffix(name, ".md") || strings.HasSuffix(name, ".json"))
}

// TestFiles: the binary has each file that the page may ask for, and no test.
func TestFiles(t *testing.T) {
	t.Parallel()
	var want, got []string
	for name := range sources(t) {
		if !unserved(name) {
			want = append(want, name)
		}
	}
	err := fs.WalkDir(web.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the binary has\n%s\nthe directory\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDigests: the scripts of other projects are as they were published. A change of one needs a change of vendor/digests.txt, which a reviewer sees.
func TestDigests(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("vendor/digests.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(list)) {
		digest, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("no line of sha256sum: %q", line)
		}
		want["vendor/"+name] = digest
	}
	licences := map[string]bool{}
	for name, text := range sources(t) {
		if !strings.HasPrefix(name, "vendor/") || name == "vendor/digests.txt" || name == "vendor/README.md" {
			continue
		}
		sum := sha256.Sum256([]byte(text))
		if got := hex.EncodeToString(sum[:]); got != want[name] {
			t.Errorf("%s has the digest %s, and the list has %q", name, got, want[name])
		}
		delete(want, name)
		dir := path.Dir(name)
		licences[dir] = licences[dir] || strings.HasPrefix(path.Base(name), "LICENSE")
	}
	for name := range want {
		t.Errorf("the list has %s, which is not there", name)
	}
	for _, dir := range slices.Sorted(maps.Keys(licences)) {
		if !licences[dir] {
			t.Errorf("%s has no licence", dir)
		}
	}
}

// inline are the forms of scripts and styles that the content security policy of the node forbids, each with an example that it must find.
var inline = []struct {
	form    *regexp.Regexp
	example string
}{
	{regexp.MustCompile(`(?is)<script(?:\s[^>]*)?>\s*[^<\s]`), "<script>start()</script>"},
	{regexp.MustCompile(`(?i)<style[\s>]`), "<style>b{color:red}</style>"},
	{regexp.MustCompile(`(?i)<[a-z][^>]*\sstyle="`), `<b style="color: red">`},
	{regexp.MustCompile(`(?i)<[a-z][^>]*\son[a-z]+="`), `<b onclick="go()">`},
	{regexp.MustCompile(`(?i)setAttribute\(\s*['"](?:style|on\w+)['"]`), `b.setAttribute('style', s)`},
	{regexp.MustCompile(`\b(?:eval|Function)\(`), `new Function("return 1")`},
	{regexp.MustCompile(`\bdocument\.write\(|javascript:`), `<a href="javascript:go()">`},
	{regexp.MustCompile(`(?i)(?:src|href|import|from|url\(|fetch\()\s*[=(]?\s*['"]?https?://`), `import x from 'https://host.example/x.js'`},
}

// TestNoInlineScripts: no page has a script or a style between its tags, and none comes from another host. A browser would refuse them.
func TestNoInlineScripts(t *testing.T) {
	t.Parallel()
	for _, i := range inline {
		if !i.form.MatchString(i.example) {
			t.Errorf("%s does not find %s", i.form, i.example)
		}
	}
	for name, text := range sources(t) {
		if unserved(name) || strings.HasPrefix(name, "vendor/") {
			continue
		}
		for _, i := range inline {
			if at := i.form.FindString(text); at != "" {
				t.Errorf("%s: %q is refused by the content security policy", name, at)
			}
		}
	}
}

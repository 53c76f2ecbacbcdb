package pysource

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// write makes files under a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDigest: the digest changes with each file of the module and of its imports, and with no other file.
func TestDigest(t *testing.T) {
	t.Parallel()
	tree := map[string]string{
		"app.py":                 "import os, helper as h\nfrom pack import (  # what it has\n    one,\n    two as deux,\n)\n",
		"helper.py":              "def f():\n    import late\n",
		"late.py":                "",
		"pack/__init__.py":       "from .inner import x\n",
		"pack/inner.py":          "from ..outside import y\n",
		"pack/deep/more.py":      "",
		"pack/unused.py":         "",
		"names/alpha.py":         "from . import beta\nfrom names.gamma import z",
		"names/beta.py":          "",
		"names/gamma.py":         "from .delta import w",
		"names/delta.py":         "",
		"names/omega.py":         "",
		"other.py":               "import app",
		"pack/data.txt":          "",
		"pack/__pycache__/x.py":  "",
		"pack/.hidden/x.py":      "",
		"cycle.py":               "import cycle, other_cycle",
		"other_cycle.py":         "import cycle",
		"pack/deep/__init__.pyi": "",
	}
	app := []string{"app.py", "helper.py", "late.py", "pack/__init__.py", "pack/inner.py", "pack/deep/more.py", "pack/unused.py"}
	for module, changes := range map[string][]string{
		"app":         app,
		"pack":        {"pack/__init__.py", "pack/inner.py", "pack/deep/more.py", "pack/unused.py"},
		"pack.inner":  {"pack/__init__.py", "pack/inner.py", "pack/deep/more.py", "pack/unused.py"},
		"names.alpha": {"names/alpha.py", "names/beta.py", "names/gamma.py", "names/delta.py"},
		"late":        {"late.py"},
		"other":       append([]string{"other.py"}, app...),
		"cycle":       {"cycle.py", "other_cycle.py"},
	} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, tree)
			dirs := []string{filepath.Join(dir, "nowhere"), dir}
			before := Digest(module, dirs)
			if before == "" || before != Digest(module, dirs) {
				t.Fatalf("the digest is %q, and then another", before)
			}
			for name, text := range tree {
				write(t, dir, map[string]string{name: text + "\n# changed\n"})
				if changed := Digest(module, dirs) != before; changed != slices.Contains(changes, name) {
					t.Errorf("%s: a change of the digest: %v", name, changed)
				}
				write(t, dir, map[string]string{name: text})
			}
		})
	}
}

func TestNoDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"folder/x.py": "", "big.py": "import big2", "big2.py": string(make([]byte, maxBytes+1))})
	for _, module := range []string{"none", "folder", "folder.none", "", ".", "..", "a..b", "big"} {
		if got := Digest(module, []string{dir}); got != "" {
			t.Errorf("%q has the digest %s", module, got)
		}
	}
	if Digest("folder.x", []string{dir}) == "" {
		t.Error("a module of a folder without __init__.py has no digest")
	}
}

// TestFirstDirectory: the module of the first directory counts, as for an interpreter.
func TestFirstDirectory(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	write(t, a, map[string]string{"m/readme.txt": ""})
	write(t, b, map[string]string{"m.py": "1"})
	folder := Digest("m", []string{a, b}) // a folder without __init__.py comes last
	write(t, a, map[string]string{"m.py": "2"})
	first := Digest("m", []string{a, b})
	if folder == "" || first == "" || folder == first {
		t.Errorf("%q, %q", folder, first)
	}
	if got := Digest("m", []string{b, a}); got != folder {
		t.Errorf("%q, want %q", got, folder)
	}
}

func FuzzImports(f *testing.F) {
	f.Add("import a.b as c, d\nfrom ..x import (y, z)\n", "p.q")
	f.Add("from . import *", "")
	dirs := []string{f.TempDir()}
	f.Fuzz(func(t *testing.T, source, parent string) {
		for _, m := range imports(source, parent) {
			s := search{dirs: dirs, seen: map[string]bool{}, files: map[string][32]byte{}}
			if err := s.module(m); err != nil || len(s.files) > 0 {
				t.Errorf("%q: %v, %v", m, s.files, err)
			}
		}
	})
}

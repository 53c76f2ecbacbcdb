// Package pysource finds the files of a Python module without an interpreter, and identifies the code that they hold. Two deploys of
// one import path run the same code if the files have the same bytes.
//
// The files of a module are its own file or all .py files of its package, and the files of each module that they import, as far as they
// are in the directories that are searched. Installed modules belong to the interpreter and are left out. For example, app.py in the
// directory of a program has the line "import helper": helper.py, which lies beside it, is one of the files, and a change of it is a
// change of the code.
package pysource

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The bounds of the files that are read. A module with more files has no digest, and its code counts as new in each deploy.
const (
	maxFiles = 5000
	maxBytes = 64 << 20
)

// Digest identifies the code of a module, for example "app.models", by its files. The directories are searched in their order, as an
// interpreter does that has them in its path. The result is "" if the module is not there, or has too many files.
func Digest(module string, dirs []string) string {
	s := search{dirs: dirs, seen: map[string]bool{}, files: map[string][32]byte{}}
	if err := s.module(module); err != nil || len(s.files) == 0 {
		return ""
	}
	sum := sha256.New()
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(sum, "%q %x\n", name, s.files[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// search collects the files of modules.
type search struct {
	dirs  []string
	seen  map[string]bool     // modules, by their full names
	files map[string][32]byte // digests of contents, by their paths
	bytes int
}

var errTooMuch = errors.New("the module has too many files, or too large ones")

// module adds the files of a module and of the modules that it imports.
func (s *search) module(name string) error {
	if s.seen[name] || slices.Contains(strings.Split(name, "."), "") {
		return nil
	}
	s.seen[name] = true
	in, at := s.dirs, ""
	for part := range strings.SplitSeq(name, ".") {
		at = strings.TrimPrefix(at+"."+part, ".")
		// As an interpreter: a package or a file of one directory counts before a folder without __init__.py of any.
		var folders []string
		for _, dir := range in {
			path := filepath.Join(dir, part)
			if isFile(filepath.Join(path, "__init__.py")) {
				return s.tree(at, path)
			}
			if isFile(path + ".py") {
				return s.file(at, path+".py", strings.TrimSuffix(strings.TrimSuffix(at, part), "."))
			}
			if st, err := os.Stat(path); err == nil && st.IsDir() {
				folders = append(folders, path)
			}
		}
		in = folders // a namespace package: the rest of the name says what of it is meant
	}
	return nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// tree adds every module of the package at a path: a module that is not imported at the start may be imported later.
func (s *search) tree(name, root string) error {
	if s.seen[name+".*"] {
		return nil
	}
	s.seen[name+".*"] = true
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (d.Name() == "__pycache__" || d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".py":
			return nil
		}
		inside, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		parent := name
		if inside != "." {
			parent += "." + strings.ReplaceAll(inside, string(filepath.Separator), ".")
		}
		return s.file(parent+"."+strings.TrimSuffix(d.Name(), ".py"), path, parent)
	})
}

// file adds one file and the modules that it imports. Relative imports begin at the package parent.
func (s *search) file(name, path, parent string) error {
	if _, ok := s.files[path]; ok {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	if s.bytes += len(b); s.bytes > maxBytes || len(s.files) >= maxFiles {
		return errTooMuch
	}
	s.files[path] = sha256.Sum256(b)
	for _, m := range imports(string(b), parent) {
		if err := s.module(m); err != nil {
			return err
		}
	}
	return nil
}

var (
	importLine = regexp.MustCompile(`(?m)^[ \t]*import[ \t]+([^\r\n#;]+)`)
	fromLine   = regexp.MustCompile(`(?m)^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\r\n#;]+)`)
	word       = regexp.MustCompile(`^\w+`)
	comment    = regexp.MustCompile(`#[^\n]*`)
)

// imports are the full names of the modules that a source may import, of a module of the package parent. A line in a string that
// looks like an import counts as one: a file too many has an effect only when it changes.
func imports(source, parent string) (all []string) {
	for _, m := range importLine.FindAllStringSubmatch(source, -1) {
		for name := range strings.SplitSeq(m[1], ",") { // import a.b as c, d
			if f := strings.Fields(name); len(f) > 0 {
				all = append(all, f[0])
			}
		}
	}
	for _, m := range fromLine.FindAllStringSubmatch(source, -1) {
		base := m[2]
		if dots := len(m[1]); dots > 0 {
			up := strings.Split(parent, ".")
			if parent == "" || dots-1 > len(up) {
				continue
			}
			base = strings.Trim(strings.Join(up[:len(up)-dots+1], ".")+"."+m[2], ".")
		}
		all = append(all, base)
		for name := range strings.SplitSeq(strings.Trim(comment.ReplaceAllString(m[3], ""), "()"), ",") { // each may be a module
			if w := word.FindString(strings.TrimSpace(name)); w != "" && base != "" {
				all = append(all, base+"."+w)
			}
		}
	}
	return all
}

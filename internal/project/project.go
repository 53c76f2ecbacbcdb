// Package project writes a first project, in Go or in Python, for `helve init`.
package project

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// files has a directory for each language. The name of a file ends with .txt, so that neither Go nor the tests of this repository take it for one
// of theirs.
//
//go:embed files
var files embed.FS

// Go and Python are the languages of projects.
const (
	Go     = "go"
	Python = "python"
)

// notInName matches what a name of a module and of an application does not have.
var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// Write makes a project of a language in a directory, which is made if need be. version is that of Helve. A file that is there already is an error,
// and nothing is written then. The result has the names of the files.
func Write(dir, language, version string) ([]string, error) {
	name, err := nameOf(dir)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	var names []string
	err = fs.WalkDir(files, path.Join("files", language), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(p)
		if err != nil {
			return err
		}
		file := strings.TrimSuffix(path.Base(p), ".txt")
		if file == "gitignore" {
			file = ".gitignore"
		}
		texts[file] = strings.NewReplacer("{{name}}", name, "{{require}}\n", require(version)).Replace(string(b))
		names = append(names, file)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var there []string
	for _, file := range names {
		if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
			there = append(there, file)
		}
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s has %s already, which are not overwritten: choose another directory", dir, strings.Join(there, ", "))
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	for _, file := range names {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return nil, err
		}
		_, err = f.WriteString(texts[file])
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// nameOf is the name of the application in a directory, for example "my-models" for "./My models".
func nameOf(dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(absolute)), "-"), "-")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = strings.TrimSuffix("app-"+name, "-")
	}
	return name, nil
}

// require is the line of go.mod for a released version. `go mod tidy` finds the newest release for another one, which no proxy has.
func require(version string) string {
	if strings.Contains(version, "dev") {
		return ""
	}
	return "\nrequire github.com/helve-serve/helve v" + version + "\n"
}

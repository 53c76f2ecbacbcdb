package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Machine is the machine of the node, as far as a file needs it.
type Machine struct {
	// Dir is the directory in which relative paths begin.
	Dir string
	// Read reads a requirements file.
	Read func(path string) ([]byte, error)
	// Fetch brings an archive from its URI, and gives its path. nil leaves URIs as they are.
	Fetch func(uri string) (path string, err error)
}

// In makes the relative paths of environments absolute: the directory of the deploy is on the machine of the node, and a node has a directory of its own. For
// example, working_dir: models is Dir/models, and an archive at https://... is one of this machine. The lines of a requirements file take the place of its path, so that a change of the
// file is a change of the environment. The error is of type [Mistakes].
func (f *File) In(m Machine) error {
	p := &paths{Machine: m, fetched: map[string]string{}}
	var wrong Mistakes
	place := func(app, deployment string, err error) {
		if err != nil {
			path, _, _ := strings.Cut(err.Error(), ":")
			wrong = append(wrong, f.Place(app, deployment, path, err))
		}
	}
	for i := range f.Applications {
		app := &f.Applications[i]
		var err error
		app.RuntimeEnv, err = p.environment(app.RuntimeEnv)
		place(app.Name, "", err)
		for name, layer := range app.Deployments {
			var fields map[string]json.RawMessage
			if json.Unmarshal(layer, &fields) == nil && len(fields["runtime_env"]) > 0 {
				fields["runtime_env"], err = p.environment(fields["runtime_env"])
				place(app.Name, name, err)
				app.Deployments[name] = rawOf(fields)
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrong
}

// paths makes paths absolute.
type paths struct {
	Machine
	fetched map[string]string // by URI
}

// here is a path of this machine for a path or URI.
func (p *paths) here(path string) (string, error) {
	if p.Fetch == nil || !isURI.MatchString(path) {
		return p.absolute(p.Dir, path), nil
	}
	if at, ok := p.fetched[path]; ok {
		return at, nil
	}
	at, err := p.Fetch(path)
	if err == nil {
		p.fetched[path] = at
	}
	return at, err
}

func (p *paths) absolute(dir, path string) string {
	if path == "" || dir == "" || filepath.IsAbs(path) || strings.HasPrefix(path, "~") || isURI.MatchString(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (p *paths) environment(raw json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return raw, nil
	}
	var place string
	if json.Unmarshal(fields["working_dir"], &place) == nil && place != "" {
		at, err := p.here(place)
		if err != nil {
			return raw, fmt.Errorf("runtime_env.working_dir: %w", err)
		}
		fields["working_dir"] = rawOf(at)
	}
	var modules []string
	if json.Unmarshal(fields["py_modules"], &modules) == nil && len(modules) > 0 {
		for i := range modules {
			at, err := p.here(modules[i])
			if err != nil {
				return raw, fmt.Errorf("runtime_env.py_modules: %w", err)
			}
			modules[i] = at
		}
		fields["py_modules"] = rawOf(modules)
	}
	var pip map[string]json.RawMessage
	var lines []string
	if json.Unmarshal(fields["pip"], &pip) == nil && json.Unmarshal(pip["packages"], &lines) == nil && len(lines) > 0 {
		lines, err := p.requirements(lines)
		if err != nil {
			return raw, fmt.Errorf("runtime_env.pip: %w", err)
		}
		pip["packages"] = rawOf(lines)
		fields["pip"] = rawOf(pip)
	}
	return rawOf(fields), nil
}

var comment = regexp.MustCompile(`(^|\s)#.*`) //nolint:gochecknoglobals // a constant

// requirements are lines for pip that depend on no directory. A single line "-r PATH" is the lines of that file.
func (p *paths) requirements(lines []string) ([]string, error) {
	beside := p.Dir
	if path, ok := strings.CutPrefix(lines[0], "-r "); ok && len(lines) == 1 {
		path = p.absolute(p.Dir, path)
		text, err := p.Read(path)
		if err != nil {
			return nil, err
		}
		beside = filepath.Dir(path)
		lines = strings.Split(strings.ReplaceAll(string(text), "\\\n", " "), "\n")
	}
	var out []string
	for _, line := range lines {
		line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
		option, path, _ := strings.Cut(strings.Replace(line, "=", " ", 1), " ")
		switch {
		case line == "":
			continue
		case slices.Contains([]string{"-r", "--requirement", "-c", "--constraint"}, option): // these are beside the file
			line = option + " " + p.absolute(beside, strings.TrimSpace(path))
		case strings.HasPrefix(line, "./"), strings.HasPrefix(line, "../"):
			line = p.absolute(p.Dir, line)
		}
		out = append(out, line)
	}
	return out, nil
}

// rawOf is JSON of texts and of JSON, which always has a form.
func rawOf(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return raw
}

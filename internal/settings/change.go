package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/secret"
)

// Changed are the settings with a change of a request. Its fields have the checks of a file. A value of null takes a field away, which no file can say; and a field
// that has no effect, of which a file is warned, is an error here.
//
// For example, {"target_capacity": null, "http_options": {"root_path": null, "request_timeout_s": 10}} ends the target capacity, takes root_path away, and leaves the other
// fields of http_options as they are.
func (s Node) Changed(c helvetype.SettingsChange, values *secret.Resolver) (Node, error) {
	wrong := func(text string, args ...any) (Node, error) {
		return s, &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf(text, args...)}
	}
	if len(c.TargetCapacity) == 0 && len(c.HTTPOptions) == 0 {
		return wrong("nothing to change: target_capacity or http_options must be there")
	}
	file := map[string]any{"applications": []any{}}
	switch {
	case isNull(c.TargetCapacity):
		s.TargetCapacity, s.Rising = nil, false
	case len(c.TargetCapacity) > 0:
		file["target_capacity"] = c.TargetCapacity
	}
	switch {
	case isNull(c.HTTPOptions):
		s.HTTP = nil
	case len(c.HTTPOptions) > 0:
		var given map[string]json.RawMessage
		if err := json.Unmarshal(c.HTTPOptions, &given); err != nil {
			return wrong("http_options: must be an object")
		}
		var err error
		if s.HTTP, err = without(s.HTTP, given); err != nil {
			return wrong("%s", err)
		}
		if len(given) > 0 {
			file["http_options"] = given
		}
	}
	text, err := json.Marshal(file)
	if err != nil {
		return s, err
	}
	read, err := config.ReadAt("", text, values)
	if mistakes, ok := errors.AsType[config.Mistakes](err); ok {
		return wrong("%s", textOf(mistakes))
	}
	if err != nil {
		return wrong("%s", err)
	}
	if len(read.Warnings) > 0 {
		_, first, _ := strings.Cut(read.Warnings[0], ": ") // the place is none of the body
		return wrong("%s", first)
	}
	return s.Over(read, false), nil
}

// textOf has the mistakes without their places, which are none of the body.
func textOf(mistakes config.Mistakes) string {
	var all []string
	for _, m := range mistakes {
		all = append(all, m.Text)
	}
	return strings.Join(all, "; ")
}

// without takes the fields of http_options that are null out of both: they are as the node was started.
func without(h *config.HTTP, given map[string]json.RawMessage) (*config.HTTP, error) {
	var set map[string]json.RawMessage
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, err
	}
	known := httpFields()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !isNull(given[name]) {
			continue
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("http_options.%s: there is no such field%s", name, nearest.Question(name, known))
		}
		delete(set, name)
		delete(given, name)
	}
	if len(set) == 0 {
		return nil, nil //nolint:nilnil // none is set
	}
	if b, err = json.Marshal(set); err != nil {
		return nil, err
	}
	next := &config.HTTP{}
	return next, json.Unmarshal(b, next)
}

// Changes are the fields in which settings differ, with secrets redacted. The fields of the paths in later hold from a start of the node on.
func Changes(before, next Node, later []string) (changes []helvetype.ValueChange, err error) {
	was, err := before.Fields()
	if err != nil {
		return nil, err
	}
	will, err := next.Fields()
	if err != nil {
		return nil, err
	}
	paths := maps.Clone(was)
	maps.Copy(paths, will)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if !bytes.Equal(was[path], will[path]) {
			update := "in place"
			if slices.Contains(later, path) {
				update = "start of the node"
			}
			changes = append(changes, helvetype.ValueChange{Path: path, Update: update, Before: secret.RedactAt(path, was[path]), After: secret.RedactAt(path, will[path])})
		}
	}
	return changes, nil
}

// httpFields are the names of the fields of http_options.
func httpFields() (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.HTTP]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(raw), []byte("null")) }

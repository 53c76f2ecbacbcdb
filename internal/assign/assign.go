// Package assign reads options from arguments of a command line, such as max_ongoing_requests=10.
package assign

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Options are the options of arguments such as ray_actor_options.num_cpus=2, as a value for JSON. A value is JSON, or a text; an empty one is null.
func Options(args []string) (map[string]any, error) {
	all := map[string]any{}
	for _, arg := range args {
		path, text, ok := strings.Cut(arg, "=")
		names := strings.Split(path, ".")
		if !ok || slices.Contains(names, "") {
			return nil, fmt.Errorf("%q: must be OPTION=VALUE, for example max_ongoing_requests=10", arg)
		}
		var value any
		if text != "" {
			in := json.NewDecoder(strings.NewReader(text))
			in.UseNumber() // 9007199254740993 stays as it is
			if err := in.Decode(&value); err != nil || in.More() {
				if text[0] == '{' || text[0] == '[' {
					return nil, fmt.Errorf("%q: the value begins as JSON and is none; a text with this begin is in quotes, as in '%s=\"{a\"'", arg, path)
				}
				value = text
			}
		}
		at := all
		for _, name := range names[:len(names)-1] {
			inner, isMap := at[name].(map[string]any)
			if _, there := at[name]; there && !isMap {
				return nil, fmt.Errorf("%q: %s has a value of its own already", arg, name)
			}
			if !isMap {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		last := names[len(names)-1]
		if _, there := at[last]; there {
			return nil, fmt.Errorf("%q: %s is there twice", arg, path)
		}
		at[last] = value
	}
	return all, nil
}

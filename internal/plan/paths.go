package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/spec"
)

// PatchedPaths are the paths that a patch sets or clears, for the history.
func PatchedPaths(options json.RawMessage) (all []string) {
	var walk func(at string, raw json.RawMessage, depth int)
	walk = func(at string, raw json.RawMessage, depth int) {
		var fields map[string]json.RawMessage
		if depth == 0 || !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) || json.Unmarshal(raw, &fields) != nil {
			all = append(all, strings.TrimPrefix(strings.TrimPrefix(at, ".deployments"), "."))
			return
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			walk(at+"."+name, fields[name], depth-1)
		}
	}
	walk("", options, 3)
	return all
}

// PatchedValues names the options that a patch sets or clears, with the values that are numbers, true, false or null, for the audit log. A text, a list and an object may have a secret, and so may each
// value of a user config: their options are named alone. For example, {"deployments": {"Ranker": {"num_replicas": 4, "user_config": {"key": "k"}}}} is
// "Ranker.num_replicas=4, Ranker.user_config".
func PatchedValues(options json.RawMessage) string {
	var all []string
	var walk func(at, path string, raw json.RawMessage, rows []spec.Row)
	below := func(at, path string, raw json.RawMessage, rows []spec.Row) bool {
		var fields map[string]json.RawMessage
		if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) || json.Unmarshal(raw, &fields) != nil {
			return false
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			walk(strings.TrimPrefix(at+"."+name, "."), strings.TrimPrefix(path+"."+name, "."), fields[name], rows)
		}
		return true
	}
	walk = func(at, path string, raw json.RawMessage, rows []spec.Row) {
		isOption := slices.ContainsFunc(rows, func(r spec.Row) bool { return r.Path == path })
		isGroup := slices.ContainsFunc(rows, func(r spec.Row) bool { return strings.HasPrefix(r.Path, path+".") })
		switch {
		case isOption && !slices.Contains(anyValue, path) && len(raw) <= longValue && !bytes.ContainsAny(raw, "\"{["):
			at += "=" + string(raw)
		case !isOption && isGroup && below(at, path, raw, rows):
			return
		}
		all = append(all, at)
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(options, &fields) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var deployments map[string]json.RawMessage
		if name != "deployments" || json.Unmarshal(fields[name], &deployments) != nil {
			walk(name, name, fields[name], spec.ApplicationRows())
			continue
		}
		for _, deployment := range slices.Sorted(maps.Keys(deployments)) {
			if !below(deployment, "", deployments[deployment], spec.DeploymentRows()) {
				all = append(all, deployment)
			}
		}
	}
	return strings.Join(all, ", ")
}

// anyValue are the options whose values may be a secret as they are: whatever the code of a user takes.
var anyValue = []string{"user_config", "args"} //nolint:gochecknoglobals // a constant

// longValue is the most bytes of a value that a line about a change shows.
const longValue = 40

package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
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

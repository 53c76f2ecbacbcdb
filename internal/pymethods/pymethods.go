// Package pymethods looks for methods of Python classes by the names that callers use.
package pymethods

import (
	"fmt"
	"strings"

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
)

// Find is the method of a name: exactly, else as the same name in the other language's case. "" is __call__.
func Find(all []protocol.Method, name string) (m protocol.Method, ok bool) {
	if name == "" {
		name = "__call__"
	}
	found, ok := codec.MatchName(name, names(all))
	for _, m := range all {
		if ok && m.Name == found {
			return m, true
		}
	}
	return m, false
}

// Missing sees that the methods that the graph binds are there.
func Missing(d *spec.Deployment, have []protocol.Method) error {
	for _, m := range d.Methods {
		if _, ok := codec.MatchName(m.Name, names(have)); !ok {
			return fmt.Errorf("deployment %s: the Python class %s has no method %s; it has %s", d.Name, d.Import, codec.SnakeCase(m.Name), strings.Join(names(have), ", "))
		}
	}
	return nil
}

func names(all []protocol.Method) []string {
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = m.Name
	}
	return names
}

package graph

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
)

// missingMethods says in what an interface differs from the methods of a deployment: "" if each method of the interface is there, in either
// language's case. A method of Python that is no generator function may return a generator all the same, so a stream of the interface fits it.
func missingMethods(receiver reflect.Type, have []protocol.Method) string {
	names := make([]string, len(have))
	for i, m := range have {
		names[i] = m.Name
	}
	for i := range receiver.NumMethod() {
		m := receiver.Method(i)
		if instance.ShapeOf(m.Type, 0) != "" { // not for handles, such as ServeHTTP
			continue
		}
		found, ok := codec.MatchName(m.Name, names)
		if !ok {
			return fmt.Sprintf("it has no method %s; it has %s", m.Name, strings.Join(names, ", "))
		}
		for _, h := range have {
			if h.Name == found && h.Shape == string(instance.Stream) && m.Type.Out(0).Kind() != reflect.Func {
				return fmt.Sprintf("its method %s streams, and %s does not", found, m.Name)
			}
		}
	}
	return ""
}

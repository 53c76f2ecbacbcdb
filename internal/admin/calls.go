package admin

import (
	"net/http"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/why"
)

// callsMax is how many calls a list has, at most and by default.
const callsMax = 1000

func (a *Server) calls(c *ask) {
	answer(c.w, http.StatusOK, CallList(a.set.Node, helvetype.Object{App: c.query.Get("app"), Deployment: c.query.Get("deployment"), Replica: c.query.Get("replica")}, c.number("limit", callsMax)))
}

// CallList is the list of the calls at an object of a node, at all for an object without names, the oldest first, in which a running call waits for the calls that it has made. These may be calls of deployments
// that are not listed. For example, of the calls of Front a list says that one waits for its call to Back.
func CallList(node Node, at helvetype.Object, limit int) helvetype.CallList {
	list := node.Calls(at, limit)
	if list.Calls == nil {
		list.Calls = []helvetype.Call{}
	}
	oldestFirst(list.Calls)
	all := list
	if at != (helvetype.Object{}) {
		all = node.Calls(helvetype.Object{}, callsMax)
		oldestFirst(all.Calls)
	}
	why.Link(&list, all)
	if over := len(list.Calls) - limit; over > 0 {
		list.Calls, list.Unlisted = list.Calls[:limit], list.Unlisted+over
	}
	return list
}

func oldestFirst(calls []helvetype.Call) {
	slices.SortStableFunc(calls, func(x, y helvetype.Call) int { return x.Since.Compare(y.Since) })
}

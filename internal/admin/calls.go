package admin

import (
	"net/http"
	"slices"

	"github.com/helve-serve/helve/helvetype"
)

// callsMax is how many calls a list has, at most and by default.
const callsMax = 1000

func (a *Server) calls(c *ask) {
	answer(c.w, http.StatusOK, CallList(a.set.Node, c.query.Get("app"), c.query.Get("deployment"), c.number("limit", callsMax)))
}

// CallList is the list of the calls of a node, the oldest first, in which a running call waits for the calls that it has made.
func CallList(node Node, app, deployment string, limit int) helvetype.CallList {
	list := node.Calls(app, deployment, limit)
	if list.Calls == nil {
		list.Calls = []helvetype.Call{}
	}
	slices.SortStableFunc(list.Calls, func(x, y helvetype.Call) int { return x.Since.Compare(y.Since) })
	children := map[string]helvetype.Call{}
	for _, c := range list.Calls {
		if _, ok := children[c.Parent]; c.Parent != "" && !ok {
			children[c.Parent] = c
		}
	}
	for i := range list.Calls {
		if c := &list.Calls[i]; c.State == helvetype.CallRunning {
			if child, ok := children[c.ID]; ok {
				c.WaitsFor = "its call " + child.ID + " to " + child.Deployment + "." + child.Method
			}
		}
	}
	if over := len(list.Calls) - limit; over > 0 {
		list.Calls, list.Unlisted = list.Calls[:limit], list.Unlisted+over
	}
	return list
}

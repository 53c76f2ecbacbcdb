package answer

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/shown"
)

// Calls is a list of calls for people: a tree for each request, the oldest first, in which a call stands below the one whose method has made it.
func Calls(list helvetype.CallList, now time.Time) string {
	var b strings.Builder
	below, listed := map[string][]helvetype.Call{}, map[string]bool{}
	for _, c := range list.Calls {
		listed[c.ID] = true
	}
	var requests []string
	tops := map[string][]helvetype.Call{}
	for _, c := range list.Calls {
		switch {
		case c.Parent != "" && listed[c.Parent] && c.Parent != c.ID:
			below[c.Parent] = append(below[c.Parent], c)
		default:
			if tops[c.RequestID] == nil {
				requests = append(requests, c.RequestID)
			}
			tops[c.RequestID] = append(tops[c.RequestID], c)
		}
	}
	for _, request := range requests {
		fmt.Fprintf(&b, "request %s\n", request)
		for _, c := range tops[request] {
			branch(&b, c, below, 0, now)
		}
	}
	switch {
	case list.Unlisted > 0:
		fmt.Fprintf(&b, "%d more calls wait or run\n", list.Unlisted)
	case len(list.Calls) == 0:
		b.WriteString("no call waits or runs\n")
	}
	return b.String()
}

// readerPauses is the time from which on the list says that a call waits for its reader: a slow reader makes room from time to time.
const readerPauses = time.Second

// branch writes a call and the calls below it. Each is written once: a call that names itself as its caller, over others, ends the branch.
func branch(b *strings.Builder, c helvetype.Call, below map[string][]helvetype.Call, depth int, now time.Time) {
	text := c.App + "/" + c.Deployment + "." + cmp.Or(c.Method, "(default)")
	if c.Replica != "" {
		text += " in " + c.Replica
	}
	if depth == 0 && c.Origin != "" {
		text += ", from " + c.Origin
	}
	if c.Stream {
		text += ", HTTP or a stream"
	}
	if c.CallerEnded {
		text += ", its caller has ended"
	}
	if waits := now.Sub(c.UnreadSince); !c.UnreadSince.IsZero() && waits >= readerPauses {
		text += ", its reader has read nothing, or too little, for " + shown.Ago(waits)
	}
	children := below[c.ID]
	delete(below, c.ID)
	if c.WaitsFor != "" && len(children) == 0 {
		text += ": waits for " + c.WaitsFor
	}
	const indent = 18 // of the text
	begin := fmt.Sprintf("  %-6s %-8s%s", shown.Ago(now.Sub(c.Since)), c.State, strings.Repeat("  ", depth))
	layout.Paragraph(b, begin+" ", strings.Repeat(" ", indent+2*depth+2), text, layout.PageWidth)
	for _, child := range children {
		branch(b, child, below, depth+1, now)
	}
}

// Event is an event for people, for example "10:15:02.031  #8  deployment hello/Downstream  HEALTHY -> UNHEALTHY  (because of #7): replica ...".
func Event(e helvetype.Event) string {
	text := fmt.Sprintf("%s  #%d  %s %s", e.Time.Local().Format("15:04:05.000"), e.ID, e.Object.Kind, e.Object)
	if e.From != "" || e.To != "" { // else it is a fact, and no change of a state
		text += fmt.Sprintf("  %s -> %s", cmp.Or(e.From, "(none)"), cmp.Or(e.To, "(gone)"))
	}
	if e.Reason != "" {
		text += "  " + e.Reason
	}
	if e.Severity != "" && e.Severity != helvetype.SeverityInfo {
		text += " [" + e.Severity + "]"
	}
	if e.Cause != 0 {
		text += fmt.Sprintf(" (because of #%d)", e.Cause)
	}
	if e.Message != "" {
		first, rest, more := strings.Cut(strings.TrimSpace(e.Message), "\n")
		text += ": " + first
		if more {
			text += fmt.Sprintf(" (and %d more lines)", strings.Count(rest, "\n")+1)
		}
	}
	return text
}

// Audit is a list of changes for people.
func Audit(entries []helvetype.AuditEntry, width int) string {
	var b strings.Builder
	var rows [][]string
	for _, e := range entries {
		text := e.Operation
		if e.Object != "" {
			text += " " + e.Object
		}
		if e.Detail != "" {
			text += ": " + e.Detail
		}
		if e.Error != "" {
			text += "\nrefused: " + strings.TrimSpace(e.Error)
		}
		rows = append(rows, []string{e.At.Local().Format("2006-01-02 15:04:05"), e.Author.Name, e.Author.Via, text})
	}
	layout.Table(&b, "", width, []string{"AT", "BY", "VIA", "CHANGE"}, rows)
	return b.String()
}

// Condition is a condition that should end. state says in which state the replica is. For example, "is not ready since 4s: the cache is cold; next in 2s: a check".
func Condition(state string, c *helvetype.Condition, now time.Time) string {
	first, _, _ := strings.Cut(strings.TrimSpace(c.Reason), "\n")
	text := fmt.Sprintf("%s since %s: %s", state, shown.Ago(now.Sub(c.Since)), first)
	if c.Next != "" {
		text += "; next"
		if !c.NextAt.IsZero() {
			text += " in " + shown.Ago(c.NextAt.Sub(now))
		}
		text += ": " + c.Next
	}
	return text
}

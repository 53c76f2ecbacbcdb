// Package answer writes answers of a node as text for people: an explanation with its events, a request with its calls, lists of requests, calls and events.
package answer

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/why"
)

const clock = "15:04:05.000"

func sentence(b *strings.Builder, text, next string, width int) {
	layout.Paragraph(b, "", "  ", text, width)
	if next != "" {
		layout.Paragraph(b, "next: ", "  ", next, width)
	}
}

// Explanation is the answer about an application, a deployment, a replica or a revision.
func Explanation(e helvetype.Explanation, width int) string {
	var b strings.Builder
	sentence(&b, e.Sentence, e.Next, width)
	if e.Detail != "" {
		b.WriteString("\n")
		for line := range strings.Lines(e.Detail) {
			b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	var rows [][]string
	newest := e.Timeline[max(len(e.Timeline)-timelineMax, 0):]
	for _, event := range newest {
		change := event.Reason
		if event.From != event.To && event.To != "" {
			change += " (" + event.To + ")"
		}
		if event.Message != "" {
			change += ": " + firstLine(event.Message)
		}
		rows = append(rows, []string{event.Time.Local().Format(clock), event.Object.String(), change})
	}
	if len(rows) > 0 {
		b.WriteString("\n")
		layout.Table(&b, "", width, []string{"TIME", "OBJECT", "EVENT"}, rows)
	}
	if more := len(e.Timeline) - len(newest); more > 0 {
		fmt.Fprintf(&b, "%d older events: helve why ... -o json; all events: helve events %s\n", more, e.Object.App)
	}
	return b.String()
}

// timelineMax is the number of events that an explanation shows: the newest ones.
const timelineMax = 10

// Request is the answer about a request, with a line for each span: when it began after the begin of the request, how long it took, and its kind with its place. Spans inside
// of another one are indented.
func Request(r helvetype.RequestTrace, width int) string {
	var b strings.Builder
	sentence(&b, r.Sentence, r.Next, width)
	steps := why.Steps(&r)
	if len(steps) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "\nbegin %s", r.Started.Local().Format("2006-01-02 "+clock))
	if r.TraceID != "" {
		b.WriteString(", trace " + r.TraceID)
	}
	fmt.Fprintf(&b, "\n\n%10s %10s   WORK\n", "AFTER", "TOOK")
	for _, s := range steps {
		at := strings.Repeat(" ", 2*min(s.Depth, maxDepth))
		begin := fmt.Sprintf("%7.1f ms %7.1f ms   %s", max(s.After, 0), s.Milliseconds, at)
		layout.Paragraph(&b, begin, strings.Repeat(" ", len(begin)+2), work(r, s), width)
	}
	if r.Missed > 0 {
		fmt.Fprintf(&b, "%d more have found no room\n", r.Missed)
	}
	return b.String()
}

// maxDepth is the largest depth that is indented: a line has 80 columns.
const maxDepth = 12

// work is a span in words.
func work(r helvetype.RequestTrace, s why.Step) string {
	text := s.Kind + " " + place(s.App, s.Deployment, s.Method)
	switch s.Kind {
	case "http":
		text = fmt.Sprintf("http %s of %s", cmp.Or(r.Route, "request"), s.App)
		if r.Status != 0 {
			text += ": " + strconv.Itoa(r.Status)
		}
	case "arguments":
		text = "wait for the arguments of " + place(s.App, s.Deployment, s.Method)
	case "wait":
		text = "wait for a slot of " + place(s.App, s.Deployment, "")
		if s.WithoutReplica > 0 && s.WithoutReplica*2 >= s.Milliseconds {
			text = "wait for a replica of " + place(s.App, s.Deployment, "")
		}
		if s.Origin == "broadcast" {
			text = "wait for the broadcasts before it at " + place(s.App, s.Deployment, "") + " on " + s.Replica
		} else if s.Origin != "" {
			text += ", queue " + s.Origin
		}
	case "stall":
		text = "event loop blocked in " + s.Name
	case "span", "batch":
		text = fmt.Sprintf("%s %q", s.Kind, s.Name)
		if s.App != "" {
			text += " of " + place(s.App, s.Deployment, "")
		} else {
			text += " of a program"
		}
	}
	if s.Replica != "" && s.Kind != "wait" {
		text += " on " + s.Replica
	}
	if s.Attempt > 0 {
		text += fmt.Sprintf(", attempt %d", s.Attempt+1)
	}
	if s.Reason != "" {
		text += ": " + s.Reason
		if s.RunsAgain {
			text += " (it runs again)"
		}
		if m := firstLine(s.Message); m != "" {
			text += ": " + clip(m)
		}
	}
	return text
}

// Overview is the answer about a whole node: a sentence, the troubles, and the newest requests that have failed or were slow.
func Overview(o helvetype.Overview, list helvetype.RequestList, width int) string {
	var b strings.Builder
	layout.Paragraph(&b, "", "  ", o.Sentence, width)
	for _, t := range o.Troubles {
		b.WriteString("\n")
		layout.Paragraph(&b, "- ", "  ", t.Sentence, width)
		layout.Paragraph(&b, "  next: ", "    ", t.Next, width)
	}
	list.Requests = slices.DeleteFunc(slices.Clone(list.Requests), func(r helvetype.Request) bool { // quick all the same, or sampled
		return r.Kept == helvetype.KeptSlow && r.Milliseconds < list.SlowFrom || r.Kept == helvetype.KeptSampled
	})
	all := len(list.Requests)
	if all == 0 {
		return b.String()
	}
	list.Requests = list.Requests[:min(all, overviewRequests)]
	b.WriteString("\n")
	b.WriteString(Requests(list, width))
	if more := all - len(list.Requests); more > 0 {
		fmt.Fprintf(&b, "%d more requests: helve why --failed, helve why --slow\n", more)
	}
	return b.String()
}

// overviewRequests is the number of requests that the answer about a node has.
const overviewRequests = 10

// Requests is a list of requests, the newest first.
func Requests(list helvetype.RequestList, width int) string {
	var b strings.Builder
	var rows [][]string
	for _, r := range list.Requests {
		kept := r.Kept
		if kept == helvetype.KeptSlow && r.Milliseconds < list.SlowFrom {
			kept = "slowest of its route"
		}
		if r.Sampled && kept != helvetype.KeptSampled {
			kept += ", " + helvetype.KeptSampled
		}
		what := kept + ": " + place(r.App, r.Deployment, r.Method)
		if r.Kind == "span" {
			what = fmt.Sprintf("%s: span %q of a program", kept, r.Name)
		}
		if r.Reason != "" {
			what += " " + r.Reason
			if r.FailedAt != "" {
				what += " at " + r.FailedAt
			}
			if m := firstLine(r.Message); m != "" {
				what += ": " + m // whole: the list is asked for because of it
			}
		}
		status := "-"
		if r.Status != 0 {
			status = strconv.Itoa(r.Status)
		}
		rows = append(rows, []string{r.Started.Local().Format(clock), fmt.Sprintf("%.0f ms", r.Milliseconds), status, r.ID, what})
	}
	if len(rows) == 0 {
		b.WriteString("no such request is kept: the node keeps those that have failed, were slow or are sampled, for some minutes\n")
	} else {
		layout.Table(&b, "", width, []string{"TIME", "TOOK", "STATUS", "REQUEST", "WHAT"}, rows)
	}
	if n := list.DroppedFailed + list.DroppedSlow; n > 0 {
		fmt.Fprintf(&b, "%d more that have failed, and %d that were slow, were too many to keep\n", list.DroppedFailed, list.DroppedSlow)
	}
	return b.String()
}

// clipped is how much of a message a line of a table has; -o json has all of it.
const clipped = 160

func clip(s string) string {
	if r := []rune(s); len(r) > clipped {
		return string(r[:clipped]) + "..."
	}
	return s
}

func place(app, deployment, method string) string {
	text := app
	if deployment != "" {
		text += "/" + deployment
	}
	if method != "" {
		text += "." + method
	}
	return text
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return first
}

// Package tables writes the status of applications as tables for people. It is pure: for example, a deployment that has rejected no call, as most, has no column for rejected calls.
package tables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/shown"
)

// Application writes the status of one application for people.
func Application(b *strings.Builder, name string, app details.AppDetails, now time.Time, width int) {
	route := ""
	if app.RoutePrefix != nil {
		route = "   route " + *app.RoutePrefix
	}
	runs := fmt.Sprintf("revision %d, deployed", app.Revision)
	if app.Revision == 0 && app.FailedDeploy != nil {
		runs = "never deployed, failed"
	}
	fmt.Fprintf(b, "\napplication %s   %s   %s %s ago%s\n", name, app.Status, runs, shown.Ago(now.Sub(at(app.LastDeployedTimeS))), route)
	told := tracebacks{}
	Message(b, "  ", "  ", told.once(app.Message), width)
	if app.FailedDeploy != nil {
		layout.Paragraph(b, "  next: ", "    ", "helve why "+name+" has the whole error; correct the code or the file, and deploy it again", width)
	}
	if app.Rollout != nil {
		answer.Rollout(b, app.Rollout, now, width)
	}
	deploymentTable(b, app, width)
	for _, d := range app.InOrder() {
		Message(b, "  "+d.Name+": ", "    ", told.once(d.Message), width)
		if a := d.Autoscaling; a != nil {
			layout.Paragraph(b, "  "+d.Name+" scales: ", "    ", scaling(a, now), width)
		}
	}
	replicaTable(b, app, now, width)
}

// deploymentTable has a row for each deployment. Columns without a number in any row are left out: few applications have a limit of waiting calls, and no call of the last minute has no time. Of the times, the mean
// has room in a wide terminal only.
func deploymentTable(b *strings.Builder, app details.AppDetails, width int) {
	columns := []column{
		{name: "DEPLOYMENT"}, {name: "STATUS"}, {name: "REPLICAS"}, {name: "QUEUED"}, {name: "RUNNING"}, {name: "CALLS"}, {name: "ERRORS"},
		{name: "REJECTED", absent: "0"}, {name: "MEAN", absent: "-", goes: 1}, {name: "P99", absent: "-", goes: 2},
	}
	var rows [][]string
	for _, d := range app.InOrder() {
		ready := 0
		for _, rep := range d.Replicas {
			if rep.State == helvetype.ReplicaRunning {
				ready++
			}
		}
		replicas := fmt.Sprintf("%d/%d", ready, d.TargetNumReplicas)
		if d.Stopping > 0 {
			replicas += fmt.Sprintf(" (%d stopping)", d.Stopping)
		}
		mean, p99 := "-", "-"
		if m := d.LastMinute; m != nil && m.Calls > 0 {
			mean, p99 = milliseconds(m.Mean), milliseconds(m.P99)
		}
		rows = append(rows, []string{
			d.Name, string(d.Status), replicas, fmt.Sprint(d.Calls.Queued), fmt.Sprint(d.Calls.Running), fmt.Sprint(d.Calls.Total), fmt.Sprint(d.Calls.Errors), fmt.Sprint(d.Calls.Rejected), mean, p99,
		})
	}
	write(b, columns, rows, width)
}

// replicaTable has a row for each replica. Where a terminal is narrow, the use of processors is left out before the text of the last column goes below its row.
func replicaTable(b *strings.Builder, app details.AppDetails, now time.Time, width int) {
	columns := []column{
		{name: "REPLICA"}, {name: "STATE"}, {name: "PID"}, {name: "AGE"}, {name: "RESTARTS"}, {name: "MEMORY", absent: "-"}, {name: "CPU", absent: "-", goes: 1}, {},
	}
	var rows [][]string
	for _, d := range app.InOrder() {
		for _, rep := range d.Replicas {
			memory, cpu := "-", "-"
			if rep.Memory > 0 {
				memory, cpu = shown.Bytes(rep.Memory), fmt.Sprintf("%.0f%%", rep.CPU)
			}
			if declared := rep.Resources[helvetype.ResourceMemory]; declared > 0 {
				memory += " of " + shown.Bytes(uint64(declared))
			}
			if rep.GPUMemory > 0 {
				memory += " + " + shown.Bytes(rep.GPUMemory) + " GPU"
			}
			said := answer.OfRevision(rep.Revision, app.Rollout, Note(rep, now))
			rows = append(rows, []string{rep.ReplicaID, string(rep.State), pidOf(rep), shown.Ago(now.Sub(at(rep.StartTimeS))), strconv.Itoa(rep.Restarts), memory, cpu, said})
		}
	}
	write(b, columns, rows, width)
}

// column is a column of a table that may leave out some.
type column struct {
	name   string
	absent string // the text of a row without a value; a column in which all rows have it is left out. "" for a column that stays
	goes   int    // the order in which columns go while the table is wider than the terminal; 0 for a column that stays
}

// write writes a table with the columns that have values and room.
func write(b *strings.Builder, columns []column, rows [][]string, width int) {
	if len(rows) == 0 {
		return
	}
	drop := func(i int) {
		columns = slices.Delete(columns, i, i+1)
		for r := range rows {
			rows[r] = slices.Delete(rows[r], i, i+1)
		}
	}
	for i := len(columns) - 1; i >= 0; i-- {
		if c := columns[i]; c.absent != "" && !slices.ContainsFunc(rows, func(row []string) bool { return row[i] != c.absent }) {
			drop(i)
		}
	}
	const indent = "  "
	all := func() [][]string {
		header := make([]string, len(columns))
		for i, c := range columns {
			header[i] = c.name
		}
		return append([][]string{header}, rows...)
	}
	for goes := 1; goes <= len(columns); goes++ {
		if i := slices.IndexFunc(columns, func(c column) bool { return c.goes == goes }); i >= 0 && !layout.Fits(indent, width, all()) {
			drop(i)
		}
	}
	layout.Table(b, indent, width, all()[0], rows)
}

// scaling is the autoscaler of a deployment in one line.
func scaling(a *helvetype.Autoscaling, now time.Time) string {
	text := fmt.Sprintf("%d of %d to %d", a.Target, a.Least, a.Most)
	if a.Reason != "" {
		text += "; " + a.Reason
	}
	if a.Blocked != "" && !strings.Contains(a.Reason, a.Blocked) {
		text += "; " + a.Blocked
	}
	if since := a.PolicyFailedSince; !since.IsZero() && len(a.Errors) > 0 {
		first, _, _ := strings.Cut(a.Errors[0], "\n")
		text += fmt.Sprintf("; the policy %s has no answer for %s: %s", a.Policy, shown.Ago(now.Sub(since)), first)
	}
	return text
}

// milliseconds is a time in few letters: 0.4ms, 64ms, 1.3s, 12s.
func milliseconds(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0fms", ms)
	case ms < 10000:
		return fmt.Sprintf("%.1fs", ms/1000)
	}
	return fmt.Sprintf("%.0fs", ms/1000)
}

// tracebacks has the tracebacks that a text has already.
type tracebacks map[string]bool

// once is a message without its traceback if the text has that already. For example, an application fails because its deployment Ranker does, and both messages have the
// traceback of the constructor.
func (all tracebacks) once(text string) string {
	i := strings.Index(text, "Traceback (most recent call last):")
	if i < 0 {
		return text
	}
	if trace := strings.TrimSpace(text[i:]); !all[trace] {
		all[trace] = true
		return text
	}
	return strings.TrimSpace(text[:i])
}

// Message writes the first lines of a message: the first line after begin, the others after indent.
func Message(b *strings.Builder, begin, indent, text string, width int) {
	const most = 10
	if text == "" {
		return
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		if i == most {
			fmt.Fprintf(b, "%s... (%d more lines, see -o json)\n", indent, len(lines)-most)
			return
		}
		layout.Paragraph(b, begin, indent, line, width)
		begin = indent
	}
}

func pidOf(r details.ReplicaDetails) string {
	switch {
	case r.InNode:
		return "(node)"
	case r.PID == nil:
		return "-"
	}
	return strconv.Itoa(*r.PID)
}

// Note is the last column of a replica: its trouble, the wait of its start, its drain, or the end of the replica before it.
func Note(r details.ReplicaDetails, now time.Time) string {
	switch {
	case r.Unresponsive != nil:
		return "does not answer since " + shown.Ago(now.Sub(r.Unresponsive.Since))
	case r.Ejected != nil:
		return answer.Condition("gets no calls", r.Ejected, now)
	case r.NotReady != nil && r.NotReady.Kept != "":
		return answer.Condition("kept ("+r.NotReady.Kept+"), not ready", r.NotReady, now)
	case r.NotReady != nil:
		return answer.Condition("is not ready", r.NotReady, now)
	case r.Waits != nil:
		return fmt.Sprintf("waits for %s, since %s", r.Waits.For, shown.Ago(now.Sub(r.Waits.Since)))
	case r.State == helvetype.ReplicaStopping:
		return "finishes its calls"
	case r.LastExit != nil:
		first, _, _ := strings.Cut(r.LastExit.Reason, "\n")
		return fmt.Sprintf("%s ended: %s", r.LastExit.Replica, first)
	}
	return ""
}

func at(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

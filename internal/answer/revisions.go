package answer

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/shown"
)

// History is a history for people.
func History(h helvetype.History, width int) string {
	var b strings.Builder
	if f := h.FailedDeploy; f != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(f.Error), "\n")
		text := fmt.Sprintf("the last deploy, at %s by %s, has failed and made no revision: %s", f.At.Local().Format("2006-01-02 15:04:05"), cmp.Or(f.By, "-"), first)
		layout.Paragraph(&b, "", "  ", text, width)
		layout.Paragraph(&b, "next: ", "  ", "helve why "+h.App+" has the whole error", width)
	}
	var rows [][]string
	for _, e := range h.Revisions {
		var notes []string
		if e.Message != "" {
			notes = append(notes, e.Message)
		}
		if e.RollbackOf > 0 {
			notes = append(notes, fmt.Sprintf("repeats revision %d", e.RollbackOf))
		}
		if e.From != "" {
			notes = append(notes, "from "+e.From)
		}
		if len(e.Changes) > 0 && e.Before != e.Number-1 {
			notes = append(notes, fmt.Sprintf("against revision %d:", e.Before))
		}
		notes = append(notes, e.Changes...)
		if e.Reason != "" {
			first, _, _ := strings.Cut(strings.TrimSpace(e.Reason), "\n")
			notes = append(notes, e.State+": "+first)
		}
		rows = append(rows, []string{strconv.Itoa(e.Number), e.At.Local().Format("2006-01-02 15:04:05"), e.State, cmp.Or(e.By, "-"), strings.Join(notes, "\n")})
	}
	layout.Table(&b, "", width, []string{"REVISION", "AT", "STATE", "BY", "NOTES"}, rows)
	return b.String()
}

// Rollout writes the state of a rollout.
func Rollout(b *strings.Builder, r *helvetype.Rollout, now time.Time, width int) {
	text := fmt.Sprintf("revision %d to %d, %s since %s", r.From, r.To, r.State, shown.Ago(now.Sub(r.Since)))
	if r.Steps > 0 {
		text += fmt.Sprintf(", step %d of %d", r.Step, r.Steps)
	}
	if r.New.Calls > 0 || r.Old.Calls > 0 {
		text += fmt.Sprintf("; failures: new %d of %d calls, old %d of %d", r.New.Failures, r.New.Calls, r.Old.Failures, r.Old.Calls)
	}
	if r.Message != "" {
		text += "; " + r.Message
	}
	layout.Paragraph(b, "  rollout: ", "    ", text, width)
}

// RolloutWait is a line about a rollout that waits at a step or is paused, with the command that goes on with it; "" for another one, and for none. It has no time that is left, so it
// is the same as long as the wait is the same. For example, "shop: the rollout of revision 6 waits at step 1 of 2; helve resume shop ends the wait".
func RolloutWait(app string, r *helvetype.Rollout, program string) string {
	if r == nil || r.State != "waiting" && r.State != "paused" {
		return ""
	}
	is, does := "waits", "ends the wait"
	if r.State == "paused" {
		is, does = "is paused", "goes on with it"
	}
	if r.Steps > 0 {
		is += fmt.Sprintf(" at step %d of %d", r.Step, r.Steps)
	}
	return fmt.Sprintf("%s: the rollout of revision %d %s; %s resume %s %s", app, r.To, is, program, app, does)
}

// OfRevision puts before a note of a replica of which revision of a rollout it is; without a rollout the note stays. For example, a deploy of revision 4 comes while step 1 of revision 3 waits:
// the replicas are of revision 2 (old), 3 (superseded) and 4 (new).
func OfRevision(revision int, r *helvetype.Rollout, note string) string {
	if r == nil {
		return note
	}
	word := "superseded"
	switch revision {
	case r.To:
		word = "new"
	case r.From:
		word = "old"
	}
	return strings.TrimSuffix(fmt.Sprintf("revision %d (%s); %s", revision, word, note), "; ")
}

package layout

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// Plan is a plan for people: new things have a plus in front, deleted ones a minus, and changes a tilde.
func Plan(p helvetype.Plan, width int) string {
	var b strings.Builder
	for _, w := range p.Warnings {
		Paragraph(&b, "warning: ", "  ", w, width)
	}
	changes := map[string]int{}
	for _, app := range p.Applications {
		changes[app.Change]++
		text := app.Name + ": " + app.Change
		if app.Reason != "" {
			text += " (" + app.Reason + ")"
		}
		Paragraph(&b, sign(app.Change)+" application ", "    ", text, width)
		for _, note := range app.Notes {
			Paragraph(&b, "    ", "      ", note, width)
		}
		values(&b, "    ", app.Fields, width)
		for _, d := range app.Deployments {
			if app.Change != "unchanged" || d.ScaledBy != "" && d.Submitted != d.Next || d.Autoscaler != nil && d.Autoscaler.Decision != "" || len(d.Overrides) > 0 {
				deploymentPlan(&b, d, width)
			}
		}
	}
	Settings(&b, p.Settings, width)
	capacity(&b, p, width)
	var sums []string
	for _, change := range []string{"created", "changed", "deleted", "unchanged"} {
		if n := changes[change]; n > 0 {
			sums = append(sums, fmt.Sprintf("%d %s", n, change))
		}
	}
	Paragraph(&b, "", "  ", fmt.Sprintf("Applications: %s. The plan is for generation %d.", cmp.Or(strings.Join(sums, ", "), "none"), p.Generation), width)
	return b.String()
}

// Settings writes the changes of the settings of a node, if there are any. A target capacity that is not set is 100, and acts on all applications of the node: a file that changes nothing else changes the numbers of
// replicas by it.
func Settings(b *strings.Builder, all []helvetype.ValueChange, width int) {
	if len(all) == 0 {
		return
	}
	b.WriteString("~ settings of the node\n")
	for _, v := range all {
		if v.Path != "target_capacity" {
			continue
		}
		part := func(of json.RawMessage) string {
			if empty(of) {
				return "not set (100 %)"
			}
			return Value(of, "") + " %"
		}
		Paragraph(b, "    ", "      ", "~ target_capacity   "+part(v.Before)+" -> "+part(v.After)+", for all applications of the node", width)
	}
	values(b, "    ", slices.DeleteFunc(slices.Clone(all), func(v helvetype.ValueChange) bool { return v.Path == "target_capacity" }), width)
}

// capacity writes what another target capacity does to applications that do not change otherwise.
func capacity(b *strings.Builder, p helvetype.Plan, width int) {
	percent := "100"
	for _, s := range p.Settings {
		if s.Path == "target_capacity" && !empty(s.After) {
			percent = string(s.After)
		}
	}
	for _, c := range p.Capacity {
		text := fmt.Sprintf("%s/%s: %d -> %d replicas by target_capacity %s", c.App, c.Deployment, c.Wanted, c.Next, percent)
		if a := c.Autoscaler; a != nil && a.Before != nil && a.After != nil && *a.Before != *a.After {
			text += fmt.Sprintf("; its autoscaler has %d to %d replicas, and had %d to %d", a.After.Least, a.After.Most, a.Before.Least, a.Before.Most)
		}
		Paragraph(b, "    ", "      ", text, width)
	}
}

func sign(change string) string {
	switch change {
	case "created":
		return "+"
	case "deleted":
		return "-"
	case "changed":
		return "~"
	}
	return " "
}

// deploymentPlan writes the plan of one deployment.
func deploymentPlan(b *strings.Builder, d helvetype.DeploymentPlan, width int) {
	line := fmt.Sprintf("%s %s: ", sign(d.Change), d.Name)
	switch d.Change {
	case "created", "deleted":
		line += d.Change
	case "unchanged":
		line += "nothing changes"
	default:
		line += updates(d.Update)
	}
	if d.Reason != "" {
		line += " (" + d.Reason + ")"
	}
	Paragraph(b, "  ", "      ", line, width)
	replicas := fmt.Sprintf("replicas: %d run, %d wanted", d.Replicas, d.Next)
	if d.Wanted != d.Next {
		replicas = fmt.Sprintf("replicas: %d run, %d wanted now, %d after it", d.Replicas, d.Wanted, d.Next)
	}
	if d.Surge+d.Unavailable > 0 { // replicas take the places of others
		replicas += fmt.Sprintf("; at most %d more and %d fewer meanwhile", d.Surge, d.Unavailable)
	}
	switch {
	case d.Fit != "":
		replicas += "; do not fit: " + d.Fit
	case d.NoSurge != "":
		replicas += "; they fit the machine, and there is no room for more beside them: one more " + d.NoSurge
	case d.Change != "deleted" && d.Change != "unchanged":
		replicas += "; they fit the machine"
	}
	if d.Change != "unchanged" || d.Wanted != d.Next || d.ScaledBy != "" || d.Autoscaler != nil {
		Paragraph(b, "      ", "        ", replicas, width)
	}
	if d.Autoscaler != nil {
		Paragraph(b, "      ", "        ", autoscaler(d), width)
	}
	if text := scaledBy(d); text != "" {
		Paragraph(b, "      ", "        ", text, width)
	}
	values(b, "      ", d.Options, width)
	for _, o := range d.Overrides {
		Paragraph(b, "      ", "        ", fmt.Sprintf("%s stays %s, by helve set: without that it would be %s", o.Path, Value(o.After, ""), Value(o.Before, o.BeforeFrom)), width)
	}
}

// scaledBy says whether the number that an operator has set stays, beside the number that the options have; "" for none.
func scaledBy(d helvetype.DeploymentPlan) string {
	from := map[string]string{"": "the file", "file": "the file", "code": "the code", "default": "the default", "override": "helve set"}[d.SubmittedFrom]
	has := fmt.Sprintf("%s has %d", from, d.Submitted)
	if d.SubmittedFrom == "default" {
		has = fmt.Sprintf("the default is %d", d.Submitted)
	}
	other := slices.ContainsFunc(d.Options, func(c helvetype.ValueChange) bool { return c.Path == "num_replicas" })
	switch {
	case d.ScaledBy == "" || d.Change == "deleted":
	case d.Autoscaler != nil && d.Autoscaler.After != nil:
		return fmt.Sprintf("scaled to %d by %s: the autoscaler goes on with %d, and sets the number from then on", d.Wanted, d.ScaledBy, d.Next)
	case d.Submitted != d.Next:
		return fmt.Sprintf("scaled by %s, and stays so: %s", d.ScaledBy, has)
	case d.Next != d.Wanted && other && d.SubmittedFrom != "default":
		return fmt.Sprintf("scaled to %d by %s: that ends, because %s has another num_replicas", d.Wanted, d.ScaledBy, from)
	case d.Next != d.Wanted:
		return fmt.Sprintf("scaled to %d by %s: that ends, and %s", d.Wanted, d.ScaledBy, has)
	}
	return ""
}

// autoscaler says which bounds an autoscaler has, now and after the change, and why it wants its number.
func autoscaler(d helvetype.DeploymentPlan) string {
	a, text := d.Autoscaler, ""
	bounds := func(b *helvetype.ReplicaBounds) string { return fmt.Sprintf("%d to %d replicas", b.Least, b.Most) }
	switch {
	case a.After == nil && d.Change == "deleted":
		text = "its autoscaler has " + bounds(a.Before)
	case a.After == nil:
		text = fmt.Sprintf("its autoscaler of %s ends: the number of replicas stays %d", bounds(a.Before), d.Next)
	case a.Before == nil:
		text = "its autoscaler has " + bounds(a.After)
	case *a.Before != *a.After:
		text = fmt.Sprintf("its autoscaler has %s, and had %d to %d", bounds(a.After), a.Before.Least, a.Before.Most)
	default:
		text = "its autoscaler has " + bounds(a.After)
	}
	if a.Replaces > 0 {
		text += fmt.Sprintf(", in the place of num_replicas %d (%s), which has no effect beside it", a.Replaces, a.ReplacesFrom)
	}
	if a.Decision != "" {
		text += fmt.Sprintf("; it wants %d now: %s", d.Wanted, a.Decision)
	}
	return text
}

// updates says what a change does to the replicas that run.
func updates(update string) string {
	if update == "" || update == "nothing" {
		return "its replicas go on"
	}
	return update
}

// values writes values that change, with where they come from.
func values(b *strings.Builder, indent string, all []helvetype.ValueChange, width int) {
	var rows [][]string
	for _, v := range all {
		mark, text := "~", Value(v.Before, v.BeforeFrom)+" -> "+Value(v.After, v.AfterFrom)
		switch {
		case empty(v.Before):
			mark, text = "+", Value(v.After, v.AfterFrom)
		case empty(v.After):
			mark, text = "-", Value(v.Before, v.BeforeFrom)
		}
		if v.Update != "" && v.Update != "nothing" {
			text += ": " + v.Update
		}
		rows = append(rows, []string{mark + " " + v.Path, text})
	}
	Table(b, indent, width, nil, rows)
}

func empty(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// Value is a value with where it comes from. A long value is cut: -o json has all of it.
func Value(v json.RawMessage, from string) string {
	const most = 30
	text := "none"
	if !empty(v) {
		var b bytes.Buffer
		if json.Compact(&b, v) != nil {
			return "?"
		}
		if text = b.String(); len([]rune(text)) > most {
			text = string([]rune(text)[:most]) + "..."
		}
	}
	if from != "" {
		text += " (" + from + ")"
	}
	return text
}

// Effective is the value of an option, with the reason where it has no effect.
func Effective(v helvetype.EffectiveValue) string {
	text := Value(v.Value, "")
	if v.Unused != "" {
		text += ", without effect: " + v.Unused
	}
	return text
}

// Package plan describes a change of an application before the change is made: the options that differ, the replicas that stay, the number of replicas
// after it, and whether they fit the machine. It is pure: the caller reads the records and the state of the node.
//
// For example, the file of an application has another max_ongoing_requests and another image size in the user_config of its deployment Ranker. The plan says of
// Ranker: in place, with both options. A second deployment, whose module has changed, has the update "new replicas".
package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/spec"
)

// The changes of applications and deployments.
const (
	Created   = "created"
	Changed   = "changed"
	Unchanged = "unchanged"
	Deleted   = "deleted"
)

// Version is an application at one time: the graph with the options of all deployments, and the options of its own.
type Version struct {
	Graph   spec.Graph
	Options spec.Application
	// Below are the options of deployments under their overrides; nil for no overrides.
	Below map[string]spec.Options
}

// Scale is the number of replicas that a deployment should have now, and its author.
type Scale struct {
	Replicas int
	By       string // "deploy", or a person
	Reason   string
	// ByLoad says that an autoscaler has decided the number: the target capacity is in it already.
	ByLoad bool
}

// Input is all that a plan depends on.
type Input struct {
	App string
	// Before is the application as it is deployed, and After as it would be; nil for none.
	Before, After *Version
	// Same says which deployments have the same code before and after.
	Same map[string]bool
	// SameFiles says which deployments have the same files in their working_dir before and after.
	SameFiles map[string]bool
	// Scales are the numbers of replicas that are wanted now, and Running the replicas that run, by deployment.
	Scales  map[string]Scale
	Running map[string]int
	// Replicas are the ids of the replicas that are there and stay, by deployment. They keep their resources.
	Replicas map[string][]string
	// Rollback says that a former revision is deployed again: numbers of replicas stay. A number that a rollout under way has set goes back to that of Returns first. For example, a rollout sets 3 in place of 2: a rollback during
	// the rollout leaves 2, and one after it leaves 3.
	Rollback bool
	Returns  map[string]Scale
	// Cleared are the deployments whose number that an operator has set goes.
	Cleared map[string]bool
	// Capacity is the target capacity now and after the change.
	Capacity Capacity
	// On are the resources of the node, and Elsewhere the holdings of the replicas of other applications.
	On        placement.Node
	Elsewhere []placement.Holding
}

// Capacity is a target capacity in percent, now and after the change; nil for all. For example, where the file of the plan has target_capacity: 50 the plan of 4 replicas has 2.
type Capacity struct {
	Now, Then *float64
	// Rising and Rises say that the capacity is on its way up, now and after the change: see [autoscale.Bounds].
	Rising, Rises bool
}

// Of is the plan of an application.
func Of(in Input) helvetype.ApplicationPlan {
	p := helvetype.ApplicationPlan{Name: in.App, Change: Changed, Deployments: []helvetype.DeploymentPlan{}}
	before, after := byName(in.Before), byName(in.After)
	switch {
	case in.Before == nil && in.After == nil:
		p.Change = Unchanged
	case in.Before == nil:
		p.Change = Created
	case in.After == nil:
		p.Change = Deleted
	}
	rebuilt := ""
	if in.Before != nil && in.After != nil {
		changes := spec.ApplicationChanges(in.Before.Options.Effective(), in.After.Options.Effective())
		p.Fields = values(changes)
		for _, c := range changes {
			if c.Update == spec.NewApplication {
				rebuilt = c.Option
				break
			}
		}
	}
	seats := in.seat(after, before)
	moves := len(p.Fields) > 0
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		was, there := before[name]
		is, stays := after[name]
		d := helvetype.DeploymentPlan{Name: name, Change: Unchanged, Update: spec.Lightweight.String(), Replicas: in.Running[name]}
		if s, ok := in.Scales[name]; ok && there {
			if d.Wanted = in.wanted(was); s.By != "deploy" && s.By != "" && !s.ByLoad && !was.Options.Effective().Autoscaled() {
				d.ScaledBy = s.By
				if s.Reason != "" {
					d.ScaledBy += ": " + s.Reason
				}
			}
		} else if there {
			d.Wanted = in.wanted(was)
		}
		d.Autoscaler = in.scaling(name, was, is, there, stays)
		if !stays {
			d.Change, d.Reason = Deleted, "the application does not have it any more"
		} else {
			d.Submitted, d.SubmittedFrom, d.Next = is.Options.Effective().StartReplicas(), string(startFrom(is.Options)), in.next(is, before)
			in.compare(&d, was, is, there, rebuilt, seats)
			in.fit(&d, is.Options.Effective(), seats)
			if below, ok := in.After.Below[name]; ok {
				d.Overrides = overrides(spec.Changes(below.Effective(), is.Options.Effective()), is.Options.Effective().Autoscaled(), d.Options)
			}
		}
		moves = moves || d.Change != Unchanged
		p.Deployments = append(p.Deployments, d)
	}
	if p.Change == Changed && !moves && spec.Diff(in.Before.Graph, in.After.Graph, "", "") == nil {
		p.Change = Unchanged
	}
	return p
}

// compare says what happens to the replicas of a deployment.
func (in Input) compare(d *helvetype.DeploymentPlan, was, is spec.Deployment, there bool, rebuilt string, seats *seats) {
	if !there {
		d.Change, d.Update, d.Reason = Created, spec.NewReplicas.String(), "it is new"
		return
	}
	before, after := was.Options.Effective(), is.Options.Effective()
	changes := spec.ChangesOver(before, after, in.SameFiles[d.Name])
	most := spec.MostUpdate(changes)
	d.Options = values(changes)
	switch {
	case !in.Same[d.Name] && rebuilt != "":
		most, d.Reason = spec.NewApplication, rebuilt+" has changed"
	case !in.Same[d.Name]:
		most, d.Reason = spec.NewReplicas, "the code has changed"
	case before.UserConfig != nil && after.UserConfig == nil && most < spec.NewReplicas:
		most, d.Reason = spec.NewReplicas, "a replica that has a user_config cannot be told that it has none"
	case most > spec.Lightweight:
		for _, c := range changes {
			if c.Update == most {
				d.Reason = c.Option + " has changed"
				break
			}
		}
	}
	d.Update = most.String()
	if len(changes) > 0 || most > spec.Lightweight || d.Next != d.Wanted {
		d.Change = Changed
	}
	if most >= spec.NewReplicas {
		d.Surge, d.Unavailable, d.NoSurge = seats.budget(is, d.Next)
	}
}

// values are changes for people: secrets are hidden.
func values(changes []spec.Change) []helvetype.ValueChange {
	var all []helvetype.ValueChange
	for _, c := range changes {
		if c.Option == variables || c.Option == autoscaling {
			all = append(all, fieldChanges(c)...)
			continue
		}
		all = append(all, helvetype.ValueChange{
			Path: c.Option, Update: c.Update.String(), Before: secret.RedactAt(c.Option, c.Before), After: secret.RedactAt(c.Option, c.After),
			BeforeFrom: string(c.FromSource), AfterFrom: string(c.ToSource),
		})
	}
	return all
}

// The options whose changes name each field: the values of variables are hidden, and one bound of an autoscaler changes without the other.
const (
	variables   = "runtime_env.env_vars"
	autoscaling = "autoscaling_config"
)

// fieldChanges are the changes of single fields of an object. For example, a file has another value of API_KEY and no DEBUG any more: the changes are
// runtime_env.env_vars.API_KEY, from "***" to "***", and runtime_env.env_vars.DEBUG, from "***" to nothing.
func fieldChanges(c spec.Change) (all []helvetype.ValueChange) {
	var before, after map[string]json.RawMessage
	json.Unmarshal(c.Before, &before) //nolint:errcheck // no object has no fields
	json.Unmarshal(c.After, &after)   //nolint:errcheck // as above
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if sameJSON(before[name], after[name]) {
			continue
		}
		path := c.Option + "." + name
		all = append(all, helvetype.ValueChange{
			Path: path, Update: c.Update.String(), Before: secret.RedactAt(path, before[name]), After: secret.RedactAt(path, after[name]),
			BeforeFrom: string(c.FromSource), AfterFrom: string(c.ToSource),
		})
	}
	return all
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return bytes.Equal(a, b) || len(a) > 0 && len(b) > 0 && json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// overrides are the options for which an override holds and stays: an override of the change itself is among the changed options. A num_replicas that was set before the deployment got an autoscaler has no effect beside it.
func overrides(changes []spec.Change, autoscaled bool, changed []helvetype.ValueChange) []helvetype.ValueChange {
	if autoscaled {
		changes = slices.DeleteFunc(changes, func(c spec.Change) bool { return c.Option == "num_replicas" })
	}
	return slices.DeleteFunc(values(changes), func(v helvetype.ValueChange) bool {
		return slices.ContainsFunc(changed, func(c helvetype.ValueChange) bool {
			return c.Path == v.Path && c.AfterFrom == string(spec.FromOverride)
		})
	})
}

// Lines say in a line for each deployment how a revision differs from the one before, for the history. same says which deployments have the same code, and files which have the
// same files in their working_dir.
func Lines(before, after Version, same, files map[string]bool) []string {
	in := Input{Before: &before, After: &after, Same: same, SameFiles: files}
	var all []string
	p := Of(in)
	for _, f := range p.Fields {
		all = append(all, fmt.Sprintf("%s: %s", f.Path, f.Update))
	}
	for _, d := range p.Deployments {
		switch d.Change {
		case Created, Deleted:
			all = append(all, d.Name+": "+d.Change)
		case Changed:
			var names []string
			if !same[d.Name] {
				names = append(names, "code")
			}
			for _, o := range d.Options {
				names = append(names, o.Path)
			}
			if d.Update == spec.Lightweight.String() {
				all = append(all, d.Name+": "+light(d.Options))
				continue
			}
			line := d.Name + ": " + d.Update
			for i, n := range names {
				line += cmp.Or(map[bool]string{true: " ("}[i == 0], ", ") + n
			}
			if len(names) > 0 {
				line += ")"
			}
			all = append(all, line)
		}
	}
	return all
}

// light describes changes that the node makes without its replicas, for example "num_replicas 2 -> 3, no restart". Values that are long, or are lists or objects, are left out.
func light(changes []helvetype.ValueChange) string {
	text := ""
	for _, c := range changes {
		text += c.Path
		if n := len(c.Before) + len(c.After); n > 0 && n <= longValue && !bytes.ContainsAny(c.Before, "{[") && !bytes.ContainsAny(c.After, "{[") {
			text += fmt.Sprintf(" %s -> %s", cmp.Or(string(c.Before), "none"), cmp.Or(string(c.After), "none"))
		}
		text += ", "
	}
	return text + "no restart"
}

// Values are the options of a deployment or an application for people.
func Values(all []spec.Value) []helvetype.EffectiveValue {
	out := make([]helvetype.EffectiveValue, len(all))
	for i, v := range all {
		out[i] = helvetype.EffectiveValue{Path: v.Option, Value: secret.RedactAt(v.Option, v.JSON), From: string(v.From), Update: v.Update.String(), About: v.Doc}
	}
	at := func(option string) int {
		return slices.IndexFunc(all, func(v spec.Value) bool { return v.Option == option })
	}
	if number, auto := at("num_replicas"), at("autoscaling_config"); number >= 0 && auto >= 0 && string(all[auto].JSON) != "null" && len(all[auto].JSON) > 0 {
		out[number].Unused = "autoscaling_config sets the number of replicas"
	}
	return out
}

func byName(v *Version) map[string]spec.Deployment {
	all := map[string]spec.Deployment{}
	if v != nil {
		for _, d := range v.Graph.Deployments {
			all[d.Name] = d
		}
	}
	return all
}

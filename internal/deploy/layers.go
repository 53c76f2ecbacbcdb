package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Layers are the overrides of an application: options that an operator has put over those of its code and its file. Overrides stay over deploys, until
// a deploy gives such an option another value than the deploy before. For example, a file says max_ongoing_requests 5, and an operator has set 20. The file is deployed again with
// 5: 20 stays. The file is deployed with 8: the override is dropped, and 8 holds. The number of replicas follows the same rule.
//
// The zero value has no overrides.
type Layers struct {
	overrides map[string]json.RawMessage // by deployment; "" for the application
	below     map[string]spec.Options    // the options of the deployments that have overrides, without them
}

// Overrides are the overrides by deployment; "" has those of the application.
func (l Layers) Overrides() map[string]json.RawMessage { return maps.Clone(l.overrides) }

// Below are the options of a deployment of code and file.
func (l Layers) Below(d spec.Deployment) spec.Options {
	if o, ok := l.below[d.Name]; ok {
		return o
	}
	return d.Options
}

// Override puts overrides over the options of an application, in the place of those that it has. An override of a deployment that it does not have is
// left out. The errors are about options that no deployment has, and their values.
func (a *App) Override(overrides map[string]json.RawMessage) []error {
	var errs []error
	next := Layers{}
	a.Graph.Deployments = slices.Clone(a.Graph.Deployments)
	for i := range a.Graph.Deployments {
		d := &a.Graph.Deployments[i]
		below := a.Layers.Below(*d)
		d.Options = below
		layer := overrides[d.Name]
		if len(layer) == 0 {
			continue
		}
		merged, err := below.Merge(layer, spec.FromOverride)
		if err != nil {
			errs = append(errs, spec.InDeployment(d.Name, err)...)
			continue
		}
		if wrong := merged.Validate(); len(wrong) > 0 {
			errs = append(errs, spec.InDeployment(d.Name, wrong...)...)
			continue
		}
		d.Options = merged
		set(&next.overrides, d.Name, layer)
		set(&next.below, d.Name, below)
	}
	if layer := overrides[""]; len(layer) > 0 {
		set(&next.overrides, "", layer)
	}
	a.Layers = next
	return errs
}

// Inherit puts the overrides of the application as it is deployed now over one that is about to take its place. An override is dropped if the option below it
// has another value than before.
func (a *App) Inherit(now *App) error {
	kept := map[string]json.RawMessage{}
	for name, layer := range now.Layers.overrides {
		if name == "" {
			kept[""] = layer
			continue
		}
		was := slices.IndexFunc(now.Graph.Deployments, func(d spec.Deployment) bool { return d.Name == name })
		is := slices.IndexFunc(a.Graph.Deployments, func(d spec.Deployment) bool { return d.Name == name })
		if was < 0 || is < 0 {
			continue
		}
		before, after := now.Layers.Below(now.Graph.Deployments[was]), a.Layers.Below(a.Graph.Deployments[is])
		for _, c := range spec.Changes(before.Effective(), after.Effective()) {
			layer = without(layer, strings.Split(c.Option, "."))
		}
		if len(layer) > 0 {
			kept[name] = layer
		}
	}
	if len(kept) == 0 && len(a.Layers.overrides) == 0 {
		return nil
	}
	return errors.Join(a.Override(kept)...)
}

// without is a layer without one option; nil if it has no other. For example, {"limits": {"memory": 1}} without limits.memory is nil.
func without(layer json.RawMessage, path []string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(layer, &fields) != nil || fields == nil {
		if len(path) > 0 && isNull(layer) { // a group that is cleared as a whole
			return nil
		}
		return layer
	}
	inner, ok := fields[path[0]]
	if !ok {
		return layer
	}
	if len(path) > 1 {
		inner = without(inner, path[1:])
	} else {
		inner = nil
	}
	if fields[path[0]] = inner; inner == nil {
		delete(fields, path[0])
	}
	if len(fields) == 0 {
		return nil
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return layer
	}
	return out
}

// MergeOverrides puts a patch over overrides. null in the patch takes an override away: the option of the file or the code holds again. To clear an option of the
// file, an operator overrides it with its default.
func MergeOverrides(all map[string]json.RawMessage, patch map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	next := maps.Clone(all)
	for name, layer := range patch {
		merged, err := mergePatch(next[name], layer)
		if err != nil {
			return nil, fmt.Errorf("deployment %q: %w", name, err)
		}
		if next == nil {
			next = map[string]json.RawMessage{}
		}
		if next[name] = merged; merged == nil {
			delete(next, name)
		}
	}
	return next, nil
}

// replacedWhole are options whose value is an object that belongs to the user: a patch replaces it as a whole. Other objects have fields of ours, and keep those that a patch
// leaves out: for example, the upper bound of an autoscaler stays when the lower one is set.
var replacedWhole = []string{"user_config", "args"} //nolint:gochecknoglobals // a constant

// mergePatch is RFC 7396 for two objects of options: nil for an empty result.
func mergePatch(all, patch json.RawMessage) (json.RawMessage, error) {
	if isNull(patch) {
		return nil, nil
	}
	var was, with map[string]json.RawMessage
	if err := json.Unmarshal(patch, &with); err != nil {
		return nil, errors.New("must be an object with options, or null")
	}
	if len(all) > 0 && json.Unmarshal(all, &was) != nil {
		was = nil
	}
	if was == nil {
		was = map[string]json.RawMessage{}
	}
	for key, v := range with {
		if isNull(v) {
			delete(was, key)
			continue
		}
		if trimmed := bytes.TrimSpace(v); trimmed[0] == '{' && !slices.Contains(replacedWhole, key) {
			inner, err := mergePatch(was[key], v)
			if err != nil {
				return nil, err
			}
			if was[key] = inner; inner == nil {
				delete(was, key)
			}
			continue
		}
		was[key] = v
	}
	if len(was) == 0 {
		return nil, nil
	}
	return json.Marshal(was)
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// record puts the layers into a record.
func (l Layers) record(g spec.Graph, r *store.Revision) error {
	r.Overrides = clone(l.overrides)
	for _, d := range g.Deployments {
		below := l.Below(d)
		for path, from := range below.Sources {
			if from != spec.FromFile {
				continue
			}
			if r.Sources[d.Name] == nil {
				set(&r.Sources, d.Name, map[string]spec.Source{})
			}
			r.Sources[d.Name][path] = from
		}
		if _, ok := l.below[d.Name]; !ok {
			continue
		}
		text, err := json.Marshal(below)
		if err != nil {
			return err
		}
		set(&r.Below, d.Name, text)
	}
	return nil
}

// layersOf reads the layers of a record. The options of the graph have their sources then.
func layersOf(r store.Revision, g spec.Graph) (spec.Graph, Layers, error) {
	a := App{Graph: g}
	a.Graph.Deployments = slices.Clone(g.Deployments)
	for i := range a.Graph.Deployments {
		d := &a.Graph.Deployments[i]
		if below := r.Below[d.Name]; len(below) > 0 {
			var o spec.Options
			if err := json.Unmarshal(below, &o); err != nil {
				return g, Layers{}, fmt.Errorf("the options of %s under its overrides: %w", d.Name, err)
			}
			d.Options = o
		}
		if sources := r.Sources[d.Name]; len(sources) > 0 {
			d.Options.Sources = maps.Clone(d.Options.Sources)
			if d.Options.Sources == nil {
				d.Options.Sources = map[string]spec.Source{}
			}
			maps.Copy(d.Options.Sources, sources)
		}
	}
	errs := a.Override(r.Overrides)
	return a.Graph, a.Layers, errors.Join(errs...)
}

// GraphOf is the graph of a record, with the source of each option.
func GraphOf(r store.Revision) (spec.Graph, Layers, error) { return layersOf(r, r.Graph) }

// SameOptions says that two applications have the same graph, the same options, and the same configuration of their own. It does not compare code.
func SameOptions(a, b *App) bool {
	if a.Graph.Digest() != b.Graph.Digest() || !sameJSON(a.Graph.IngressOptions, b.Graph.IngressOptions) || !sameJSON(a.Layers.overrides, b.Layers.overrides) ||
		len(spec.ApplicationChanges(a.Options().Effective(), b.Options().Effective())) > 0 {
		return false
	}
	for _, d := range a.Graph.Deployments {
		i := slices.IndexFunc(b.Graph.Deployments, func(other spec.Deployment) bool { return other.Name == d.Name })
		if i < 0 || len(spec.Changes(d.Options.Effective(), b.Graph.Deployments[i].Options.Effective())) > 0 {
			return false
		}
	}
	return true
}

func sameJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// Options are the options of the application itself: those of the file that was submitted, and overrides. A program gives the prefix of the route alone.
func (a *App) Options() spec.Application {
	var o spec.Application
	var fields map[string]json.RawMessage
	if json.Unmarshal(a.Submitted, &fields) == nil {
		known := map[string]json.RawMessage{}
		for _, row := range spec.ApplicationRows() {
			if v, ok := fields[row.Keys[0]]; ok {
				known[row.Keys[0]] = v
			}
		}
		if layer, err := json.Marshal(known); err == nil {
			o, _ = o.Merge(layer, spec.FromFile) //nolint:errcheck // the reader of files has checked it
		}
	}
	if o.Sources["route_prefix"] == "" {
		o.RoutePrefix, o.Sources = a.Graph.RoutePrefix, maps.Clone(o.Sources)
		if o.Sources == nil {
			o.Sources = map[string]spec.Source{}
		}
		o.Sources["route_prefix"] = spec.FromCode
	}
	if over := a.Layers.overrides[""]; len(over) > 0 {
		o, _ = o.Merge(over, spec.FromOverride) //nolint:errcheck // it was checked when it was written
	}
	return o
}

// NoteUnchanged calls the functions of a program whose application runs already.
func (a *App) NoteUnchanged() {
	for _, f := range []func(){a.Unchanged, a.Added} {
		if f != nil {
			f()
		}
	}
}

// Returned is a number of replicas. ByLoad says that the autoscaler has set it.
type Returned struct {
	Replicas int
	ByLoad   bool
}

// Comparison is an application that is to be deployed beside the one of its name that is deployed now.
type Comparison struct {
	Next    App // with the overrides that it inherits
	Now     App
	Running bool // there is one now
	// Same says which deployments have the code of the deployments that run.
	Same map[string]bool
	// SameFiles says which deployments have the same files in their working_dir, as [SameFiles] does.
	SameFiles map[string]bool
	// Reason says why a deploy makes a revision; "" for a deploy that makes none.
	Reason string
	// Returns are the numbers of replicas before a deploy that is under way, of the deployments whose number it has set: another deploy ends it, and puts them back first.
	Returns map[string]Returned
	// On are the resources of the node, and Elsewhere the holdings of the replicas of other applications.
	On        placement.Node
	Elsewhere []placement.Holding
}

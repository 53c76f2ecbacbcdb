package deploy

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/spec"
)

// UnknownOptions are the mistakes of a patch whose null names an option that no deployment has. [MergeOverrides] drops such a null, so that [App.Override] never sees the name. For example,
// {"Ranker": {"num_replcas": null}} is the mistake: deployment "Ranker": unknown option "num_replcas"; did you mean num_replicas?
func UnknownOptions(layers map[string]json.RawMessage) (errs []error) {
	for _, deployment := range slices.Sorted(maps.Keys(layers)) {
		if deployment == "" { // the options of the application
			continue
		}
		probe, err := json.Marshal(namesOf(nil, layers[deployment]))
		if err != nil {
			continue
		}
		o, err := spec.Options{}.Merge(probe, spec.FromOverride)
		if err != nil {
			errs = append(errs, spec.InDeployment(deployment, err)...)
		}
		errs = append(errs, spec.InDeployment(deployment, o.Validate()...)...)
	}
	return errs
}

// namesOf is a layer without the values of options, which have to be checked together with the overrides that are there: the nulls stay, and the names that no option has. at is the path of the layer. A
// null of an autoscaling_config whose field does not exist becomes a 0, because an autoscaling_config may have null for an unknown field.
func namesOf(at []string, layer json.RawMessage) map[string]any {
	all := map[string]any{}
	var fields map[string]json.RawMessage
	if json.Unmarshal(layer, &fields) != nil {
		return all
	}
	for name, v := range fields {
		keys := append(slices.Clone(at), name)
		isOption, isGroup := false, false
		for _, r := range spec.DeploymentRows() {
			isOption = isOption || slices.Equal(r.Keys, keys)
			isGroup = isGroup || len(r.Keys) > len(keys) && slices.Equal(r.Keys[:len(keys)], keys)
		}
		inner := map[string]any{}
		switch {
		case isNull(v) || !isOption && !isGroup:
			all[name] = nil
			continue
		case isGroup && bytes.HasPrefix(bytes.TrimSpace(v), []byte("{")):
			inner = namesOf(keys, v)
		case name == "autoscaling_config":
			inner = unknownFields(v)
		}
		if len(inner) > 0 {
			all[name] = inner
		}
	}
	return all
}

// unknownFields are the fields of an autoscaling_config that are null and do not exist, each with 0.
func unknownFields(scaling json.RawMessage) map[string]any {
	all := map[string]any{}
	var fields map[string]json.RawMessage
	if json.Unmarshal(scaling, &fields) != nil {
		return all
	}
	for name, v := range fields {
		if _, number := autoscale.Least[name]; isNull(v) && !number && !slices.Contains(autoscale.Others, name) && !strings.HasPrefix(name, "_") {
			all[name] = 0
		}
	}
	return all
}

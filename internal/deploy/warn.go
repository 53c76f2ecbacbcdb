package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/autoscale"
)

// Warnings are about options of an application that are allowed, and hardly meant, each in a sentence with the names of the fields. For example, a replica with max_ongoing_requests 5 never has
// the 20 calls of a target_ongoing_requests of 20: its deployment grows only by calls that wait.
func (a *App) Warnings() (all []string) {
	if _, together := a.TogetherPolicy(); together { // the targets mean nothing to it
		return nil
	}
	for _, d := range a.Graph.Deployments {
		options := d.Options.Effective()
		c, err := autoscale.Parse(options.AutoscalingConfig)
		if !options.Autoscaled() || err != nil || c.Policy.Function != "" {
			continue
		}
		if namesNoPolicy(options.AutoscalingConfig) {
			all = append(all, fmt.Sprintf("application %q, deployment %q: autoscaling_config.policy has no policy_function: the load decides, as without policy. Set policy_function, or take policy away", a.Graph.App, d.Name))
		}
		if most := options.MaxOngoingRequests; most > 0 && c.Target > float64(most) {
			all = append(all, fmt.Sprintf("application %q, deployment %q: autoscaling_config.target_ongoing_requests is %s, above max_ongoing_requests (%d): no replica ever runs so many calls, and the deployment grows only by calls that wait. Set target_ongoing_requests a little below max_ongoing_requests",
				a.Graph.App, d.Name, strconv.FormatFloat(c.Target, 'f', -1, 64), most))
		}
	}
	return all
}

// namesNoPolicy says that an autoscaling_config has a policy without its function, such as policy: {timeout_s: 5}. As in the reference this is the default policy, which the timeout and the arguments do not change.
func namesNoPolicy(config json.RawMessage) bool {
	var c struct {
		Policy *struct {
			Function string `json:"policy_function"`
		} `json:"policy"`
	}
	return json.Unmarshal(config, &c) == nil && c.Policy != nil && c.Policy.Function == ""
}

// NotOverridden says which options a patch clears although no override has them: the patch has nothing to do there; "" for none. all are the overrides before it, and numbers the deployments whose number
// of replicas, set by an operator, the patch takes away. For example, helve set shop/Ranker
// max_ongoing_requests= clears nothing if that option comes from the file.
func NotOverridden(all map[string]json.RawMessage, numbers map[string]bool, patch json.RawMessage) string {
	var paths []string
	var walk func(at string, was, with json.RawMessage)
	walk = func(at string, was, with json.RawMessage) {
		var fields, there map[string]json.RawMessage
		switch {
		case isNull(with):
			if name, ok := strings.CutSuffix(at, ".num_replicas"); len(was) == 0 && !(ok && numbers[name]) && !numbers[at] { // at is a deployment whose overrides are all cleared
				paths = append(paths, at)
			}
		case bytes.HasPrefix(bytes.TrimSpace(with), []byte("{")) && json.Unmarshal(with, &fields) == nil:
			if len(was) > 0 && json.Unmarshal(was, &there) != nil {
				there = nil
			}
			for _, name := range slices.Sorted(maps.Keys(fields)) {
				walk(at+"."+name, there[name], fields[name])
			}
		}
	}
	var options map[string]json.RawMessage
	if json.Unmarshal(patch, &options) != nil {
		return ""
	}
	var layers map[string]json.RawMessage
	if raw := options["deployments"]; len(raw) > 0 && json.Unmarshal(raw, &layers) == nil {
		for _, name := range slices.Sorted(maps.Keys(layers)) {
			walk(name, all[name], layers[name])
		}
	}
	delete(options, "deployments")
	if own, err := json.Marshal(options); err == nil {
		walk("", all[""], own)
	}
	for i, path := range paths {
		paths[i] = strings.TrimPrefix(path, ".")
	}
	switch len(paths) {
	case 0:
		return ""
	case 1:
		return paths[0] + " has no override to clear"
	}
	return strings.Join(paths, ", ") + " have no override to clear"
}

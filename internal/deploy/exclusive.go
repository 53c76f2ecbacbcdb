package deploy

import (
	"encoding/json"
	"fmt"
)

// Exclusive puts null for the number of replicas into a layer with autoscaling, and null for autoscaling into a layer with a number: the two do not go together, and the
// file is stronger than the code.
func Exclusive(layer json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(layer, &fields); err != nil || fields == nil {
		return layer, err
	}
	const number, auto = "num_replicas", "autoscaling_config"
	set := func(name string) bool { v, ok := fields[name]; return ok && string(v) != "null" }
	switch {
	case set(number) && fields[auto] == nil:
		fields[auto] = json.RawMessage("null")
	case set(auto) && fields[number] == nil:
		fields[number] = json.RawMessage("null")
	default:
		return layer, nil
	}
	return json.Marshal(fields)
}

// ClearsNumber are the deployments whose layer of a patch clears num_replicas, or all options. For example, {"Ranker": {"num_replicas": null}, "Front": null, "Prices": {"max_ongoing_requests": null}} clears the numbers of Ranker and Front.
func ClearsNumber(layers map[string]json.RawMessage) map[string]bool {
	all := map[string]bool{}
	for name, layer := range layers {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(layer, &fields); err != nil { // ExclusiveLayers says so
			continue
		}
		if v, ok := fields["num_replicas"]; name != "" && (fields == nil || ok && isNull(v)) {
			all[name] = true
		}
	}
	return all
}

// ExclusiveLayers has each layer of a patch clear the override that does not go with it, see [Exclusive], and gives the num_replicas that are set. For example, an operator has set an autoscaling_config over
// the num_replicas of a file, and sets num_replicas now: the autoscaling_config goes.
func ExclusiveLayers(layers map[string]json.RawMessage) (numbers map[string]string, err error) {
	numbers = map[string]string{}
	for name, layer := range layers {
		if name == "" || string(layer) == "null" {
			continue
		}
		if layers[name], err = Exclusive(layer); err != nil {
			return nil, fmt.Errorf("deployment %q: must be an object with options, or null", name)
		}
		var set struct {
			NumReplicas *json.RawMessage `json:"num_replicas"`
		}
		if json.Unmarshal(layer, &set) == nil && set.NumReplicas != nil {
			numbers[name] = string(*set.NumReplicas)
		}
	}
	return numbers, nil
}

package spec

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/helve-serve/helve/internal/autoscale"
)

// texts of a list, each without a zero byte. A layer replaces the list as a whole.
type listOfTexts struct{}

func textList() listOfTexts { return listOfTexts{} }

func (listOfTexts) parse(raw json.RawMessage, _ []string) ([]string, error) {
	return parse[[]string](raw, "a list of texts")
}

func (listOfTexts) format(v []string) any { return v }
func (listOfTexts) accepts() string       { return "list of texts" }
func (listOfTexts) python() string        { return "_limits.texts" }

func (listOfTexts) check(v []string, wrong func(string, ...any)) {
	for _, s := range v {
		texts{}.check(s, wrong)
	}
}

// amounts are numbers by name. A layer adds and replaces single ones, and takes one away with null.
type amounts struct{}

func quantities() amounts { return amounts{} }

func (amounts) parse(raw json.RawMessage, old map[string]float64) (map[string]float64, error) {
	return parseByName(raw, old, "an object of numbers")
}

func (amounts) format(v map[string]float64) any { return v }
func (amounts) accepts() string                 { return "numbers by name" }
func (amounts) python() string                  { return "_limits.quantities" }

func (amounts) check(v map[string]float64, wrong func(string, ...any)) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if n := v[name]; n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
			wrong("%q must be a number that is not negative, is %v", name, n)
		}
	}
}

// codes are the two statuses that tell a client of HTTP to come again later.
type codes struct{}

func statusCode() codes { return codes{} }

func (codes) parse(raw json.RawMessage, _ int) (int, error) { return parse[int](raw, "503 or 429") }
func (codes) format(v int) any                              { return v }
func (codes) accepts() string                               { return "503 or 429" }
func (codes) python() string                                { return "partial(_limits.one_of, of=[503, 429])" }

func (codes) check(v int, wrong func(string, ...any)) {
	if v != 503 && v != 429 {
		wrong("must be 503 or 429, is %d", v)
	}
}

// objects is any JSON object. A layer changes the fields that it has, at any depth, and takes one away with null. For example, {"min_replicas": 2} over
// {"min_replicas": 1, "max_replicas": 4} has both bounds.
type objects struct{ document }

func object() objects { return objects{} }

func (objects) parse(raw, old json.RawMessage) (json.RawMessage, error) {
	layer, err := parse[map[string]json.RawMessage](raw, "an object")
	if err != nil {
		return nil, err
	}
	var before map[string]json.RawMessage
	if len(old) == 0 || json.Unmarshal(old, &before) != nil || len(before) == 0 {
		return slices.Clone(raw), nil
	}
	return json.Marshal(mergedFields(before, layer))
}

// mergedFields are the fields of an object with those of a layer over them.
func mergedFields(before, layer map[string]json.RawMessage) map[string]json.RawMessage {
	out := maps.Clone(before)
	for name, v := range layer {
		var inner, own map[string]json.RawMessage
		switch {
		case isNull(v):
			delete(out, name)
		case json.Unmarshal(v, &inner) == nil && json.Unmarshal(out[name], &own) == nil && own != nil:
			merged, err := json.Marshal(mergedFields(own, inner))
			if err != nil {
				merged = v // fields that were read have a form
			}
			out[name] = merged
		default:
			out[name] = v
		}
	}
	return out
}

func (objects) accepts() string { return "object" }
func (objects) python() string  { return "_limits.json_object" }

// autoscaled is the object with the settings of an autoscaler. For example, {"min_replicas": 2, "max_replicas": 1} is a mistake.
type autoscaled struct{ objects }

func autoscaling() autoscaled { return autoscaled{} }

func (autoscaled) check(v json.RawMessage, wrong func(string, ...any)) {
	c, err := autoscale.Parse(v)
	switch {
	case err != nil:
		wrong("%v", err)
	case c.MaxReplicas > MaxReplicas:
		wrong("max_replicas must be from 1 to %d, is %d", MaxReplicas, c.MaxReplicas)
	}
}

// StartReplicas is the number of replicas with which a deployment starts. An autoscaling_config takes the place of num_replicas: it gives initial_replicas, else
// min_replicas, else one.
func (e Effective) StartReplicas() int {
	if e.AutoscalingConfig == nil {
		return e.NumReplicas
	}
	c, err := autoscale.Parse(e.AutoscalingConfig)
	if err != nil {
		return 1 // a config that Validate refuses
	}
	return c.Initial()
}

// Autoscaled says that the number of replicas follows the load.
func (e Effective) Autoscaled() bool { return e.AutoscalingConfig != nil }

// LookBack is the look-back period of the autoscaler; the default one for a deployment without.
func (e Effective) LookBack() time.Duration {
	if c, err := autoscale.Parse(e.AutoscalingConfig); err == nil && c.LookBack != nil {
		return *c.LookBack
	}
	return autoscale.DefaultLookBack
}

// ReplicasWish is what the options say about the number of replicas, as text. Two deploys with the same wish leave the number as it is.
func (e Effective) ReplicasWish() string {
	if e.AutoscalingConfig == nil {
		return strconv.Itoa(e.NumReplicas)
	}
	var config map[string]any // the order of the fields says nothing
	if json.Unmarshal(e.AutoscalingConfig, &config) != nil {
		return string(e.AutoscalingConfig)
	}
	wish, _ := json.Marshal(config) //nolint:errcheck // it was JSON
	return string(wish)
}

// KeepsReplicas says that a deploy with another wish leaves the number of replicas, too: an autoscaling_config without initial_replicas.
func (e Effective) KeepsReplicas() bool {
	if e.AutoscalingConfig == nil {
		return false
	}
	c, err := autoscale.Parse(e.AutoscalingConfig)
	return err == nil && c.InitialReplicas == nil
}

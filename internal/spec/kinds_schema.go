package spec

import "math"

// The schemas of the kinds, for JSON Schema. They say what an editor can check while a file is written; the checks of the kinds have the last word.

func (k numeric[T]) schema() map[string]any {
	s := map[string]any{"type": k.noun()}
	if k.beside == nil || *k.beside >= k.least {
		s["minimum"] = k.least
	} else {
		s["anyOf"] = []any{map[string]any{"const": *k.beside}, map[string]any{"minimum": k.least}}
	}
	if float64(k.most) < math.MaxInt32 {
		s["maximum"] = k.most
	}
	return s
}

func (k duration) schema() map[string]any {
	s := map[string]any{"type": "number", "maximum": MaxDuration.Seconds()}
	switch {
	case k.meaning != "":
		s["anyOf"] = []any{map[string]any{"const": k.beside.Seconds()}, map[string]any{"minimum": 0}}
	case k.zero:
		s["minimum"] = 0
	default:
		s["exclusiveMinimum"] = 0
	}
	return s
}

func (k words[T]) schema() map[string]any { return map[string]any{"enum": k.shown} }
func (texts) schema() map[string]any      { return map[string]any{"type": "string", "maxLength": maxText} }
func (booleans) schema() map[string]any   { return map[string]any{"type": "boolean"} }
func (document) schema() map[string]any   { return map[string]any{} }
func (objects) schema() map[string]any    { return map[string]any{"type": "object"} }
func (codes) schema() map[string]any      { return map[string]any{"enum": []int{503, 429}} }

func (environment) schema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": map[string]any{"type": []string{"string", "null"}}}
}

func (amounts) schema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": map[string]any{"type": []string{"number", "null"}, "minimum": 0}}
}

func (listOfTexts) schema() map[string]any {
	return map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
}

func (k share) schema() map[string]any {
	return map[string]any{"anyOf": []any{map[string]any{"type": "integer", "minimum": 0}, map[string]any{"type": "string", "pattern": "^[0-9]+%?$"}}}
}

func (k shares) schema() map[string]any {
	return map[string]any{"type": "array", "items": k.of.schema()}
}

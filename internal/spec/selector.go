package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Selector are conditions on the labels of a node, by label. A condition is "a" (the value is a), "!a" (it is another, or the node does not have the label), "in(a,b)" (it is one of these) or
// "!in(a,b)". For example, {"region": "in(eu,us)", "market": "!spot"}.
type Selector map[string]string

// condition is a condition of a [Selector] that was read.
type condition struct {
	not    bool
	values []string
}

func readCondition(text string) (c condition, err error) {
	rest := text
	rest, c.not = strings.CutPrefix(rest, "!")
	list, isList := strings.CutPrefix(rest, "in(")
	if !isList {
		c.values = []string{rest}
	} else if list, ok := strings.CutSuffix(list, ")"); ok {
		for _, v := range strings.Split(list, ",") {
			c.values = append(c.values, strings.TrimSpace(v))
		}
	} else {
		return c, fmt.Errorf("must end with %q", ")")
	}
	for _, v := range c.values {
		if v == "" || strings.ContainsAny(v, "!(),") {
			return c, fmt.Errorf(`must be "value", "!value", "in(value,value)" or "!in(value,value)", is %q`, text)
		}
	}
	return c, nil
}

// Check says what is wrong with a selector.
func (s Selector) Check() error {
	for _, label := range slices.Sorted(maps.Keys(s)) {
		if label == "" {
			return errors.New("has a label without a name")
		}
		if _, err := readCondition(s[label]); err != nil {
			return fmt.Errorf("%s: %w", label, err)
		}
	}
	return nil
}

// Unmet are the conditions that a node does not meet, one sentence for each; none if it meets all.
func (s Selector) Unmet(labels map[string]string) (sentences []string) {
	for _, label := range slices.Sorted(maps.Keys(s)) {
		c, err := readCondition(s[label])
		value, has := labels[label]
		if met := has && slices.Contains(c.values, value); err == nil && met != c.not {
			continue
		}
		have := "the node has no such label"
		if has {
			have = fmt.Sprintf("the node has %q", value)
		}
		sentences = append(sentences, fmt.Sprintf("needs the label %s=%s, and %s", label, s[label], have))
	}
	return sentences
}

// Alternative is a form of placement that is tried when none before it has a node with room.
type Alternative struct {
	LabelSelector Selector `json:"label_selector"`
}

// selectors are conditions on labels, by label. A layer adds and replaces single ones, and takes one away with null.
type selectors struct{}

func labelSelector() selectors { return selectors{} }

func (selectors) parse(raw json.RawMessage, old Selector) (Selector, error) {
	return parseByName(raw, old, "an object of texts")
}

func (selectors) format(v Selector) any { return v }
func (selectors) accepts() string       { return "conditions by label" }
func (selectors) python() string        { return "_limits.selector" }

func (selectors) check(v Selector, wrong func(string, ...any)) {
	if err := v.Check(); err != nil {
		wrong("%w", err)
	}
}

// alternatives is a list of alternatives, which a layer replaces as a whole.
type alternatives struct{}

func alternativeList() alternatives { return alternatives{} }

func (alternatives) parse(raw json.RawMessage, _ []Alternative) ([]Alternative, error) {
	return parse[[]Alternative](raw, "a list of objects with a label_selector")
}

func (alternatives) format(v []Alternative) any { return v }
func (alternatives) accepts() string            { return "list of objects with `label_selector`" }
func (alternatives) python() string             { return "_limits.alternatives" }

func (alternatives) check(v []Alternative, wrong func(string, ...any)) {
	for i, a := range v {
		if err := a.LabelSelector.Check(); err != nil {
			wrong("alternative %d: %w", i+1, err)
		}
	}
}

func (selectors) schema() map[string]any { return environment{}.schema() }

func (alternatives) schema() map[string]any {
	return map[string]any{"type": "array", "items": map[string]any{
		"type": "object", "required": []string{"label_selector"}, "properties": map[string]any{"label_selector": selectors{}.schema()}, "additionalProperties": false,
	}}
}

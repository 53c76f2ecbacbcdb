package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is a kind of option: how its value is read, written and checked, and how the reference and Python say so.
type kind[T any] interface {
	// parse reads a value. old is the value so far, for kinds that merge.
	parse(raw json.RawMessage, old T) (T, error)
	// format gives the value that package json encodes.
	format(T) any
	// check calls wrong for each mistake of a value that could be read.
	check(v T, wrong func(format string, args ...any))
	// accepts says for the reference which values there are.
	accepts() string
	// python is the check in Python: a function of helve._limits, or a functools.partial of one.
	python() string
	// schema is the JSON Schema of a value in a file.
	schema() map[string]any
}

// numeric is a number within bounds. A value beside them may be allowed, for example -1 for "no limit".
type numeric[T int | int64 | float64] struct {
	least, most T
	beside      *T
	meaning     string // of the value beside
	unit        string // with a space before it
}

func integer[T int | int64](least, most T) numeric[T] { return numeric[T]{least: least, most: most} }

func number(least, most float64) numeric[float64] { return numeric[float64]{least: least, most: most} }

// or allows one value that is out of bounds.
func (k numeric[T]) or(v T, meaning string) numeric[T] {
	k.beside, k.meaning = &v, meaning
	return k
}

// in gives the unit, for messages.
func (k numeric[T]) in(unit string) numeric[T] {
	k.unit = " " + unit
	return k
}

func (k numeric[T]) noun() string {
	if _, float := any(k.least).(float64); float {
		return "number"
	}
	return "integer"
}

func (k numeric[T]) parse(raw json.RawMessage, _ T) (T, error) {
	article := "an "
	if k.noun() == "number" {
		article = "a "
	}
	return parse[T](raw, article+k.noun())
}

func (k numeric[T]) format(v T) any { return v }

func (k numeric[T]) check(v T, wrong func(string, ...any)) {
	switch {
	case k.beside != nil && v == *k.beside:
	case v > k.most:
		wrong("must be at most %v%s, is %v", k.most, k.unit, v)
	case v >= k.least:
	case k.beside != nil: // or not a number
		wrong("must be %v (%s) or at least %v%s, is %v", *k.beside, k.meaning, k.least, k.unit, v)
	default:
		wrong("must be at least %v%s, is %v", k.least, k.unit, v)
	}
}

func (k numeric[T]) accepts() string {
	s := fmt.Sprintf("%s, at least %v%s", k.noun(), k.least, k.unit)
	if float64(k.most) < math.MaxInt32 {
		s = fmt.Sprintf("%s, %v to %.0f%s", k.noun(), k.least, float64(k.most), k.unit)
	}
	if k.beside != nil {
		s += fmt.Sprintf(", or %v (%s)", *k.beside, k.meaning)
	}
	return s
}

func (k numeric[T]) python() string {
	s := fmt.Sprintf("partial(_limits.%s, least=%v, most=%s", k.noun(), k.least, exact(k.most))
	if k.beside != nil {
		s += fmt.Sprintf(", beside=%v, meaning=%q", *k.beside, k.meaning)
	}
	if k.unit != "" {
		s += fmt.Sprintf(", unit=%q", k.unit)
	}
	return s + ")"
}

// exact writes a bound without an exponent.
func exact[T int | int64 | float64](v T) string {
	if f, ok := any(v).(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// duration is a time, in files a number of seconds. A value beside the bounds may be allowed, for example -1 for "until resume".
type duration struct {
	zero    bool // whether 0 is allowed
	beside  time.Duration
	meaning string // of the value beside; "" for none
}

func seconds() duration { return duration{zero: true} }

// positive refuses 0.
func (k duration) positive() duration {
	k.zero = false
	return k
}

// or allows one negative value.
func (k duration) or(v time.Duration, meaning string) duration {
	k.beside, k.meaning = v, meaning
	return k
}

func (duration) parse(raw json.RawMessage, _ time.Duration) (time.Duration, error) {
	f, err := parse[float64](raw, "a number of seconds")
	switch ns := f * float64(time.Second); {
	case err != nil:
		return 0, err
	case ns >= math.MaxInt64: // check refuses it
		return math.MaxInt64, nil
	case ns <= math.MinInt64:
		return math.MinInt64, nil
	default:
		return time.Duration(ns), nil
	}
}

func (duration) format(v time.Duration) any { return v.Seconds() }

func (k duration) check(v time.Duration, wrong func(string, ...any)) {
	switch {
	case k.meaning != "" && v == k.beside:
	case v < 0 && k.meaning != "":
		wrong("must be %v (%s) or not negative, is %s", k.beside.Seconds(), k.meaning, v)
	case v < 0:
		wrong("must not be negative, is %s", v)
	case v == 0 && !k.zero:
		wrong("must be more than 0")
	case v > MaxDuration:
		wrong("must be at most %.0f seconds (100 years), is %.0f", MaxDuration.Seconds(), v.Seconds())
	}
}

func (k duration) accepts() string {
	switch {
	case k.meaning != "":
		return fmt.Sprintf("seconds, 0 or more, or %v (%s)", k.beside.Seconds(), k.meaning)
	case k.zero:
		return "seconds, 0 or more"
	}
	return "seconds, more than 0"
}

func (k duration) python() string {
	switch {
	case k.meaning != "":
		return fmt.Sprintf("partial(_limits.seconds, beside=%v, meaning=%q)", k.beside.Seconds(), k.meaning)
	case k.zero:
		return "_limits.seconds"
	}
	return "partial(_limits.seconds, positive=True)"
}

// words is one word of several.
type words[T ~string] struct{ shown, unshown []T }

func choice[T ~string](of ...T) words[T] { return words[T]{shown: of} }

// hidden allows a word that only Go code can mean, so that neither messages nor Python name it.
func (k words[T]) hidden(w T) words[T] {
	k.unshown = append(k.unshown, w)
	return k
}

func (k words[T]) parse(raw json.RawMessage, _ T) (T, error) { return parse[T](raw, k.list("")) }

func (k words[T]) format(v T) any { return v }

func (k words[T]) check(v T, wrong func(string, ...any)) {
	if !slices.Contains(k.shown, v) && !slices.Contains(k.unshown, v) {
		wrong("must be %s, is %q", k.list(""), v)
	}
}

// list is "a, b or c", with a quote around each.
func (k words[T]) list(quote string) string {
	var b strings.Builder
	for i, w := range k.shown {
		switch i {
		case 0:
		case len(k.shown) - 1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(quote + string(w) + quote)
	}
	return b.String()
}

func (k words[T]) accepts() string { return k.list("`") }

func (k words[T]) python() string {
	return fmt.Sprintf("partial(_limits.choice, of=[%s])", strings.Join(quoted(k.shown), ", "))
}

func quoted[T ~string](of []T) []string {
	var q []string
	for _, w := range of {
		q = append(q, fmt.Sprintf("%q", w))
	}
	return q
}

// maxText is the most bytes of an option that is text.
const maxText = 16 << 10

// texts is text without a zero byte.
type texts struct{}

func text() texts { return texts{} }

func (texts) parse(raw json.RawMessage, _ string) (string, error) { return parse[string](raw, "text") }
func (texts) format(v string) any                                 { return v }
func (texts) accepts() string                                     { return "text" }
func (texts) python() string                                      { return "_limits.text" }

func (texts) check(v string, wrong func(string, ...any)) {
	if strings.ContainsRune(v, 0) {
		wrong("has a zero byte")
	}
	if len(v) > maxText {
		wrong("must be at most %d bytes long, is %d", maxText, len(v))
	}
}

// booleans is true or false.
type booleans struct{}

func boolean() booleans { return booleans{} }

func (booleans) parse(raw json.RawMessage, _ bool) (bool, error) {
	return parse[bool](raw, "true or false")
}
func (booleans) format(v bool) any                { return v }
func (booleans) check(bool, func(string, ...any)) {}
func (booleans) accepts() string                  { return "true or false" }
func (booleans) python() string                   { return "_limits.boolean" }

// environment is variables of an environment, by name. A layer adds and replaces single ones, and takes one away with null.
type environment struct{}

func variables() environment { return environment{} }

func (environment) parse(raw json.RawMessage, old map[string]string) (map[string]string, error) {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return nil, errors.New("must be an object of texts")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var text *string
		if json.Unmarshal(values[name], &text) != nil { // the error has no value, because the others may be secrets
			return nil, fmt.Errorf("must be an object of texts, and the value of %s is none", shown([]byte(name)))
		}
	}
	return parseByName(raw, old, "an object of texts")
}

// parseByName reads values by their names, null for a value to take away, and puts them over those of the layers below.
func parseByName[V any](raw json.RawMessage, old map[string]V, want string) (map[string]V, error) {
	layer, err := parse[map[string]*V](raw, want)
	if err != nil {
		return nil, err
	}
	merged := maps.Clone(old)
	if merged == nil {
		merged = make(map[string]V, len(layer))
	}
	for name, v := range layer {
		if v == nil {
			delete(merged, name)
		} else {
			merged[name] = *v
		}
	}
	return merged, nil
}

func (environment) format(v map[string]string) any { return v }
func (environment) accepts() string                { return "texts by name" }
func (environment) python() string                 { return "_limits.variables" }

func (environment) check(v map[string]string, wrong func(string, ...any)) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			wrong("%q is no name of a variable", name)
		case Reserved(name) && name != "HELVE_NODE" && name != "HELVE_PARENT_NODE": // drivers have these two, and may hand on their environment as a whole
			wrong("%s is Helve's own", name)
		case strings.ContainsRune(v[name], 0):
			wrong("the value of %s has a zero byte", name)
		}
	}
}

// Reserved says whether a variable is one of those by which a worker, and a program that it starts, know their node. The value of a
// deployment's env_vars never counts.
func Reserved(name string) bool {
	return strings.HasPrefix(name, "HELVE_WORKER") || slices.Contains([]string{
		"HELVE_NODE", "HELVE_PARENT_NODE", "HELVE_SOCKET", "HELVE_TOKEN_FD", "HELVE_TELL_FD", "HELVE_COUNTS_FD", "HELVE_SYS_PATH", "HELVE_LOGGING",
	}, name)
}

// WithoutReserved is an environment without the variables that are reserved for Helve, by which a worker knows its node.
func WithoutReserved(env []string) []string {
	out := make([]string, 0, len(env)+4)
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); !Reserved(name) {
			out = append(out, e)
		}
	}
	return out
}

// document is any JSON. A layer replaces it as a whole, because its content belongs to the user.
type document struct{}

func anyJSON() document { return document{} }

func (document) parse(raw, _ json.RawMessage) (json.RawMessage, error) {
	if !json.Valid(raw) {
		return nil, errors.New("is not JSON")
	}
	return slices.Clone(raw), nil
}

func (document) format(v json.RawMessage) any { return v }
func (document) accepts() string              { return "JSON" }
func (document) python() string               { return "_limits.as_json" }

func (document) check(v json.RawMessage, wrong func(string, ...any)) {
	if !json.Valid(v) {
		wrong("is not JSON")
	}
}

// parse reads JSON, of which the error says what it must be.
func parse[T any](raw json.RawMessage, must string) (T, error) {
	var v T
	if json.Unmarshal(raw, &v) != nil {
		return v, fmt.Errorf("must be %s, is %s", must, shown(raw))
	}
	return v, nil
}

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/helve-serve/helve/internal/yaml11"
)

// isJSON says that a text is one object of JSON, which is read by the rules of JSON. The parser of YAML reads most of JSON alike, but not all: "\ud83d\ude00"
// is one character in JSON and may be a mistake in YAML, and 1e3 is a number in JSON and a text in YAML 1.1.
func isJSON(source []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(source, " \t\r\n"), []byte("{")) && json.Valid(source)
}

// jsonReader makes the tree of a text of JSON. Package encoding/json gives the values of tokens and the ends of these, from which come their places.
type jsonReader struct {
	r      *reader
	source []byte
	tokens *json.Decoder
	starts []int // of lines
	values int
}

func (r *reader) jsonTree(source []byte) (*value, error) {
	j := &jsonReader{r: r, source: source, tokens: json.NewDecoder(bytes.NewReader(source)), starts: []int{0}}
	j.tokens.UseNumber()
	for i, c := range source {
		if c == '\n' {
			j.starts = append(j.starts, i+1)
		}
	}
	t, at, err := j.next()
	if err != nil {
		return nil, err
	}
	return j.value(t, at, 0)
}

// next is the next token with its place.
func (j *jsonReader) next() (json.Token, place, error) {
	from := int(j.tokens.InputOffset())
	t, err := j.tokens.Token()
	to := int(j.tokens.InputOffset())
	for from < to && strings.IndexByte(" \t\r\n,:", j.source[from]) >= 0 {
		from++
	}
	line, found := slices.BinarySearch(j.starts, from)
	if found {
		line++
	}
	return t, place{line, 1 + utf8.RuneCount(j.source[j.starts[line-1]:from]), max(1, utf8.RuneCount(j.source[from:to]))}, err
}

// value is the value that begins with a token.
func (j *jsonReader) value(t json.Token, at place, depth int) (*value, error) {
	j.values++
	switch {
	case j.values > maxValues:
		return nil, j.r.mistake(at, fmt.Sprintf("the file has more than %d values", maxValues))
	case depth > maxDepth:
		return nil, j.r.mistake(at, fmt.Sprintf("has more than %d values inside each other", maxDepth))
	}
	switch t := t.(type) {
	case bool:
		return &value{kind: boolean, at: at, text: strconv.FormatBool(t)}, nil
	case string:
		return &value{kind: text, at: at, text: t}, nil
	case json.Number:
		return j.number(t.String(), at), nil
	case json.Delim:
		if t == '{' {
			return j.object(at, depth)
		}
		return j.list(at, depth)
	}
	return &value{at: at}, nil
}

// number has the form that the same number has in YAML.
func (j *jsonReader) number(s string, at place) *value {
	read := yaml11.Integer
	if strings.ContainsAny(s, ".eE") {
		read = yaml11.Float
	}
	k, form, err := read(s)
	if err != nil {
		j.r.wrong(at, "%s", err)
	}
	return &value{kind: kinds[k], at: at, text: form}
}

func (j *jsonReader) list(at place, depth int) (*value, error) {
	v := &value{kind: list, at: at}
	for j.tokens.More() {
		t, at, err := j.next()
		if err != nil {
			return nil, err
		}
		item, err := j.value(t, at, depth+1)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, item)
	}
	_, _, err := j.next()
	return v, err
}

// object makes the fields of an object, whose place is that of its first field, as in YAML.
func (j *jsonReader) object(at place, depth int) (*value, error) {
	v := &value{kind: object, at: at}
	seen := map[string]int{}
	for j.tokens.More() {
		key, where, err := j.next()
		if err != nil {
			return nil, err
		}
		t, at, err := j.next()
		if err != nil {
			return nil, err
		}
		made, err := j.value(t, at, depth+1)
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		if made.kind == null {
			made.at = where
		}
		if len(v.fields) == 0 {
			v.at = where
		}
		if line, twice := seen[name]; twice {
			j.r.wrong(where, "%s: is in line %d too", name, line)
			j.r.hideSecrets(&value{kind: object, fields: []field{{name, where, made}}})
			continue
		}
		seen[name] = where.line
		v.fields = append(v.fields, field{name, where, made})
	}
	_, _, err := j.next()
	return v, err
}

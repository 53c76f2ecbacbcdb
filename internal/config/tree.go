package config

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
)

// place is where a key or a value begins in the text of a file.
type place struct {
	line, column int // from 1; a column counts characters
	width        int // characters to mark, at least 1
}

// kind is the kind of a value.
type kind int

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "a text", "a list", "fields"}[k]
}

// value is one value of a file, in which aliases and << are resolved.
type value struct {
	kind   kind
	at     place
	text   string // of a text; of a boolean or number its form in JSON
	items  []*value
	fields []field
	marked bool // with the tag !secret
	sealed bool // its placeholders have the form of records
}

// field is a key with its value.
type field struct {
	name  string
	at    place // of the key
	value *value
}

// field finds a field; nil for none.
func (v *value) field(name string) *field {
	if v == nil {
		return nil
	}
	for i := range v.fields {
		if v.fields[i].name == name {
			return &v.fields[i]
		}
	}
	return nil
}

// get is the value of a field; nil for none and for null.
func (v *value) get(name string) *value {
	f := v.field(name)
	if f == nil || f.value.kind == null {
		return nil
	}
	return f.value
}

// without is an object without some of its fields.
func (v *value) without(names ...string) *value {
	out := *v
	out.fields = slices.DeleteFunc(slices.Clone(v.fields), func(f field) bool { return slices.Contains(names, f.name) })
	return &out
}

// json is the value as JSON, with its fields in the order of the file.
func (v *value) json() json.RawMessage {
	var b bytes.Buffer
	v.write(&b)
	return b.Bytes()
}

func (v *value) write(b *bytes.Buffer) {
	switch v.kind {
	case null:
		b.WriteString("null")
	case boolean, number:
		b.WriteString(v.text)
	case text:
		writeText(b, v.text)
	case list:
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, f := range v.fields {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, f.name)
			b.WriteByte(':')
			f.value.write(b)
		}
		b.WriteByte('}')
	}
}

func writeText(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)         // a text has always a form
	b.Truncate(b.Len() - 1) // the end of the line
}

// float is the number of a value.
func (v *value) float() float64 {
	var f float64
	if v.kind != number || json.Unmarshal([]byte(v.text), &f) != nil {
		return math.NaN()
	}
	return f
}

// shown is a value in the text of a mistake, without its secrets.
func (v *value) shown() string {
	s := []rune(string(v.stars(false).json()))
	if len(s) > 60 {
		return string(s[:60]) + "..."
	}
	return string(s)
}

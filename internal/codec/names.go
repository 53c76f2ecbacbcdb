package codec

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// SnakeCase is a Go name in the form that Python uses. An initialism is one word: GetURL is get_url, HTTPServer is
// http_server.
func SnakeCase(s string) string {
	rs := []rune(s)
	var b strings.Builder
	for i, r := range rs {
		if unicode.IsUpper(r) && i > 0 && rs[i-1] != '_' {
			before := unicode.IsLower(rs[i-1]) || unicode.IsDigit(rs[i-1])
			after := i+1 < len(rs) && unicode.IsLower(rs[i+1])
			if before || after {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// MatchName finds the name want in the list have. An exact match comes first, then the name in snake case, then a name
// that is the same in the other language's case: "say_hi" matches "SayHi". The second result is false if there is no
// match, or if several names match: "get_url" is not found among "GetURL" and "GetUrl", because either may be meant.
func MatchName(want string, have []string) (found string, ok bool) {
	snake := SnakeCase(want)
	for _, name := range []string{want, snake} {
		if slices.Contains(have, name) {
			return name, true
		}
	}
	for _, h := range have {
		if SnakeCase(h) != snake {
			continue
		}
		if ok && h != found {
			return "", false
		}
		found, ok = h, true
	}
	return found, ok
}

type field struct {
	name   string
	index  []int
	omit   omit
	typ    reflect.Type
	quoted bool // the tag json has ",string": in JSON the value is a string
}

// omit says when a field is left out, as in encoding/json.
type omit uint8

const (
	omitNever omit = 0
	omitEmpty omit = 1 << iota // leave out false, 0, "", a nil pointer, and an array, map or slice without elements
	omitZero                   // leave out the zero value, or a value whose method IsZero returns true
	inQuotes                   // the option "string", which is parsed at the same place
)

func (o omit) leavesOut(v reflect.Value) bool {
	if o&(omitZero|omitEmpty) == 0 {
		return false
	}
	if o&omitZero != 0 {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
			return z.IsZero()
		}
		if v.IsZero() {
			return true
		}
	}
	if o&omitEmpty == 0 {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// fieldsOf are the fields of a struct as they are encoded. The name is the tag helve, else the tag json, else the
// name in snake case. The tag "-" leaves a field out. Embedded structs without a tag are flattened. If several fields
// have one name, the least deep one counts; among equally deep ones the one with a tag; if several are left, none.
// These are the rules of encoding/json.
func fieldsOf(t reflect.Type) []field {
	fields, _, _ := walkFields(t)
	return fields
}

// walkFields is fieldsOf with two more results. The result shared is a name that several fields have, or "". The
// result hidden has the indexes of fields that are not written although no tag says so: a field that is hidden by
// another field of its name, and an embedded pointer that cannot be set.
func walkFields(t reflect.Type) (out []field, shared string, hidden [][]int) {
	type candidate struct {
		field
		tagged bool
	}
	var all []candidate // in the order of the source
	best := map[string][]int{}
	var walk func(t reflect.Type, index []int, inside []reflect.Type)
	walk = func(t reflect.Type, index []int, inside []reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, omit, skip := fieldName(f)
			if skip {
				continue
			}
			path := append(index[:len(index):len(index)], i)
			et := f.Type
			if et.Kind() == reflect.Pointer {
				et = et.Elem()
			}
			if f.Anonymous && name == "" && et.Kind() == reflect.Struct && et != timeType && !HasMarshaler(et) {
				if !slices.Contains(inside, et) && (f.IsExported() || f.Type.Kind() != reflect.Pointer) {
					walk(et, path, append(inside, et))
				} else {
					hidden = append(hidden, path)
				}
				continue
			}
			if !f.IsExported() {
				continue
			}
			tagged := name != ""
			if !tagged {
				name = SnakeCase(f.Name)
			}
			c := candidate{field{name, path, omit &^ inQuotes, f.Type, omit&inQuotes != 0 && quotable(f.Type)}, tagged}
			had := best[name]
			if len(had) > 0 {
				h := all[had[0]]
				switch d := len(path) - len(h.index); {
				case d > 0 || d == 0 && h.tagged && !tagged:
					hidden = append(hidden, path)
					continue
				case d < 0 || tagged && !h.tagged:
					had = nil
				}
			}
			best[name] = append(had, len(all))
			all = append(all, c)
		}
	}
	walk(t, nil, []reflect.Type{t})
	for i, c := range all {
		switch at := best[c.name]; {
		case slices.Equal(at, []int{i}):
			out = append(out, c.field)
		case slices.Contains(at, i):
			shared = c.name
		default:
			hidden = append(hidden, c.index)
		}
	}
	return out, shared, hidden
}

// quotable reports whether the option "string" of the tag json has a meaning for t. As in encoding/json, it has one
// for numbers, bool, string, and pointers to these, unless the type has a marshaller of its own.
func quotable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer && t.Name() == "" {
		t = t.Elem()
	}
	k := t.Kind()
	return (k >= reflect.Bool && k <= reflect.Float64 || k == reflect.String) && !HasMarshaler(t)
}

func fieldName(f reflect.StructField) (name string, o omit, skip bool) {
	tag, ok := f.Tag.Lookup("helve")
	if !ok {
		tag = f.Tag.Get("json")
	}
	if tag == "-" {
		return "", omitNever, true
	}
	name, rest, _ := strings.Cut(tag, ",")
	for opt := range strings.SplitSeq(rest, ",") {
		switch opt {
		case "omitempty":
			o |= omitEmpty
		case "omitzero":
			o |= omitZero
		case "string":
			o |= inQuotes
		}
	}
	return name, o, false
}

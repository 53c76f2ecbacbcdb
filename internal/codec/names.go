package codec

import (
	"reflect"
	"strings"
	"unicode"
)

// SnakeCase is a Go name as Python would write it; an initialism is one word: GetURL is get_url, HTTPServer http_server.
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

// MatchName finds want among have: exactly, else as the same name in the other language's case.
func MatchName(want string, have []string) (string, bool) {
	for _, h := range have {
		if h == want {
			return h, true
		}
	}
	snake := SnakeCase(want)
	for _, h := range have {
		if SnakeCase(h) == snake {
			return h, true
		}
	}
	return "", false
}

type field struct {
	name      string
	index     []int
	omitEmpty bool
	typ       reflect.Type
}

// fieldsOf are the fields of a struct as they are encoded. The name is the tag helve, else json, else snake case; "-"
// leaves a field out. Embedded structs without a name of their own are flattened; an outer field hides an inner one.
func fieldsOf(t reflect.Type) []field {
	var out []field
	at := map[string]int{} // name -> position in out
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
			if f.Anonymous && name == "" && et.Kind() == reflect.Struct && !HasOwnText(et) {
				recurs := false
				for _, x := range inside {
					recurs = recurs || x == et
				}
				if !recurs && (f.IsExported() || f.Type.Kind() != reflect.Pointer) {
					walk(et, path, append(inside, et))
				}
				continue
			}
			if !f.IsExported() {
				continue
			}
			if name == "" {
				name = SnakeCase(f.Name)
			}
			if k, dup := at[name]; dup {
				if len(out[k].index) > len(path) {
					out[k] = field{name, path, omit, f.Type}
				}
				continue
			}
			at[name] = len(out)
			out = append(out, field{name, path, omit, f.Type})
		}
	}
	walk(t, nil, []reflect.Type{t})
	return out
}

func fieldName(f reflect.StructField) (name string, omitEmpty, skip bool) {
	tag, ok := f.Tag.Lookup("helve")
	if !ok {
		tag = f.Tag.Get("json")
	}
	name, rest, _ := strings.Cut(tag, ",")
	if name == "-" && rest == "" {
		return "", false, true
	}
	for opt := range strings.SplitSeq(rest, ",") {
		omitEmpty = omitEmpty || opt == "omitempty" || opt == "omitzero"
	}
	return name, omitEmpty, false
}

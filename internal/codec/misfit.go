package codec

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// misfit is the error of an encoded value that is of another kind than the Go type, or out of its range.
type misfit struct {
	kind  string // of the encoded value, as kindName has it; "" for a value out of range
	value string // a value out of range; "the number" if it is too long to be repeated
	to    reflect.Type
}

func (e *misfit) Error() string {
	if e.kind == "" {
		return fmt.Sprintf("%s is out of range of %s", e.value, e.to)
	}
	return fmt.Sprintf("cannot decode %s into %s", e.kind, e.to)
}

// TextForClients is the text of an error of Decode for clients that know nothing of Go: it has the kinds of JSON in place of the types of Go. It is
// "" for errors whose own text will do. For example, "cannot decode list into main.In" is "the input is an array; this method takes an object".
func TextForClients(err error) string {
	m, ok := errors.AsType[*misfit](err)
	if !ok {
		return ""
	}
	what, takes := "the input", "this method takes "
	if p, ok := errors.AsType[*pathError](err); ok {
		what, takes = "field "+p.path+" of the input", "it must be "
	}
	wanted := kindOfType(m.to)
	if m.kind == "" {
		return fmt.Sprintf("%s: %s is out of range", what, m.value)
	}
	is := map[string]string{
		"string": "a string", "bytes": "bytes", "map": "an object", "list": "an array", "float": "a number", "int": "a number", "bool": "a boolean",
		"raw": "bytes", "text": "a text", "nil": "null", "time": "a time", "int of more than 64 bits": "a number of more than 64 bits",
	}[m.kind]
	switch {
	case is == "":
		is = "of an unknown kind"
	case m.kind == "float" && wanted == "an integer":
		is = "a number with a fraction"
	}
	return fmt.Sprintf("%s is %s; %s%s", what, is, takes, wanted)
}

// kindOfType is the kind of JSON that a Go type is decoded from.
func kindOfType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		return "a time as in RFC 3339"
	case k == reflect.Bool:
		return "a boolean"
	case k >= reflect.Int && k <= reflect.Uintptr:
		return "an integer"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.String:
		return "a string"
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "a string in base64"
	case k == reflect.Slice || k == reflect.Array:
		return "an array"
	case k == reflect.Map || k == reflect.Struct:
		return "an object"
	}
	return "a value of another kind"
}

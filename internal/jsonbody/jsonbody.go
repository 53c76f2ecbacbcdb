// Package jsonbody reads the bodies of requests strictly: a body has the fields of its Go type, each once, with values of their types, and nothing else. Its errors name the
// place. For example, {"replicas": "two"} for a field of the type int gives "replicas must be an integer, is "two"".
package jsonbody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Decode reads JSON into the value to which into points. Package encoding/json takes null for anything, ignores the case of names, and lets the last of two equal names count; an operator
// who writes "Revision" for "revision" should be told.
func Decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return placed(body, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the JSON value")
	}
	if !utf8.Valid(body) {
		return errors.New("its text is not UTF-8")
	}
	if err := Unique(body); err != nil {
		return err
	}
	if err := fits(v, reflect.TypeOf(into).Elem(), ""); err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// Unique gives an error for an object of a JSON value that has a name twice, with the path of it. For example, {"revision": 2, "revision": 3} does not say
// which revision its author wants.
func Unique(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var open []*level // the objects and arrays around the token
	for {
		t, err := d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return placed(body, err)
		}
		var in *level // nil around the whole value
		if len(open) > 0 {
			in = open[len(open)-1]
		}
		switch t := t.(type) {
		case json.Delim:
			if t == '}' || t == ']' {
				open = open[:len(open)-1]
				continue
			}
			open = append(open, newLevel(in.next(), t == '{'))
		case string:
			if in == nil || in.names == nil || in.named {
				in.next()
				continue
			}
			if in.names[t] {
				return fmt.Errorf("%s is there twice", join(in.path, t))
			}
			in.names[t], in.name, in.named = true, t, true
		default:
			in.next()
		}
	}
}

// level is an object or array that is being read.
type level struct {
	path  string
	names map[string]bool // of an object; nil for an array
	name  string          // the last one
	named bool            // its value is the next token
	items int             // of an array
}

func newLevel(path string, object bool) *level {
	l := &level{path: path}
	if object {
		l.names = map[string]bool{}
	}
	return l
}

// next goes on to the next value, and gives the path of it.
func (l *level) next() string {
	switch {
	case l == nil:
		return ""
	case l.names == nil:
		l.items++
		return fmt.Sprintf("%s[%d]", l.path, l.items-1)
	}
	l.named = false
	return join(l.path, l.name)
}

// placed adds line and column to an error of the syntax.
func placed(body []byte, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends within the JSON value")
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := body[:min(int(syntax.Offset), len(body))]
		line := 1 + bytes.Count(before, []byte("\n"))
		return fmt.Errorf("line %d, column %d: %w", line, len(before)-1-bytes.LastIndexByte(before, '\n'), err)
	}
	return err
}

// fits gives an error for a JSON value that is none of the type, with its path.
func fits(v any, t reflect.Type, path string) error {
	wrong := func(want string) error {
		is := "an object"
		switch v := v.(type) {
		case nil:
			is = "null"
		case string:
			is = strconv.Quote(v)
		case bool:
			is = strconv.FormatBool(v)
		case json.Number:
			is = v.String()
		case []any:
			is = "an array"
		}
		if path == "" {
			return fmt.Errorf("must be %s, is %s", want, is)
		}
		return fmt.Errorf("%s must be %s, is %s", path, want, is)
	}
	switch t.Kind() {
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		return fieldsFit(object, t, path)
	case reflect.Map:
		object, ok := v.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		for name, element := range object {
			if err := fits(element, t.Elem(), join(path, name)); err != nil {
				return err
			}
		}
	case reflect.Interface, reflect.Slice: // any, json.RawMessage
	case reflect.String:
		if _, ok := v.(string); !ok {
			return wrong("a string")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return wrong("true or false")
		}
	case reflect.Pointer: // a field that may be left out
		return fits(v, t.Elem(), path)
	case reflect.Float64:
		n, ok := v.(json.Number)
		if !ok {
			return wrong("a number")
		}
		if _, err := n.Float64(); err != nil {
			return wrong("a number")
		}
	case reflect.Int, reflect.Uint64:
		n, ok := v.(json.Number)
		if !ok {
			return wrong("an integer")
		}
		if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
			return wrong("an integer below " + strconv.Itoa(math.MaxInt))
		}
		if t.Kind() == reflect.Uint64 && strings.HasPrefix(n.String(), "-") {
			return wrong("at least 0")
		}
	default:
		return fmt.Errorf("%s: the type %s is none of a body", path, t)
	}
	return nil
}

func fieldsFit(object map[string]any, t reflect.Type, path string) error {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, optional := FieldName(f)
		if name == "" {
			continue
		}
		names = append(names, name)
		v, ok := object[name]
		if !ok {
			if !optional {
				return fmt.Errorf("%s is missing", join(path, name))
			}
			continue
		}
		if err := fits(v, f.Type, join(path, name)); err != nil {
			return err
		}
		if least := f.Tag.Get("min"); least != "" {
			if n, ok := v.(json.Number); ok && strings.HasPrefix(n.String(), "-") && n.String() != "-0" {
				return fmt.Errorf("%s must be at least %s, is %s", join(path, name), least, n)
			}
		}
	}
	for name := range object {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no field %s; there is %s", join(path, name), strings.Join(names, ", "))
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// FieldName is the name of a field in JSON, "" for one that is not there, and whether it may be left out.
func FieldName(f reflect.StructField) (name string, optional bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || !f.IsExported() || f.Anonymous && name == "" {
		return "", false
	}
	if name == "" {
		name = f.Name
	}
	return name, strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
}

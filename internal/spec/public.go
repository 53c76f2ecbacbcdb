package spec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// helve.Options has a field per option that Go programs can set, with the name that the row gives: a pointer where zero is a
// value of its own, else the plain type. It is read and filled here by reflection, once per deployment.

// fromGo sets the options of s that a struct of public fields sets, and gives their sources.
func (t table[S]) fromGo(s *S, public any, encode func(any) ([]byte, error)) (sources map[string]Source, errs []error) {
	sources = map[string]Source{}
	for _, o := range t {
		field, isSet := publicField(reflect.ValueOf(public), o.names)
		if !isSet {
			continue
		}
		switch into := o.accessor(s).pointer().Elem(); {
		case field.Type().AssignableTo(into.Type()):
			into.Set(field)
		case field.Kind() == reflect.String && into.Kind() == reflect.String: // a public type of its own, such as helve.Isolation
			into.SetString(field.String())
		case into.Type() == reflect.TypeFor[json.RawMessage]():
			raw, err := encode(field.Interface())
			if err != nil {
				errs = append(errs, newMistake(o.label, "%w", err))
				continue
			}
			into.SetBytes(raw)
		default:
			panic(fmt.Sprintf("option %s: the field %s is a %s, the value a %s", o.path, o.goPath, field.Type(), into.Type()))
		}
		sources[o.path] = FromCode
	}
	return sources, errs
}

// publicField finds the value that a struct gives to an option. isSet is false for a nil pointer, for a plain field that is zero, and where there
// is no such field: PowerOfTwoChoices, for example, has no VirtualNodes.
func publicField(v reflect.Value, names []name) (field reflect.Value, isSet bool) {
	if names[len(names)-1].code == "" {
		return v, false
	}
	optional := false
	for _, n := range names {
		if n.code == "" {
			continue // a group whose fields are in the struct around it
		}
		if v.Kind() != reflect.Struct {
			return v, false
		}
		v, optional = v.FieldByName(n.code), false
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v, optional = v.Elem(), true
		}
		if !v.IsValid() {
			return v, false
		}
	}
	return v, optional || !v.IsZero()
}

// toGo fills the fields of a struct of public fields that are nil or zero.
func (t table[S]) toGo(s *S, public any) {
	for _, o := range t {
		if o.names[len(o.names)-1].code == "" {
			continue
		}
		field := reflect.ValueOf(public).Elem()
		for _, n := range o.names {
			if n.code != "" && field.Kind() == reflect.Struct {
				field = field.FieldByName(n.code)
			}
		}
		value := o.accessor(s).pointer()
		switch {
		case !field.IsValid() || !field.IsZero():
		case value.Type().AssignableTo(field.Type()):
			field.Set(value)
		case value.Type().Elem().AssignableTo(field.Type()) && field.Kind() != reflect.Interface:
			field.Set(value.Elem())
		case field.Kind() == reflect.String && value.Type().Elem().Kind() == reflect.String:
			field.SetString(value.Elem().String())
		}
	}
}

// Keys are the names of the options and groups directly below a path, for example those of Limits for "limits", and all for "". There are none below
// an option.
func Keys(path string) []string {
	var of table[Options]
	depth := 0
	if path == "" {
		of = optionTable
	} else {
		depth = strings.Count(path, ".") + 1
		for _, o := range optionTable {
			if len(o.names) > depth && labelOf(o.names[:depth]).path == path {
				of = append(of, o)
			}
		}
	}
	return of.keys(depth)
}

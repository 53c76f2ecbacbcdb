package codec

import (
	"fmt"
	"reflect"
)

// Check returns an error if no value of type t can be encoded, with the path to the field that is the reason, by its
// names on the wire. It returns nil if values can be encoded. The value of an interface is checked when it is
// encoded.
func Check(t reflect.Type) error { return check(t, "", map[reflect.Type]bool{}) }

// checkError is Check for a type of errors. Fields of an error may be errors. An error type without exported fields
// is allowed, because callers ask for the type, and the text comes with the call's error.
func checkError(t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, f := range fieldsOf(t) {
		if err := check(f.typ, t.String()+"."+f.name, map[reflect.Type]bool{errorType: true}); err != nil {
			return err
		}
	}
	return nil
}

func check(t reflect.Type, at string, seen map[reflect.Type]bool) error {
	if seen[t] || t == timeType || t == bigType || t == numberType || HasMarshaler(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer:
		return check(t.Elem(), at, seen)
	case reflect.Slice, reflect.Array:
		return check(t.Elem(), at+"[]", seen)
	case reflect.Map:
		if !keyable(t.Key()) {
			break
		}
		return check(t.Elem(), at+"[]", seen)
	case reflect.Struct:
		fields, shared, _ := walkFields(t)
		if shared != "" {
			return atPath(at, sharedName(t, shared))
		}
		for _, f := range fields {
			if err := check(f.typ, at+"."+f.name, seen); err != nil {
				return err
			}
		}
		return nil
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
	default:
		return nil
	}
	return atPath(at, fmt.Errorf("%s cannot be encoded", t))
}

func atPath(at string, err error) error {
	if at == "" {
		return err
	}
	return fmt.Errorf("%s: %w", at, err)
}

func sharedName(t reflect.Type, name string) error {
	return fmt.Errorf("%s has several fields that are called %q on the wire; give them names with the tag helve or json", t, name)
}

// lossy returns an error if no value of the struct t can arrive whole. Either two fields have one name on the wire,
// so that neither is written, or all fields are unexported. A struct with unexported fields is no mistake of the
// application: calls that stay in a process pass it.
func lossy(t reflect.Type) error {
	fields, shared, _ := walkFields(t)
	if shared != "" {
		return sharedName(t, shared)
	}
	if len(fields) > 0 {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if _, _, skip := fieldName(f); !skip && !f.IsExported() && f.Name != "_" && f.Type.Size() > 0 {
			return fmt.Errorf("%s has no exported fields, so nothing of it would arrive; export them, or give it MarshalBinary and UnmarshalBinary", t)
		}
	}
	return nil
}

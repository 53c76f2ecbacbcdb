package codec

import (
	"fmt"
	"reflect"
)

// Check says why no value of a type can be encoded, and where in it, by the names that its fields have on the wire; nil if
// values can. What an interface holds is known only when it is encoded.
func Check(t reflect.Type) error { return check(t, "", map[reflect.Type]bool{}) }

// checkError is Check for a type of errors, whose fields may be errors.
func checkError(t reflect.Type) error { return check(t, "", map[reflect.Type]bool{errorType: true}) }

func check(t reflect.Type, at string, seen map[reflect.Type]bool) error {
	if seen[t] || t == timeType || t == bigType || ownPlan(t) != nil {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer:
		return check(t.Elem(), at, seen)
	case reflect.Slice, reflect.Array:
		return check(t.Elem(), at+"[]", seen)
	case reflect.Map:
		if k := t.Key().Kind(); k != reflect.String && (k < reflect.Int || k > reflect.Uintptr) {
			break
		}
		return check(t.Elem(), at+"[]", seen)
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			if err := check(f.typ, at+"."+f.name, seen); err != nil {
				return err
			}
		}
		return nil
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
	default:
		return nil
	}
	if at == "" {
		return fmt.Errorf("%s cannot be encoded", t)
	}
	return fmt.Errorf("%s: %s cannot be encoded", at, t)
}

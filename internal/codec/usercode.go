package codec

import (
	"errors"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
)

// runsUserCode reports whether methods of the value itself run while a value of type t is written or read. These may be
// methods of t, or of a type that t contains. The value of an interface is looked at when it is encoded.
func runsUserCode(t reflect.Type) bool { return hasUserCode(t, map[reflect.Type]bool{}) }

func hasUserCode(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || t == timeType || t == bigType {
		return false
	}
	seen[t] = true
	if t == errorType || ownPlan(t) != nil {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return hasUserCode(t.Elem(), seen)
	case reflect.Map:
		return textKeyed(t.Key()) || hasUserCode(t.Elem(), seen)
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			asked := f.omit&omitZero != 0 && f.typ != timeType && (f.typ.Kind() == reflect.Interface || f.typ.Implements(zeroer))
			if asked || hasUserCode(f.typ, seen) {
				return true
			}
		}
	}
	return false
}

var zeroer = reflect.TypeFor[interface{ IsZero() bool }]()

// panicError is the error for a method of a value that panicked, or ended its goroutine, while the value was written
// or read.
type panicError struct{ failure *call.Error }

func (e *panicError) Error() string { return e.failure.Message }
func (e *panicError) Unwrap() error { return e.failure.Cause }

// Panicked makes the failure of a call from the error of an encoding or decoding, if a method of the value panicked
// (type "panic") or ended its goroutine (type "goexit"). It returns nil for all other errors. The text during names
// the step, such as "encoding the result".
func Panicked(during string, err error) *call.Error {
	p, ok := errors.AsType[*panicError](err)
	if !ok {
		return nil
	}
	e := *p.failure
	e.Message = during + ": " + e.Message
	return &e
}

// isolate runs f, which calls methods of a value, on a goroutine of its own. The goroutine of the codec's caller may be
// a method's caller, may be releasing a slot, or may be reading a connection, and must not end when a marshaller
// panics or calls runtime.Goexit. The switch costs about a microsecond; values without such methods do not pay it.
func isolate(f func() ([]byte, error)) ([]byte, error) {
	var b []byte
	var err error
	if failure := call.Enclose(func() { b, err = f() }); failure != nil {
		return nil, &panicError{failure}
	}
	return b, err
}

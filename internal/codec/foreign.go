package codec

import (
	"errors"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
)

// foreign says that writing or reading a value of t runs methods of its own, of t or of what it is made of. What an
// interface holds is known only when it is encoded.
func foreign(t reflect.Type) bool { return isForeign(t, map[reflect.Type]bool{}) }

func isForeign(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || t == timeType || t == bigType {
		return false
	}
	seen[t] = true
	if t == errorType || ownPlan(t) != nil {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return isForeign(t.Elem(), seen)
	case reflect.Map:
		return textKeyed(t.Key()) || isForeign(t.Elem(), seen)
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			asked := f.omit&omitZero != 0 && f.typ != timeType && (f.typ.Kind() == reflect.Interface || f.typ.Implements(zeroer))
			if asked || isForeign(f.typ, seen) {
				return true
			}
		}
	}
	return false
}

var zeroer = reflect.TypeFor[interface{ IsZero() bool }]()

// panicError is code of a value that panicked, or ended its goroutine, while the value was written or read.
type panicError struct{ failure *call.Error }

func (e *panicError) Error() string { return e.failure.Message }
func (e *panicError) Unwrap() error { return e.failure.Cause }

// Panicked is the failure of a call whose value's own code panicked (type "panic") or ended its goroutine ("goexit") while
// the codec was at work; nil for other errors. during says what was being done.
func Panicked(during string, err error) *call.Error {
	p, ok := errors.AsType[*panicError](err)
	if !ok {
		return nil
	}
	e := *p.failure
	e.Message = during + ": " + e.Message
	return &e
}

// aside runs f, which runs code of a value's own, on a goroutine of its own: that may be the caller's of a method, the one
// that released a slot, or the one that reads a connection, and none of these may end for a marshaller that panics or calls
// runtime.Goexit. It costs about a microsecond; values without such code do without.
func aside(f func() ([]byte, error)) ([]byte, error) {
	var b []byte
	var err error
	if failure := call.Enclose(func() { b, err = f() }); failure != nil {
		return nil, &panicError{failure}
	}
	return b, err
}

package call

import (
	"reflect"
	"unsafe"
)

// PublicError is the memory of an [Error] without its fields. The public type of errors, helve.Error, embeds a PublicError and
// nothing else, so a *helve.Error and the *Error below it are one pointer with two types: the runtime reads and writes fields,
// and users see methods. For example, a method returns the *helve.Error of a call that it made; the runtime finds the *Error in it
// ([Own]), passes it on, and the caller above gets the same pointer again.
//
// Two other designs were rejected. A public error that wraps the *Error costs an allocation for each failed call, and two
// readers of one response would get two errors that are not equal. A public type with the fields of *Error would show users
// fields that only the wire needs.
type PublicError struct{ e Error }

// own marks types that embed a PublicError: no other type can have this method.
func (v *PublicError) own() *Error { return &v.e }

// publicView is implemented by pointers to structs that embed a [PublicError], among them types of users that embed *helve.Error.
type publicView interface {
	error
	own() *Error
}

var publicType = reflect.TypeFor[PublicError]()

// isPublic reports whether t is a pointer to a struct that is a [PublicError] and nothing else.
func isPublic(t reflect.Type) bool {
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return false
	}
	s := t.Elem()
	return s.NumField() == 1 && s.Field(0).Type == publicType && s.Field(0).Anonymous
}

// Own returns err as an *Error if err is an *Error or a view of one. It does not look into the tree of err. The *Error is nil
// if err is a nil pointer of either type.
func Own(err error) (e *Error, ok bool) {
	switch x := err.(type) { //nolint:errorlint // one node
	case *Error:
		return x, true
	case publicView:
		if !isPublic(reflect.TypeOf(err)) {
			return nil, false
		}
		if reflect.ValueOf(err).IsNil() {
			return nil, true
		}
		return x.own(), true
	}
	return nil, false
}

// As lets errors.As find the public view of e in every tree that holds e: target is a pointer to a pointer to a view.
func (e *Error) As(target any) bool {
	t := reflect.TypeOf(target).Elem()
	if e == nil || !isPublic(t) {
		return false
	}
	reflect.ValueOf(target).Elem().Set(reflect.NewAt(t.Elem(), unsafe.Pointer(e)))
	return true
}

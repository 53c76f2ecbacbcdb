package codec

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
)

// Registry is the errors of an application that keep their identity when they leave their process: values that callers
// compare with errors.Is, and types that they look for with errors.As. It is written to while the graph is built, and
// read-only afterwards.
type Registry struct {
	values []error
	types  []reflect.Type // pointers to structs, or structs
}

// Add registers an error value or, as a nil pointer (*T)(nil) or a zero T, a type of errors. Two values with the same type
// and text cannot be told apart in another process, which is an error.
func (r *Registry) Add(e error) error {
	t := reflect.TypeOf(e)
	switch v := reflect.ValueOf(e); {
	case e == nil:
		return errors.New("errors: nil; give an error value, or (*T)(nil) for a type")
	case v.Kind() == reflect.Pointer && v.IsNil(), v.Kind() != reflect.Pointer && v.IsZero() && v.Comparable() && IsRecord(t):
		if !IsRecord(t) && (t.Kind() != reflect.Pointer || !IsRecord(t.Elem())) {
			return fmt.Errorf("errors: %s is not a struct, so its values cannot be rebuilt in another process", t)
		}
		r.types = append(r.types, t)
		return nil
	}
	for _, other := range r.values {
		if valueKey(other) == valueKey(e) {
			return fmt.Errorf("errors: two values of type %T with the text %q", e, e)
		}
	}
	r.values = append(r.values, e)
	return nil
}

func valueKey(e error) string { return reflect.TypeOf(e).String() + "\x00" + e.Error() }

// Describe sets what another process needs to make e's cause again, where that is registered.
func (r *Registry) Describe(c *Codec, e *call.Error) {
	if e.Cause == nil || e.Known != "" {
		return
	}
	for _, v := range r.values {
		if errors.Is(e.Cause, v) {
			e.Known = valueKey(v)
			return
		}
	}
	for _, t := range r.types {
		p := reflect.New(t)
		if !errors.As(e.Cause, p.Interface()) {
			continue
		}
		data, err := c.Append(nil, call.Msgpack, p.Elem().Interface())
		if err == nil {
			e.Known, e.Value = t.String(), data
		}
		return
	}
}

// Restore gives e with the cause that Describe described; e itself if there is none that is registered here.
func (r *Registry) Restore(c *Codec, e *call.Error) *call.Error {
	if e.Known == "" || e.Cause != nil {
		return e
	}
	for _, v := range r.values {
		if valueKey(v) == e.Known {
			known := *e
			known.Cause = v
			return &known
		}
	}
	for _, t := range r.types {
		if t.String() != e.Known {
			continue
		}
		p := reflect.New(t)
		if err := c.Decode(call.Msgpack, e.Value, p.Interface()); err != nil {
			return e
		}
		known := *e
		known.Cause, _ = p.Elem().Interface().(error)
		return &known
	}
	return e
}

package codec

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/helve-serve/helve/internal/call"
)

// ErrorRegistry has the errors of an application that keep their identity when they leave their process. These are
// values that callers compare with errors.Is, and types that callers look for with errors.As. For example, with a
// registered value ErrGone, errors.Is(err, ErrGone) is true in a caller on the other side of a wire.
//
// The registry is written to while the graph is built, and is read-only afterwards: readers need no lock. A nil
// ErrorRegistry knows the errors of package context, as every ErrorRegistry does.
type ErrorRegistry struct {
	values []error
	names  []string       // the names of values, in the same order
	types  []reflect.Type // pointers to structs, or structs
}

// maxKnown is the largest number of errors of one tree that are described.
const maxKnown = 64

// maxKnownValue is the largest encoded form of one error, in bytes. A larger value belongs into a result, not into an
// error.
const maxKnownValue = 1 << 20

// contexts are the errors of package context. Their names begin with "=", which no name of a type does.
var contexts = []named{{"=context.DeadlineExceeded", context.DeadlineExceeded}, {"=context.Canceled", context.Canceled}}

type named struct {
	name string
	err  error
}

// Add registers an error value, or a type of errors: for a type, e is a nil pointer (*T)(nil) or a zero T. Two values
// with the same type and text are an error, because another process could not tell them apart. Add may only be called
// while the graph is built.
func (r *ErrorRegistry) Add(e error) error {
	t := reflect.TypeOf(e)
	switch v := reflect.ValueOf(e); {
	case e == nil:
		return errors.New("errors: nil; give an error value, or (*T)(nil) for a type")
	case v.Kind() == reflect.Pointer && v.IsNil(), v.Kind() != reflect.Pointer && v.IsZero() && v.Comparable() && IsRecord(t):
		if !IsRecord(t) && (t.Kind() != reflect.Pointer || !IsRecord(t.Elem())) {
			return fmt.Errorf("errors: %s is not a struct, so its values cannot be rebuilt in another process", t)
		}
		if err := checkError(t); err != nil {
			return fmt.Errorf("errors: %w", err)
		}
		if i := slices.IndexFunc(r.types, func(other reflect.Type) bool { return other != t && typeName(other) == typeName(t) }); i >= 0 {
			return fmt.Errorf("errors: two types of the name %s", t)
		}
		r.types = append(r.types, t)
		return nil
	}
	name := valueName(e)
	if slices.Contains(r.names, name) {
		return fmt.Errorf("errors: two values of type %T with the text %q", e, call.TextOf(e))
	}
	r.values, r.names = append(r.values, e), append(r.names, name)
	return nil
}

func valueName(e error) string { return reflect.TypeOf(e).String() + "\x00" + call.TextOf(e) }

// typeName is the full name of a type, so that types of one name in different packages differ.
func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return "*" + typeName(t.Elem())
	}
	if t.PkgPath() == "" {
		return t.String()
	}
	return t.PkgPath() + "." + t.Name()
}

// Describe sets e.Known, from which another process makes e's cause again: every registered error of the cause's
// tree, in the order in which errors.Is and errors.As look at them. For example, a *QuotaError that wraps errGone is
// described as the two, and in the other process errors.As finds the first and errors.Is the second. Describe does
// nothing if e.Known is set already.
func (r *ErrorRegistry) Describe(c *Codec, e *call.Error) {
	if e.Cause != nil && e.Known == nil {
		e.Known = r.describe(c, e.Cause, false)
	}
}

// describe lists the registered errors in the tree of cause. The parameter inner is true if cause is a field of
// another error.
func (r *ErrorRegistry) describe(c *Codec, cause error, inner bool) []call.KnownError {
	if r == nil {
		r = &ErrorRegistry{}
	}
	var known []call.KnownError
	add := func(k call.KnownError) {
		if len(known) < maxKnown && !slices.ContainsFunc(known, func(o call.KnownError) bool { return o.Name == k.Name && string(o.Value) == string(k.Value) }) {
			known = append(known, k)
		}
	}
	for node := range call.Tree(cause) {
		if e, ok := node.(*call.Error); ok && e != nil { //nolint:errorlint // one node
			// e comes from another process. Its errors may be registered in this process too; add leaves out the
			// second.
			for _, k := range e.Known {
				add(k)
			}
		}
		if i := slices.IndexFunc(r.values, func(v error) bool { return call.Same(node, v) }); i >= 0 {
			add(call.KnownError{Name: r.names[i]})
		} else if t := reflect.TypeOf(node); slices.Contains(r.types, t) {
			add(r.typed(c, t, node, inner))
		} else if i := slices.IndexFunc(contexts, func(x named) bool { return call.Same(node, x.err) }); i >= 0 {
			add(call.KnownError{Name: contexts[i].name})
		}
	}
	// A method Is or As of an error may report more errors than its tree has.
	has := func(name string) bool {
		return slices.ContainsFunc(known, func(k call.KnownError) bool { return k.Name == name })
	}
	for i, v := range r.values {
		if !has(r.names[i]) && call.Is(cause, v) {
			add(call.KnownError{Name: r.names[i]})
		}
	}
	for _, t := range r.types {
		if has(typeName(t)) {
			continue
		}
		if v, ok := call.Find(cause, t); ok {
			add(r.typed(c, t, v.Interface(), inner))
		}
	}
	for _, x := range contexts {
		if !has(x.name) && call.Is(cause, x.err) {
			add(call.KnownError{Name: x.name})
		}
	}
	return known
}

// typed describes an error that is registered by its type t, with its fields. An error whose fields are too large or
// do not encode (an interface that holds a channel, say) is described without fields, because callers look for its
// type.
func (r *ErrorRegistry) typed(c *Codec, t reflect.Type, v any, inner bool) call.KnownError {
	data, err := c.guardedAppend(nil, call.Msgpack, v, mode{errors: r, inner: inner})
	if err != nil || len(data) > maxKnownValue {
		data = nil
	}
	return call.KnownError{Name: typeName(t), Value: data}
}

// Restore returns a copy of e with the cause that Describe described. It returns e itself if no error of the
// description is registered in this process.
func (r *ErrorRegistry) Restore(c *Codec, e *call.Error) *call.Error {
	if len(e.Known) == 0 || e.Cause != nil {
		return e
	}
	cause := r.restore(c, e.Known, e.Message, mode{})
	if cause == nil {
		return e
	}
	known := *e
	known.Cause = call.Hold(cause, e.Message)
	return &known
}

// restore makes one error of all errors in the list that are registered in this process. It returns nil if there is
// none.
func (r *ErrorRegistry) restore(c *Codec, known []call.KnownError, text string, m mode) error {
	if r == nil {
		r = &ErrorRegistry{}
	}
	var found []error
	for _, k := range known[:min(len(known), maxKnown)] {
		if err := r.known(c, k, m); err != nil {
			found = append(found, err)
		}
	}
	switch len(found) {
	case 0:
		return nil
	case 1:
		return found[0]
	}
	return &restored{found, text}
}

func (r *ErrorRegistry) known(c *Codec, k call.KnownError, m mode) error {
	if i := slices.Index(r.names, k.Name); i >= 0 {
		return r.values[i]
	}
	for _, x := range contexts {
		if x.name == k.Name {
			return x.err
		}
	}
	for _, t := range r.types {
		if typeName(t) != k.Name {
			continue
		}
		p := reflect.New(t)
		if len(k.Value) == 0 { // the fields did not encode
			if t.Kind() == reflect.Pointer {
				p.Elem().Set(reflect.New(t.Elem()))
			}
		} else if err := c.decode(call.Msgpack, k.Value, nil, p.Interface(), mode{errors: r, depth: m.depth}); err != nil {
			return nil
		}
		err, _ := p.Elem().Interface().(error)
		return err
	}
	return nil
}

// restored is an error tree that has come from another process, with the text that it had there.
type restored struct {
	errs []error
	text string
}

func (e *restored) Error() string   { return e.text }
func (e *restored) Unwrap() []error { return e.errs }

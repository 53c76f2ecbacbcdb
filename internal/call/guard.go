package call

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Errors and panic values of users have methods (Error, Is, As, Unwrap, String) that may panic, end their goroutine, not
// return, or unwrap for ever. Helve runs such methods in this file only. For example, a constructor returns a nil *LoadError as
// its error: [Guard] gives an error whose text says so, and whose own methods do no harm to a goroutine that logs it, joins
// it, or looks for a context's error in it.

const (
	// patience bounds the wait for methods of one error: they only say what it is.
	patience = time.Second
	// maxTree bounds the number of errors of a tree that are looked at. For example, an error that unwraps to itself is a tree
	// without an end.
	maxTree = 1000
	// maxTrusted is the same for trees of the standard library's own errors, which nearly all are.
	maxTrusted = 64
)

// guarded is a user's error with the text that it had when it was guarded.
type guarded struct {
	err  error
	text string
}

func (g *guarded) Error() string { return g.text }

// Is lets errors.Is look into the error, without running its methods on the caller's goroutine.
func (g *guarded) Is(target error) bool { return Is(g.err, target) }

// As is Is for errors.As.
func (g *guarded) As(target any) bool {
	into := reflect.ValueOf(target).Elem()
	found, ok := find(g.err, into.Type())
	if ok {
		into.Set(found)
	}
	return ok
}

// Guard returns err with methods that are safe to call: err itself if it is made of [Error] and of the plain errors of the
// standard library, else an error with its text that errors.Is and errors.As see through.
func Guard(err error) error {
	if err == nil || trusted(err) {
		return err
	}
	return &guarded{err, TextOf(err)}
}

// Hold is [Guard] for an error whose text is known.
func Hold(err error, text string) error {
	if err == nil || trusted(err) {
		return err
	}
	return &guarded{err, text}
}

// TextOf returns the text of err. If the method Error of err fails, the text describes the type.
func TextOf(err error) string {
	if trusted(err) {
		return err.Error()
	}
	text, ok := aside(err.Error)
	if !ok {
		return silent(err, "Error")
	}
	return text
}

// silent describes a value whose method gives no text.
func silent(v any, method string) string {
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
		return fmt.Sprintf("a nil %T that is not nil as an error (its method %s fails)", v, method)
	}
	return fmt.Sprintf("a %T whose method %s fails", v, method)
}

// Is is errors.Is. A method that panics counts as false.
func Is(err, target error) bool {
	if trusted(err) {
		return errors.Is(err, target)
	}
	if target == nil {
		return false
	}
	comparable := reflect.TypeOf(target).Comparable()
	is, _ := aside(func() bool {
		return walk(err, func(e error) bool {
			return try(func() bool {
				if comparable && e == target {
					return true
				}
				x, ok := e.(interface{ Is(error) bool })
				return ok && x.Is(target)
			})
		})
	})
	return is
}

// As is errors.AsType. A method that panics counts as false, and so does an error that is a nil T.
func As[T error](err error) (found T, ok bool) {
	if v, ok := find(err, reflect.TypeFor[T]()); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
		return v.Interface().(T), true
	}
	return found, false
}

// ErrorIn returns the first [Error] in the tree of err. It is nil if there is none.
func ErrorIn(err error) *Error {
	if e, ok := Own(err); ok { // the usual case, without a walk
		return e
	}
	e, _ := As[*Error](err)
	return e
}

// CodeOf is the code of an error: OK for nil, that of the first [Error] in its tree, Canceled and DeadlineExceeded for the errors of a context,
// Unknown for others.
func CodeOf(err error) helvetype.Code {
	switch e := ErrorIn(err); {
	case err == nil:
		return helvetype.CodeOK
	case e != nil:
		return e.Code
	case Is(err, context.DeadlineExceeded):
		return helvetype.CodeDeadlineExceeded
	case Is(err, context.Canceled):
		return helvetype.CodeCanceled
	}
	return helvetype.CodeUnknown
}

// Find is [As] for a type that is known only at run time; a nil value of it counts, as it does for errors.As.
func Find(err error, t reflect.Type) (reflect.Value, bool) { return find(err, t) }

func find(err error, t reflect.Type) (found reflect.Value, ok bool) {
	look := func() (v reflect.Value) {
		walk(err, func(e error) bool {
			return try(func() bool {
				if reflect.TypeOf(e).AssignableTo(t) {
					v = reflect.ValueOf(e)
					return true
				}
				x, ok := e.(interface{ As(any) bool })
				if !ok {
					return false
				}
				into := reflect.New(t)
				if !x.As(into.Interface()) {
					return false
				}
				v = into.Elem()
				return true
			})
		})
		return v
	}
	if ours(err) {
		found = look()
	} else {
		found, _ = aside(look)
	}
	return found, found.IsValid()
}

// walk calls each with the errors of err's tree until it returns true.
func walk(err error, each func(error) bool) bool {
	tree := []error{err}
	for seen := 0; len(tree) > 0 && seen < maxTree; seen++ {
		e := tree[len(tree)-1]
		tree = tree[:len(tree)-1]
		if e == nil {
			continue
		}
		if g, ok := e.(*guarded); ok { //nolint:errorlint // one node, which stands for what it holds
			tree = append(tree, g.err)
			continue
		}
		if o, ok := Own(e); ok && o != nil { // a view stands for its error
			e = o
		}
		if each(e) {
			return true
		}
		try(func() bool {
			switch u := e.(type) { //nolint:errorlint // one node
			case interface{ Unwrap() error }:
				tree = append(tree, u.Unwrap())
			case interface{ Unwrap() []error }:
				below := u.Unwrap()
				for i := min(len(below), maxTree) - 1; i >= 0; i-- {
					tree = append(tree, below[i])
				}
			}
			return true
		})
	}
	return false
}

// try runs a method that may panic. A panic counts as false.
func try(f func() bool) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return f()
}

// aside runs a method of a user's value on a goroutine of its own. ok is false if the method panicked, ended its goroutine,
// or has not returned in time; then its goroutine is left.
func aside[T any](method func() T) (out T, ok bool) {
	type outcome struct {
		v  T
		ok bool
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			recover() //nolint:errcheck // o says so
			done <- o
		}()
		o.v = method()
		o.ok = true
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.v, o.ok
	case <-timer.C:
		return out, false
	}
}

// Enclose runs f, which runs code of a user's, on a goroutine of its own, and waits for its end: a panic and
// runtime.Goexit in it are the failure.
func Enclose(f func()) (failure *Error) {
	done := make(chan *Error, 1)
	go func() {
		ended := false
		defer func() {
			if ended {
				done <- nil
			} else {
				done <- Recovered(recover())
			}
		}()
		f()
		ended = true
	}()
	return <-done
}

// trusted reports whether the methods of an error do no harm: the tree consists of Helve's own errors and of errors of the
// packages errors, fmt and context, and has an end.
func trusted(err error) bool {
	left := maxTrusted
	return trustedTree(err, &left, false)
}

// ours reports whether err is trusted and has no guarded error in it, so that its tree can be walked on any goroutine.
func ours(err error) bool {
	left := maxTrusted
	return trustedTree(err, &left, true)
}

func trustedTree(err error, left *int, bare bool) bool {
	if *left--; *left < 0 {
		return false
	}
	switch e := err.(type) { //nolint:errorlint // one node
	case nil:
		return true
	case *guarded:
		return !bare
	case *Error, publicView:
		if o, ok := Own(e); ok {
			return o != nil && trustedTree(o.Cause, left, bare)
		}
		return false
	}
	if err == context.DeadlineExceeded { //nolint:errorlint // its type is not exported
		return true
	}
	switch reflect.TypeOf(err) {
	case plainType:
		return !reflect.ValueOf(err).IsNil()
	case wrapType:
		return !reflect.ValueOf(err).IsNil() && trustedTree(err.(interface{ Unwrap() error }).Unwrap(), left, bare)
	case wrapsType, joinType:
		if reflect.ValueOf(err).IsNil() {
			return false
		}
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			if !trustedTree(e, left, bare) {
				return false
			}
		}
		return true
	}
	return false
}

var (
	plainType = reflect.TypeOf(errors.New(""))
	wrapType  = reflect.TypeOf(fmt.Errorf("%w", context.Canceled))
	wrapsType = reflect.TypeOf(fmt.Errorf("%w %w", context.Canceled, context.Canceled))
	joinType  = reflect.TypeOf(errors.Join(context.Canceled))
)

// Tree returns the errors of err's tree in the order of errors.Is, the outermost first.
func Tree(err error) iter.Seq[error] {
	nodes := func() (all []error) {
		walk(err, func(e error) bool {
			all = append(all, e)
			return false
		})
		return all
	}
	if ours(err) {
		return slices.Values(nodes())
	}
	all, _ := aside(nodes)
	return slices.Values(all)
}

// Same reports whether two errors are one, under the same type or as an [Error] and its [PublicError]. Values of types that cannot
// be compared are not.
func Same(a, b error) bool {
	if x, ok := Own(a); ok {
		y, also := Own(b)
		return also && x == y
	}
	return try(func() bool { return a == b })
}

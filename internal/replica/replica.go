// Package replica is one live instance of a Go deployment: its construction, its method table, and the one place where
// user code runs and its panics end. Admission is the gate's, in the node that owns the replica.
package replica

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// Class is what a deployment's code registered: how to make an instance, and what can be called on it.
// It is immutable after the graph was built.
type Class struct {
	App, Deployment string
	Construct       func(context.Context) (any, error)
	Methods         map[string]*Method
	Default         string // name of the default method, "" for none
}

// Lookup finds a method by the name that a caller used: exactly, else as the same name in the other language's case.
// "" is the default method.
func (c *Class) Lookup(name string) (*Method, *call.Error) {
	want := name
	if name == "" {
		want = c.Default
	}
	if m, ok := c.Methods[want]; ok {
		return m, nil
	}
	have := slices.Sorted(maps.Keys(c.Methods))
	if want != "" {
		if n, ok := codec.MatchName(want, have); ok {
			return c.Methods[n], nil
		}
	}
	return nil, NoMethod(c.Deployment, name, have)
}

// Closer is what an instance implements that has something to give back when its replica stops.
type Closer interface{ Close(context.Context) error }

// Replica is one instance. Its methods may be called from any goroutine.
type Replica struct {
	ID       string
	Class    *Class
	Instance any

	_        [64]byte // what every call reads stays off the lines that every call writes
	started  atomic.Uint64
	failed   atomic.Uint64
	busyTime atomic.Int64
	_        [64]byte
}

// Start runs the constructor. Its error, panic or nil instance is returned as an *call.Error with the user's traceback.
func Start(ctx context.Context, class *Class, id string) (*Replica, error) {
	var instance any
	err := guard(ctx, func() error {
		i, err := class.Construct(ctx)
		if v := reflect.ValueOf(i); err == nil && (!v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()) {
			err = call.NewError(call.User, "the constructor returned nil and no error")
		}
		instance = i
		return err
	})
	if err != nil {
		e := *call.AsError(err)
		e.App, e.Deployment, e.Replica, e.Method = class.App, class.Deployment, id, "constructor"
		return nil, &e
	}
	return &Replica{ID: id, Class: class, Instance: instance}, nil
}

// guard runs f on a goroutine of its own, so that a panic and a runtime.Goexit in it become errors, and so that nobody
// waits for it any more when ctx has ended. Go cannot end a function that ignores its context: its goroutine is left.
func guard(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() {
		ended := false
		defer func() {
			if !ended {
				done <- Recovered(recover())
			}
		}()
		err := f()
		ended = true
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Recovered is the error for a recovered panic value; nil stands for runtime.Goexit. It is called in the deferred
// function, where the stack still shows the panic.
func Recovered(v any) *call.Error {
	e := &call.Error{Code: call.Unknown, Reason: call.User, Type: "panic", Traceback: string(debug.Stack())}
	if v == nil {
		e.Type, e.Message = "goexit", "the method ended its goroutine with runtime.Goexit"
		return e
	}
	e.Message = fmt.Sprintf("panic: %v", v)
	if err, ok := v.(error); ok {
		e.Cause = err
	}
	return e
}

// Enter and Leave bracket every execution of a method, on whichever path it came: they are the metrics of the replica.
func (r *Replica) Enter() int64 {
	r.started.Add(1)
	return call.Now()
}

// Leave takes what Enter gave.
func (r *Replica) Leave(entered int64, failed bool) {
	r.busyTime.Add(call.Now() - entered)
	if failed {
		r.failed.Add(1)
	}
}

// Counts are the executions so far, those that failed, and the nanoseconds spent in user code.
func (r *Replica) Counts() (started, failed uint64, busy int64) {
	return r.started.Load(), r.failed.Load(), r.busyTime.Load()
}

// Run executes a method with boxed values. If ctx ended before the method returned, the result is the context's cause,
// whatever the method returned.
func (r *Replica) Run(ctx context.Context, m *Method, in any) (out any, failure *call.Error) {
	entered := r.Enter()
	ended := false
	defer func() {
		if !ended {
			failure = Recovered(recover())
		}
		r.Leave(entered, failure != nil)
	}()
	out, err := m.Invoke(ctx, r.Instance, in)
	ended = true
	if ctx.Err() != nil {
		return nil, call.FromContext(ctx)
	}
	if err != nil {
		return nil, UserError(err)
	}
	return out, nil
}

// UserError is what a method's error becomes: its type's name is kept beside it. An error that came from a handle call
// stays itself, so that a failure deep in a composition arrives as what it was.
func UserError(err error) *call.Error {
	e := call.AsError(err)
	if e.Reason == call.User && e.Type == "" {
		c := *e
		c.Type = reflect.TypeOf(err).String()
		return &c
	}
	return e
}

// Close gives the instance the chance to clean up.
func (r *Replica) Close(ctx context.Context) error {
	c, ok := r.Instance.(Closer)
	if !ok {
		return nil
	}
	return guard(ctx, func() error { return c.Close(ctx) })
}

// Package instance is one live instance of a Go deployment: its construction, its method table, and the one place where
// user code runs and its panics end. Admission is the gate's, in the node that owns the replica.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Class is what a deployment's code registered: how to make an instance, and what can be called on it.
// It is immutable after the graph was built.
type Class struct {
	App, Deployment string
	Home            any // what handles find their application by, for the contexts of constructors
	Construct       func(context.Context) (any, error)
	Methods         map[string]*Method
	Default         string // name of the default method, "" for none
	// Configure decodes a user config and gives it to the instance's Reconfigure; nil if it has none.
	Configure func(ctx context.Context, recv any, config json.RawMessage) error
	Errors    *codec.ErrorRegistry // of the application; nil for none
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

// HealthChecker is what an instance implements that can tell whether it still works.
type HealthChecker interface{ CheckHealth(context.Context) error }

// RoutingReporter is what an instance implements that has something to say to routing policies.
type RoutingReporter interface {
	RoutingStats(ctx context.Context) (map[string]any, error)
}

// Instance is the one instance of a replica in this process. Its methods may be called from any goroutine.
type Instance struct {
	ID    string
	Class *Class
	Value any
	Scope *Scope

	configuring chan struct{} // of one: full while the instance's Reconfigure runs; nil for a replica that Start did not make

	calls *telemetry.Calls
}

// separate keeps the counters, which every call writes to, off the cache lines of what every call reads.
type separate struct {
	_     [64]byte
	calls telemetry.Calls
	_     [64]byte
}

// New makes an instance of nothing, for [Start] and for fakes.
func New(id string, class *Class) *Instance {
	return &Instance{ID: id, Class: class, calls: &new(separate).calls}
}

// Sibling is the same instance with other counters.
func (i *Instance) Sibling(calls *telemetry.Calls) *Instance {
	return &Instance{ID: i.ID, Class: i.Class, Value: i.Value, Scope: i.Scope, calls: calls}
}

// Scope is what code in a constructor finds its replica by: what else ends with it, and which models it has.
type Scope struct {
	App, Deployment, Replica string
	Home                     any // as in [Class]

	mu      sync.Mutex
	closers []func(context.Context) error
	models  []string
	told    func([]string)
}

type scopeKey struct{}

// ScopeFrom is the scope of the replica whose constructor received ctx, nil elsewhere.
func ScopeFrom(ctx context.Context) *Scope {
	s, _ := ctx.Value(scopeKey{}).(*Scope)
	return s
}

// OnClose runs f when the replica stops, after the instance's own Close, the latest first.
func (s *Scope) OnClose(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// SetModels says which models the replica has or is loading.
func (s *Scope) SetModels(ids []string) {
	s.mu.Lock()
	s.models = ids
	told := s.told
	s.mu.Unlock()
	if told != nil {
		told(ids)
	}
}

// WatchModels tells f the models now and after every change.
func (s *Scope) WatchModels(f func([]string)) {
	s.mu.Lock()
	s.told = f
	ids := s.models
	s.mu.Unlock()
	if len(ids) > 0 {
		f(ids)
	}
}

// Start makes a replica that is ready: its constructor has returned, config (if it is not nil) was given to Reconfigure,
// and the first health check passed, all within limit. An error, a panic and a nil instance are an *call.Error that says
// in Method which of the three it was, with the user's traceback.
func Start(ctx context.Context, class *Class, id string, config json.RawMessage, limit time.Duration) (*Instance, error) {
	late := fmt.Errorf("it is not ready after construct_timeout_s (%s): %w", limit, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	r := New(id, class)
	r.configuring, r.Scope = make(chan struct{}, 1), &Scope{App: class.App, Deployment: class.Deployment, Replica: id, Home: class.Home}
	step, err := "constructor", r.construct(ctx)
	if err == nil && config != nil {
		step, err = "Reconfigure", r.Reconfigure(ctx, config)
	}
	if err == nil {
		step, err = "CheckHealth", r.CheckHealth(ctx)
	}
	if err != nil {
		if r.Value != nil {
			r.discard(ctx)
		}
		e := *call.AsError(err)
		if errors.Is(&e, late) {
			e = *call.FromCause(late)
		}
		e.App, e.Deployment, e.Replica, e.Method = class.App, class.Deployment, id, step
		return nil, &e
	}
	return r, nil
}

// construct runs the constructor. If it outlives ctx, what it makes is closed.
func (i *Instance) construct(ctx context.Context) error {
	var mu sync.Mutex
	var value any
	left := false
	err := guard(ctx, func() error {
		v, err := i.Class.Construct(context.WithValue(ctx, scopeKey{}, i.Scope))
		if rv := reflect.ValueOf(v); err == nil && (!rv.IsValid() || rv.Kind() == reflect.Pointer && rv.IsNil()) {
			return call.NewError(call.User, "the constructor returned nil and no error")
		}
		mu.Lock()
		if err == nil {
			value = v
		}
		abandoned := left && err == nil
		mu.Unlock()
		if abandoned {
			(&Instance{Value: v, Scope: i.Scope}).discard(ctx)
		}
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	left = true
	i.Value = value // with an error too, if it was made at the moment ctx ended: Start closes it
	return err
}

// discardTime bounds the Close of an instance that never served: nobody should wait for longer to hear why.
const discardTime = 5 * time.Second

// discard closes an instance that is not wanted, although ctx has ended perhaps.
func (i *Instance) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	i.Close(ctx) //nolint:errcheck // why it is not wanted counts
}

// Reconfigure gives the instance a user config. One that an earlier caller has left behind, because its context ended, ends
// first: for example, "b" was given and did not return in time, and then "a" again; the instance is left with "a".
func (i *Instance) Reconfigure(ctx context.Context, config json.RawMessage) error {
	if i.Class.Configure == nil {
		return call.NewError(call.BadInput, "user_config is set, but the deployment has no method Reconfigure(context.Context, C) error")
	}
	if i.configuring != nil {
		select {
		case i.configuring <- struct{}{}:
		case <-ctx.Done():
			return call.EndOf(ctx)
		}
	}
	return guard(ctx, func() error {
		if i.configuring != nil {
			defer func() { <-i.configuring }()
		}
		return i.Class.Configure(ctx, i.Value, config)
	})
}

// CheckHealth asks the instance whether it works; one that cannot tell does.
func (i *Instance) CheckHealth(ctx context.Context) error {
	c, ok := i.Value.(HealthChecker)
	if !ok {
		return nil
	}
	return guard(ctx, func() error { return c.CheckHealth(ctx) })
}

// CanTell says whether the instance has a health check.
func (i *Instance) CanTell() bool {
	_, ok := i.Value.(HealthChecker)
	return ok
}

// Reports says whether the instance has stats for routing.
func (i *Instance) Reports() bool {
	_, ok := i.Value.(RoutingReporter)
	return ok
}

// RoutingStats asks the instance for its stats, as JSON: what a policy reads is the same wherever the replica is, and not
// what the instance goes on writing to.
func (i *Instance) RoutingStats(ctx context.Context, cd *codec.Codec) (stats json.RawMessage, err error) {
	c, ok := i.Value.(RoutingReporter)
	if !ok {
		return nil, nil
	}
	var b []byte
	err = guard(ctx, func() error { // b is not read if it is left behind
		m, err := c.RoutingStats(ctx)
		if err != nil {
			return err
		}
		encoded, err := cd.Append(nil, call.JSON, m)
		if ctx.Err() == nil {
			b = encoded
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// guard runs f on a goroutine of its own, so that a panic and a runtime.Goexit in it become errors, and so that nobody
// waits for it any more when ctx has ended. Go cannot end a function that ignores its context: its goroutine is left. What
// f returns is an *call.Error then, as what a method returns: the error's own methods are the user's code too.
func guard(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() {
		ended := false
		defer func() {
			if !ended {
				done <- call.Recovered(recover())
			}
		}()
		err := f()
		if err != nil {
			err = call.AsError(err)
		}
		ended = true
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
}

// Enter and Leave bracket every execution of a method, on whichever path it came: they are the metrics of the replica.
func (i *Instance) Enter() int64 {
	i.calls.Begin()
	return call.Now()
}

// Leave takes the result of Enter.
func (i *Instance) Leave(entered int64, failed bool) {
	i.calls.End(time.Duration(call.Now()-entered), failed)
}

// Overran is told of a method that ran on its caller's goroutine, and returned err although the caller's context had
// ended: unless err says so, the method has kept its caller waiting.
func (i *Instance) Overran(caller context.Context, err error) {
	if err == nil || !call.Is(err, caller.Err()) && !call.Is(err, call.Cause(caller)) {
		i.calls.Late()
	}
}

// Counts are the executions so far.
func (i *Instance) Counts() telemetry.Counts { return i.calls.Counts() }

// Run executes a method with boxed values. If ctx ended before the method returned, the result is the context's cause,
// whatever the method returned.
func (i *Instance) Run(ctx context.Context, m *Method, in any) (out any, failure *call.Error) {
	entered := i.Enter()
	ended := false
	defer func() {
		if !ended {
			failure = call.Recovered(recover())
		}
		i.Leave(entered, failure != nil)
	}()
	out, err := m.Invoke(ctx, i.Value, in)
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
	if e.Reason != call.User || e.Type != "" {
		return e
	}
	c := *e
	c.Type = reflect.TypeOf(err).String()
	switch inner := call.ErrorIn(e.Cause); {
	case call.Same(e, err): // an error that helve.Public has made: its code and message are copied, and callers compare it by itself
		c.Cause = e
	case inner != nil && inner.Reason == call.User:
		// What wraps an error that says its code and what clients may read adds to the message, which is for the log.
		c.Code, c.Public = inner.Code, inner.Public
	}
	return &c
}

// RunStream executes a method that streams and passes its items to item, until that returns false. It returns how the
// stream ended; breaking off is no error.
func (i *Instance) RunStream(ctx context.Context, m *Method, in any, item func(any) bool) (failure *call.Error) {
	entered := i.Enter()
	ended, broke := false, false
	defer func() {
		if !ended {
			if e := call.Recovered(recover()); failure == nil && !broke { // a method that goes on after it was told to stop
				failure = e
			}
		}
		i.Leave(entered, failure != nil)
	}()
	for v, err := range m.Stream(ctx, i.Value, in) {
		if ctx.Err() != nil {
			failure = call.FromContext(ctx)
			break
		}
		if err != nil {
			failure = UserError(err)
			break
		}
		if !item(v) {
			broke = true
			break
		}
	}
	ended = true
	if failure == nil && ctx.Err() != nil {
		failure = call.FromContext(ctx)
	}
	return failure
}

// Close gives the instance, and then what was made with it, the chance to clean up.
func (i *Instance) Close(ctx context.Context) error {
	var errs []error
	if c, ok := i.Value.(Closer); ok {
		errs = append(errs, guard(ctx, func() error { return c.Close(ctx) }))
	}
	i.Scope.mu.Lock()
	closers := i.Scope.closers
	i.Scope.closers = nil
	i.Scope.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		errs = append(errs, guard(ctx, func() error { return f(ctx) }))
	}
	return errors.Join(errs...)
}

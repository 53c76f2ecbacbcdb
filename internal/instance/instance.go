// Package instance is one live instance of a Go deployment: its life ([Start], [Instance.Reconfigure], [Instance.Close]), its method table
// ([Method]), and the one place where the deployment's own code is entered and its panics end ([Execution]). Slots are not its business: a
// caller has taken one at the replica's gate before.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// Class is the code of a deployment: how to make an instance, and its methods.
// It is immutable after the graph was built.
type Class struct {
	App, Deployment string
	Home            any // the application, as handles find it in the contexts of constructors
	Construct       func(context.Context) (any, error)
	Methods         map[string]*Method
	Default         string // name of the default method, "" for none
	// Configure decodes a user config and gives it to the instance's Reconfigure; nil if it has none.
	Configure func(ctx context.Context, recv any, config json.RawMessage) error
	Errors    *codec.ErrorRegistry // of the application; nil for none
	// Arguments are the arguments of the deployment in another program: MessagePack of [positional, named]. nil if its own program constructs it.
	Arguments []byte
}

// Named is the class as another application has it: under another name, and bound with arguments. It is nil for nil.
func (c *Class) Named(deployment string, arguments []byte) *Class {
	if c == nil {
		return nil
	}
	named := *c
	named.Deployment, named.Arguments = deployment, arguments
	return &named
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

// Closer is implemented by instances that clean up when their replica stops.
type Closer interface{ Close(context.Context) error }

// HealthChecker is implemented by instances that can tell whether they still work.
type HealthChecker interface{ CheckHealth(context.Context) error }

// ReadyChecker is implemented by instances that can tell whether calls should be sent to them now. An error takes the replica out of
// routing, and ends nothing: calls that run go on, and the replica gets calls again when the check passes.
type ReadyChecker interface{ CheckReady(context.Context) error }

// RoutingReporter is implemented by instances that give values to routing policies.
type RoutingReporter interface {
	RoutingStats(ctx context.Context) (map[string]any, error)
}

// AutoscalingReporter is implemented by instances that give numbers to autoscaling policies.
type AutoscalingReporter interface {
	AutoscalingStats(ctx context.Context) (map[string]float64, error)
}

// Instance is the one instance of a replica in this process. Its methods may be called from any goroutine.
type Instance struct {
	ID    string
	Class *Class
	Value any
	Scope *Scope
	// Trace takes the records of calls; nil for none. It is set before the first call.
	Trace trace.Sink

	configuring chan struct{} // of one: full while the instance's Reconfigure runs; nil for a replica that Start did not make

	calls   *telemetry.Calls
	callers *telemetry.Callers // nil for a [Instance.Sibling]
	running *call.Running
}

// separate keeps the counters, which every call writes to, off the cache lines of what every call reads.
type separate struct {
	_       [64]byte
	calls   telemetry.Calls
	_       [64]byte
	running call.Running
	_       [64]byte
	callers telemetry.Callers // which is read by every call, and written to by few
	_       [64]byte
}

// New makes an instance of nothing, for [Start] and for fakes.
func New(id string, class *Class) *Instance {
	s := new(separate)
	return &Instance{ID: id, Class: class, calls: &s.calls, callers: &s.callers, running: &s.running}
}

// Callers are the calls by where they come from.
func (i *Instance) Callers() *telemetry.Callers { return i.callers }

// Running are the calls that the instance executes.
func (i *Instance) Running() []call.RunningCall { return i.running.List() }

// Sibling is the same instance with other counters.
func (i *Instance) Sibling(calls *telemetry.Calls) *Instance {
	return &Instance{ID: i.ID, Class: i.Class, Value: i.Value, Scope: i.Scope, Trace: i.Trace, calls: calls, running: i.running}
}

// Scope is the replica as code in its constructor sees it: code there adds functions that run when the replica ends, and says which models
// the replica has.
type Scope struct {
	App, Deployment, Replica string
	Home                     any                // as in [Class]
	Arguments                []byte             // as in [Class]
	Metrics                  *telemetry.Program // that the code defines

	mu      sync.Mutex
	closers []func(context.Context) error
	loaders []*Loader  // in the order in which the constructor made them
	telling sync.Mutex // held while told runs; taken before mu
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

// Start makes a replica that is ready: its constructor has returned, config (if it is not nil) was given to Reconfigure,
// and the first health check passed, all within limit. An error, a panic and a nil instance are an *call.Error that says
// in Method which of the three it was, with the user's traceback.
func Start(ctx context.Context, class *Class, id string, config json.RawMessage, limit time.Duration) (*Instance, error) {
	late := fmt.Errorf("it is not ready after construct_timeout_s (%s): %w", limit, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	r := New(id, class)
	r.configuring, r.Scope = make(chan struct{}, 1), &Scope{App: class.App, Deployment: class.Deployment, Replica: id, Home: class.Home, Arguments: class.Arguments, Metrics: telemetry.NewProgram(class.App, class.Deployment, id)}
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

// construct runs the constructor. An instance that it returns after the end of ctx is closed.
func (i *Instance) construct(ctx context.Context) error {
	var mu sync.Mutex
	var value any
	left := false
	err := guard(ctx, func() error {
		v, err := i.Class.Construct(context.WithValue(ctx, scopeKey{}, i.Scope))
		if rv := reflect.ValueOf(v); err == nil && (!rv.IsValid() || rv.Kind() == reflect.Pointer && rv.IsNil()) {
			return call.NewError(helvetype.ReasonUser, "the constructor returned nil and no error")
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

// discardTime bounds the Close of an instance that never served, because the error of the start waits for it.
const discardTime = 5 * time.Second

// discard closes an instance that is not wanted, although ctx has ended perhaps.
func (i *Instance) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	i.Close(ctx) //nolint:errcheck // why it is not wanted counts
}

// Reconfigure gives the instance a user config. Configs take effect in the order in which they were given, also when a caller has given up
// before the instance's method returned: for example, "b" was given and did not return in time, and then "a"; "a" waits for the end of
// "b", and is the config that the instance is left with.
func (i *Instance) Reconfigure(ctx context.Context, config json.RawMessage) error {
	if i.Class.Configure == nil {
		return call.NewError(helvetype.ReasonBadInput, "user_config is set, but the deployment has no method Reconfigure(context.Context, C) error")
	}
	if i.configuring != nil {
		select {
		case i.configuring <- struct{}{}:
		case <-ctx.Done():
			return call.EndOf(ctx)
		}
		if ctx.Err() != nil { // given up before it began: another may have been given since
			<-i.configuring
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

// CheckHealth asks the instance whether it works. An instance without a health check is healthy.
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

// CheckReady asks the instance whether calls should be sent to it. An instance without a readiness check is ready.
func (i *Instance) CheckReady(ctx context.Context) error {
	c, ok := i.Value.(ReadyChecker)
	if !ok {
		return nil
	}
	return guard(ctx, func() error { return c.CheckReady(ctx) })
}

// TellsReadiness says whether the instance has a readiness check.
func (i *Instance) TellsReadiness() bool {
	_, ok := i.Value.(ReadyChecker)
	return ok
}

// Reports says whether the instance has stats for routing.
func (i *Instance) Reports() bool {
	_, ok := i.Value.(RoutingReporter)
	return ok
}

// RoutingStats asks the instance for its stats, as JSON: a policy reads the same values wherever the replica is, and no map to which the
// instance still writes.
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

// ReportsLoad says whether the instance has numbers for autoscaling policies.
func (i *Instance) ReportsLoad() bool {
	_, ok := i.Value.(AutoscalingReporter)
	return ok
}

// AutoscalingStats asks the instance for its numbers, which are finite: another one is an error, because neither JSON nor a policy could take it. The map is a copy, which the
// instance does not write to.
func (i *Instance) AutoscalingStats(ctx context.Context) (numbers map[string]float64, err error) {
	c, ok := i.Value.(AutoscalingReporter)
	if !ok {
		return nil, nil
	}
	got := make(chan map[string]float64, 1) // not read if it is left behind
	err = guard(ctx, func() error {
		m, err := c.AutoscalingStats(ctx)
		m = maps.Clone(m)
		for name, number := range m {
			if err == nil && (math.IsNaN(number) || math.IsInf(number, 0)) {
				err = fmt.Errorf("AutoscalingStats must return finite numbers, and has returned %v for %q", number, name)
			}
		}
		got <- m
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-got, nil
}

// Run executes a method with boxed values. If ctx ended before the method returned, the failure is the context's cause.
func (i *Instance) Run(ctx context.Context, m *Method, in any) (out any, failure *call.Error) {
	x := Execution{Of: i, Call: call.InfoFrom(ctx), Caller: ctx}
	x.Run(func() (err error) {
		out, err = m.Invoke(ctx, i.Value, in)
		return err
	})
	if x.Failure != nil {
		return nil, x.Failure
	}
	return out, nil
}

// UserError makes the failure of a call from a method's error, with the name of the error's type. An error that came from a call of
// another deployment stays as it is, so that the caller of a composition sees the failure that began it.
func UserError(err error) *call.Error {
	e := call.AsError(err)
	if e.Reason != helvetype.ReasonUser || e.Type != "" {
		return e
	}
	c := *e
	c.Type = reflect.TypeOf(err).String()
	switch inner := call.ErrorIn(e.Cause); {
	case call.Same(e, err): // an error that helve.Public has made: its code and message are copied, and callers compare it by itself
		c.Cause = e
	case inner != nil && inner.Reason == helvetype.ReasonUser:
		// The method has wrapped an error with a code and a public message: both stay, and the longer message is for the log.
		c.Code, c.Public = inner.Code, inner.Public
	}
	return &c
}

// RunStream executes a method that streams and passes its items to item, until that returns false. It returns how the
// stream ended; breaking off is no error. unread is that of the call.
func (i *Instance) RunStream(ctx context.Context, m *Method, in any, unread *call.Unread, item func(any) bool) *call.Error {
	x := Execution{Of: i, Call: call.InfoFrom(ctx), Caller: ctx, Streams: true, Unread: unread}
	x.Run(func() error {
		for v, err := range m.Stream(ctx, i.Value, in) {
			if ctx.Err() != nil {
				break
			}
			if err != nil {
				x.Stop(err)
				break
			}
			if !item(v) {
				if ctx.Err() == nil { // else the end of ctx is the failure
					x.Stop(nil)
				}
				break
			}
		}
		return nil
	})
	return x.Failure
}

// Close lets the instance clean up, and then runs the functions of its [Scope], the latest first.
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

package instance

import (
	"context"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// Execution is one run of a deployment's own code, and [Execution.Run] the one bracket around it: every method, stream, handler and
// hook of an instance is entered through it, on whichever path the call came. The bracket turns panics and runtime.Goexit into
// failures, counts, and lets the end of the caller's context win over a result that comes after it.
//
// The caller makes an Execution on its stack and reads Failure in a deferred function of its own, where it also gives back the slot. That
// is so because of Goexit: no statement after Run is executed then, and deferred functions are. For example:
//
//	x := instance.Execution{Of: replica, Call: &info, Caller: ctx, Inline: true}
//	defer func() {
//		slot.Gate().Release(nil)
//		err = x.Failure
//	}()
//	x.Run(func() (err error) { out, err = method(ctx, in); return err })
//
// A pair of functions, one before the code and one deferred, was tried before: each of seven places then had the rules of panics,
// streams and late calls written out again.
type Execution struct {
	Of      *Instance       // its counts; nil for code that is no call, such as a constructor
	Call    *call.Info      // for records, and for lists of running calls, which leave out calls that run Inline; nil for code that is no call
	Caller  context.Context // when it has ended, the failure is its cause; nil for none
	Streams bool            // the code is a stream or serves a connection
	Unread  *call.Unread    // of code that streams, as in [call.Call]
	Inline  bool            // the code runs on its caller's goroutine, so that it keeps the caller waiting until it returns

	// Outside is set while a stream is suspended in the body of its caller's loop. A panic then passes through to the caller, whose
	// it is.
	Outside bool
	Failure *call.Error // of the code, after Run
	Panic   any         // value of the panic that Failure tells of, nil without one
	stopped bool
}

// Stop says that the caller takes no more items of a stream: the stream has yielded err, or the caller has broken off, if err is nil. A
// failure of a method that goes on nevertheless comes too late to matter.
func (x *Execution) Stop(err error) {
	x.stopped = true
	if err != nil {
		x.Failure = UserError(err)
	}
}

// Run executes f, which calls the deployment's code and returns its error.
func (x *Execution) Run(f func() error) {
	var entered int64
	var place *call.RunningPlace
	if x.Of != nil {
		x.Of.calls.Begin()
		entered = call.Now()
		if x.Call != nil && !x.Inline {
			place = x.Of.running.Enter(x.Call, entered, x.Streams, x.Unread)
		}
	}
	returned := false
	defer func() {
		if !returned && !x.Outside {
			x.Panic = recover()
			if !x.stopped {
				x.Failure = call.Recovered(x.Panic)
			}
		}
		if x.Of != nil {
			place.Leave()
			ended := call.Now()
			if took := time.Duration(ended - entered); x.Failure != nil && x.Failure.Reason == helvetype.ReasonCancelled {
				x.Of.calls.Cancel(took)
			} else {
				x.Of.calls.End(took, x.Failure != nil)
			}
			if x.Call != nil {
				x.Of.callers.End(CallerOf(x.Call), x.Failure != nil && x.Failure.Reason != helvetype.ReasonCancelled)
			}
			if x.Call != nil && trace.Wants(ended-entered, x.Failure != nil, x.Call) {
				x.record(entered, ended)
			}
		}
	}()
	err := f()
	returned = true
	switch brokenOff := x.stopped && x.Failure == nil; {
	case x.Caller != nil && !brokenOff && x.Caller.Err() != nil:
		// Code that has kept its caller waiting says nothing of the end of the caller's context.
		if x.Inline && x.Of != nil && (err == nil || !call.Is(err, x.Caller.Err()) && !call.Is(err, call.Cause(x.Caller))) {
			x.Of.calls.Late()
		}
		x.Failure = call.FromContext(x.Caller)
	case err == nil || x.stopped:
	case x.Of == nil:
		x.Failure = call.AsError(err)
	default:
		x.Failure = UserError(err)
	}
}

// CallerOf is where a call comes from whose caller is in this process.
func CallerOf(i *call.Info) telemetry.Caller {
	switch a := i.Above; {
	case a != nil && a.Place != nil:
		return telemetry.Caller{Kind: telemetry.FromDeployment, App: a.App, Deployment: a.Deployment}
	case a != nil:
		return telemetry.Caller{} // it is not known
	case i.Place != nil && i.Prefix != "":
		return telemetry.Caller{Kind: telemetry.FromHTTP}
	}
	return telemetry.Caller{Kind: telemetry.FromDriver}
}

// record leaves a record of a call.
func (x *Execution) record(entered, ended int64) {
	kind := trace.Call
	switch {
	case x.Call.Control:
		kind = trace.Broadcast
	case x.Streams:
		kind = trace.Stream
	}
	trace.Ended(x.Of.Trace, x.Call, kind, entered, ended, x.Failure)
}

// guard runs a hook of an instance, such as its constructor, on a goroutine of its own, and waits until it returns or ctx ends. Go cannot
// end a function that ignores its context: its goroutine is left behind.
func guard(ctx context.Context, hook func() error) error {
	done := make(chan error, 1)
	go func() {
		var x Execution
		defer func() {
			if x.Failure != nil {
				done <- x.Failure
				return
			}
			done <- nil
		}()
		x.Run(hook)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
}

// Calls are the counters of the executions.
func (i *Instance) Calls() *telemetry.Calls { return i.calls }

// Counts are the executions so far.
func (i *Instance) Counts() telemetry.Counts { return i.calls.Counts() }

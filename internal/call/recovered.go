package call

import (
	"fmt"
	"runtime/debug"
)

// Recovered is the error for a recovered panic value; nil stands for runtime.Goexit. It is called in the deferred
// function, where the stack still shows the panic.
func Recovered(v any) *Error {
	e := &Error{Code: Unknown, Reason: User, Type: "panic", Traceback: string(debug.Stack())}
	if v == nil {
		e.Type, e.Message = "goexit", "the function ended its goroutine with runtime.Goexit"
		return e
	}
	e.Message = fmt.Sprintf("panic: %v", v)
	if err, ok := v.(error); ok {
		e.Cause = err
	}
	return e
}

package call

import (
	"fmt"
	"runtime/debug"

	"github.com/helve-serve/helve/helvetype"
)

// Recovered returns the error for a recovered panic value; nil stands for runtime.Goexit. The deferred function that recovers
// must call it, because the stack still shows the panic there.
func Recovered(v any) *Error {
	e := &Error{Code: helvetype.CodeUnknown, Reason: helvetype.ReasonUser, Type: "panic", Traceback: string(debug.Stack())}
	if v == nil {
		e.Type, e.Message = "goexit", "the function ended its goroutine with runtime.Goexit"
		return e
	}
	e.Message = "panic: " + shown(v)
	if err, ok := v.(error); ok {
		e.Cause = Hold(err, e.Message)
	}
	return e
}

// shown returns a panic value as text. It guards fmt, which runs the methods of the value and of its parts.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case error:
		return TextOf(v)
	}
	text, ok := aside(func() string { return fmt.Sprint(v) })
	if !ok {
		return silent(v, "String")
	}
	return text
}

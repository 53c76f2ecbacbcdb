// Package response has the answers to come of calls that are under way. Package client and the
// generic types of package helve begin the call, hand its [call.Canceler] over with [State.Carry], and report its end; this package
// does not know how a call is made.
//
// [State] is the part that all answers share: it ends once, has waiters, and is cancelled by its caller or by the end of a context. A
// cancel ends the answer for its caller at once, and asks the call to end. [Response] adds the value of one result in its encoded
// form, which may be in another process until it is read. [Stream] adds the items between a method and its one reader.
//
// For example, a call that is cancelled before its flight has set out:
//
//	var r response.Response
//	r.Info = &info
//	r.Cancel(context.Canceled) // the caller gets an error with reason cancelled, now
//	r.Carry(flight)            // cancels the flight: its caller does not wait any more
//	r.Complete(nil, result)    // has no effect, and releases the result
//
// The mutex of a State is not held while a function of a caller or of the call runs.
package response

package serving

import (
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Fault looks at a call that has failed at a replica, and reports the failure if it is one of the system: the call was lost on its way or
// with its process, the replica is not where it should be, Helve itself has failed, or the deadline passed without an answer. Errors of the user's code
// and of arguments are no fault of the replica. It is called for failures only, so that a call that ends well pays nothing.
//
// For example, a call passes its deadline in a method that waits for a lock: that is a fault. A method that has called another deployment, and fails because
// that call has passed its deadline, is no fault here: the flight of the inner call has reported it.
func Fault(r Replica, i *call.Info, e *call.Error) {
	b := r.base()
	if b.failed == nil || e.Replica != "" && e.Replica != r.ID() {
		return
	}
	if p := i.Place; e.Deployment != "" && (p == nil || e.Deployment != p.Deployment || e.App != p.App) {
		return
	}
	switch e.Reason {
	case helvetype.ReasonDeadline, helvetype.ReasonReplicaUnavailable, helvetype.ReasonReplicaDied, helvetype.ReasonMayHaveRun, helvetype.ReasonInternal:
		b.Faulted(e.Message)
	}
}

// progressor is implemented by receivers of items that know whether one has come.
type progressor interface{ Progressed() bool }

// fault is [Fault] for the call of a flight. A deadline that ends a stream is no fault if an item has come, because the replica works, or if the receiver of the
// items does not know.
func (f *Flight) fault(r Replica, e *call.Error) {
	if items := f.call.Items; items != nil && e.Reason == helvetype.ReasonDeadline {
		if p, ok := items.(progressor); !ok || p.Progressed() {
			return
		}
	}
	Fault(r, &f.call.Info, e)
}

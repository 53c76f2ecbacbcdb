package serving

import (
	"context"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestCountEnds: a call that its caller has ended, such as a stream that its reader has closed, has not failed; one whose deadline has passed has.
func TestCountEnds(t *testing.T) {
	t.Parallel()
	r := &fakeReplica{}
	r.Init(t.Context(), "D#1", "node", 1)
	for _, err := range []*call.Error{nil, call.FromCause(context.Canceled), call.FromCause(context.DeadlineExceeded), call.NewError(helvetype.ReasonUser, "no model")} {
		at := r.begin(r, &call.Call{Info: call.Info{Place: &call.Place{App: "app", Deployment: "D"}}})
		r.count(r, at, call.Result{Err: err})
	}
	if k := r.Calls().Counts(); k.Started != 4 || k.Ended() != 4 || k.Failed != 2 || k.Cancelled != 1 {
		t.Errorf("%+v", k)
	}
}

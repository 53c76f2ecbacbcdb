package control

import (
	"context"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/why"
)

// Requests lists the requests that the node keeps: those that have failed, were slow, or are sampled. They are there for some minutes, and gone with the node.
func (o *Operator) Requests(_ context.Context, q helvetype.RequestQuery) (helvetype.RequestList, error) {
	list := o.set.Trace.List(q)
	if q.App != "" && len(list.Requests) == 0 {
		if err := o.absent(q.App, ""); err != nil {
			return list, err
		}
	}
	return list, nil
}

// Request has one request with what took time in it, and why it did. Of a request that is not kept it has what the node knows still: of a request that has ended well and
// quickly, nothing. A request that has ended just now may have spans that workers still report: it waits for them, a quarter of a second at most.
func (o *Operator) Request(ctx context.Context, id string) (helvetype.RequestTrace, error) {
	k, kept, ok := o.set.Trace.Find(call.ParseID(id))
	if left := k.Left(time.Now()); ok && left > 0 {
		wait := time.NewTimer(left)
		defer wait.Stop()
		select {
		case <-wait.C:
			k, kept, ok = o.set.Trace.Find(call.ParseID(id))
		case <-ctx.Done():
		}
	}
	if !ok {
		return helvetype.RequestTrace{}, &helvetype.OperationError{
			Code:    helvetype.CodeNotFound,
			Message: fmt.Sprintf("the node knows nothing of a request %q: it keeps requests that have failed, were slow or are sampled, for some minutes", id),
			Next:    "helve why --failed and helve why --slow list the requests that are kept, and helve calls those that run",
		}
	}
	v := k.View(kept)
	o.set.Trace.MarkStalls(&v)
	v.Sentence, v.Next = why.Request(&v, o.set.Node.Status(), o.set.Events)
	return v, nil
}

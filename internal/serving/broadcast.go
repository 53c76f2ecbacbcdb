package serving

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// relayedBroadcast is a broadcast of a caller in another process. Its answers travel as a stream (docs/wire.md): first the list of
// replicas, then the answer of each replica with its place in the list, in the order in which they end.
type relayedBroadcast struct {
	in    *wire.Incoming
	timer *time.Timer

	mu    sync.Mutex
	calls []*ControlCall
	left  int   // answers to come, and one until all were asked
	gone  error // why it was cancelled
}

// broadcastAnswer is told the answer of one replica.
type broadcastAnswer struct {
	all   *relayedBroadcast
	index int
}

// relayBroadcast asks every replica that the deployment has. b is the batch of the caller's reader.
func (d *Deployment) relayBroadcast(b *call.Batch, in *wire.Incoming) call.Canceler {
	fail := func(e *call.Error) call.Canceler {
		in.Complete(b, call.Result{Err: e.At(&in.Info)})
		return nil
	}
	if in.Items == nil {
		return fail(call.NewError(helvetype.ReasonBadInput, "a broadcast without a window for its answers"))
	}
	targets, e := d.Targets()
	if e != nil {
		return fail(e)
	}
	type target struct {
		Replica string `json:"replica"`
		Node    string `json:"node"`
	}
	list := make([]target, len(targets))
	for i, r := range targets {
		list[i] = target{r.ID(), r.Node()}
	}
	head, err := json.Marshal(list)
	if err != nil {
		return fail(call.NewError(helvetype.ReasonInternal, err.Error()))
	}
	if e := in.Send(b, call.Payload{Codec: call.JSON, Data: head}); e != nil {
		return fail(e)
	}
	in.Keep()
	all := &relayedBroadcast{in: in, left: 1 + len(targets)}
	if in.Left > 0 {
		all.timer = time.AfterFunc(in.Left, func() { all.Cancel(nil, context.DeadlineExceeded) })
	}
	slots := wire.Slots(in.Encoded)
	for i, r := range targets {
		c := &call.Call{Info: in.Info, Slots: slots, Deadline: in.Deadline, Origin: in.Origin, Want: in.Want, Above: in.Above}
		c.Info.Call += uint64(i) // the calls of one broadcast are told apart in logs
		e := d.SubmitControl(r, c, &broadcastAnswer{all, i})
		all.mu.Lock()
		all.calls = append(all.calls, e)
		gone := all.gone
		all.mu.Unlock()
		if gone != nil {
			e.Cancel(b, gone)
		}
	}
	all.finish(b)
	return all
}

// Complete sends the answer on.
func (a *broadcastAnswer) Complete(b *call.Batch, r call.Result) {
	if e := a.all.in.Send(b, wire.Answer(a.index, r)); e != nil { // too large: that is its answer, and the others are not concerned
		a.all.in.Send(b, wire.Answer(a.index, call.Result{Err: e})) //nolint:errcheck // this one is small
	}
	a.all.finish(b)
}

// finish ends the stream when the last has answered and all were asked.
func (a *relayedBroadcast) finish(b *call.Batch) {
	a.mu.Lock()
	a.left--
	over := a.left == 0
	a.mu.Unlock()
	if over {
		if a.timer != nil {
			a.timer.Stop()
		}
		a.in.Complete(b, call.Result{})
	}
}

// Cancel ends the calls that have not ended.
func (a *relayedBroadcast) Cancel(b *call.Batch, cause error) {
	a.mu.Lock()
	calls := a.calls
	a.gone = cause
	a.mu.Unlock()
	for _, e := range calls {
		e.Cancel(b, cause)
	}
}

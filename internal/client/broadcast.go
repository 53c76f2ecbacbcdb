package client

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/response"
	"github.com/helve-serve/helve/internal/wire"
)

// Broadcast is one call to every replica of a deployment, under way. In a node each replica gets a call of its own. In a worker the node
// makes these calls, and the worker gets the answers as the items of one call; the first item has the list of the replicas
// (docs/wire.md). For example, with three replicas the node sends four items.
type Broadcast struct {
	// Info describes the calls, without the replica.
	Info call.Info

	known     chan struct{} // closed when the two below are set; nil if they are from the start
	failure   *call.Error   // the failure of the whole broadcast: no call was sent
	answers   []*Answer
	gathering *gathering // in a worker; nil in a node
}

// Answer is the answer to come of one replica.
type Answer struct {
	*response.Response
	// Node is the node of the replica.
	Node string
}

// ownCall is an answer with the description of its call.
type ownCall struct {
	response.Response
	info call.Info
}

// newAnswer makes the answer to come of a replica.
func newAnswer(common call.Info, replica, node string) *Answer {
	own := &ownCall{info: common}
	own.info.Replica = replica
	own.Info = &own.info
	return &Answer{&own.Response, node}
}

// Complete keeps the answer.
func (a *Answer) Complete(_ *call.Batch, res call.Result) {
	if len(res.Data) > 0 {
		res.Data = append([]byte(nil), res.Data...)
	}
	a.Keep(res)
}

// Begin sends the calls.
func (r *Broadcast) Begin(ctx context.Context, b *Binding, in any) {
	b.Fill(ctx, &r.Info)
	d := b.Deployment.Current()
	switch {
	case ctx.Err() != nil:
		r.failure = call.FromContext(ctx)
	case d == nil && b.Deployment.Port.Load() != nil:
		r.gather(ctx, b, in)
		return
	case d == nil:
		r.failure = NotRunning()
	default:
		targets, e := d.Targets()
		r.failure = e
		for _, t := range targets {
			a := newAnswer(r.Info, t.ID(), t.Node())
			a.Info.Call = rand.Uint64()
			a.Carry(d.SubmitControl(t, b.Call(ctx, *a.Info, in), a))
			a.Watch(ctx, a)
			r.answers = append(r.answers, a)
		}
	}
	if r.failure != nil {
		r.failure = r.failure.At(&r.Info)
	}
}

// BeginFake makes the call of a [Fake] the only one of the broadcast.
func (r *Broadcast) BeginFake(one *response.Response) {
	r.Info.Request = one.Info.Request
	r.answers = []*Answer{{Response: one}}
}

// Fail ends the broadcast with a failure before a call is sent.
func (r *Broadcast) Fail(e *call.Error) { r.failure = e }

// Answers waits until the replicas are known, and returns their answers to come. The failure is that of the whole broadcast, or that of
// ctx if that ends first.
func (r *Broadcast) Answers(ctx context.Context) ([]*Answer, *call.Error) {
	if r.known != nil {
		select {
		case <-r.known:
		case <-ctx.Done():
			return nil, call.FromContext(ctx)
		}
	}
	return r.answers, r.failure
}

// Cancel ends the calls that have not ended.
func (r *Broadcast) Cancel() {
	if r.gathering != nil {
		r.gathering.Cancel(context.Canceled)
		return
	}
	for _, a := range r.answers {
		a.Cancel(context.Canceled)
	}
}

// gathering is a broadcast that the node makes for a caller in a worker.
type gathering struct {
	response.State
	broadcast *Broadcast
}

func (r *Broadcast) gather(ctx context.Context, b *Binding, in any) {
	g := &gathering{broadcast: r}
	g.Info = &r.Info
	r.known, r.gathering = make(chan struct{}), g
	c := b.Call(ctx, r.Info, in)
	c.Mode, c.Items, c.Window = call.Broadcast, g, call.Window{Items: math.MaxUint32, Bytes: math.MaxUint32}
	g.Carry(b.Submit(c, g))
	g.Watch(ctx, g)
}

// Item is not used: the items come over a wire.
func (g *gathering) Item(context.Context, call.Payload) bool { return false }

// Frame takes answers.
func (g *gathering) Frame(_ *call.Batch, _ call.Source, frame []byte) {
	frame = append([]byte(nil), frame...)
	for len(frame) > 0 {
		p, rest, ok := call.NextItem(frame)
		if !ok {
			return
		}
		frame = rest
		if g.broadcast.answers == nil {
			g.asked(p)
			continue
		}
		i, res, err := wire.ParseAnswer(p)
		if err == nil && i < len(g.broadcast.answers) {
			g.broadcast.answers[i].Complete(nil, res)
		}
	}
}

// asked notes the replicas that the node has called.
func (g *gathering) asked(p call.Payload) {
	var list []struct {
		Replica string `json:"replica"`
		Node    string `json:"node"`
	}
	if err := json.Unmarshal(p.Data, &list); err != nil {
		g.Complete(nil, call.Result{Err: call.NewError(helvetype.ReasonInternal, "broadcast: "+err.Error())})
		return
	}
	answers := make([]*Answer, len(list))
	for i, t := range list {
		answers[i] = newAnswer(g.broadcast.Info, t.Replica, t.Node)
	}
	if g.Update(func() { g.broadcast.answers = answers }) {
		close(g.broadcast.known)
	}
}

// Complete ends the broadcast: the replicas that have not answered never will.
func (g *gathering) Complete(_ *call.Batch, r call.Result) {
	unknown := false
	if !g.End(r.Err, func() { unknown = g.broadcast.answers == nil }) {
		return
	}
	e := r.Err
	if e == nil {
		e = call.NewError(helvetype.ReasonInternal, "the broadcast ended without an answer").At(g.Info)
	}
	if unknown {
		g.broadcast.failure = e
		close(g.broadcast.known)
		return
	}
	for _, a := range g.broadcast.answers {
		a.End(e, nil)
	}
}

// Cancel ends the broadcast for its caller at once, and asks the replicas to end.
func (g *gathering) Cancel(cause error) {
	flight, e := g.Cancelling(cause)
	g.Complete(nil, call.Result{Err: e})
	if flight != nil {
		flight.Cancel(nil, cause)
	}
}

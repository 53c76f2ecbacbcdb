package wire

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// References stores results in the node. A caller gets a reference to a result instead of the value if it has asked for
// that, or if the result is large, so that the value is sent only when the caller reads it. See docs/wire.md, "Values in
// parts".
type References interface {
	// Keep stores a result and returns its number. The memory of the result does not change any more; Keep takes a
	// reference to what p shares. failure is not nil if a limit is reached.
	Keep(p call.Payload) (number uint64, failure *call.Error)
}

// kept is a result that the node on the other side stores.
type kept struct {
	*keptHandle
	size    int
	cleanup runtime.Cleanup
}

// keptHandle is a struct of its own, so that the cleanup function does not keep the kept value reachable.
type keptHandle struct {
	peer    *Peer
	id      uint64
	dropped atomic.Bool
}

func newKept(p *Peer, id uint64, size int) *kept {
	k := &kept{keptHandle: &keptHandle{peer: p, id: id}, size: size}
	k.cleanup = runtime.AddCleanup(k, (*keptHandle).drop, k.keptHandle)
	return k
}

func (k *keptHandle) drop() {
	if !k.dropped.CompareAndSwap(false, true) {
		return
	}
	if _, err := k.peer.conn.Append(Header{Type: TypeDrop, ID: k.id}, nil); err == nil {
		k.peer.conn.Flush()
	}
}

// Len is the length of the encoded value in bytes.
func (k *kept) Len() int { return k.size }

// Read fetches the result from the node and calls f with its bytes.
func (k *kept) Read(f func(b []byte) error) error {
	p, failure := k.Fetch(context.Background())
	if failure != nil {
		return failure
	}
	defer p.Release()
	return p.Read(func(b []byte, buffers [][]byte) error {
		if len(buffers) > 0 {
			return errors.New("the result has buffers out of band")
		}
		return f(b)
	})
}

// Release tells the node to drop the result.
func (k *kept) Release() {
	k.cleanup.Stop()
	k.drop()
	runtime.KeepAlive(k)
}

// Fetch reads the result from the node, which continues to store it.
func (k *kept) Fetch(ctx context.Context) (call.Payload, *call.Error) {
	w := call.NewWaiter()
	c := &call.Call{Mode: call.Fetch, Kept: k.id}
	c.Info.Request = call.NewID()
	id := k.peer.Start(nil, 0, c, 0, w)
	p, failure := w.Wait(ctx, fetchCancel{k.peer, id, w})
	if failure != nil && (failure.Reason == helvetype.ReasonReplicaDied || failure.Reason == helvetype.ReasonReplicaUnavailable) {
		failure = call.NewError(helvetype.ReasonDataLoss, fmt.Sprintf("a result of %d bytes was lost with the node that kept it", k.size))
	}
	return p, failure
}

// fetchCancel completes a Fetch for its caller at once, when the caller's context ends.
type fetchCancel struct {
	peer *Peer
	id   uint64
	sink call.Sink
}

func (f fetchCancel) Cancel(b *call.Batch, cause error) {
	f.peer.mu.Lock()
	o, live := f.peer.calls[f.id]
	live = live && o.sink == f.sink
	if live { // the call is in flight until its END comes
		o.sink = discardSink{}
		f.peer.calls[f.id] = o
	}
	f.peer.mu.Unlock()
	if live {
		f.sink.Complete(b, call.Result{Err: call.FromCause(cause)})
	}
}

// discardSink is the sink of a call whose caller has given up.
type discardSink struct{}

func (discardSink) Complete(_ *call.Batch, r call.Result) { r.Release() }

// FetchKept returns p with a value that is in this process. If p is a reference to a result that the node stores, it
// fetches the result; otherwise the result is p itself. The caller releases both payloads.
func FetchKept(ctx context.Context, p call.Payload) (call.Payload, *call.Error) {
	if p.Parts == nil || p.Parts.Main == nil {
		return p, nil
	}
	k, ok := p.Parts.Main.View().(*kept)
	if !ok {
		return p, nil
	}
	return k.Fetch(ctx)
}

// IsKept returns true if p is a reference to a result that the node stores.
func IsKept(p call.Payload) bool {
	if p.Parts == nil || p.Parts.Main == nil {
		return false
	}
	_, ok := p.Parts.Main.View().(*kept)
	return ok
}

package wire

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// References are results that a node keeps for a caller that asked for it, or that are so large that they are better left
// where they are until somebody reads them. See docs/wire.md.
type References interface {
	// Keep keeps a result, whose memory does not change any more, and gives its number. It takes a user of what p shares.
	// An error says that a limit is reached.
	Keep(p call.Payload) (number uint64, failure *call.Error)
}

// kept is a result that the node at the other side keeps.
type kept struct {
	*keptHandle
	size    int
	cleanup runtime.Cleanup
}

// keptHandle is apart from kept, so that the cleanup of one that was forgotten does not keep it reachable.
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

// Read fetches the result.
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

// Release tells the node that nobody needs the result any more.
func (k *kept) Release() {
	k.cleanup.Stop()
	k.drop()
	runtime.KeepAlive(k)
}

// Fetch gets the result from the node, where it stays.
func (k *kept) Fetch(ctx context.Context) (call.Payload, *call.Error) {
	w := call.NewWaiter()
	c := &call.Call{Mode: call.Fetch, Kept: k.id}
	c.Info.Request = call.NewID()
	id := k.peer.Start(nil, 0, c, 0, w)
	p, failure := w.Wait(ctx, fetchCancel{k.peer, id, w})
	if failure != nil && (failure.Reason == call.ReplicaDied || failure.Reason == call.ReplicaUnavailable) {
		failure = call.NewError(call.Lost, fmt.Sprintf("a result of %d bytes was lost with the node that kept it", k.size))
	}
	return p, failure
}

// fetchCancel is cancelled for its caller at once.
type fetchCancel struct {
	peer *Peer
	id   uint64
	sink call.Sink
}

func (f fetchCancel) Cancel(b *call.Batch, cause error) {
	f.peer.mu.Lock()
	o, live := f.peer.calls[f.id]
	live = live && o.sink == f.sink
	if live { // it is under way until its end comes
		o.sink = discardSink{}
		f.peer.calls[f.id] = o
	}
	f.peer.mu.Unlock()
	if live {
		f.sink.Complete(b, call.Result{Err: call.FromCause(cause)})
	}
}

// discardSink is told the end of a call that its caller has given up.
type discardSink struct{}

func (discardSink) Complete(_ *call.Batch, r call.Result) { r.Release() }

// FetchKept is p with what a node keeps of it brought here: p itself if there is nothing of the kind. The caller releases both.
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

// IsKept says that p is kept at the other side of a connection.
func IsKept(p call.Payload) bool {
	if p.Parts == nil || p.Parts.Main == nil {
		return false
	}
	_, ok := p.Parts.Main.View().(*kept)
	return ok
}

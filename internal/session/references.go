package session

import (
	"fmt"
	"slices"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// The default limits of the results that a node keeps, over all its callers.
const (
	keptBytes   = 256 << 20
	keptResults = 1 << 16
)

// Results counts the results that the node keeps for callers in other processes until they are read
// (wire.References). The bytes of a result in an arena count there; here it counts as one result.
type Results struct {
	mu      sync.Mutex
	most    int64 // bytes
	bytes   int64
	results int
	refused uint64 // ever
}

// NewResults bounds the results that a node keeps: limit in bytes, 0 for 256 MiB.
func NewResults(limit int64) *Results {
	if limit == 0 {
		limit = keptBytes
	}
	return &Results{most: limit}
}

func (k *Results) take(n int64) *call.Error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes+n > k.most || k.results == keptResults {
		k.refused++
		return call.NewError(helvetype.ReasonTooLarge, fmt.Sprintf(
			"the result of %d bytes cannot be kept: the node keeps %d bytes in %d results for its callers, at most %d bytes (ReferenceLimit) and %d results are possible; read, close or forget some",
			n, k.bytes, k.results, k.most, keptResults))
	}
	k.bytes += n
	k.results++
	return nil
}

func (k *Results) give(results int, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.results -= results
	k.bytes -= bytes
}

// accountedBytes is memory of a kept result, which counts until the last who uses it has released it: calls that the result was passed
// to use it after its caller has dropped it.
type accountedBytes struct {
	call.Bytes
	results *Results
}

// Heap is the bytes, which stay valid as long as they have a user, so that a send need not copy them.
func (c accountedBytes) Heap() []byte { return c.Bytes }

// Release gives their room back.
func (c accountedBytes) Release() { c.results.give(0, int64(len(c.Bytes))) }

// Status is the account as users see it; nil if nothing was ever kept.
func (k *Results) Status() *helvetype.References {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.results == 0 && k.bytes == 0 && k.refused == 0 {
		return nil
	}
	return &helvetype.References{Bytes: k.bytes, Results: k.results, Refused: k.refused}
}

// resultTable has the results that the node keeps for one connection.
type resultTable struct {
	mu   sync.Mutex
	last uint64
	has  map[uint64]call.Payload
	over bool
}

// Keep keeps a result for the other side.
func (s *Session) Keep(p call.Payload) (uint64, *call.Error) {
	size := int64(len(p.Data))
	if p.Parts != nil {
		for _, b := range p.Parts.Buffers {
			size += int64(len(b.Data))
		}
	}
	if failure := s.set.Results.take(size); failure != nil {
		return 0, failure
	}
	p.Keep()
	p = s.set.Results.count(p)
	k := &s.kept
	k.mu.Lock()
	k.last++
	number := k.last
	over := k.over
	if !over {
		if k.has == nil {
			k.has = map[uint64]call.Payload{}
		}
		k.has[number] = p
	}
	k.mu.Unlock()
	if over { // its reader has gone
		p.Release()
		s.set.Results.give(1, 0)
	}
	return number, nil
}

// count has every byte of p in something shared.
func (k *Results) count(p call.Payload) call.Payload {
	parts := &call.Parts{}
	if p.Parts != nil {
		parts = &call.Parts{Main: p.Parts.Main, Buffers: slices.Clone(p.Parts.Buffers)}
	}
	if parts.Main == nil {
		parts.Main = call.NewShared(accountedBytes{p.Data, k})
	}
	for i, b := range parts.Buffers {
		if b.Shared == nil {
			parts.Buffers[i] = call.Segment{Shared: call.NewShared(accountedBytes{b.Data, k})}
		}
	}
	return call.Payload{Codec: p.Codec, Parts: parts}
}

// Drop forgets a result that the other side does not need any more.
func (s *Session) Drop(number uint64) {
	k := &s.kept
	k.mu.Lock()
	r, ok := k.has[number]
	delete(k.has, number)
	k.mu.Unlock()
	if ok {
		r.Release()
		s.set.Results.give(1, 0)
	}
}

// dropAll forgets the results of the other side when it went.
func (s *Session) dropAll() {
	k := &s.kept
	k.mu.Lock()
	has := k.has
	k.has, k.over = nil, true
	k.mu.Unlock()
	for _, r := range has {
		r.Release()
		s.set.Results.give(1, 0)
	}
}

// look finds a result and takes a user of it.
func (s *Session) look(number uint64) (call.Payload, *call.Error) {
	k := &s.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.has[number]
	if !ok {
		return call.Payload{}, call.NewError(helvetype.ReasonDataLoss, fmt.Sprintf("result %d is not kept any more", number))
	}
	r.Keep()
	return r, nil
}

// fetch answers with a result that is kept.
func (s *Session) fetch(b *call.Batch, in *wire.Incoming) call.Canceler {
	p, failure := s.look(in.Kept)
	in.Complete(b, call.Result{Payload: p, Err: failure})
	return nil
}

// resolve lets the caller have its result by reference, and puts the results that it refers to in the place of their
// numbers among the arguments.
func (s *Session) resolve(in *wire.Incoming) *call.Error {
	if in.Mode == call.Run && in.Items == nil {
		switch o := in.Options; {
		case o != nil && o.ByValue:
		case o != nil && o.ByReference:
			in.References, in.Over = s, 0
		case s.set.ReferenceOver > 0:
			in.References, in.Over = s, s.set.ReferenceOver
		}
	}
	if !in.Encoded.Held {
		return nil
	}
	return wire.Resolve(&in.Encoded, s.look)
}

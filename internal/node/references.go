package node

import (
	"fmt"
	"sync"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
)

// The limits of what a node keeps of results, over all its callers, where nothing is configured.
const (
	keptBytes   = 256 << 20
	keptResults = 1 << 16
)

// keeping counts what the node keeps for callers in other processes: results that they asked to stay here until they are
// read (wire.References). What lies in an arena counts there, and as a result here.
type keeping struct {
	mu      sync.Mutex
	most    int64 // bytes
	bytes   int64
	results int
	refused uint64 // ever
}

func (k *keeping) take(n int64) *call.Error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes+n > k.most || k.results == keptResults {
		k.refused++
		return call.NewError(call.TooLarge, fmt.Sprintf(
			"the result of %d bytes cannot be kept: the node keeps %d bytes in %d results for its callers, at most %d bytes (ReferenceLimit) and %d results are possible; read, close or forget some",
			n, k.bytes, k.results, k.most, keptResults))
	}
	k.bytes += n
	k.results++
	return nil
}

func (k *keeping) give(n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bytes -= n
	k.results--
}

func (k *keeping) status() *spec.References {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.results == 0 && k.refused == 0 {
		return nil
	}
	return &spec.References{Bytes: k.bytes, Results: k.results, Refused: k.refused}
}

// shelf has the results that the node keeps for one connection.
type shelf struct {
	mu   sync.Mutex
	last uint64
	has  map[uint64]keptResult
	over bool
}

type keptResult struct {
	call.Payload
	size int64
}

// Keep keeps a result for the other side.
func (s *session) Keep(p call.Payload) (uint64, *call.Error) {
	size := int64(len(p.Data))
	if p.Parts != nil {
		for _, b := range p.Parts.Buffers {
			size += int64(len(b.Data))
		}
	}
	if failure := s.node.keeping.take(size); failure != nil {
		return 0, failure
	}
	k := &s.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	if k.over { // there is nobody any more to read it
		s.node.keeping.give(size)
		return k.last, nil
	}
	p.Keep()
	if k.has == nil {
		k.has = map[uint64]keptResult{}
	}
	k.has[k.last] = keptResult{p, size}
	return k.last, nil
}

// Drop forgets a result that nobody needs any more.
func (s *session) Drop(number uint64) {
	k := &s.kept
	k.mu.Lock()
	r, ok := k.has[number]
	delete(k.has, number)
	k.mu.Unlock()
	if ok {
		r.Release()
		s.node.keeping.give(r.size)
	}
}

// dropAll forgets what the other side had when it went.
func (s *session) dropAll() {
	k := &s.kept
	k.mu.Lock()
	has := k.has
	k.has, k.over = nil, true
	k.mu.Unlock()
	for _, r := range has {
		r.Release()
		s.node.keeping.give(r.size)
	}
}

// look finds a result and takes a user of it.
func (s *session) look(number uint64) (call.Payload, *call.Error) {
	k := &s.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.has[number]
	if !ok {
		return call.Payload{}, call.NewError(call.Lost, fmt.Sprintf("result %d is not kept any more", number))
	}
	r.Keep()
	return r.Payload, nil
}

// fetch answers with a result that is kept.
func (s *session) fetch(b *call.Batch, in *wire.Incoming) call.Canceler {
	p, failure := s.look(in.Kept)
	in.Complete(b, call.Result{Payload: p, Err: failure})
	return nil
}

// referring lets the caller have its result by reference, and puts the results that it refers to in the place of their
// numbers among the arguments.
func (s *session) referring(in *wire.Incoming) *call.Error {
	if in.Mode == call.Run && in.Items == nil {
		switch o := in.Options; {
		case o != nil && o.ByValue:
		case o != nil && o.ByReference:
			in.References, in.Over = s, 0
		case s.referenceOver > 0:
			in.References, in.Over = s, s.referenceOver
		}
	}
	if !in.Encoded.Held {
		return nil
	}
	return wire.Resolve(&in.Encoded, s.look)
}

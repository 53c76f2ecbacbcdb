package trace

import "sync"

// ring has the newest records. Its memory grows with use, a chunk at a time: a node without slow or failed calls has none. The zero ring is ready.
type ring struct {
	mu     sync.Mutex
	chunks [ringChunks][]Record
	next   uint64 // number of records so far; the record n is at n % ringSize
}

const (
	chunkSize  = 256
	ringChunks = 128
	ringSize   = ringChunks * chunkSize
)

func (r *ring) add(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.next % ringSize
	c := &r.chunks[at/chunkSize]
	if *c == nil {
		*c = make([]Record, chunkSize)
	}
	(*c)[at%chunkSize] = *rec
	r.next++
}

// written is the number of records so far.
func (r *ring) written() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// back visits the records from number `from`, which is not included, down to number `to`, newest first, until visit returns false. Records that are overwritten meanwhile
// are left out. It holds the lock for a chunk at a time.
func (r *ring) back(from, to uint64, visit func(*Record) bool) {
	for more := true; more; {
		from, more = r.backChunk(from, to, visit)
	}
}

func (r *ring) backChunk(from, to uint64, visit func(*Record) bool) (next uint64, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next > ringSize {
		to = max(to, r.next-ringSize)
	}
	for range chunkSize {
		if from <= to {
			return from, false
		}
		from--
		at := from % ringSize
		if !visit(&r.chunks[at/chunkSize][at%chunkSize]) {
			return from, false
		}
	}
	return from, true
}

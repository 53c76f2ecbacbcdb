package exchange

import "sync"

// readBuffer is the memory into which a body is read before it is sent. It is small until a read has filled it: 1,000 clients that send slowly need
// 16 MB together, and a fast one has parts of the largest size.
type readBuffer struct {
	small *[smallRead]byte
	large *[sentPart]byte
}

const smallRead = 16 << 10

// The pools of buffers are no state.
var (
	smallReads = sync.Pool{New: func() any { return new([smallRead]byte) }} //nolint:gochecknoglobals // as above
	largeReads = sync.Pool{New: func() any { return new([sentPart]byte) }}  //nolint:gochecknoglobals // as above
)

// next is the memory for the next read, after one of n bytes; 0 before the first.
func (b *readBuffer) next(n int) []byte {
	switch {
	case b.large != nil:
		return b.large[:]
	case n == smallRead:
		b.free()
		b.large = largeReads.Get().(*[sentPart]byte) //nolint:forcetypeassert // the pool has nothing else
		return b.large[:]
	case b.small == nil:
		b.small = smallReads.Get().(*[smallRead]byte) //nolint:forcetypeassert // as above
	}
	return b.small[:]
}

// free gives the memory back.
func (b *readBuffer) free() {
	if b.small != nil {
		smallReads.Put(b.small)
	}
	if b.large != nil {
		largeReads.Put(b.large)
	}
	*b = readBuffer{}
}

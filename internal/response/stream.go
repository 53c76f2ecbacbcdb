package response

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// The bounds of the items that wait for the reader.
const (
	maxItems = 64
	maxBytes = 1 << 20
)

// Stream is a [State] with a sequence of items: the ring between the method, which writes, and the one reader. The two synchronise with
// one atomic store an item, and a side waits at a channel only if it finds the ring empty or full. For example, a method that is ahead
// by 64 items waits in [Stream.Put]; it goes on when the reader has taken 32 of them, and not at each.
//
// Items of a method in another process arrive encoded, in frames beside the ring. The reader decodes them, because the goroutine that
// brings them reads the connection.
type Stream[T any] struct {
	State
	// Call describes the call. State.Info points to it.
	Call call.Info

	size func(T) int // bytes of an item; nil if they do not count

	// The two sides do not write to one cache line, and look at a count of the other side only when they must.
	written  atomic.Uint64 // items so far; the method's
	readSeen uint64        // the value of read when the method last looked
	_        [48]byte
	read     atomic.Uint64 // the reader's
	toRead   uint64        // the value of written when the reader last looked
	_        [48]byte
	bytes    atomic.Int64 // in the ring
	hungry   atomic.Bool  // the reader waits at more
	stuck    atomic.Bool  // the method waits at room
	more     chan struct{}
	room     chan struct{}
	over     atomic.Uint32 // of the phases below
	last     *call.Error   // how it ended; set before over
	gone     chan struct{} // closed when there is no reader any more
	leaving  sync.Once
	frames   frames
	encoded  call.Payload // the reader's: the last item of a frame
	unread   call.Unread
	ring     [maxItems]T
}

// The phases of a stream for its reader.
const (
	flowing uint32 = iota
	drained        // the items in the ring are the last
	cut            // the reader gets no more items, not even the items in the ring
)

// Item is the kind of an item that [Stream.Take] returns.
type Item int

// The kinds of items.
const (
	// End is no item, but the end of the stream. [Stream.Last] says how it ended.
	End Item = iota
	// Value is an item as the method gave it.
	Value
	// Encoded is an item of another process: [Stream.Payload].
	Encoded
)

// Init makes the zero Stream ready for use.
func (s *Stream[T]) Init() {
	s.more, s.room, s.gone = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	s.Info = &s.Call
	t := reflect.TypeFor[T]()
	if t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		s.size = func(v T) int { // by value, or every item would be on the heap
			switch v := any(v).(type) {
			case string:
				return len(v)
			case []byte:
				return len(v)
			}
			return reflect.ValueOf(v).Len()
		}
	}
}

// Put waits for room, until ctx ends, and adds an item. It returns false if the stream has no reader any more. Only the goroutine
// of the method calls it.
func (s *Stream[T]) Put(ctx context.Context, v T) bool {
	n := 0
	if s.size != nil {
		n = s.size(v)
	}
	w := s.written.Load()
	for !s.fits(w, n) {
		s.stuck.Store(true)
		if s.fits(w, n) { // the reader may not have seen that it should say so
			s.stuck.Store(false)
			break
		}
		s.unread.Full(call.Now())
		select {
		case <-s.room:
			s.unread.Room()
		case <-s.gone:
			return false
		case <-ctx.Done():
			return false
		}
	}
	if s.over.Load() != flowing {
		return false
	}
	s.ring[w%maxItems] = v
	if n > 0 {
		s.bytes.Add(int64(n))
	}
	s.written.Store(w + 1)
	s.wake()
	return true
}

// wake wakes a reader that waits.
func (s *Stream[T]) wake() {
	if s.hungry.Load() && s.hungry.Swap(false) {
		signal(s.more)
	}
}

// fits reports whether there is room for an item of n bytes behind w items.
func (s *Stream[T]) fits(w uint64, n int) bool {
	if n == 0 && w-s.readSeen < maxItems {
		return true
	}
	s.readSeen = s.read.Load()
	ahead := w - s.readSeen
	return ahead == 0 || ahead < maxItems && (n == 0 || s.bytes.Load()+int64(n) <= maxBytes)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Take waits for an item or the end. It belongs to the reader.
func (s *Stream[T]) Take() (v T, kind Item) {
	r := s.read.Load()
	for s.over.Load() != cut {
		if s.toRead == r {
			s.toRead = s.written.Load()
		}
		if s.frames.take(&s.encoded) {
			return v, Encoded
		}
		if s.toRead != r {
			slot := &s.ring[r%maxItems]
			v = *slot
			var none T
			*slot = none
			if s.size != nil {
				s.bytes.Add(-int64(s.size(v)))
			}
			s.read.Store(r + 1)
			// A method that waits is woken when half of the ring is free, so that it does not wait again at once.
			if s.stuck.Load() && s.written.Load()-r <= maxItems/2+1 && s.stuck.Swap(false) {
				signal(s.room)
			}
			return v, Value
		}
		if s.over.Load() == drained && s.written.Load() == r && s.frames.empty() {
			break
		}
		s.hungry.Store(true)
		if s.written.Load() != r || s.over.Load() != flowing || !s.frames.empty() {
			s.hungry.Store(false)
			continue
		}
		<-s.more
	}
	return v, End
}

// Unread is the [call.Call.Unread] of the stream.
func (s *Stream[T]) Unread() *call.Unread { return &s.unread }

// Payload is the item of which Take said that it is Encoded. It stays valid.
func (s *Stream[T]) Payload() call.Payload { return s.encoded }

// Last returns the failure with which the stream ended, for a reader that has taken the end.
func (s *Stream[T]) Last() *call.Error { return s.last }

// Frame takes items of a method in another process: see [call.Items].
func (s *Stream[T]) Frame(_ *call.Batch, from call.Source, frame []byte) {
	s.frames.put(from, frame)
	s.wake()
}

// Finish ends the stream for its reader, behind the items that wait.
func (s *Stream[T]) Finish(failure *call.Error) {
	if failure != nil {
		failure = failure.At(&s.Call)
	}
	s.End(failure, func() { s.stopped(failure, drained) })
}

// stopped notes that nothing more comes. The mutex is held, and stopped is called once.
func (s *Stream[T]) stopped(failure *call.Error, how uint32) {
	s.last = failure
	s.over.Store(how)
	signal(s.more)
}

// Cancel ends the stream for its reader at once, and asks the method to end.
func (s *Stream[T]) Cancel(cause error) {
	flight, e := s.Cancelling(cause)
	if s.End(e, func() { s.stopped(e, cut) }) && flight != nil {
		flight.Cancel(nil, cause)
	}
}

// Close ends the reading: the stream is cancelled if it has not ended, and the items that wait are dropped.
func (s *Stream[T]) Close() {
	s.leaving.Do(func() { close(s.gone) })
	s.Cancel(context.Canceled)
}

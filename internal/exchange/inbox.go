package exchange

import (
	"context"
	"io"
	"sync"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// inbox has the parts that have come for one side of an exchange. The reader of the connection puts frames in ([inbox.Frame]), and one
// goroutine takes parts out ([inbox.Receive]). The window bounds what is in it: Receive gives credit for the parts that its caller is
// done with, in halves of the window.
type inbox struct {
	mu      sync.Mutex
	wake    chan struct{} // of one: there is something to take; nil before the receiver waits for the first time
	frames  []*buffer
	few     [2]*buffer  // the array of frames at first: most exchanges have no more
	from    call.Source // gets the credit
	ended   bool
	err     error // of the end; io.EOF without an error
	shown   int   // frames that the receiver may take: those of reads that were handed over whole
	showEnd bool  // the same of the end

	// The fields below belong to the goroutine that receives.
	until  context.Context // of the replica: ends the exchange too; nil for none
	holder Holder          // says whether the exchange is at that replica
	rest   []byte          // the parts of the current frame that were not taken
	frame  *buffer         // the current frame
	taken  call.Window
	last   int // bytes of the part that was taken last; -1 for none

	unread call.Unread // of the parts of an answer
}

func (q *inbox) init() { q.last, q.frames = -1, q.few[:0] }

// buffer holds one frame. It comes from a pool, so that neither a long body nor many short ones make garbage.
type buffer struct {
	data []byte
	pool *sync.Pool // nil if the frame has memory of its own
}

// frameSize is the largest frame of parts that a pooled buffer holds.
const frameSize = 32<<10 + 64

// shortFrame is the size up to which a frame has a short buffer, because most exchanges have one small frame.
const shortFrame = 1 << 10

// The pools of buffers are no state.
var (
	shortBuffers = newBuffers(shortFrame) //nolint:gochecknoglobals // as above
	buffers      = newBuffers(frameSize)  //nolint:gochecknoglobals // as above
)

func newBuffers(size int) *sync.Pool {
	p := new(sync.Pool)
	p.New = func() any { return &buffer{make([]byte, 0, size), p} }
	return p
}

// bufferOf returns a buffer with a copy of a frame, or with the frame itself if that has memory of its own.
func bufferOf(frame []byte) *buffer {
	pool := buffers
	switch {
	case len(frame) > call.GivenAway:
		return &buffer{data: frame}
	case len(frame) <= shortFrame:
		pool = shortBuffers
	}
	b := pool.Get().(*buffer) //nolint:forcetypeassert // the pool has nothing else
	b.data = append(b.data[:0], frame...)
	return b
}

func (b *buffer) free() {
	switch {
	case b == nil:
	case b.pool != nil:
		b.pool.Put(b)
	default:
		wire.FreeFrame(b.data)
	}
}

// Item implements call.Items. No part comes from a method in this process.
func (q *inbox) Item(context.Context, call.Payload) bool { return false }

// Frame implements call.Items. The receiver sees the frame when the reader has handed over all frames of one read (Flush), so that an answer
// that came in one write is taken as one. For example, the node reads head, body and end together: the receiver knows when it takes the body
// that nothing follows, and the answer gets a Content-Length.
func (q *inbox) Frame(b *call.Batch, from call.Source, frame []byte) {
	q.mu.Lock()
	q.frames = append(q.frames, bufferOf(frame))
	q.from = from
	q.mu.Unlock()
	b.Touch(q)
}

// Progressed says whether a part has come.
func (q *inbox) Progressed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.from != nil
}

// end puts the end behind the frames that have come. err is nil for an end without an error.
func (q *inbox) end(b *call.Batch, err error) {
	q.mu.Lock()
	if !q.ended {
		q.ended, q.err = true, io.EOF
		if err != nil {
			q.err = err
		}
	}
	q.mu.Unlock()
	b.Touch(q)
}

// Flush shows the receiver what has come, and wakes it. It implements call.Flusher.
func (q *inbox) Flush() {
	q.mu.Lock()
	q.shown, q.showEnd = len(q.frames), q.ended
	wake := q.wake
	q.mu.Unlock()
	if wake != nil {
		signal(wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Receive implements [Stream].
func (q *inbox) Receive(ctx context.Context) (kind Kind, data []byte, more bool, err error) {
	q.credit()
	for {
		if len(q.rest) > 0 {
			p, rest, ok := call.NextItem(q.rest) // the connection has looked through the frame
			if !ok {
				return 0, nil, false, io.ErrUnexpectedEOF
			}
			q.rest, q.last = rest, len(p.Data)
			return Kind(p.Codec), p.Data, len(rest) > 0 || q.more(), nil
		}
		q.frame.free()
		q.frame = nil
		q.mu.Lock()
		switch {
		case q.shown > 0:
			q.shown--
			q.frame = q.frames[0]
			q.rest = q.frame.data
			q.frames[0] = nil
			if q.frames = q.frames[1:]; len(q.frames) == 0 {
				q.frames = q.few[:0]
			}
			q.mu.Unlock()
			continue
		case q.showEnd:
			err = q.err
		case q.wake == nil:
			q.wake = make(chan struct{}, 1)
		}
		q.mu.Unlock()
		if err != nil {
			return 0, nil, true, err
		}
		var over <-chan struct{}
		if q.until != nil {
			over = q.until.Done()
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			if !q.shows() {
				return 0, nil, false, call.FromContext(ctx)
			}
		case <-over:
			switch {
			case !q.holder.Holds():
				q.until = nil
			case !q.shows():
				return 0, nil, false, call.FromContext(q.until)
			}
		}
	}
}

// shows shows the receiver what has come, if the end is there. A replica may stop as soon as it has sent its answer, and the
// answer is not taken back then. The result is false if the exchange goes on.
func (q *inbox) shows() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		q.shown, q.showEnd = len(q.frames), true
	}
	return q.ended
}

// more says that a frame or the end is there.
func (q *inbox) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.shown > 0 || q.showEnd
}

// complete says that nothing but an end without an error follows the part that was taken last.
func (q *inbox) complete() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.rest) == 0 && len(q.frames) == 0 && q.showEnd && q.err == io.EOF //nolint:errorlint // set by end
}

// over says that the end has come.
func (q *inbox) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ended
}

// credit counts the part that was taken last, and gives credit when that is half of the window.
func (q *inbox) credit() {
	if q.last < 0 {
		return
	}
	q.taken.Items++
	q.taken.Bytes += uint32(q.last)
	q.last = -1
	if q.taken.Items < call.Room.Items/2 && q.taken.Bytes < call.Room.Bytes/2 {
		return
	}
	q.mu.Lock()
	from := q.from
	ended := q.ended
	q.mu.Unlock()
	if !ended {
		from.Credit(nil, q.taken)
	}
	q.taken = call.Window{}
}

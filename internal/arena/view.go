package arena

import (
	"io"
	"runtime"
	"sync/atomic"
)

// View is the right to read one buffer. Its end is Release, or, for one that was forgotten, the garbage collector's
// finding that nobody can reach it; both together end it once. All methods may be called from any goroutine.
//
// There is no method that returns the bytes. A slice of a mapping does not keep anything alive: the collector does not
// know that memory, so a slice that outlived its View would show another buffer's contents, or nothing. Read lends the
// bytes for the time of a call instead, during which a Release only takes effect afterwards. A View belongs into the
// scope of the request that received it, which releases it at its end; the collector is the second line.
type View struct {
	*view
}

// view is apart from View so that the cleanup does not keep the View reachable.
type view struct {
	memory   *Memory
	ref      Ref
	released func(Ref)
	uses     atomic.Int64 // Reads under way, and 1 until Release
	given    atomic.Bool  // Release was called
	cleanup  runtime.Cleanup
}

// View is a view of r, of which the caller holds a reference. When the view has ended, released is called, once, on the
// goroutine that ended it or the collector's: it must not block, and is where a Release message is queued. It may be nil.
// With an error nothing is owned, and released is not called.
func (m *Memory) View(r Ref, released func(Ref)) (*View, error) {
	if r.Arena != m.id {
		return nil, ErrBuffer
	}
	if err := m.enter(Extent{r.Offset, r.Length}); err != nil {
		return nil, err
	}
	in := &view{memory: m, ref: r, released: released}
	in.uses.Store(1)
	m.countViewed(int64(r.Length))
	v := &View{in}
	in.cleanup = runtime.AddCleanup(v, (*view).release, in)
	return v, nil
}

// minCollect is how much may be viewed before the collector is asked whether all of it can still be reached.
const minCollect = 64 << 20

// countViewed counts what is viewed, which the collector does not see: a view is a hundred bytes to it, and a heap of those is never
// worth collecting. Whenever what is viewed has grown by a quarter, and by so much at least, it runs once, so that views which were
// forgotten end. (Not when it has doubled: the views end some time after the collection that found them.)
func (m *Memory) countViewed(n int64) {
	limit := m.collectAt.Load()
	if m.viewed.Add(n) <= max(limit, minCollect) || !m.collecting.CompareAndSwap(false, true) {
		return
	}
	go func() {
		runtime.GC()
		viewed := m.viewed.Load()
		m.collectAt.Store(viewed + max(minCollect, viewed/4))
		m.collecting.Store(false)
	}()
}

// Ref is what the view is of.
func (v *View) Ref() Ref { return v.ref }

// Len is the length in bytes.
func (v *View) Len() int { return int(v.ref.Length) }

// Read calls f with the bytes. They are valid until f returns, and must not be written: that is a fault that ends the
// process. Their contents may change if their producer misbehaves. After Release it is ErrClosed.
func (v *View) Read(f func(b []byte) error) error {
	defer runtime.KeepAlive(v)
	for {
		n := v.uses.Load()
		if n == 0 || v.given.Load() {
			return ErrClosed
		}
		if v.uses.CompareAndSwap(n, n+1) {
			break
		}
	}
	defer v.done()
	e := Extent{v.ref.Offset, v.ref.Length}
	return f(v.memory.read[e.Offset:e.end():e.end()])
}

// WriteTo writes the bytes to w, without a copy in between.
func (v *View) WriteTo(w io.Writer) (n int64, err error) {
	err = v.Read(func(b []byte) error {
		k, err := w.Write(b)
		n = int64(k)
		return err
	})
	return n, err
}

// Copy is the bytes, the caller's own.
func (v *View) Copy() (b []byte, err error) {
	err = v.Read(func(p []byte) error {
		b = append([]byte(nil), p...)
		return nil
	})
	return b, err
}

// Release ends the view, as soon as no Read is under way. Releasing again does nothing.
func (v *View) Release() {
	v.cleanup.Stop()
	v.release()
	runtime.KeepAlive(v)
}

func (v *view) release() {
	if v.given.CompareAndSwap(false, true) {
		v.done()
	}
}

func (v *view) done() {
	if v.uses.Add(-1) > 0 {
		return
	}
	v.memory.viewed.Add(-int64(v.ref.Length))
	v.memory.leave()
	if v.released != nil {
		v.released(v.ref)
	}
}

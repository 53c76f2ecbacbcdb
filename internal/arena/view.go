package arena

import (
	"io"
	"runtime"
	"sync/atomic"
)

// View is the right of a process to read one buffer. It ends by Release. If a View is forgotten, it ends when the
// garbage collector finds that it cannot be reached. All methods may be called from any goroutine.
//
// View has no method that returns its bytes as a slice. The collector does not know the mapping, so that a slice does
// not keep the buffer alive: after the end of its View the slice would show another buffer. Read lends the bytes to a
// function instead, and a Release meanwhile takes effect when the function has returned. The request that has received a
// buffer owns its View and releases it at its end; the collector is only the second line.
type View struct {
	*view
}

// view is a struct of its own, so that the cleanup function does not keep the View reachable.
type view struct {
	memory   *Memory
	ref      Ref
	released func(Ref)
	uses     atomic.Int64 // running Reads, and 1 until Release
	given    atomic.Bool  // Release was called
	cleanup  runtime.Cleanup
}

// View makes a view of r, a buffer of which the caller has a reference. released is called once, when the view has
// ended, on the goroutine that has ended it or on one of the collector. It must not block; it is the place to queue a
// RELEASE frame. It may be nil. If View fails, the reference is still the caller's, and released is not called.
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

// minCollect is the number of bytes of views from which on the collector is started for them.
const minCollect = 64 << 20

// countViewed counts the bytes that views have. The collector does not know of them: a View is a hundred bytes on the
// heap, so that even many forgotten views are no reason for it to run. So countViewed starts a collection whenever the
// bytes of views have grown by a quarter, and by at least minCollect. It does not wait until they
// have doubled, because views end only some time after the collection that has found them.
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

// Ref returns the reference of the buffer.
func (v *View) Ref() Ref { return v.ref }

// Len is the length in bytes.
func (v *View) Len() int { return int(v.ref.Length) }

// Read calls f with the bytes of the buffer. They are valid until f returns. A write to them is a fault that ends the
// process. The bytes may change if the worker that has published them misbehaves. After Release the error is ErrClosed.
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

// Copy returns a copy of the bytes.
func (v *View) Copy() (b []byte, err error) {
	err = v.Read(func(p []byte) error {
		b = append([]byte(nil), p...)
		return nil
	})
	return b, err
}

// Release ends the view as soon as no Read runs. A second Release does nothing.
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

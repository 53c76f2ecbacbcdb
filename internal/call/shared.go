package call

import (
	"bytes"
	"sync/atomic"
)

// View is the right to read a large buffer that lies somewhere else than in a frame: in memory that processes share
// (internal/arena), in this process's, or at a node that keeps it.
type View interface {
	Len() int
	// Read lends the bytes for the time of f. They must not be written.
	Read(f func(b []byte) error) error
	// Release ends the view. Releasing again does nothing.
	Release()
}

// Shared is a View with a count of its users, which begins with one. The last release ends the view. All methods may be called
// from any goroutine.
type Shared struct {
	view  View
	users atomic.Int32
}

// NewShared makes a Shared of v, which has one user.
func NewShared(v View) *Shared {
	s := &Shared{view: v}
	s.users.Store(1)
	return s
}

// View returns the buffer.
func (s *Shared) View() View { return s.view }

// Len is the length in bytes.
func (s *Shared) Len() int { return s.view.Len() }

// Keep adds a user. The new user calls Release once.
func (s *Shared) Keep() *Shared {
	s.users.Add(1)
	return s
}

// Release removes a user. It does nothing if s is nil.
func (s *Shared) Release() {
	if s != nil && s.users.Add(-1) == 0 {
		s.view.Release()
	}
}

// Bytes is a View of memory of this process, which must not change any more.
type Bytes []byte

// Len is the length in bytes.
func (b Bytes) Len() int { return len(b) }

// Read lends the bytes.
func (b Bytes) Read(f func(b []byte) error) error { return f(b) }

// Release does nothing: the collector frees them.
func (Bytes) Release() {}

// Parts are the parts of an encoded value outside of its payload's Data. For example, a large array in Python is a short pickle
// in Data and one buffer.
type Parts struct {
	Main    *Shared   // the encoded value; nil if it is in Data
	Buffers []Segment // the buffers that the codec keeps apart, in the codec's order
	Head    []byte    // the head of an HTTP answer that the method has chosen ([Answer.Encode]); nil for others
}

// Segment is one buffer: Shared, or Data if Shared is nil.
type Segment struct {
	Data   []byte
	Shared *Shared
}

// Len is the length in bytes.
func (s Segment) Len() int {
	if s.Shared != nil {
		return s.Shared.Len()
	}
	return len(s.Data)
}

// Len returns the length of the encoded value in bytes, with all its parts.
func (p Payload) Len() int {
	n := len(p.Data)
	if p.Parts == nil {
		return n
	}
	if p.Parts.Main != nil {
		n = p.Parts.Main.Len()
	}
	for _, s := range p.Parts.Buffers {
		n += s.Len()
	}
	return n
}

// Keep adds a user to the shared parts of p.
func (p Payload) Keep() {
	p.each(func(s *Shared) { s.Keep() })
}

// Release removes a user from the shared parts of p.
func (p Payload) Release() {
	p.each((*Shared).Release)
}

func (p Payload) each(f func(*Shared)) {
	if p.Parts == nil {
		return
	}
	if p.Parts.Main != nil {
		f(p.Parts.Main)
	}
	for _, s := range p.Parts.Buffers {
		if s.Shared != nil {
			f(s.Shared)
		}
	}
}

// Read lends the encoded value and its buffers for the time of f, without a copy.
func (p Payload) Read(f func(data []byte, buffers [][]byte) error) error {
	if p.Parts == nil {
		return f(p.Data, nil)
	}
	buffers := make([][]byte, 0, len(p.Parts.Buffers))
	var next func(i int) error
	next = func(i int) error {
		if i == len(p.Parts.Buffers) {
			if p.Parts.Main == nil {
				return f(p.Data, buffers)
			}
			return p.Parts.Main.View().Read(func(b []byte) error { return f(b, buffers) })
		}
		s := p.Parts.Buffers[i]
		if s.Shared == nil {
			buffers = append(buffers, s.Data)
			return next(i + 1)
		}
		return s.Shared.View().Read(func(b []byte) error {
			buffers = append(buffers, b)
			return next(i + 1)
		})
	}
	return next(0)
}

// Flatten copies the shared parts of p into memory of its own and releases them.
func (p *Payload) Flatten() error {
	if p.Parts == nil {
		return nil
	}
	flat := Payload{Codec: p.Codec}
	if p.Parts.Head != nil {
		flat.Parts = &Parts{Head: p.Parts.Head}
	}
	err := p.Read(func(data []byte, buffers [][]byte) error {
		flat.Data = bytes.Clone(data)
		for _, b := range buffers {
			if flat.Parts == nil {
				flat.Parts = &Parts{}
			}
			flat.Parts.Buffers = append(flat.Parts.Buffers, Segment{Data: bytes.Clone(b)})
		}
		return nil
	})
	p.Release()
	*p = flat
	return err
}

// GivenAway is a size in bytes. A larger value that a connection hands over has memory of its own, which the receiver may keep. A
// smaller value may lie in a read buffer that is used again. Both are read-only.
const GivenAway = 32 << 10

func own(b []byte) []byte {
	if len(b) > GivenAway {
		return b
	}
	return bytes.Clone(b)
}

// Own makes p outlive the read buffer in which it came. Shared parts stay shared, and parts that may lie in the buffer are copied.
func (p *Payload) Own() {
	p.Data = own(p.Data)
	if p.Parts == nil {
		return
	}
	parts := &Parts{Main: p.Parts.Main, Buffers: make([]Segment, len(p.Parts.Buffers)), Head: p.Parts.Head}
	for i, s := range p.Parts.Buffers {
		parts.Buffers[i] = Segment{Data: own(s.Data), Shared: s.Shared}
	}
	p.Parts = parts
}

// Parted is a [Sink] that takes results in parts. Other sinks get a result in one piece.
type Parted interface{ TakesParts() }

// Fit joins the parts of a result, unless the sink takes parts.
func (r *Result) Fit(sink Sink) {
	if r.Parts == nil {
		return
	}
	if _, ok := sink.(Parted); ok {
		return
	}
	if err := r.Flatten(); err != nil {
		*r = Result{Err: AsError(err)}
	}
}

// Release removes a user from the shared arguments.
func (e *Encoded) Release() {
	for _, s := range e.Shared {
		s.Release()
	}
	e.Shared = nil
}

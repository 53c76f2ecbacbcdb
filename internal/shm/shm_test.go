package shm

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/internal/arena"
	"github.com/helve-serve/helve/internal/wire"
)

// TestShares: a value that the node has put into the memory reaches one worker, and by its reference another one; its buffer is free when both
// have gone.
func TestShares(t *testing.T) {
	t.Parallel()
	m, err := New("app", 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	a, b := m.Join(func(do func()) { do() }), m.Join(func(do func()) { do() })
	value := bytes.Repeat([]byte("x"), 100_000)
	ref, ok := a.Put(value)
	if !ok {
		t.Fatal("there is no room")
	}
	shared, err := a.Receive(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := shared.View().(*arena.View).Copy(); err != nil || !bytes.Equal(got, value) {
		t.Errorf("another value came: %v", err)
	}
	if _, ok := b.Send(shared); !ok {
		t.Error("the second worker is given no reference")
	}
	shared.Release()
	if s := m.Status(); s.Buffers != 1 {
		t.Errorf("%+v", s)
	}
	a.Drop()
	b.Drop()
	if s := m.Status(); s.Buffers != 0 || s.References != 0 {
		t.Errorf("after both have gone: %+v", s)
	}
}

// TestFrames: a frame of a worker that is malformed, or about memory that it does not have, is a violation of the protocol.
func TestFrames(t *testing.T) {
	t.Parallel()
	m, err := New("app", 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	a, b := m.Join(func(do func()) { do() }), m.Join(func(do func()) { do() })
	ref, ok := a.Put(make([]byte, 100_000))
	if !ok {
		t.Fatal("there is no room")
	}
	if b.Frame(wire.TypeRelease, ref[:]) == nil {
		t.Error("a worker has released the reference of another one")
	}
	if b.Frame(wire.TypeLease, []byte{1}) == nil {
		t.Error("a lease of one byte of a number is taken")
	}
	if err := a.Frame(wire.TypeRelease, ref[:]); err != nil {
		t.Error(err)
	}
}

package response

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

func newStream[T any]() *Stream[T] {
	s := &Stream[T]{}
	s.Init()
	return s
}

// source adds up the credit of a stream's reader.
type source struct{ window call.Window }

func (s *source) Credit(_ *call.Batch, w call.Window) {
	s.window.Items += w.Items
	s.window.Bytes += w.Bytes
}

// TestStreamOrder: the reader gets all items in their order, and then the end.
func TestStreamOrder(t *testing.T) {
	t.Parallel()
	s := newStream[int]()
	go func() {
		for i := range 10 * maxItems {
			s.Put(t.Context(), i)
		}
		s.Finish(call.NewError(helvetype.ReasonInternal, "the last"))
	}()
	for i := range 10 * maxItems {
		if v, kind := s.Take(); kind != Value || v != i {
			t.Fatalf("item %d is %d of kind %d", i, v, kind)
		}
	}
	if _, kind := s.Take(); kind != End || s.Last().Message != "the last" {
		t.Errorf("kind %d, failure %v; want the end with its failure", kind, s.Last())
	}
}

// TestStreamBounds: the method waits when 64 items or 1 MB are ahead of the reader, and one item of any size passes.
func TestStreamBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		item []byte
		want int
	}{
		"items": {[]byte("x"), maxItems},
		"bytes": {bytes.Repeat([]byte("x"), maxBytes/4), 4},
		"large": {bytes.Repeat([]byte("x"), 3*maxBytes), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, ctx := newStream[[]byte](), t.Context()
				n := 0
				go func() {
					for s.Put(ctx, c.item) {
						n++
					}
				}()
				synctest.Wait()
				if n != c.want {
					t.Errorf("%d items are ahead, want %d", n, c.want)
				}
				s.Take()
				for range maxItems { // a method that waits is woken when half of the ring is free
					if synctest.Wait(); n > c.want {
						break
					}
					s.Take()
				}
				if n <= c.want {
					t.Error("the method does not go on when the reader has read")
				}
				s.Close()
			})
		})
	}
}

// TestStreamCancel: a cancel cuts off the items that wait and wakes the reader and the method.
func TestStreamCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, f := newStream[int](), &flight{}
		s.Carry(f)
		ended := false
		go func() {
			for s.Put(t.Context(), 1) {
			}
			ended = true
		}()
		synctest.Wait()
		s.Close()
		s.Close()
		synctest.Wait()
		if _, kind := s.Take(); kind != End || s.Last().Reason != helvetype.ReasonCancelled || !ended || len(f.causes) != 1 {
			t.Errorf("kind %d, failure %v, the method ended: %v, cancels: %v", kind, s.Last(), ended, f.causes)
		}
		s.Cancel(context.DeadlineExceeded)
		if s.Last().Reason != helvetype.ReasonCancelled {
			t.Error("the second cancel counts")
		}
	})
}

// TestStreamFrames: items of another process come before the end, wake a reader that waits, and give credit when half of the window was
// read.
func TestStreamFrames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, from := newStream[string](), &source{}
		var got []string
		go func() {
			for {
				switch _, kind := s.Take(); kind {
				case Encoded:
					got = append(got, string(s.Payload().Data))
				case End:
					return
				}
			}
		}()
		synctest.Wait()
		var frame []byte
		var want []string
		for i := range call.Room.Items / 2 {
			item := []byte{byte(i)}
			frame = call.AppendItem(frame, call.Payload{Codec: call.Raw, Data: item})
			want = append(want, string(item))
		}
		s.Frame(nil, from, frame)
		clear(frame) // the frame was copied
		s.Finish(nil)
		synctest.Wait()
		if !slices.Equal(got, want) || s.Last() != nil {
			t.Errorf("got %d items %q, want %d", len(got), got, len(want))
		}
		if from.window.Items != call.Room.Items/2 {
			t.Errorf("credit of %d items, want %d", from.window.Items, call.Room.Items/2)
		}
	})
}

// TestUnread: a stream waits for its reader while its ring is full.
func TestUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStream[int]()
		go func() {
			for i := range maxItems + 1 {
				s.Put(t.Context(), i)
			}
		}()
		synctest.Wait()
		if s.Unread().Since() == 0 {
			t.Error("the ring is full, and the stream does not wait")
		}
		for range maxItems {
			s.Take()
		}
		synctest.Wait()
		if since := s.Unread().Since(); since != 0 {
			t.Errorf("the reader has read, and the stream waits since %d", since)
		}
		s.Close()
	})
}

package wire

import (
	"context"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestUnreadStream: a stream waits for its reader from the item on that fills the window, and does not when the reader has made room.
func TestUnreadStream(t *testing.T) {
	t.Parallel()
	p, _ := connect(t, &server{}, &server{})
	for name, of := range map[string]struct {
		window  call.Window
		items   []string
		full    bool
		credit  call.Window
		remains bool
	}{
		"room":            {call.Window{Items: 3, Bytes: 10}, []string{"a", "b"}, false, call.Window{Items: 1}, false},
		"items":           {call.Window{Items: 2, Bytes: 10}, []string{"a", "b"}, true, call.Window{Items: 1, Bytes: 1}, false},
		"bytes":           {call.Window{Items: 9, Bytes: 2}, []string{"a", "b"}, true, call.Window{Items: 1, Bytes: 1}, false},
		"too little room": {call.Window{Items: 9, Bytes: 2}, []string{"a", "0123456789"}, true, call.Window{Items: 1, Bytes: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var u call.Unread
			f := newInflow(p, 1<<40, &call.Call{Items: &collector{slow: true}, Window: of.window, Unread: &u})
			if err := f.frame(nil, itemsOf(of.items...)); err != nil || u.Since() != 0 != of.full {
				t.Errorf("%v; it waits since %d", err, u.Since())
			}
			first := u.Since()
			f.Credit(nil, of.credit)
			if u.Since() != 0 != of.remains || of.remains && u.Since() < first {
				t.Errorf("after %+v it waits since %d, before since %d", of.credit, u.Since(), first)
			}
		})
	}
}

// TestUnreadOfTheProducer: a method in this process that waits for room waits for the reader on the other side.
func TestUnreadOfTheProducer(t *testing.T) {
	t.Parallel()
	p, _ := connect(t, &server{}, &server{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := newOutflow(p, TypeItems, 1<<40, call.Window{Items: 1, Bytes: 1})
	item := call.Payload{Codec: call.Raw, Data: []byte("a")}
	if !o.reserve(ctx, item, itemsFrame) || o.unread.Since() != 0 {
		t.Errorf("with room it waits since %d", o.unread.Since())
	}
	o.mu.Unlock()
	if o.reserve(ctx, item, itemsFrame) || o.unread.Since() == 0 {
		t.Error("without room it does not wait")
	}
}

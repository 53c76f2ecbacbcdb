package exchange

import (
	"errors"
	"io"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// The receiver sees the frames of one read together: when it takes the body it knows that nothing follows.
func TestFramesOfOneReadTogether(t *testing.T) {
	t.Parallel()
	x := &Call{}
	x.init()
	r := &replica{t: t, x: x}
	var b call.Batch
	x.Frame(&b, r, call.AppendItem(nil, call.Payload{Codec: call.Codec(Body), Data: []byte("hi")}))
	if x.more() || x.complete() {
		t.Error("the receiver sees a part before the whole read was handed over")
	}
	x.Complete(&b, call.Result{})
	b.End()
	kind, data, more, err := x.Receive(t.Context())
	if kind != Body || string(data) != "hi" || !more || err != nil {
		t.Errorf("received the kind %d with %q, more %v, %v", kind, data, more, err)
	}
	if !x.complete() {
		t.Error("the end is not known with the body")
	}
	if _, _, _, err := x.Receive(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v, want io.EOF", err)
	}
}

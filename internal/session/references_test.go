package session

import (
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestKeptBytesCountUntilTheLastUser: a result counts in bytes until the last call that it was passed to has released it, and not only
// until its caller drops it.
func TestKeptBytesCountUntilTheLastUser(t *testing.T) {
	t.Parallel()
	k := NewResults(7)
	if failure := k.take(5); failure != nil {
		t.Fatal(failure)
	}
	p := k.count(call.Payload{Data: []byte("abc"), Parts: &call.Parts{Buffers: []call.Segment{{Data: []byte("de")}}}})
	p.Keep() // a call that it is passed to

	p.Release()
	k.give(1, 0) // dropped
	if got := k.Status(); got == nil || *got != (helvetype.References{Bytes: 5}) {
		t.Errorf("%+v", got)
	}
	if failure := k.take(3); failure == nil {
		t.Error("the node keeps more bytes than it may")
	}
	p.Release()
	if got := k.Status(); got == nil || *got != (helvetype.References{Refused: 1}) {
		t.Errorf("%+v", got)
	}
}

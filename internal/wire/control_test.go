package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestControlTooLarge: a request or reply over the other side's limit is an error of the request, which does not wait.
func TestControlTooLarge(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 64<<10)
	s := &server{control: func(string, json.RawMessage) (any, error) { return large, nil }}
	terms := Terms{Protocol: 2, Bulk: true, MaxIn: 32 << 10, MaxOut: 32 << 10}
	p, _ := linked(t, &server{}, s, terms, terms)
	for text, request := range map[string]map[string]any{
		"the request is a value of 65545 bytes, the other side takes at most 32768 (max_body)": {"op": large},
		"the reply is a value of 65538 bytes, the other side takes at most 32768 (max_body)":   {"op": "x"},
	} {
		err := p.Control(t.Context(), request, nil)
		if e, ok := errors.AsType[*call.Error](err); !ok || e.Reason != helvetype.ReasonTooLarge || !strings.HasPrefix(e.Message, text) {
			t.Errorf("%v", err)
		}
	}
	p.mu.Lock()
	left := len(p.controls)
	p.mu.Unlock()
	if left != 0 {
		t.Error("a request is left behind")
	}
}

// TestTell: requests whose replies no one reads are sent while there is room, and count until their replies have come.
func TestTell(t *testing.T) {
	t.Parallel()
	come := make(chan struct{})
	s := &server{control: func(string, json.RawMessage) (any, error) { <-come; return nil, nil }}
	terms := Terms{Protocol: 2, Bulk: true, MaxIn: 1 << 20, MaxOut: 1 << 20}
	p, _ := linked(t, &server{}, s, terms, terms)
	const takes = 100
	request := map[string]string{"op": "x"}
	p.mu.Lock()
	p.controlQueue.limit = takes * len(`{"op":"x"}`)
	p.mu.Unlock()
	for i := range takes {
		if sent, err := p.Tell(request); !sent || err != nil {
			t.Fatalf("request %d: %t, %v", i, sent, err)
		}
	}
	if sent, err := p.Tell(request); sent || err != nil {
		t.Errorf("without room: %t, %v", sent, err)
	}
	close(come)
	if err := p.Control(t.Context(), request, nil); err != nil {
		t.Error(err)
	}
	until(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.controlQueue.inFlight == 0 && len(p.controls) == 0
	})
	if sent, err := p.Tell(map[string]any{"op": strings.Repeat("x", p.conn.terms.MaxOut)}); sent || call.AsError(err).Reason != helvetype.ReasonTooLarge {
		t.Errorf("too large: %t, %v", sent, err)
	}
	if sent, err := p.Tell(map[string]string{"op": strings.Repeat("x", maxChunk)}); sent || err != nil { // later frames would overtake it
		t.Errorf("larger than a frame: %t, %v", sent, err)
	}
	p.Close(ErrClosed)
	if sent, err := p.Tell(request); sent || !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %t, %v", sent, err)
	}
}

// TestControlUnread: a request to a peer that does not read is refused as calls are.
func TestControlUnread(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20 << 10, maxChunk + 1} {
		p, _ := halfLinked(t, &server{}, bulkTerms)
		p.conn.small.backlog = 1 << 20
		serve(t, p)
		request := map[string]any{"op": strings.Repeat("x", size)}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for i := 0; ; i++ {
			err := p.Control(ctx, request, nil)
			if errors.Is(err, context.Canceled) && i < 1000 {
				continue
			}
			if e, ok := errors.AsType[*call.Error](err); !ok || e.Reason != helvetype.ReasonReplicaUnavailable {
				t.Errorf("after %d: %v", i, err)
			}
			break
		}
		// A request that would wait is refused as well.
		if err := p.Control(t.Context(), request, nil); err == nil {
			t.Error("sent")
		}
		p.Close(ErrClosed)
		if err := p.Control(t.Context(), request, nil); !errors.Is(err, ErrEnded) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// ordering is a server that answers the request "ordered" before the next frame.
type ordering struct{ server }

func (*ordering) InOrder(op string) bool { return op == "ordered" }

// TestControlInOrder: a request whose effect later frames rely on is answered when the next frame is read. Every other request leaves the reader free.
func TestControlInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		p := newPeer(NewConn(near), &ordering{server{control: func(_ string, _ json.RawMessage) (any, error) {
			time.Sleep(time.Second)
			return nil, nil
		}}})
		for op, want := range map[string]time.Duration{"other": 0, "ordered": time.Second} {
			begun := time.Now()
			if err := p.frame(nil, Header{Type: TypeControl}, nil, []byte(`{"op":"`+op+`"}`)); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(begun); got != want {
				t.Errorf("the frame of %q keeps the reader for %s, want %s", op, got, want)
			}
		}
		far.Close()
		p.handlers.Wait()
	})
}

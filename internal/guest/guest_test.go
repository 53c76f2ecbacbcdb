package guest

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// waiting has a method that says when it runs, and ends when it may.
type waiting struct{ began, end chan struct{} }

func (w *waiting) Wait(context.Context, call.Empty) error {
	w.began <- struct{}{}
	<-w.end
	return nil
}

type node struct{}

func (node) Call(b *call.Batch, in *wire.Incoming) call.Canceler { return nil }
func (node) Route(wire.Route) any                                { return nil }
func (node) Goaway(wire.Goaway)                                  {}
func (node) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, nil
}

type done chan call.Result

func (d done) Complete(_ *call.Batch, r call.Result) { d <- r }

// TestBroadcastsHoldNoSlot: of what runs when a node goes, the next counts ordinary calls, and no broadcasts.
func TestBroadcastsHoldNoSlot(t *testing.T) {
	t.Parallel()
	w := &waiting{make(chan struct{}), make(chan struct{})}
	class := &instance.Class{
		App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[*waiting]()),
		Construct: func(context.Context) (any, error) { return w, nil },
	}
	r, err := instance.Start(t.Context(), class, "D#1", nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	g := &Guest{codec: codec.New(), replicas: map[string]*hosted{}}
	g.host(r, nil)
	a, b := pair(t)
	here, there := wire.NewPeer(wire.NewLink(wire.NewConn(a), wire.Terms{}), g), wire.NewPeer(wire.NewLink(wire.NewConn(b), wire.Terms{}), node{})
	g.peer.Store(here)
	go here.Serve()  //nolint:errcheck // it is closed
	go there.Serve() //nolint:errcheck // as above
	to := &transport.Wire{Peer: there, Replica: "D#1", Codec: g.codec}
	results := make(done, 3)
	h := g.replicas["D#1"]
	for i, mode := range []call.Mode{call.Broadcast, call.Run, call.Broadcast} {
		c := &call.Call{Mode: mode, Want: call.Msgpack}
		c.Info = call.Info{Place: &call.Place{Method: "Wait"}, Request: call.NewID()}
		to.Start(nil, c, results)
		select {
		case <-w.began:
		case r := <-results:
			t.Fatal(r.Err)
		}
		if got, want := h.now.Load().running.Load(), int64(min(i, 1)); got != want {
			t.Errorf("after %d calls %d slots are counted", i+1, got)
		}
	}
	there.Close(wire.ErrClosed)
	<-here.Done()
	h.now.Load().end()
	h.former = append(h.former, h.now.Load())
	if got := h.resumed().Executing; got != 1 {
		t.Errorf("the next node is told of %d calls", got)
	}
	for range 3 {
		w.end <- struct{}{}
		if r := <-results; !r.Lost {
			t.Errorf("%+v", r)
		}
	}
}

func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if out[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return out[0], out[1]
}

package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/transport"
)

// TestSlotsAreStrict: many routers at once never have more calls at the replica than it has slots, and all calls are served.
func TestSlotsAreStrict(t *testing.T) {
	everyKind(t, func(t *testing.T, k kind) {
		const slots, routers, callers, calls = 3, 6, 4, 15
		r := newReplica(t, k, slots)
		// The first three calls wait for each other, so that every slot is used at least once, however slow the machine is.
		var begun atomic.Int64
		full := make(chan struct{})
		r.method = func(_ context.Context, _ string, body []byte) ([]byte, error) {
			if begun.Add(1) == slots {
				close(full)
			}
			<-full
			for range 10 {
				runtime.Gosched()
			}
			return body, nil
		}
		var wg sync.WaitGroup
		for i := range routers {
			c := newClient(r)
			for g := range callers {
				wg.Go(func() {
					var flights []*flight
					for n := range calls {
						flights = append(flights, c.submit(fmt.Sprint(i, "/", g, "/", n), []byte("x")))
						if n%5 == 4 {
							runtime.Gosched()
						}
					}
					for _, f := range flights {
						f.await(t)
					}
				})
			}
		}
		wg.Wait()
		if n := r.ran(); n != routers*callers*calls || r.most != slots {
			t.Errorf("%d calls ran, at most %d at once", n, r.most)
		}
	})
}

// TestCancelledCalls: a call that is cancelled in the queue never runs, the context of one that runs ends, and slots come back.
func TestCancelledCalls(t *testing.T) {
	everyKind(t, func(t *testing.T, k kind) {
		started := make(chan string, 9)
		r := newReplica(t, k, 2)
		r.method = func(ctx context.Context, name string, body []byte) ([]byte, error) {
			started <- name
			if strings.HasPrefix(name, "run") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return body, nil
		}
		c := newClient(r)
		running := []*flight{c.submit("run1", nil), c.submit("run2", nil)}
		<-started
		<-started
		queued := []*flight{c.submit("a", nil), c.submit("b", nil), c.submit("c", nil)}
		queued[0].cancel()
		queued[1].cancel()
		running[0].cancel()
		if name := <-started; name != "c" {
			t.Errorf("%s ran", name)
		}
		queued[2].await(t)
		running[1].cancel()
		until(func() bool { return r.gate.Load() == 0 })
		if r.ran() != 3 || c.router.Queued() != 0 {
			t.Errorf("%d ran, %d are queued", r.ran(), c.router.Queued())
		}
		for _, f := range running {
			if <-f.done; f.result.Err.Reason != helvetype.ReasonCancelled {
				t.Errorf("%v", f.result.Err)
			}
		}
	})
}

// TestBodies: values of every size arrive and come back, of calls that have a slot at once and of calls that wait.
func TestBodies(t *testing.T) {
	everyKind(t, func(t *testing.T, k kind) {
		r := newReplica(t, k, 2)
		var flights []*flight
		for i := range 3 {
			c := newClient(r)
			for n, size := range []int{0, 10, 32 << 10, 100 << 10, 300 << 10, 2 << 20, 1, 1<<20 + 1, 5} {
				flights = append(flights, c.submit(fmt.Sprint(i, "/", n), bytes.Repeat([]byte{byte(n)}, size)))
			}
		}
		for _, f := range flights {
			f.await(t)
		}
	})
}

// TestMethodErrors: an error and a panic of the method are the failure of the call, and the next call runs.
func TestMethodErrors(t *testing.T) {
	everyKind(t, func(t *testing.T, k kind) {
		r := newReplica(t, k, 1)
		r.method = func(_ context.Context, name string, body []byte) ([]byte, error) {
			switch name {
			case "error":
				return nil, fmt.Errorf("no %s", body)
			case "panic":
				panic("oh no")
			}
			return body, nil
		}
		c := newClient(r)
		for name, text := range map[string]string{"error": "no luck", "panic": "oh no"} {
			f := c.submit(name, []byte("luck"))
			if <-f.done; f.result.Err == nil || f.result.Err.Reason != helvetype.ReasonUser || !strings.Contains(f.result.Err.Message, text) {
				t.Errorf("%s: %v", name, f.result.Err)
			}
		}
		c.submit("good", []byte("x")).await(t)
	})
}

// items collects the items of a stream, as they are read at once.
type items struct {
	mu  sync.Mutex
	all []string
}

func (i *items) Item(_ context.Context, p call.Payload) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, string(p.Data))
	return true
}

func (i *items) Frame(b *call.Batch, from call.Source, frame []byte) {
	for p, rest, ok := call.NextItem(frame); ok; p, rest, ok = call.NextItem(rest) {
		i.Item(context.Background(), p)
		from.Credit(b, call.Window{Items: 1, Bytes: uint32(len(p.Data))})
	}
}

// stream calls the method Items with a window of two items.
func (c *client) stream() (*flight, *items) {
	all := &items{}
	k := &call.Call{Want: call.Raw, Items: all, Window: call.Window{Items: 2, Bytes: 100}}
	k.Info.Request = call.IDFrom("stream")
	k.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: []byte("x")}})
	return c.send("Items", k), all
}

// TestStreams: the items of a stream come in order, and the call ends behind the last.
func TestStreams(t *testing.T) {
	everyKind(t, func(t *testing.T, k kind) {
		f, got := newClient(newReplica(t, k, 1)).stream()
		if <-f.done; f.result.Err != nil || !slices.Equal(got.all, []string{"one", "two", "three"}) {
			t.Errorf("%q, %v", got.all, f.result.Err)
		}
	})
}

// TestRelay: a call, or a stream, that comes over one connection goes on over another as it is. For example, a method in one worker
// calls a replica in another: both connections end at the node.
func TestRelay(t *testing.T) {
	everyKind(t, func(t *testing.T, k kind) {
		if k.pair == nil {
			k.pair = socketPair // from the caller to the node; the replica is in the node
		}
		last := newReplica(t, k, 3)
		caller, _ := connect(t, k, relay{}, relay{to: last.transport})
		first := &replica{t: t, gate: last.gate, transport: &transport.Wire{Peer: caller, Replica: "d#1", Codec: codec.New()}}
		c := newClient(first)
		var flights []*flight
		for n, size := range []int{5, 40 << 10, 300 << 10, 0} {
			flights = append(flights, c.submit(fmt.Sprint(n), make([]byte, size)))
		}
		for _, f := range flights {
			f.await(t)
		}
		f, got := c.stream()
		if <-f.done; f.result.Err != nil || !slices.Equal(got.all, []string{"one", "two", "three"}) {
			t.Errorf("%q, %v", got.all, f.result.Err)
		}
	})
}

// TestWorkerEnds: when a worker ends, a call that runs there fails as lost, and calls that have not started run at the replica that is
// left, each once.
func TestWorkerEnds(t *testing.T) {
	t.Parallel()
	for _, k := range kinds()[2:] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			dying, left := newReplica(t, k, 1), newReplica(t, k, 1)
			started := make(chan struct{})
			dying.method = func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				close(started)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			c := newClient(dying)
			running := c.submit("running", nil)
			<-started
			queued := []*flight{c.submit("a", []byte("x")), c.submit("b", []byte("y"))}
			dying.end()
			if <-running.done; running.result.Err == nil || running.result.Err.Reason != helvetype.ReasonReplicaDied || !running.result.Lost {
				t.Errorf("%+v", running.result)
			}
			c.router.Update(nil, newClient(left).router.Replicas())
			for _, f := range queued {
				f.await(t)
			}
			if dying.ran() != 1 || left.ran() != 2 {
				t.Errorf("%d and %d calls ran", dying.ran(), left.ran())
			}
		})
	}
}

var _ call.Items = (*items)(nil)
var _ call.Sink = (*flight)(nil)

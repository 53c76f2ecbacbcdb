package transport_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/transport"
)

// collected are the items of a stream, as they are read at once.
type collected struct {
	mu    sync.Mutex
	items []string
}

func (c *collected) Item(_ context.Context, p call.Payload) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items = append(c.items, string(p.Data))
	return true
}

func (c *collected) Frame(b *call.Batch, from call.Source, frame []byte) {
	for len(frame) > 0 {
		p, rest, _ := call.NextItem(frame)
		c.Item(context.Background(), p)
		from.Credit(b, call.Window{Items: 1, Bytes: uint32(len(p.Data))})
		frame = rest
	}
}

// TestRelay: a call, or a stream, that comes over one connection goes on over another as it is, also if it is rejected there first.
func TestRelay(t *testing.T) {
	t.Parallel()
	for _, k := range kinds(t)[1:] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			last := newSite(t, "last", 1, func(e *execution) {
				go func() {
					if e.in.Items != nil {
						for _, n := range []string{"one", "two", "three"} {
							e.in.Items.Item(context.Background(), call.Payload{Codec: call.Raw, Data: []byte(n)})
						}
						e.body = nil
					}
					e.end(nil, nil)
				}()
			})
			middle := newClient(t)
			first := newSite(t, "first", 3, nil)
			first.method = func(e *execution) {
				k := &e.in.Call
				k.Origin = "relay"
				j := middle.send(nil, k)
				go func() {
					<-j.done
					e.body = j.result.Data
					e.end(nil, j.result.Err)
				}()
			}
			idle(t, first, last)
			join(t, k, middle, last, nil)
			c := newClient(t)
			join(t, k, c, first, nil)
			last.gate.TryAcquire() // the first call is rejected there
			var js []*journey
			for n, size := range []int{5, 40 << 10, 300 << 10, 0} {
				js = append(js, c.submit(name(n), "", make([]byte, size)))
			}
			until(func() bool { return middle.router.Queued() > 0 })
			last.gate.Release(nil)
			for _, j := range js {
				j.await(t)
			}
			items := &collected{}
			s := &call.Call{Want: call.Raw, Items: items, Window: call.Window{Items: 2, Bytes: 100}}
			s.Info.Request = call.IDFrom("stream")
			s.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: []byte("x")}})
			j := c.send(nil, s)
			if <-j.done; j.result.Err != nil || !slices.Equal(items.items, []string{"one", "two", "three"}) {
				t.Errorf("%q, %v", items.items, j.result.Err)
			}
		})
	}
}

var _ call.Items = (*collected)(nil)
var _ transport.Members = (*moving)(nil)

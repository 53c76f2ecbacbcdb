package transport_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// echoing is a server that answers plain calls.
type echoing struct{ *client }

func (echoing) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
	return nil
}

type sink struct{ done chan *call.Error }

func (s sink) Complete(_ *call.Batch, r call.Result) { s.done <- r.Err }

// BenchmarkBetween sends 100 bytes there and back: as a bare call, and as one that is admitted at a gate over there, through a router
// here. slots says whether those suffice or are a quarter of the callers, who then wait for slots that are kept for them.
func BenchmarkBetween(b *testing.B) {
	body := make([]byte, 100)
	for _, k := range kinds(b)[2:] {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d/bare", k.name, callers), func(b *testing.B) {
				x, y := k.pair(b)
				p, q := wire.NewPeer(wire.NewConn(x), newClient(b)), wire.NewPeer(wire.NewConn(y), echoing{newClient(b)})
				go p.Serve()
				go q.Serve()
				b.ReportAllocs()
				spread(b, callers, func(done chan *call.Error) {
					c := &call.Call{Want: call.Raw}
					c.Info.Request = call.NewID()
					c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: body}})
					p.Start(nil, 1, c, 0, sink{done})
				})
				p.Close(wire.ErrClosed)
				q.Close(wire.ErrClosed)
				<-p.Done()
				<-q.Done()
			})
			for name, slots := range map[string]int{"admitted": callers, "waiting": callers / 4} {
				if slots == 0 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%d/%s", k.name, callers, name), func(b *testing.B) {
					s := newSite(b, "r", slots, nil)
					s.strangers = true
					c := newClient(b)
					join(b, k, c, s, nil)
					b.ReportAllocs()
					spread(b, callers, func(done chan *call.Error) {
						j := c.submit("x", "", body)
						<-j.done
						done <- j.result.Err
					})
				})
			}
		}
	}
}

// spread has callers make b.N calls.
func spread(b *testing.B, callers int, one func(done chan *call.Error)) {
	b.Helper()
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range callers {
		wg.Go(func() {
			done := make(chan *call.Error, 1)
			for n := i; n < b.N; n += callers {
				one(done)
				if e := <-done; e != nil {
					b.Error(e)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

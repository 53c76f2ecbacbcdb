package serving

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/wire"
)

// relays is the node's end of a connection whose calls all go to one deployment.
type relays struct{ to *Deployment }

func (r relays) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Info.Place = &call.Place{App: r.to.App, Deployment: r.to.Name, Method: "M"}
	return r.to.relay(b, &Caller{}, in)
}
func (relays) Route(r wire.Route) any { return r }
func (relays) Goaway(wire.Goaway)     {}
func (relays) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, nil
}

// outcome is a sink with room for one result.
type outcome chan call.Result

func (o outcome) Complete(_ *call.Batch, r call.Result) { o <- r }

// TestDeadlinesInAHurry: the deadline of a call that was relayed may pass at any moment from the frame on: before the call waits for a slot, while it goes
// to the next replica because the one before has died, and later. The call fails with its deadline each time, and the race detector sees no field that the
// timer and the reader of the connection share without a lock.
func TestDeadlinesInAHurry(t *testing.T) {
	t.Parallel()
	const calls = 300
	for name, dead := range map[string]int{"without a replica": 0, "each replica dies before it has the call": calls} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := New(slog.New(slog.DiscardHandler), "node", "app", "D")
			d.Become(State{}, calls, nil)
			var all []router.Replica
			for i := range dead {
				r := &fakeReplica{transport: lost{}}
				r.Init(t.Context(), fmt.Sprintf("D#%d", i), "node", 1)
				all = append(all, r)
			}
			d.Router.Update(nil, all)
			x, y := net.Pipe()
			node := wire.NewPeer(wire.NewLink(wire.NewConn(x), wire.Terms{}), relays{d})
			caller := wire.NewPeer(wire.NewLink(wire.NewConn(y), wire.Terms{}), relays{d})
			for _, p := range []*wire.Peer{node, caller} {
				go p.Serve() //nolint:errcheck // the test looks at the calls
				t.Cleanup(func() { p.Close(wire.ErrClosed); <-p.Done() })
			}
			route, err := caller.Declare(wire.Route{App: "app", Deployment: "D", Method: "M"})
			if err != nil {
				t.Fatal(err)
			}
			results := make(outcome, calls)
			for i := range calls {
				c := &call.Call{Want: call.Raw}
				c.Info.Request = call.NewID()
				caller.Start(nil, route, c, time.Duration(1+i%20)*time.Microsecond, results)
			}
			for range calls {
				if r := <-results; r.Err == nil || r.Err.Reason != helvetype.ReasonDeadline {
					t.Errorf("%+v", r.Err)
				}
			}
		})
	}
}

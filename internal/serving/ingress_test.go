package serving

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/transport"
)

// lost is the transport of a replica whose process has died: calls are not sent.
type lost struct{}

func (lost) Start(b *call.Batch, _ *call.Call, sink call.Sink) transport.Handle {
	sink.Complete(b, call.Result{Err: call.NewError("replica_unavailable", "lost"), NotStarted: true})
	return transport.Handle{}
}
func (lost) Keeps() bool { return true }

// sends is the transport of a replica that answers every call with the items of one frame.
type sends []byte

func (s sends) Start(b *call.Batch, c *call.Call, sink call.Sink) transport.Handle {
	c.Items.Frame(b, noSource{}, s)
	sink.Complete(b, call.Result{})
	return transport.Handle{}
}
func (sends) Keeps() bool { return true }

type noSource struct{}

func (noSource) Credit(*call.Batch, call.Window) {}

// TestLostBeforeTheCall: a stream or a request for HTTP whose replica has died before it was sent goes on at another replica. The time of the dead
// replica has ended, which ends the calls that it runs, and no other.
func TestLostBeforeTheCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer []byte
		ask    func(d *Deployment, r Replica, c *call.Call) (string, *call.Error)
	}{
		"a stream": {call.AppendItem(nil, call.Payload{Codec: call.Text, Data: []byte("one")}), func(d *Deployment, _ Replica, c *call.Call) (got string, e *call.Error) {
			e = d.Stream(context.Background(), c, func(p call.Payload, _ bool) bool {
				got += string(p.Data)
				return true
			})
			return got, e
		}},
		"an exchange": {call.AppendItem(call.AppendItem(nil, call.Payload{Codec: 32, Data: []byte("\xc8\x00")}), call.Payload{Codec: 34, Data: []byte("one")}),
			func(d *Deployment, r Replica, c *call.Call) (string, *call.Error) {
				w := httptest.NewRecorder()
				if _, e := d.slot(context.Background(), c); e != nil {
					return "", e
				}
				e := d.exchange(context.Background(), c, r, true, func(ctx context.Context, h http.Handler, _ bool) bool {
					h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
					return false
				})
				return w.Body.String(), e
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := New(slog.New(slog.DiscardHandler), "node", "app", "D")
				d.Become(State{}, 2, nil)
				dead, next := &fakeReplica{transport: lost{}}, &fakeReplica{transport: sends(test.answer)}
				dead.Init(t.Context(), "D#1", "node", 1)
				next.Init(t.Context(), "D#2", "node", 1)
				d.Router.Update(nil, []router.Replica{dead})
				dead.End(errors.New("the replica is gone"))
				type result struct {
					got string
					e   *call.Error
				}
				ended := make(chan result, 1)
				go func() {
					got, e := test.ask(d, dead, &call.Call{Info: call.Info{Place: &call.Place{App: "app", Deployment: "D", Method: "M"}}})
					ended <- result{got, e}
				}()
				synctest.Wait()
				d.Router.Update(nil, []router.Replica{next})
				if r := <-ended; r.e != nil || r.got != "one" {
					t.Errorf("%q, %v", r.got, r.e)
				}
			})
		})
	}
}

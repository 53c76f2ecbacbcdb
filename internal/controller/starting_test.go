package controller

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
)

// The times of package host that bound the start of a worker.
const (
	overdueTime  = 500 * time.Millisecond // that a worker has after construct_timeout_s
	helloTime    = 5 * time.Minute        // from the start of a process to its connection, at most
	minHelloTime = 10 * time.Second       // and at least
)

// mutePeer is the session of a worker that calls nothing.
type mutePeer struct{}

func (mutePeer) Attach(*wire.Peer)                                             {}
func (mutePeer) Close()                                                        {}
func (mutePeer) Route(wire.Route) any                                          { return nil }
func (mutePeer) Call(*call.Batch, *wire.Incoming) call.Canceler                { return nil }
func (mutePeer) Goaway(wire.Goaway)                                            {}
func (mutePeer) Control(context.Context, string, json.RawMessage) (any, error) { return nil, nil }

// TestTheNodeEndsStartsThatTakeTooLong: the node gives up a start at construct_timeout_s, although the replica says nothing. The log and
// the status name the reason of the wait after 10 s.
func TestTheNodeEndsStartsThatTakeTooLong(t *testing.T) {
	t.Parallel()
	deaf := func(connects bool) host.Runner { // a worker that is stopped, before or after it has connected
		return func(ctx context.Context, id string, token wire.Token, _ *telemetry.Page, dial func() (net.Conn, error)) error {
			if connects {
				nc, err := dial()
				if err != nil {
					return err
				}
				defer nc.Close()
				stop := context.AfterFunc(ctx, func() { nc.Close() })
				defer stop()
				graph, err := json.Marshal(graphOf(spec.Deployment{Name: "D", Language: "go"}))
				if err != nil {
					return err
				}
				if _, err := wire.Open(nc, token, wire.Hello{Kind: "worker", ID: id, Graph: graph}); err != nil {
					return err
				}
				io.Copy(io.Discard, nc) //nolint:errcheck // until it is killed
			}
			<-ctx.Done()
			return nil
		}
	}
	for name, c := range map[string]struct {
		runner      host.Runner // nil: in the node
		construct   time.Duration
		end         time.Duration
		says, waits string
		reason      helvetype.Reason
	}{
		"in the node":               {nil, 15 * time.Second, 15 * time.Second, "construct_timeout_s (15s)", host.WaitsForConstructor, helvetype.ReasonDeadline},
		"in a worker":               {deaf(true), 15 * time.Second, 15*time.Second + overdueTime, "construct_timeout_s (15s)", host.WaitsForConstructor, helvetype.ReasonDeadline},
		"a worker, for ever":        {deaf(true), 20 * time.Minute, 20*time.Minute + overdueTime, "construct_timeout_s (20m0s)", host.WaitsForConstructor, helvetype.ReasonDeadline},
		"a process that is mute":    {deaf(false), 15 * time.Second, 15 * time.Second, "did not connect within 15s", host.WaitsForProcess, ""},
		"a process, mute for ever":  {deaf(false), 20 * time.Minute, helloTime, "did not connect within 5m0s", host.WaitsForProcess, ""},
		"a process with no time":    {deaf(false), time.Second, minHelloTime, "did not connect within 10s", "", ""},
		"a constructor and no time": {deaf(true), time.Second, time.Second + overdueTime, "construct_timeout_s (1s)", "", helvetype.ReasonDeadline},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := &lockedBuffer{}
				n := startTestNode(Settings{Logger: slog.New(slog.NewTextHandler(log, nil))}, host.Settings{
					Pair:       func() (net.Conn, net.Conn, error) { a, b := net.Pipe(); return a, b, nil },
					NewSession: func(*host.Worker, int, bool) host.Session { return &mutePeer{} },
				}, nil)
				defer n.Close(t.Context()) //nolint:errcheck // nothing serves
				left := make(chan struct{})
				defer close(left)
				class := &instance.Class{App: "app", Deployment: "D", Construct: func(context.Context) (any, error) {
					<-left // the constructor ignores its context
					return nothing{}, nil
				}}
				d := spec.Deployment{Name: "D", Language: "go", Options: spec.Options{ConstructTimeout: c.construct}}
				if c.runner != nil {
					d.Options.Isolation = spec.Process
				}
				def := deploy.App{Graph: graphOf(d), Classes: map[string]*instance.Class{"D": class}, Runner: c.runner}
				begun, end := time.Now(), make(chan error, 1)
				go func() { end <- n.Deploy(t.Context(), def) }()
				if c.waits != "" {
					time.Sleep(fleet.SlowTime + time.Second)
					if s := n.Status().Applications["app"]; !strings.Contains(s.Message, "deployment D: replica D#") || !strings.Contains(s.Message, "has waited for "+c.waits+" for 11s") {
						t.Errorf("%q", s.Message)
					}
					if !strings.Contains(log.String(), `msg="replica is still starting"`) || !strings.Contains(log.String(), `waits_for="`+c.waits) {
						t.Error(log)
					}
				}
				err := <-end
				if err == nil || !strings.Contains(err.Error(), c.says) || c.reason != "" && call.AsError(err).Reason != c.reason {
					t.Error(err)
				}
				if took := time.Since(begun); took != c.end {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

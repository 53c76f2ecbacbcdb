package node

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
)

// locked is a buffer that several goroutines write to.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestTheNodeEndsStartsThatTakeTooLong: a replica whose start says nothing is given up at construct_timeout_s, by the node, wherever it starts and
// whatever it waits for; after 10 s the log and the status say what that is.
func TestTheNodeEndsStartsThatTakeTooLong(t *testing.T) {
	t.Parallel()
	deaf := func(connects bool) Host { // a worker that is stopped, before or after it has connected
		return func(ctx context.Context, id string, token wire.Token, dial func() (net.Conn, error)) error {
			if connects {
				nc, err := dial()
				if err != nil {
					return err
				}
				defer nc.Close()
				stop := context.AfterFunc(ctx, func() { nc.Close() })
				defer stop()
				graph, err := json.Marshal(spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "go"}}})
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
		host       Host // nil: in the node
		construct  time.Duration
		end        time.Duration
		says, what string
		reason     helvetype.Reason
	}{
		"in the node":               {nil, 15 * time.Second, 15 * time.Second, "construct_timeout_s (15s)", waitsForConstructor, call.Deadline},
		"in a worker":               {deaf(true), 15 * time.Second, 15*time.Second + overdueTime, "construct_timeout_s (15s)", waitsForConstructor, call.Deadline},
		"a worker, for ever":        {deaf(true), 20 * time.Minute, 20*time.Minute + overdueTime, "construct_timeout_s (20m0s)", waitsForConstructor, call.Deadline},
		"a process that is mute":    {deaf(false), 15 * time.Second, 15 * time.Second, "did not connect within 15s", waitsForProcess, ""},
		"a process, mute for ever":  {deaf(false), 20 * time.Minute, helloTime, "did not connect within 5m0s", waitsForProcess, ""},
		"a process with no time":    {deaf(false), time.Second, minHelloTime, "did not connect within 10s", "", ""},
		"a constructor and no time": {deaf(true), time.Second, time.Second + overdueTime, "construct_timeout_s (1s)", "", call.Deadline},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := &locked{}
				n := New(Settings{
					Logger: slog.New(slog.NewTextHandler(log, nil)),
					Pair:   func() (net.Conn, net.Conn, error) { a, b := net.Pipe(); return a, b, nil },
				})
				defer n.Close(t.Context()) //nolint:errcheck // nothing serves
				left := make(chan struct{})
				defer close(left)
				class := &instance.Class{App: "app", Deployment: "D", Construct: func(context.Context) (any, error) {
					<-left // it ignores its context
					return nothing{}, nil
				}}
				d := spec.Deployment{Name: "D", Language: "go", Options: spec.Options{ConstructTimeout: c.construct}}
				if c.host != nil {
					d.Options.Isolation = spec.Process
				}
				def := App{Graph: spec.Graph{App: "app", Deployments: []spec.Deployment{d}}, Classes: map[string]*instance.Class{"D": class}, Host: c.host}
				begun, end := time.Now(), make(chan error, 1)
				go func() { end <- n.Deploy(t.Context(), def) }()
				if c.what != "" {
					time.Sleep(slowTime + time.Second)
					if s := n.Status().Applications["app"]; !strings.Contains(s.Message, "deployment D: replica D#") || !strings.Contains(s.Message, "has waited for "+c.what+" for 11s") {
						t.Errorf("%q", s.Message)
					}
					if !strings.Contains(log.String(), `msg="replica is still starting"`) || !strings.Contains(log.String(), `waits_for="`+c.what) {
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

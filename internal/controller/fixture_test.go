package controller

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
)

// testNode is a controller with the parts that a node gives it.
type testNode struct {
	*Controller
	workers *host.Workers
	saved   map[string]string // the applications that the file of the node would have: see [testNode.unsaved]
}

// unsaved names an application whose state in the file of the node is not as it is now, although all changes were written; "" for none.
func (n *testNode) unsaved() (name string) {
	if n.saved == nil {
		n.saved = map[string]string{}
	}
	take := func(all bool) (s snapshot.State, encoded map[string]string) {
		s, encoded = n.snapshot(all), map[string]string{}
		for _, a := range s.Applications {
			b, _ := json.Marshal(a) //nolint:errchkjson // the node would fail too
			encoded[a.Name] = string(b)
		}
		return s, encoded
	}
	s, changed := take(false)
	maps.Copy(n.saved, changed)
	maps.DeleteFunc(n.saved, func(name, _ string) bool { return !slices.Contains(s.Names, name) })
	_, all := take(true)
	for name := range all {
		if n.saved[name] != all[name] {
			return name
		}
	}
	return ""
}

// newTestNode starts a controller whose replicas are in this process and can be killed: see [mortalHost]. The fields that s leaves
// empty are filled in.
func newTestNode(s Settings) *testNode { return mortalTestNode(s, false) }

// mortalTestNode is newTestNode, and early gives each host the properties of an [earlyHost].
func mortalTestNode(s Settings, early bool) *testNode {
	return startTestNode(s, host.Settings{}, func(d *host.Deployment, cd *codec.Codec) host.Host {
		mortal := mortalHost{&inprocess.Host{Deployment: d, Node: "local", Codec: cd}}
		if early {
			return earlyHost{mortal}
		}
		return mortal
	})
}

// startTestNode starts a controller with workers. of makes the host of a deployment; nil for that of its kind.
func startTestNode(s Settings, w host.Settings, of func(*host.Deployment, *codec.Codec) host.Host) *testNode {
	n := &testNode{}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.Node, s.Codec, s.Events = "local", codec.New(), telemetry.NewEvents(nil)
	s.Proxy = proxy.New(proxy.Settings{Logger: s.Logger, Apps: func() map[string]bool { return n.Readiness() }})
	w.Logger, w.Codec, w.Node, w.Changed = s.Logger, s.Codec, s.Node, func() { n.Wake() }
	n.workers = host.NewWorkers(w)
	s.Workers = n.workers
	if of != nil {
		s.Host = func(d *host.Deployment) host.Host { return of(d, s.Codec) }
	}
	n.Controller = New(s)
	return n
}

// Close ends the controller and the workers in the order in which a node does so.
func (n *testNode) Close(ctx context.Context) error {
	draining, cancel := serving.Draining(ctx, n.Closing())
	defer cancel()
	err := n.Controller.Close(ctx, draining)
	n.workers.Close(errors.New("the node has closed"))
	return err
}

// running are the replicas of a deployment that are in service.
func (n *testNode) running(app, deployment string) (running []*fleet.Replica) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	a := n.Apps[app]
	if a == nil || a.Deployments[deployment] == nil {
		return nil
	}
	for _, r := range a.Deployments[deployment].Replicas {
		if r.State == helvetype.ReplicaRunning {
			running = append(running, r)
		}
	}
	return running
}

// valueOf is the instance of a replica in this process.
func valueOf(r *fleet.Replica) any { return r.Running.Instance().Value }

// kill ends a replica as the end of its process does.
func kill(r *fleet.Replica, ending host.Ending) { r.Running.(*mortalReplica).kill(ending) }

// mortalHost has replicas in this process that can be killed, as if each had a process of its own.
type mortalHost struct{ host.Host }

func (h mortalHost) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	m := &mortalReplica{ended: make(chan struct{})}
	models := l.Models
	l.Models = func(r host.Replica, ids []string) {
		m.Replica = r
		models(m, ids)
	}
	r, err := h.Host.Start(ctx, l)
	if err != nil {
		return nil, err
	}
	m.Replica = r
	return m, nil
}

// mortalReplica is a replica of a [mortalHost].
type mortalReplica struct {
	host.Replica
	ended chan struct{} // closed when it was killed

	mu     sync.Mutex
	over   bool // true from the first kill or Stop
	ending host.Ending
}

// kill ends the replica: no call is sent to it any more, and its instance is closed, because code in the process of a test cannot be
// ended in the middle. It does nothing if the replica is being stopped.
func (m *mortalReplica) kill(ending host.Ending) {
	m.mu.Lock()
	over := m.over
	m.over, m.ending = true, ending
	m.mu.Unlock()
	if over {
		return
	}
	serving.BaseOf(m).Refuse()
	close(m.ended)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		m.Replica.Stop(ctx) //nolint:errcheck // the process of the replica has ended
	}()
}

func (m *mortalReplica) Ended() <-chan struct{} { return m.ended }

func (m *mortalReplica) Ending() host.Ending {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ending
}

// Stop closes the instance, unless the replica was killed before.
func (m *mortalReplica) Stop(ctx context.Context) error {
	m.mu.Lock()
	over := m.over
	m.over = true
	m.mu.Unlock()
	if over {
		return nil
	}
	return m.Replica.Stop(ctx)
}

// graphOf is the graph of the application app.
func graphOf(deployments ...spec.Deployment) spec.Graph {
	return spec.Graph{
		App: "app", Deployments: deployments,
		Ingress: &spec.IngressSpec{Deployment: deployments[0].Name, Method: "Call", Kind: spec.IngressMethod},
	}
}

// The type nothing has no methods.
type nothing struct{}

// closeAfter closes the node at the end of the test.
func (n *testNode) closeAfter(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { n.Close(context.Background()) }) //nolint:errcheck // the test has seen what it wanted to see
}

package scaler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/controller"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/restore"
	"github.com/helve-serve/helve/internal/scaler"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/telemetry"
)

// stallingStore is a store whose writes of numbers of replicas fail, or hang until they are let go.
type stallingStore struct {
	store.Store

	mu    sync.Mutex
	fails bool
	hangs chan struct{} // nil: they do not
}

func (s *stallingStore) Txn(ctx context.Context, t store.Txn) (int64, error) {
	s.mu.Lock()
	fails, hangs := s.fails, s.hangs
	s.mu.Unlock()
	if len(t.Then) == 1 && strings.HasPrefix(t.Then[0].Key, "scale/") { // a number alone: no deploy
		if hangs != nil {
			<-hangs
		}
		if fails {
			return 0, errors.New("no space left on device")
		}
	}
	return s.Store.Txn(ctx, t)
}

func (s *stallingStore) set(fails bool, hangs chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.hangs = fails, hangs
}

// node is a controller with a scaler, whose replicas are in this process.
type node struct {
	*controller.Controller
	*scaler.Scaler
	t      *testing.T
	store  *stallingStore
	events *telemetry.Events
	stop   context.CancelFunc
	over   sync.WaitGroup
	work   *work
	cut    bool // the node is killed while calls run: they fail
}

// machine is what outlives a node.
type machine struct {
	memory *store.Memory
	blobs  store.Blobs
	app    deploy.App // as the node finds it when it is started again
	cpus   int        // of the node; 0: it was not stated
	half   bool       // the target capacity is 50 when the node starts
	work   work
}

func newMachine() *machine {
	return &machine{memory: store.NewMemory(), blobs: store.NewMemoryBlobs()}
}

// start starts a node.
func (m *machine) start(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, store: &stallingStore{Store: m.memory}, events: telemetry.NewEvents(nil), work: &m.work}
	log, cd := slog.New(slog.DiscardHandler), codec.New()
	room := placement.Unstated("")
	if m.cpus > 0 {
		room.CPUs = placement.Amount(m.cpus) * placement.One
	}
	workers := host.NewWorkers(host.Settings{Ledger: ledger.New(room), Logger: log, Codec: cd, Node: "local", Changed: func() { n.Controller.Wake() }})
	n.Controller = controller.New(controller.Settings{
		Logger: log, Node: "local", Codec: cd, Workers: workers, Events: n.events, Store: n.store, Blobs: m.blobs, Durable: true,
		Proxy: proxy.New(proxy.Settings{Logger: log, Apps: func() map[string]bool { return n.Readiness() }}),
		Host:  func(d *host.Deployment) host.Host { return &inprocess.Host{Deployment: d, Node: "local", Codec: cd} },
	})
	n.Scaler = scaler.New(scaler.Settings{Fleet: n.Fleet, Target: n.Target(), Log: log})
	if m.half {
		n.SetCapacity(new(50.0), false)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.over.Go(func() { n.Run(ctx) })
	if m.app.Graph.App != "" {
		r := &restore.Restorer{To: n.Controller, Target: n.Target(), Own: func(string) (deploy.App, error) { return m.app, nil }, Log: log}
		if err := r.All(ctx, n.over.Go); err != nil {
			t.Error(err)
		}
	}
	return n
}

// end ends the node in the order in which a node does so: with clean its last memory is written.
func (n *node) end(clean bool) {
	if clean {
		n.Closing()
		time.Sleep(time.Second) // fake time: the scaler has its turns while calls drain
		n.SaveAll(context.Background())
	} else {
		n.store.set(true, nil)
	}
	draining, cut := context.WithCancel(context.Background())
	defer cut()
	if n.cut {
		cut()
	}
	n.Controller.Close(context.Background(), draining) //nolint:errcheck // calls may be left
	if n.cut {
		n.work.done()
	}
	n.stop()
	n.over.Wait()
}

// deploy deploys the application app with the deployment A of some options.
func (n *node) deploy(o spec.Options, construct func(context.Context) error) error {
	return n.Deploy(context.Background(), n.work.app(o, construct))
}

// work has the calls that the replicas execute: each until it is let go.
type work struct {
	mu      sync.Mutex
	release chan struct{}
	takes   time.Duration // of a call; 0: it ends with done

	unready atomic.Bool // the readiness check of the first replica fails
	first   atomic.Bool // a replica was made
}

// replica is an instance.
type replica struct {
	of    *work
	first bool
}

func (r *replica) CheckReady(context.Context) error {
	if r.first && r.of.unready.Load() {
		return errors.New("it is not ready")
	}
	return nil
}

// app is the application whose method Work executes until release is called.
func (w *work) app(o spec.Options, construct func(context.Context) error) deploy.App {
	return deploy.App{
		Graph:   spec.Graph{App: "app", Ingress: &spec.IngressSpec{Deployment: "A"}, Deployments: []spec.Deployment{{Name: "A", Language: "go", Options: o}}},
		Replace: true,
		Classes: map[string]*instance.Class{"A": {
			App: "app", Deployment: "A",
			Construct: func(ctx context.Context) (any, error) {
				r := &replica{w, w.first.CompareAndSwap(false, true)}
				if construct != nil {
					return r, construct(ctx)
				}
				return r, nil
			},
			Methods: map[string]*instance.Method{"Work": {
				Name: "Work", Shape: instance.Unary, In: reflect.TypeFor[int](), Out: reflect.TypeFor[int](),
				Invoke: func(ctx context.Context, _, _ any) (any, error) {
					if w.takes > 0 {
						time.Sleep(w.takes) // fake time
						return 1, nil
					}
					select {
					case <-w.gate():
					case <-ctx.Done():
					}
					return 1, nil
				},
			}},
		}},
	}
}

func (w *work) gate() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.release == nil {
		w.release = make(chan struct{})
	}
	return w.release
}

// done ends the calls that run and wait.
func (w *work) done() {
	close(w.gate())
	w.mu.Lock()
	w.release = nil
	w.mu.Unlock()
}

// call begins a number of calls. Each ends with [work.done].
func (n *node) call(calls int) {
	for range calls {
		n.over.Go(n.callOnce)
	}
}

// callOnce makes a call, and waits for its end.
func (n *node) callOnce() {
	c := &call.Call{Want: call.Native}
	c.Info.Place = &call.Place{App: "app", Deployment: "A", Method: "Work"}
	c.SetOne(call.Slot{Payload: call.Payload{Codec: call.Native, Value: 1}})
	w := call.NewWaiter()
	if _, err := w.Wait(context.Background(), n.Deployment("app", "A").Submit(nil, c, w)); err != nil && !n.cut {
		n.t.Errorf("a call has failed: %v", err)
	}
}

// autoscaled are options with an autoscaling_config.
func autoscaled(config string) spec.Options {
	return spec.Options{AutoscalingConfig: json.RawMessage(config), Sources: map[string]spec.Source{"autoscaling_config": spec.FromCode}}
}

// fixed are options with a num_replicas.
func fixed(replicas int) spec.Options {
	return spec.Options{NumReplicas: replicas, Sources: map[string]spec.Source{"num_replicas": spec.FromCode}}
}

// wait lets a time pass.
func (n *node) wait(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// wanted is the number of replicas of A that the node wants.
func (n *node) wanted() int { return n.Status().Applications["app"].Deployments["A"].Wanted }

// want compares the number of replicas, as wanted, as running, and as the record has it.
func (n *node) want(when string, wanted, recorded int, by string) {
	n.t.Helper()
	d := n.Status().Applications["app"].Deployments["A"]
	running := 0
	for _, r := range d.Replicas {
		if r.State == helvetype.ReplicaRunning {
			running++
		}
	}
	record, err := store.Get(context.Background(), n.store, store.ScaleKey("app", "A"))
	got := fmt.Sprintf("%d wanted, %d run, %d by %s in the store, %v", d.Wanted, running, record.Record.Replicas, record.Record.By, err)
	if want := fmt.Sprintf("%d wanted, %[1]d run, %d by %s in the store, <nil>", wanted, recorded, by); got != want {
		n.t.Errorf("%s: %s\nwant %s (%s)", when, got, want, d.Message)
	}
}

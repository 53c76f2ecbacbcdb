package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/controller"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/transport"
)

// This file adds a kind of replica beside the three that the program has: nothing outside of it knows of the kind.

// fourthKind has the replicas of one deployment. They are objects of the test: a call is answered with the replica's id.
type fourthKind struct {
	deployment *host.Deployment
	replicas   *fourthReplicas
}

func (h *fourthKind) InProcess() bool            { return false }
func (h *fourthKind) StartsEarly() bool          { return false }
func (h *fourthKind) Method(string) host.Method  { return host.Method{In: "none"} }
func (h *fourthKind) Methods() []protocol.Method { return nil }
func (h *fourthKind) Adopt(host.Replica)         {}

func (h *fourthKind) Start(_ context.Context, l host.Launch) (host.Replica, error) {
	defer l.Waits(host.WaitsForProcess)()
	r := &fourthReplica{ended: make(chan struct{}), config: string(l.Config())}
	r.Init(l.Life, l.ID, "local", h.deployment.Options.MaxOngoingRequests)
	return r, h.replicas.add(r)
}

// fourthReplicas are all replicas that were started, also those that have ended.
type fourthReplicas struct {
	mu     sync.Mutex
	all    []*fourthReplica
	broken bool // starts fail
}

func (rs *fourthReplicas) add(r *fourthReplica) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.broken {
		return errors.New("a replica of the fourth kind does not start")
	}
	rs.all = append(rs.all, r)
	return nil
}

// alive are the ids of the replicas that have not ended.
func (rs *fourthReplicas) alive() (ids []string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.all {
		select {
		case <-r.ended:
		default:
			ids = append(ids, r.ID())
		}
	}
	slices.Sort(ids)
	return ids
}

func (rs *fourthReplicas) find(id string) *fourthReplica {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.all[slices.IndexFunc(rs.all, func(r *fourthReplica) bool { return r.ID() == id })]
}

// fourthReplica is a replica. It is its own transport.
type fourthReplica struct {
	serving.Base
	ended chan struct{}

	mu      sync.Mutex
	config  string
	sick    bool
	refuses bool // a user config
	stops   int
	serves  []bool // the arguments of Serve
	recalls int
	drains  int
	asked   int // for stats
}

func (r *fourthReplica) Start(b *call.Batch, c *call.Call, sink call.Sink) transport.Handle {
	sink.Complete(b, call.Result{Payload: call.Payload{Codec: call.Native, Value: r.ID()}})
	return transport.Handle{}
}

func (r *fourthReplica) Keeps() bool                              { return false }
func (r *fourthReplica) Instance() *instance.Instance             { return nil }
func (r *fourthReplica) Transport() transport.Transport           { return r }
func (r *fourthReplica) Counts() telemetry.Counts                 { return r.Calls().Counts() }
func (r *fourthReplica) Process() host.Process                    { return host.Process{PID: 4} }
func (r *fourthReplica) Ended() <-chan struct{}                   { return r.ended }
func (r *fourthReplica) HasHealthCheck() bool                     { return true }
func (r *fourthReplica) SetRank(context.Context, host.Rank) error { return nil }
func (r *fourthReplica) HasAutoscalingStats() bool                { return false }
func (r *fourthReplica) AutoscalingStats(context.Context) (map[string]float64, error) {
	return nil, nil
}
func (r *fourthReplica) HasRoutingStats() bool            { return true }
func (r *fourthReplica) HasReadyCheck() bool              { return false }
func (r *fourthReplica) CheckReady(context.Context) error { return nil }
func (r *fourthReplica) Sign(context.Context) error       { return nil }

func (r *fourthReplica) Ending() host.Ending {
	return host.Ending{Exit: helvetype.Exit{Replica: r.ID(), Reason: "it broke", Code: 4}, First: true, FirstOfDeployment: true}
}

// change runs f while no other goroutine reads or changes the replica.
func (r *fourthReplica) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *fourthReplica) Serve(on bool) { r.change(func() { r.serves = append(r.serves, on) }) }
func (r *fourthReplica) Drain()        { r.change(func() { r.drains++ }) }
func (r *fourthReplica) Lend(on bool) {
	r.change(func() {
		if !on {
			r.recalls++
		}
	})
}

func (r *fourthReplica) CheckHealth(context.Context) (err error) {
	r.change(func() {
		if r.sick {
			err = errors.New("it is sick")
		}
	})
	return err
}

func (r *fourthReplica) RoutingStats(context.Context) (json.RawMessage, error) {
	r.change(func() { r.asked++ })
	return json.RawMessage(`{"load": 1}`), nil
}

func (r *fourthReplica) Reconfigure(_ context.Context, config json.RawMessage) (err error) {
	r.change(func() {
		if r.refuses && string(config) == `"bad"` {
			err = call.NewError(helvetype.ReasonUser, "not this one")
			return
		}
		r.config = string(config)
	})
	return err
}

func (r *fourthReplica) Stop(context.Context) error {
	r.change(func() { r.stops++ })
	r.end()
	return nil
}

// end ends the replica. The call that is under way is none: calls are answered at once.
func (r *fourthReplica) end() {
	r.Refuse()
	r.change(func() {
		select {
		case <-r.ended:
		default:
			close(r.ended)
		}
	})
}

// newFourth starts a controller whose replicas are of the fourth kind.
func newFourth(t *testing.T) (*controller.Controller, *fourthReplicas) {
	t.Helper()
	log, cd, rs := slog.New(slog.DiscardHandler), codec.New(), &fourthReplicas{}
	var c *controller.Controller
	workers := host.NewWorkers(host.Settings{Logger: log, Codec: cd, Node: "local", Changed: func() { c.Wake() }})
	c = controller.New(controller.Settings{
		Logger: log, Node: "local", Codec: cd, Workers: workers, Events: telemetry.NewEvents(nil),
		Proxy: proxy.New(proxy.Settings{Logger: log, Apps: func() map[string]bool { return c.Readiness() }}),
		Host:  func(d *host.Deployment) host.Host { return &fourthKind{d, rs} },
	})
	t.Cleanup(func() {
		draining, cancel := serving.Draining(context.Background(), c.Closing())
		defer cancel()
		if err := c.Close(context.Background(), draining); err != nil {
			t.Error(err)
		}
		workers.Close(errors.New("the node has closed"))
	})
	return c, rs
}

// fourthApp is an application with one deployment, whose replicas go on over deploys.
func fourthApp(o spec.Options) deploy.App {
	o.Version = "1"
	o.HealthCheckPeriod = time.Second
	return deploy.App{Replace: true, Retry: true, Graph: spec.Graph{
		App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "go", Options: o}},
		Ingress: &spec.IngressSpec{Deployment: "D", Method: "Call", Kind: spec.IngressMethod},
	}}
}

// ask calls the deployment, and gives the id of the replica that answered.
func ask(t *testing.T, c *controller.Controller) string {
	t.Helper()
	d := c.Deployment("app", "D")
	if d == nil {
		t.Fatal("there is no deployment")
	}
	req := &call.Call{Want: call.Native, Origin: "driver"}
	req.Info.Place = &call.Place{App: "app", Deployment: "D", Method: "Call"}
	out, e := d.Do(t.Context(), req)
	if e != nil {
		t.Fatal(e)
	}
	id, _ := out.Value.(string)
	return id
}

// TestFourthKind: the controller and the data plane do with replicas of another kind what they do with the three that exist.
func TestFourthKind(t *testing.T) {
	t.Parallel()
	run := func(name string, f func(t *testing.T, c *controller.Controller, rs *fourthReplicas)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, rs := newFourth(t)
				o := spec.Options{NumReplicas: 2, UserConfig: json.RawMessage(`"a"`)}
				if err := c.Deploy(t.Context(), fourthApp(o)); err != nil {
					t.Fatal(err)
				}
				f(t, c, rs)
			})
		})
	}
	status := func(c *controller.Controller) helvetype.DeploymentStatus {
		synctest.Wait()
		return c.Status().Applications["app"].Deployments["D"]
	}
	configs := func(rs *fourthReplicas) (all []string) {
		synctest.Wait()
		for _, id := range rs.alive() {
			r := rs.find(id)
			r.change(func() { all = append(all, r.config) })
		}
		return all
	}
	run("call", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		for range 3 {
			if id := ask(t, c); !slices.Contains(rs.alive(), id) {
				t.Errorf("replica %q has answered", id)
			}
		}
		d := status(c)
		if d.Status != helvetype.DeploymentHealthy || d.Calls.Total != 3 || len(d.Replicas) != 2 || d.Replicas[0].PID != 4 {
			t.Errorf("%+v", d)
		}
	})
	run("health check fails", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		sick := rs.find(rs.alive()[0])
		sick.change(func() { sick.sick = true })
		time.Sleep(10 * time.Second)
		d := status(c)
		if d.Status != helvetype.DeploymentHealthy || len(rs.alive()) != 2 || slices.Contains(rs.alive(), sick.ID()) || sick.stops != 1 {
			t.Errorf("%+v, stopped %d times", d, sick.stops)
		}
		if !slices.Equal(sick.serves, []bool{true, false}) || sick.recalls != 1 || sick.drains != 1 {
			t.Errorf("it was told to serve %v, to return slots %d times, and of its drain %d times", sick.serves, sick.recalls, sick.drains)
		}
		if exit := d.LastExit; exit == nil || !strings.Contains(exit.Reason, "it is sick") {
			t.Errorf("%+v", exit)
		}
	})
	run("crash", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		crashed := rs.find(rs.alive()[0])
		crashed.end()
		d := status(c)
		if d.Status != helvetype.DeploymentHealthy || len(d.Replicas) != 2 || len(rs.alive()) != 2 || crashed.stops != 0 {
			t.Errorf("%+v, stopped %d times", d, crashed.stops)
		}
		at := slices.IndexFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.Restarts == 1 })
		if at < 0 || d.Replicas[at].LastExit.Code != 4 || d.LastExit.Reason != "it broke" {
			t.Errorf("%+v", d)
		}
		if id := ask(t, c); id == crashed.ID() {
			t.Error("the replica that is gone has answered")
		}
	})
	run("reconfigure", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		if got := configs(rs); !slices.Equal(got, []string{`"a"`, `"a"`}) {
			t.Errorf("at first: %v", got)
		}
		if err := c.Reconfigure(t.Context(), "app", "D", json.RawMessage(`"b"`)); err != nil {
			t.Error(err)
		}
		first := rs.find(rs.alive()[0])
		first.change(func() { first.refuses = true })
		if err := c.Reconfigure(t.Context(), "app", "D", json.RawMessage(`"bad"`)); err == nil || !strings.Contains(err.Error(), "not this one") {
			t.Errorf("a config that one of two replicas refuses: %v", err)
		}
		if got := configs(rs); !slices.Equal(got, []string{`"b"`, `"b"`}) {
			t.Errorf("in the end: %v", got)
		}
	})
	run("redeploy", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		before := rs.alive()
		o := spec.Options{NumReplicas: 4, UserConfig: json.RawMessage(`"c"`)}
		if err := c.Deploy(t.Context(), fourthApp(o)); err != nil {
			t.Fatal(err)
		}
		after := rs.alive()
		if len(after) != 4 || !slices.Contains(after, before[0]) || !slices.Contains(after, before[1]) {
			t.Errorf("before: %v, after: %v", before, after)
		}
		if got := configs(rs); !slices.Equal(got, []string{`"c"`, `"c"`, `"c"`, `"c"`}) {
			t.Errorf("the configs are %v", got)
		}
		o.NumReplicas = 1
		if err := c.Deploy(t.Context(), fourthApp(o)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if d := status(c); len(d.Replicas) != 1 || len(rs.alive()) != 1 {
			t.Errorf("%+v", d)
		}
	})
	run("scale", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		for _, n := range []int{3, 0, 1} {
			if err := c.Scale(t.Context(), "app", "D", n, "test", ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if d := status(c); d.Status != helvetype.DeploymentHealthy || len(d.Replicas) != n || len(rs.alive()) != n {
				t.Errorf("%d are wanted: %+v", n, d)
			}
		}
	})
	run("stats for routing", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		r := rs.find(rs.alive()[0])
		time.Sleep(time.Minute)
		if r.asked != 0 {
			t.Errorf("asked %d times although no policy reads them", r.asked)
		}
		app := fourthApp(spec.Options{NumReplicas: 2, UserConfig: json.RawMessage(`"a"`), RequestRouter: spec.RequestRouter{Policy: spec.Custom}})
		app.Policies = map[string]func() router.Policy{"D": func() router.Policy { return router.NewRoundRobin() }}
		if err := c.Deploy(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := r.Stats(); r.asked == 0 || s == nil || fmt.Sprint(s.Values) != "map[load:1]" {
			t.Errorf("asked %d times: %+v", r.asked, s)
		}
	})
	run("start fails", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		rs.mu.Lock()
		rs.broken = true
		rs.mu.Unlock()
		before := rs.alive()
		app := fourthApp(spec.Options{NumReplicas: 3, UserConfig: json.RawMessage(`"a"`), MaxConstructorRetries: 1})
		app.Retry = false
		app.Graph.Deployments[0].Options.Version = "2"
		if err := c.Deploy(t.Context(), app); err == nil || !strings.Contains(err.Error(), "a replica of the fourth kind does not start") {
			t.Errorf("%v", err)
		}
		if d := status(c); !slices.Equal(rs.alive(), before) || d.Status != helvetype.DeploymentDeployFailed || d.Trigger != helvetype.TriggerReplicaStartupFailed {
			t.Errorf("%+v", d)
		}
	})
	run("delete", func(t *testing.T, c *controller.Controller, rs *fourthReplicas) {
		if err := c.Delete(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		for _, r := range rs.all {
			if r.stops != 1 {
				t.Errorf("replica %s was stopped %d times", r.ID(), r.stops)
			}
		}
		if got := len(c.Status().Applications); got != 0 || c.Deployment("app", "D") != nil {
			t.Errorf("there are %d applications", got)
		}
	})
}

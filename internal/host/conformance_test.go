package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/guest"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/session"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
)

// The tests of this file hold for every kind of host. The kinds are a replica in this process and a replica in a Go worker, which runs
// on a goroutine of this process behind a pipe. A Python worker is a process, so package e2e tests it.

// user is the instance of a deployment.
type user struct {
	code  *code
	scope *instance.Scope
}

// code is the code of a deployment. Its fields are changed by tests and under mu.
type code struct {
	mu        sync.Mutex
	construct func(ctx context.Context) error // nil: the constructor succeeds
	sick      error
	unready   error
	configs   []string // that Reconfigure was given
	made      []*user
	closed    int
}

func (c *code) class() *instance.Class {
	return &instance.Class{
		App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[*user]()),
		Construct: func(ctx context.Context) (any, error) {
			if c.construct != nil {
				if err := c.construct(ctx); err != nil {
					return nil, err
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.made = append(c.made, &user{c, instance.ScopeFrom(ctx)})
			return c.made[len(c.made)-1], nil
		},
		Configure: func(_ context.Context, _ any, config json.RawMessage) error {
			if string(config) == `"bad"` {
				return errors.New("not this one")
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.configs = append(c.configs, string(config))
			return nil
		},
	}
}

// Greet is a method.
func (u *user) Greet(_ context.Context, name string) (string, error) {
	if name == "" {
		return "", errors.New("nobody is greeted")
	}
	return "hello " + name, nil
}

// CheckHealth gives the error that the test has set.
func (u *user) CheckHealth(context.Context) error {
	u.code.mu.Lock()
	defer u.code.mu.Unlock()
	return u.code.sick
}

// CheckReady gives the error that the test has set.
func (u *user) CheckReady(context.Context) error {
	u.code.mu.Lock()
	defer u.code.mu.Unlock()
	return u.code.unready
}

// RoutingStats gives a value.
func (u *user) RoutingStats(context.Context) (map[string]any, error) {
	return map[string]any{"load": 1}, nil
}

// Close counts.
func (u *user) Close(context.Context) error {
	u.code.mu.Lock()
	defer u.code.mu.Unlock()
	u.code.closed++
	return nil
}

// subject is a host under test.
type subject struct {
	host.Host
	code   *code
	killed chan struct{} // closed to kill the process of the replicas; nil in this process
	ctx    context.Context

	mu     sync.Mutex
	waits  []string // the reasons that starts have waited for, "" for the end of each wait, and the process of a start
	models [][]string
}

// launch describes the start of a replica.
func (s *subject) launch(id string, config json.RawMessage) host.Launch {
	return host.Launch{
		ID: id, Life: s.ctx,
		Config: func() json.RawMessage { return config },
		Rank:   func() host.Rank { return host.Rank{World: 1} },
		Waits: func(reason string) (done func()) {
			s.note(reason)
			return func() { s.note("") }
		},
		Models: func(r host.Replica, ids []string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.models = append(s.models, append([]string{r.ID()}, ids...))
		},
		AwaitUses: func(context.Context) error { return nil },
		In:        func(w *host.Worker) { s.note("in " + w.App()) },
	}
}

func (s *subject) note(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = append(s.waits, reason)
}

// start starts a replica that has to succeed.
func (s *subject) start(t *testing.T, id string) host.Replica {
	t.Helper()
	r, err := s.Start(t.Context(), s.launch(id, json.RawMessage(`"a"`)))
	if err != nil {
		t.Fatal(err)
	}
	r.Serve(true)
	return r
}

// greet calls a replica. The result is JSON.
func greet(r host.Replica, name string) (string, *call.Error) {
	c := &call.Call{Want: call.JSON}
	c.Info.Place = &call.Place{App: "app", Deployment: "D", Method: "Greet"}
	body, err := json.Marshal(name)
	if err != nil {
		return "", call.AsError(err)
	}
	c.SetOne(call.Slot{Payload: call.Payload{Codec: call.JSON, Data: body}})
	d := serving.New(slog.New(slog.DiscardHandler), "local", "app", "D")
	if !r.Gate().TryAcquire() {
		return "", call.NewError(helvetype.ReasonReplicaUnavailable, "it takes no calls")
	}
	w := call.NewWaiter()
	out, e := w.Wait(context.Background(), d.SubmitTo(r, c, w))
	if e != nil {
		return "", e
	}
	return string(out.Data), nil
}

// idleNode is the node of a worker's session, which asks for nothing of it.
type idleNode struct{ session.Node }

// eachKind runs f with a host of each kind. The hosts are gone afterwards.
func eachKind(t *testing.T, f func(t *testing.T, s *subject)) {
	t.Helper()
	cd, log := codec.New(), slog.New(slog.DiscardHandler)
	deployment := func(c *code) *host.Deployment {
		o := spec.Options{MaxOngoingRequests: 2, ConstructTimeout: 10 * time.Second}
		return &host.Deployment{App: "app", Name: "D", Options: o.Effective(), Class: c.class()}
	}
	run := func(name string, of func(s *subject) (leave func())) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &subject{code: &code{}}
				ctx, cancel := context.WithCancel(context.Background())
				s.ctx = ctx
				leave := of(s)
				f(t, s)
				cancel()
				leave()
			})
		})
	}
	run("in process", func(s *subject) (leave func()) {
		s.Host = &inprocess.Host{Deployment: deployment(s.code), Node: "local", Codec: cd}
		return func() {}
	})
	run("Go worker", func(s *subject) (leave func()) {
		workers := host.NewWorkers(host.Settings{
			Logger: log, Codec: cd, Node: "local", ArenaSize: -1, Changed: func() {},
			Pair: func() (net.Conn, net.Conn, error) { a, b := net.Pipe(); return a, b, nil },
			NewSession: func(w *host.Worker, _ int, secondary bool) host.Session {
				return session.New(session.Settings{Node: idleNode{}, Results: session.NewResults(0), Worker: w, Secondary: secondary})
			},
		})
		d, graph := deployment(s.code), spec.Graph{App: "app", Deployments: []spec.Deployment{{Name: "D", Language: "go"}}}
		s.killed = make(chan struct{})
		runner := func(ctx context.Context, id string, token wire.Token, page *telemetry.Page, dial func() (net.Conn, error)) error {
			set := guest.Settings{Graph: graph, Classes: map[string]*instance.Class{"D": d.Class}, Page: page}
			g, err := guest.Join(set, id, token, dial)
			if err != nil {
				return err
			}
			defer context.AfterFunc(ctx, g.Kill)()
			over := make(chan struct{})
			defer close(over)
			go func() {
				select {
				case <-s.killed:
					g.Kill()
				case <-over:
				}
			}()
			return g.Serve()
		}
		app := workers.NewApp("app")
		s.Host = &host.GoWorker{Deployment: d, App: app, Graph: &graph, Runner: runner, Shared: []*host.Deployment{d}}
		return func() {
			app.Close(context.Background())
			workers.Close(errors.New("the node has closed"))
		}
	})
}

// TestHostStarts: a replica that was started has its user config, and answers calls, which are counted.
func TestHostStarts(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s *subject) {
		r := s.start(t, "D#1")
		if r.ID() != "D#1" || r.Node() != "local" || !r.HasHealthCheck() || !r.HasReadyCheck() || !r.HasRoutingStats() || serving.BaseOf(r).Slots().Max() != 2 {
			t.Errorf("%s on %s: health check %t, stats %t", r.ID(), r.Node(), r.HasHealthCheck(), r.HasRoutingStats())
		}
		if s.InProcess() != serving.Local(r) || s.InProcess() != (r.Ended() == nil) {
			t.Errorf("in process: %t, local: %t", s.InProcess(), serving.Local(r))
		}
		if !slices.Equal(s.code.configs, []string{`"a"`}) {
			t.Errorf("the configs are %v", s.code.configs)
		}
		waits := []string{host.WaitsForConstructor, ""}
		if !s.InProcess() {
			waits = append([]string{host.WaitsForProcess, "", "in app"}, waits...)
		}
		if !slices.Equal(s.waits, waits) {
			t.Errorf("the start waited for %q", s.waits)
		}
		if out, e := greet(r, "you"); e != nil || out != `"hello you"` {
			t.Errorf("%s, %v", out, e)
		}
		if _, e := greet(r, ""); e == nil || e.Reason != helvetype.ReasonUser || !strings.Contains(e.Message, "nobody is greeted") {
			t.Errorf("%v", e)
		}
		if c := r.Counts(); c.Started != 2 || c.Failed != 1 || serving.BaseOf(r).Busy() {
			t.Errorf("%+v", c)
		}
		if err := r.Stop(t.Context()); err != nil || s.code.closed != 1 {
			t.Errorf("%v, closed %d times", err, s.code.closed)
		}
	})
}

// TestHostStartFails: the failure of a constructor, of the first config, or of the first health check is a [*call.Error] with the
// user's text, and no instance is left behind.
func TestHostStartFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config string
		spoil  func(*code)
		says   string
		method string
	}{
		"constructor": {`"a"`, func(c *code) {
			c.construct = func(context.Context) error { return errors.New("no model") }
		}, "no model", "constructor"},
		"panic": {`"a"`, func(c *code) {
			c.construct = func(context.Context) error { panic("no model") }
		}, "no model", "constructor"},
		"config":       {`"bad"`, func(*code) {}, "not this one", "Reconfigure"},
		"health check": {`"a"`, func(c *code) { c.sick = errors.New("sick at once") }, "sick at once", "CheckHealth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachKind(t, func(t *testing.T, s *subject) {
				c.spoil(s.code)
				r, err := s.Start(t.Context(), s.launch("D#1", json.RawMessage(c.config)))
				e, ok := errors.AsType[*call.Error](err)
				if r != nil || !ok || !strings.Contains(e.Message, c.says) || e.Method != c.method {
					t.Errorf("%v, %#v", r, err)
				}
				if s.code.closed != len(s.code.made) {
					t.Errorf("%d instances were made, and %d closed", len(s.code.made), s.code.closed)
				}
			})
		})
	}
}

// TestHostStartIsGivenUp: a start ends with its context, or at construct_timeout_s, although the constructor does not look at its context.
func TestHostStartIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"the context ends": time.Second, "it takes too long": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachKind(t, func(t *testing.T, s *subject) {
				left := make(chan struct{})
				s.code.construct = func(context.Context) error {
					<-left
					return nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				begun := time.Now()
				r, err := s.Start(ctx, s.launch("D#1", nil))
				if took := time.Since(begun); r != nil || err == nil || took < min(after, 10*time.Second) || took > min(after, 11*time.Second) {
					t.Errorf("%v, %v after %s", r, err, took)
				}
				close(left)
				synctest.Wait()
				if s.code.closed != len(s.code.made) {
					t.Errorf("%d instances were made, and %d closed", len(s.code.made), s.code.closed)
				}
			})
		})
	}
}

// TestHostAsksReplicas: user configs, health checks, stats and models reach the instance, and its errors come back.
func TestHostAsksReplicas(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s *subject) {
		r := s.start(t, "D#1")
		if err := r.Reconfigure(t.Context(), json.RawMessage(`"b"`)); err != nil || s.code.configs[1] != `"b"` {
			t.Errorf("%v, %v", err, s.code.configs)
		}
		err := r.Reconfigure(t.Context(), json.RawMessage(`"bad"`))
		if e, ok := errors.AsType[*call.Error](err); !ok || !strings.Contains(e.Message, "not this one") {
			t.Errorf("%#v", err)
		}
		if err := r.CheckHealth(t.Context()); err != nil {
			t.Error(err)
		}
		s.code.mu.Lock()
		s.code.sick = errors.New("it is sick")
		s.code.mu.Unlock()
		if err := r.CheckHealth(t.Context()); err == nil || !strings.Contains(err.Error(), "it is sick") {
			t.Errorf("%v", err)
		}
		if err := r.CheckReady(t.Context()); err != nil {
			t.Error(err)
		}
		s.code.mu.Lock()
		s.code.unready = errors.New("the cache is cold")
		s.code.mu.Unlock()
		if err := r.CheckReady(t.Context()); err == nil || !strings.Contains(err.Error(), "the cache is cold") {
			t.Errorf("%v", err)
		}
		if err := r.Sign(t.Context()); err != nil {
			t.Error(err)
		}
		if stats, err := r.RoutingStats(t.Context()); err != nil || strings.ReplaceAll(string(stats), " ", "") != `{"load":1}` {
			t.Errorf("%s, %v", stats, err)
		}
		s.code.made[0].scope.AddLoader("text").SetIDs([]string{"m"})
		synctest.Wait()
		s.mu.Lock()
		if got := fmt.Sprint(s.models); got != "[[D#1 m]]" || !slices.Equal(serving.BaseOf(r).Models(), []string{"m"}) {
			t.Errorf("the models are %s", got)
		}
		s.mu.Unlock()
		r.Lend(false)
		r.Serve(false)
		if err := r.Stop(t.Context()); err != nil || s.code.closed != 1 {
			t.Errorf("%v, closed %d times", err, s.code.closed)
		}
	})
}

// TestHostEnds: the end of a process is told to each replica in it, once it takes no calls. Of the replicas of one deployment in one
// process one is the first.
func TestHostEnds(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s *subject) {
		replicas := []host.Replica{s.start(t, "D#1"), s.start(t, "D#2")}
		if s.killed == nil { // there is no process to end
			return
		}
		close(s.killed)
		first, firstOfDeployment := 0, 0
		for _, r := range replicas {
			<-r.Ended()
			if r.Gate().TryAcquire() {
				t.Errorf("replica %s takes calls", r.ID())
			}
			e := r.Ending()
			if e.Exit.Replica != r.ID() || e.Exit.Reason == "" {
				t.Errorf("%+v", e.Exit)
			}
			if e.First {
				first++
			}
			if e.FirstOfDeployment {
				firstOfDeployment++
			}
		}
		if first != 1 || firstOfDeployment != 1 {
			t.Errorf("%d are the first, %d of the deployment", first, firstOfDeployment)
		}
		if r := s.startAgain(t); r.ID() != "D#3" {
			t.Errorf("%s", r.ID())
		}
	})
}

// startAgain starts a replica after the process of others has ended.
func (s *subject) startAgain(t *testing.T) host.Replica {
	t.Helper()
	s.killed = make(chan struct{})
	return s.start(t, "D#3")
}

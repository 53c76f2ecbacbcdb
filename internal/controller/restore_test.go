package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/restore"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// durable is what outlives the nodes of a test: the store, and the code of the executable.
type durable struct {
	store *store.Memory
	blobs store.Blobs
	own   func(app string) (deploy.App, error)
	log   *slog.Logger // of the nodes; nil for none
	early bool         // their hosts are of the kind of [earlyHost]
}

func newDurable(own func(app string) (deploy.App, error)) *durable {
	return &durable{store.NewMemory(), store.NewMemoryBlobs(), own, nil, false}
}

// durableNode is a node that can be killed.
type durableNode struct {
	*testNode
	*restore.Restorer
	link *badStore // to the store
}

// node starts a node on the store, without restoring anything.
func (d *durable) node() *durableNode {
	link := &badStore{Memory: d.store, hold: map[string]chan any{}, txns: map[string]int{}}
	n := mortalTestNode(Settings{Store: link, Blobs: d.blobs, Durable: true, Logger: d.log}, d.early)
	return &durableNode{n, &restore.Restorer{To: n.Controller, Target: n.Target(), Own: d.own, Log: slog.New(slog.DiscardHandler)}, link}
}

// restored starts a node that restores the applications of the store.
func (d *durable) restored(t *testing.T) *durableNode {
	t.Helper()
	n := d.node()
	if err := n.All(n.ctx, n.wg.Go); err != nil {
		t.Error(err)
	}
	return n
}

// kill ends a node as kill -9 does: nothing that it writes from now on reaches the store.
func (n *durableNode) kill() {
	n.link.set(func() { n.link.down = true })
	n.Close(context.Background()) //nolint:errcheck // its calls are lost
}

func (n *durableNode) status() helvetype.ApplicationStatus { return n.Status().Applications["app"] }

// wantStatus waits until nothing moves, and compares the state of the application, its revision and the number of replicas of A that run.
func (n *durableNode) wantStatus(t *testing.T, when string, state helvetype.ApplicationState, revision, replicas int) {
	t.Helper()
	time.Sleep(time.Second) // fake time
	synctest.Wait()
	s, number := n.status(), n.Applications()["app"].Revision
	if ready := len(n.running("app", "A")); s.Status != state || number != revision || ready != replicas {
		t.Errorf("%s: %s (%s), revision %d, %d replicas; want %s, revision %d, %d replicas", when, s.Status, s.Message, number, ready, state, revision, replicas)
	}
}

// TestRestore: a node that is killed has a next one with its applications, revisions and numbers of replicas.
func TestRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(func(string) (deploy.App, error) { return appOf(map[string]int{"A": 2, "B": 1}, nil), nil })
		first := d.node()
		first.deploy(t, appOf(map[string]int{"A": 2, "B": 1}, nil))
		if err := first.Scale(t.Context(), "app", "A", 3, "ann", "a sale"); err != nil {
			t.Fatal(err)
		}
		since := first.status().DeployedAt
		first.kill()
		time.Sleep(time.Hour) // fake time
		second := d.restored(t)
		second.wantStatus(t, "restored", helvetype.ApplicationRunning, 1, 3)
		if got := second.status().DeployedAt; got.Sub(since).Abs() > time.Second {
			t.Errorf("deployed at %s, want %s", got, since)
		}
		second.deploy(t, appOf(map[string]int{"A": 2, "B": 2}, nil))
		second.wantStatus(t, "deployed again", helvetype.ApplicationRunning, 2, 3)
		second.kill()
		third := d.restored(t)
		third.wantStatus(t, "restored again", helvetype.ApplicationRunning, 2, 3)
		if err := third.testNode.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		third.kill()
		fourth := d.restored(t)
		defer fourth.kill()
		if all := fourth.Status().Applications; len(all) > 0 {
			t.Errorf("a deleted application is there: %+v", all)
		}
	})
}

// TestRestoreGoesOn: an application whose constructor fails is tried again until it starts, says why, and is in the store all the time.
func TestRestoreGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var broken error
		construct := func() error {
			mu.Lock()
			defer mu.Unlock()
			return broken
		}
		d := newDurable(func(string) (deploy.App, error) { return appOf(map[string]int{"A": 1}, construct), nil })
		first := d.node()
		first.deploy(t, appOf(map[string]int{"A": 1}, construct))
		first.kill()
		mu.Lock()
		broken = errors.New("no licence")
		mu.Unlock()
		second := d.restored(t)
		time.Sleep(time.Hour) // fake time
		second.wantStatus(t, "it fails", helvetype.ApplicationDeploying, 1, 0)
		if m := second.status().Message; !strings.Contains(m, "no licence") {
			t.Errorf("message %q", m)
		}
		if ready := second.Readiness()["app"]; ready {
			t.Error("it is ready")
		}
		second.kill()
		third := d.restored(t)
		defer third.kill()
		mu.Lock()
		broken = nil
		mu.Unlock()
		time.Sleep(2 * time.Minute) // fake time
		third.wantStatus(t, "it is healed", helvetype.ApplicationRunning, 1, 1)
		if m := third.status().Message; m != "" {
			t.Errorf("message %q", m)
		}
	})
}

// TestRestoreOfAFailedDeploy: an application whose first deploy has failed is in the status of the next node, with its reason, and is not started there. The next deploy
// starts it, under another number; if that fails too, the newest failure stays.
func TestRestoreOfAFailedDeploy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		var good atomic.Bool
		app := func(string) (deploy.App, error) {
			def := appOf(map[string]int{"A": 1, "B": 1}, func() error {
				made.Add(1)
				if good.Load() {
					return nil
				}
				return errors.New("no licence")
			})
			def.Attempts, def.KeepFailed = true, true
			def.Classes["A"].Construct = func(context.Context) (any, error) { return nothing{}, nil }
			return def, nil
		}
		d := newDurable(app)
		def, _ := app("app")
		n := d.node()
		for number := 1; number <= 2; number++ {
			if err := n.Deploy(t.Context(), def); err == nil || !strings.Contains(err.Error(), "no licence") {
				t.Fatalf("%v", err)
			}
			before := n.status()
			n.kill()
			time.Sleep(time.Hour) // fake time
			attempts := made.Load()
			n = d.restored(t)
			n.wantStatus(t, "restored", helvetype.ApplicationDeployFailed, number, 0)
			if made.Load() != attempts {
				t.Error("it was started again")
			}
			now := n.status()
			if !strings.Contains(now.Message, "no licence") || now.DeployedAt.Sub(before.DeployedAt).Abs() > time.Second {
				t.Errorf("%q, deployed at %s, want %q at %s", now.Message, now.DeployedAt, before.Message, before.DeployedAt)
			}
			for name, of := range before.Deployments {
				if got := now.Deployments[name]; got.Status != of.Status || !strings.Contains(of.Message, got.Message) {
					t.Errorf("%s: %s %q, want %s %q", name, got.Status, got.Message, of.Status, of.Message)
				}
			}
			if ready, there := n.Readiness()["app"]; ready || !there {
				t.Errorf("ready: %v, asked: %v", ready, there)
			}
			if a := record(t, d.store, store.AppKey("app")); len(a.Outcomes) != number || a.Outcomes[uint64(number)].State != store.Failed || a.Before != 0 {
				t.Errorf("%+v", a)
			}
		}
		good.Store(true)
		n.deploy(t, def)
		n.wantStatus(t, "deployed", helvetype.ApplicationRunning, 3, 1)
		n.kill()
		n = d.restored(t)
		defer func() { n.kill() }()
		n.wantStatus(t, "restored", helvetype.ApplicationRunning, 3, 1)
		if err := n.testNode.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		good.Store(false)
		if err := n.Deploy(t.Context(), def); err == nil {
			t.Error("it has started")
		}
		if err := n.testNode.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		for _, prefix := range []string{"apps/", "revisions/", "scale/"} {
			wantKeys(t, d.store, prefix)
		}
		n.kill()
		n = d.restored(t)
		if all := n.Status().Applications; len(all) > 0 {
			t.Errorf("a deleted application is there: %+v", all)
		}
	})
}

// TestDeployGoesOnAfterAnEnd: a durable node that ends in order, in the middle of a deploy, leaves the deploy to the next node.
func TestDeployGoesOnAfterAnEnd(t *testing.T) {
	t.Parallel()
	for name, update := range map[string]bool{"first": false, "update": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var slow atomic.Bool
				release := make(chan struct{})
				app := func(n int) deploy.App {
					def := appOf(map[string]int{"A": n}, func() error {
						if slow.Load() {
							<-release
						}
						return nil
					})
					def.Attempts, def.KeepFailed = true, true
					return def
				}
				numbers := 1
				d := newDurable(func(string) (deploy.App, error) { return app(numbers), nil })
				first, want := d.node(), 1
				if update {
					first.deploy(t, app(1))
					want = 2
				}
				slow.Store(true)
				numbers = 2
				over := make(chan error, 1)
				go func() { over <- first.Deploy(context.Background(), app(2)) }()
				synctest.Wait()
				closed := make(chan struct{})
				go func() {
					first.Close(context.Background()) //nolint:errcheck // nothing calls
					close(closed)
				}()
				synctest.Wait()
				close(release)
				<-closed
				if err := <-over; !errors.Is(err, fleet.ErrNodeEnds) {
					t.Errorf("the deploy has ended with %v", err)
				}
				second := d.restored(t)
				defer second.kill()
				second.wantStatus(t, "in the next node", helvetype.ApplicationRunning, want, 2)
			})
		})
	}
}

// TestFailedFirstDeploysArePruned: an application that fails to start again and again has as many revisions in the store as one that runs.
func TestFailedFirstDeploysArePruned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		def := appOf(map[string]int{"A": 1}, func() error { return errors.New("no licence") })
		def.KeepFailed = true
		for range 12 {
			if err := n.Deploy(t.Context(), def); err == nil {
				t.Fatal("it has started")
			}
		}
		if got := keys(t, s, "revisions/app/"); len(got) != 10 || got[9] != "revisions/app/0000000012" {
			t.Error(got)
		}
		if a := record(t, s, store.AppKey("app")); len(a.Outcomes) != 10 {
			t.Errorf("%+v", a)
		}
	})
}

// TestRestoreOfAChange: a node that is killed in the middle of a deploy leaves it to the next one, which ends it.
func TestRestoreOfAChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first  bool // the application is new
		broken bool // the new revision does not start
		want   int  // the revision that runs in the end; 0 for none
		number int  // of replicas
	}{
		"of a new application":                      {true, false, 1, 3},
		"of a new application that fails":           {true, true, 0, 0},
		"to another revision":                       {false, false, 2, 3},
		"to another revision, which does not start": {false, true, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				var started atomic.Int64
				next := appOf(map[string]int{"A": 3}, func() error {
					if started.Add(1) <= 3 {
						<-hang
					}
					if c.broken {
						return errors.New("no licence")
					}
					return nil
				})
				next.Graph.Deployments[0].Options.MaxConstructorRetries = 2
				next.Graph.Deployments[0].Options.Version = "next"
				former := appOf(map[string]int{"A": 1}, nil)
				former.Graph.Deployments[0].Options.Version = "former"
				d := newDurable(nil)
				n := d.node()
				if !c.first {
					n.deploy(t, former)
				}
				over, begun := make(chan error, 1), time.Now()
				go func() { over <- n.Deploy(context.Background(), next) }()
				synctest.Wait()
				n.link.set(func() { n.link.down = true })
				close(hang)
				n.kill()
				<-over
				time.Sleep(time.Hour) // fake time
				var asked atomic.Int64
				d.own = func(string) (deploy.App, error) {
					if asked.Add(1) == 1 || c.first {
						return next, nil
					}
					return former, nil
				}
				second := d.restored(t)
				defer second.kill()
				time.Sleep(10 * time.Minute) // fake time
				if c.want == 0 {
					if s, there := second.Status().Applications["app"]; there {
						t.Errorf("it is there: %+v", s)
					}
					wantKeys(t, d.store, "apps/")
					return
				}
				state := helvetype.ApplicationRunning
				if c.broken {
					state = helvetype.ApplicationDeployFailed // it was rolled back
				}
				second.wantStatus(t, "in the end", state, c.want, c.number)
				if at := second.status().DeployedAt; at.Sub(begun).Abs() > time.Second {
					t.Errorf("deployed at %s, want %s", at, begun)
				}
				a := record(t, d.store, store.AppKey("app"))
				if a.Attempt != nil || a.Revision != uint64(c.want) {
					t.Errorf("record %+v", a)
				}
				if s := record(t, d.store, store.ScaleKey("app", "A")); s.Replicas != c.number {
					t.Errorf("record %+v", s)
				}
			})
		})
	}
}

// TestDeployWhileRestoring: a deploy over an application that does not come up takes its place, and goes back to it if it fails.
func TestDeployWhileRestoring(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		broken := false
		old := appOf(map[string]int{"A": 1}, func() error {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return errors.New("no licence")
			}
			return nil
		})
		d := newDurable(func(string) (deploy.App, error) { return old, nil })
		first := d.node()
		first.deploy(t, old)
		first.kill()
		mu.Lock()
		broken = true
		mu.Unlock()
		second := d.restored(t)
		failing := appOf(map[string]int{"A": 1}, func() error { return errors.New("no model") })
		if err := second.Deploy(t.Context(), failing); err == nil || !strings.Contains(err.Error(), "stays at revision 1") {
			t.Error(err)
		}
		second.wantStatus(t, "the deploy has failed", helvetype.ApplicationDeploying, 1, 0)
		if a := record(t, d.store, store.AppKey("app")); a.Revision != 1 || a.Attempt != nil {
			t.Errorf("%+v", a)
		}
		second.deploy(t, appOf(map[string]int{"A": 1}, nil))
		second.wantStatus(t, "deployed", helvetype.ApplicationRunning, 3, 1)
		second.kill()
	})
}

// TestRestoreOfMany: a hundred applications start at the same time.
func TestRestoreOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := func(name string) (deploy.App, error) {
			def := appOf(map[string]int{"A": 1}, func() error {
				time.Sleep(time.Second) // fake time
				return nil
			})
			def.Graph.App, def.Classes["A"].App = name, name
			return def, nil
		}
		d := newDurable(app)
		first := d.node()
		const many = 100
		for i := range many {
			def, err := app(fmt.Sprintf("app%d", i))
			if err != nil {
				t.Fatal(err)
			}
			first.deploy(t, def)
		}
		first.kill()
		second := d.restored(t)
		defer second.kill()
		time.Sleep(1500 * time.Millisecond) // fake time
		synctest.Wait()
		running := 0
		for _, a := range second.Status().Applications {
			if a.Status == helvetype.ApplicationRunning {
				running++
			}
		}
		if running != many {
			t.Errorf("%d applications run", running)
		}
	})
}

// TestExecutableWithAnotherApplication: an executable that has changed deploys its application as a new revision, and the number of replicas stays.
// The restore of the others does not wait for it.
func TestExecutableWithAnotherApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(func(string) (deploy.App, error) {
			return appOf(map[string]int{"A": 1, "New": 1}, func() error {
				time.Sleep(10 * time.Second) // fake time
				return nil
			}), nil
		})
		first := d.node()
		first.deploy(t, appOf(map[string]int{"A": 1}, nil))
		if err := first.Scale(t.Context(), "app", "A", 3, "ann", ""); err != nil {
			t.Fatal(err)
		}
		first.kill()
		start := time.Now()
		second := d.restored(t)
		defer second.kill()
		if took := time.Since(start); took > time.Second {
			t.Errorf("the restore took %s", took)
		}
		time.Sleep(time.Minute) // fake time: New starts after A, or beside it
		second.wantStatus(t, "with the new code", helvetype.ApplicationRunning, 2, 3)
	})
}

// TestLostApplication: an application that cannot be loaded is tried again, can be deployed over and deleted, and the others run.
func TestLostApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		missing := errors.New("the executable has no such application")
		d := newDurable(func(string) (deploy.App, error) {
			if gone.Load() {
				return deploy.App{}, missing
			}
			return appOf(map[string]int{"A": 1}, nil), nil
		})
		first := d.node()
		first.deploy(t, appOf(map[string]int{"A": 1}, nil))
		first.kill()
		gone.Store(true)
		second := d.restored(t)
		if why := second.Lost()["app"]; why == nil || !strings.Contains(why.Error(), missing.Error()) {
			t.Error(why)
		}
		record(t, d.store, store.AppKey("app"))
		gone.Store(false)
		time.Sleep(time.Minute) // fake time
		second.wantStatus(t, "it can be loaded again", helvetype.ApplicationRunning, 1, 1)
		second.kill()
		gone.Store(true)
		third := d.restored(t)
		third.deploy(t, appOf(map[string]int{"A": 2}, nil))
		time.Sleep(2 * time.Minute) // fake time
		third.wantStatus(t, "deployed over it", helvetype.ApplicationRunning, 2, 2)
		if lost := third.Lost(); len(lost) > 0 {
			t.Error(lost)
		}
		third.kill()
		fourth := d.restored(t)
		defer fourth.kill()
		if err := fourth.Restorer.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		wantKeys(t, d.store, "apps/")
		time.Sleep(2 * time.Minute) // fake time
		if lost := fourth.Lost(); len(lost) > 0 {
			t.Error(lost)
		}
	})
}

// counts are numbers by name.
type counts struct {
	mu  sync.Mutex
	all map[string]int
}

func (c *counts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]int{}
	}
	c.all[name]++
}

func (c *counts) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[name]
}

func (c *counts) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.all)
}

// TestDeployOverLostApplication: a deploy over an application that cannot be loaded, and that fails, leaves it as lost as it was: it is in the status, and is
// restored when it can be loaded. After that it is lost no more, also when it is deleted.
func TestDeployOverLostApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		d := newDurable(func(string) (deploy.App, error) {
			if gone.Load() {
				return deploy.App{}, errors.New("the executable has no such application")
			}
			return appOf(map[string]int{"A": 1}, nil), nil
		})
		first := d.node()
		first.deploy(t, appOf(map[string]int{"A": 1}, nil))
		first.kill()
		gone.Store(true)
		second := d.restored(t)
		defer second.kill()
		bad := appOf(map[string]int{"A": 1}, func() error { return errors.New("bad code") })
		if err := second.Deploy(t.Context(), bad); err == nil {
			t.Error("the deploy should fail")
		}
		time.Sleep(2 * time.Minute) // fake time
		if why := second.Lost()["app"]; why == nil {
			t.Error("the application is forgotten")
		}
		gone.Store(false)
		time.Sleep(2 * time.Minute)                                                             // fake time
		second.wantStatus(t, "it can be loaded again", helvetype.ApplicationDeployFailed, 1, 1) // the last deploy has failed
		if err := second.Controller.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		if lost := second.Lost(); len(lost) > 0 {
			t.Errorf("after its delete: %v", lost)
		}
	})
}

// TestEndOfNodeInEvents: the events of the end of a durable node say that its application is kept, and those of a delete do not.
func TestEndOfNodeInEvents(t *testing.T) {
	t.Parallel()
	for name, deleted := range map[string]bool{"the node ends": false, "the application is deleted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newDurable(nil).node()
				defer n.kill()
				n.deploy(t, appOf(map[string]int{"A": 1}, nil))
				end, want := func() error { return n.Close(t.Context()) }, states.EndOfNode
				if deleted {
					end, want = func() error { return n.testNode.Delete(t.Context(), "app") }, ""
				}
				if err := end(); err != nil {
					t.Error(err)
				}
				events, _ := n.set.Events.Since(0, 1000)
				var seen []string
				for _, e := range events {
					if e.Object.Kind == helvetype.KindApplication && (e.Reason == "delete" || e.Reason == "deleted") {
						if seen = append(seen, e.Reason); e.Message != want {
							t.Errorf("%s has the message %q, want %q", e.Reason, e.Message, want)
						}
					}
				}
				if !slices.Equal(seen, []string{"delete", "deleted"}) {
					t.Errorf("events %v", seen)
				}
			})
		})
	}
}

// TestUserConfigsComeBack: the user config that a Reconfigure has set is that of the next node, after a kill and after an end in order.
func TestUserConfigsComeBack(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"killed": true, "closed in order": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got []string // by the instances, in turn
			app := func(string) (deploy.App, error) {
				def := appOf(map[string]int{"A": 1}, nil)
				def.Graph.Deployments[0].Options.UserConfig = json.RawMessage(`"submitted"`)
				def.Classes["A"].Configure = func(_ context.Context, _ any, config json.RawMessage) error {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, string(config))
					return nil
				}
				return def, nil
			}
			dir, d := t.TempDir(), newDurable(app)
			first := d.node()
			def, err := app("app")
			if err = errors.Join(err, first.UseDir(dir, time.Minute)); err != nil {
				t.Fatal(err)
			}
			first.deploy(t, def)
			if err := first.Reconfigure(t.Context(), "app", "A", json.RawMessage(`"changed"`)); err != nil {
				t.Fatal(err)
			}
			if killed {
				s, err := snapshot.Read(dir)
				first.kill()
				left, err2 := json.Marshal(s)
				if err = errors.Join(err, err2, snapshot.Write(dir, left)); err != nil {
					t.Fatal(err)
				}
			} else if err := first.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			second := d.node()
			defer second.kill()
			if err := second.UseDir(dir, time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := second.All(second.ctx, second.wg.Go); err != nil {
				t.Fatal(err)
			}
			second.Readier.Until(t.Context(), &second.Mu, func() bool { return second.Apps["app"] != nil && second.Apps["app"].Deployments["A"].Starts > 0 })
			mu.Lock()
			defer mu.Unlock()
			if want := []string{`"submitted"`, `"changed"`, `"changed"`}; !slices.Equal(got, want) {
				t.Errorf("the instances got %q, want %q", got, want)
			}
		})
	}
}

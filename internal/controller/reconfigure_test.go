package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
)

// configured is an instance that knows which user configs it was given.
type configured struct {
	number int // among the instances of the test

	mu   sync.Mutex
	has  string
	seen []string
}

func (c *configured) holds() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.has
}

// configurable is a node with one deployment, D, whose instances judge configs with judge.
type configurable struct {
	node *testNode
	mu   sync.Mutex
	made []*configured
}

// newConfigurable deploys D. The function judge is told an instance's number and a config. The instance has taken the config before judge
// is asked, as an instance has that fails half way through.
func newConfigurable(t *testing.T, replicas int, judge func(ctx context.Context, number int, config string) error) *configurable {
	t.Helper()
	x := &configurable{node: newTestNode(Settings{})}
	x.node.closeAfter(t)
	class := &instance.Class{
		App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[nothing]()),
		Construct: func(context.Context) (any, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.made = append(x.made, &configured{number: len(x.made)})
			return x.made[len(x.made)-1], nil
		},
		Configure: func(ctx context.Context, recv any, config json.RawMessage) error {
			c := recv.(*configured)
			c.mu.Lock()
			c.has = string(config)
			c.seen = append(c.seen, c.has)
			c.mu.Unlock()
			return judge(ctx, c.number, string(config))
		},
	}
	err := x.node.Deploy(t.Context(), deploy.App{
		Graph: graphOf(spec.Deployment{Name: "D", Language: "go", Options: spec.Options{
			NumReplicas: replicas, UserConfig: json.RawMessage(`"a"`), ConstructTimeout: time.Minute, Version: "1",
		}}),
		Classes: map[string]*instance.Class{"D": class}, Retry: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *configurable) give(ctx context.Context, config string) error {
	return x.node.Reconfigure(ctx, "app", "D", json.RawMessage(config))
}

// running are the configs of the replicas that run.
func (x *configurable) running() (configs []string) {
	synctest.Wait()
	for _, r := range x.node.running("app", "D") {
		configs = append(configs, valueOf(r).(*configured).holds())
	}
	slices.Sort(configs)
	return configs
}

// kill ends all replicas that run as the end of a process that they share does. It is no failure for the back-off of starts.
func (x *configurable) kill() {
	for _, r := range x.node.running("app", "D") {
		kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed"}})
	}
	synctest.Wait()
}

func (x *configurable) want(t *testing.T, when string, configs ...string) {
	t.Helper()
	if got := x.running(); !slices.Equal(got, configs) {
		t.Errorf("%s the replicas have %v, want %v", when, got, configs)
	}
}

// TestRefusedConfigIsNotTheTarget: no replica has a refused config, neither the replicas that refused it, nor the replicas that had taken
// it, nor the replicas that start later.
func TestRefusedConfigIsNotTheTarget(t *testing.T) {
	t.Parallel()
	for name, refuses := range map[string]func(number int) bool{
		"by all": func(int) bool { return true }, "by one of three": func(n int) bool { return n == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := newConfigurable(t, 3, func(_ context.Context, number int, config string) error {
					if config == `"bad"` && refuses(number) {
						return errors.New("not this one")
					}
					return nil
				})
				if err := x.give(t.Context(), `"b"`); err != nil {
					t.Fatal(err)
				}
				err := x.give(t.Context(), `"bad"`)
				if err == nil || !strings.Contains(err.Error(), "not this one") || !strings.Contains(err.Error(), "the one before stays") {
					t.Errorf("%v", err)
				}
				x.want(t, "after the refusal", `"b"`, `"b"`, `"b"`)
				x.node.Mu.Lock()
				if got := string(x.node.Apps["app"].SnapshotLocked(nil).Configs["D"]); got != `"b"` {
					t.Errorf("the next node would have %s", got)
				}
				x.node.Mu.Unlock()
				x.kill()
				x.want(t, "after a crash", `"b"`, `"b"`, `"b"`)
				if err := x.give(t.Context(), `"c"`); err != nil {
					t.Error(err)
				}
				x.want(t, "with the next", `"c"`, `"c"`, `"c"`)
			})
		})
	}
}

// TestConfigsAtOnceEndWithOneThatWasTaken: of configs that come at once some are refused. In the end all replicas have the same config,
// and no replica has refused it.
func TestConfigsAtOnceEndWithOneThatWasTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newConfigurable(t, 3, func(_ context.Context, number int, config string) error {
			time.Sleep(time.Duration(number+1) * time.Millisecond)
			if strings.HasPrefix(config, `"bad`) && number == 2 {
				return errors.New("not this one")
			}
			return nil
		})
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if err := x.give(t.Context(), fmt.Sprintf(`"%s%d"`, []string{"good", "bad"}[i%2], i)); (err == nil) != (i%2 == 0) {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		got := x.running()
		if len(slices.Compact(got)) != 1 || !strings.HasPrefix(got[0], `"good`) {
			t.Errorf("the replicas have %v", got)
		}
	})
}

// TestConfigWithoutAReplicaToAskIsATrial: the first that starts with it decides.
func TestConfigWithoutAReplicaToAskIsATrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken, given := "none", make(chan struct{})
		x := newConfigurable(t, 2, func(_ context.Context, number int, config string) error {
			if number >= 2 && config == `"a"` {
				<-given // the two that replace the first ones do not run before
			}
			if config == `"bad"` || config == broken {
				return errors.New("not this one")
			}
			return nil
		})
		x.kill()
		if err := x.give(t.Context(), `"bad"`); err != nil {
			t.Errorf("no replica ran that could refuse it: %v", err)
		}
		close(given)
		x.want(t, "after a trial that was refused", `"a"`, `"a"`)
		if d := x.node.Status().Applications["app"].Deployments["D"]; d.Status != helvetype.DeploymentHealthy || d.Replicas[0].Restarts > 1 {
			t.Errorf("%+v", d)
		}
		broken = `"a"` // the good config is refused from now on
		x.kill()
		time.Sleep(time.Second)
		x.want(t, "when the good one is refused")
		if err := x.give(t.Context(), `"bad"`); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		x.want(t, "when the trial that replicas start with is refused too")
		if err := x.give(t.Context(), `"b"`); err != nil {
			t.Error(err)
		}
		x.want(t, "after a trial that was taken", `"b"`, `"b"`)
		x.kill()
		x.want(t, "later", `"b"`, `"b"`)
	})
}

// TestConfigIsWithdrawnWithItsContext: a replica that does not come to an end with it has the one before all the same, and last.
func TestConfigIsWithdrawnWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newConfigurable(t, 2, func(_ context.Context, number int, config string) error {
			if config == `"slow"` && number == 1 {
				time.Sleep(10 * time.Second) // longer than its context
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := x.give(ctx, `"slow"`); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if err := x.give(t.Context(), `"b"`); err != nil { // after the slow config is over
			t.Error(err)
		}
		x.want(t, "after all", `"b"`, `"b"`)
		x.mu.Lock()
		defer x.mu.Unlock()
		if got := x.made[1].seen; !slices.Equal(got, []string{`"a"`, `"slow"`, `"a"`, `"b"`}) {
			t.Errorf("the slow one was given %v", got)
		}
	})
}

// TestReplicaThatCannotGoBackIsReplaced: a replica that has a refused config and does not take the one before again ends.
func TestReplicaThatCannotGoBackIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		taken := -1
		var mu sync.Mutex
		x := newConfigurable(t, 2, func(_ context.Context, number int, config string) error {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case config == `"bad"` && taken < 0: // the first that is asked takes it
				taken = number
			case config == `"bad"`:
				return errors.New("not this one")
			case config == `"a"` && number == taken:
				return errors.New("not again")
			}
			return nil
		})
		if err := x.give(t.Context(), `"bad"`); err == nil {
			t.Error("no error")
		}
		x.want(t, "then", `"a"`, `"a"`)
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.made) != 3 {
			t.Errorf("%d replicas were made", len(x.made))
		}
	})
}

// TestConfigWhileARevisionChanges: a config that the new revision refuses is never given to replicas of the old one.
func TestConfigWhileARevisionChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newConfigurable(t, 2, func(_ context.Context, _ int, config string) error {
			if config == `"bad"` {
				return errors.New("not this one")
			}
			return nil
		})
		x.node.Mu.Lock()
		def := x.node.Apps["app"].Current.Def
		x.node.Mu.Unlock()
		def.Replace = true
		def.Graph.Deployments = slices.Clone(def.Graph.Deployments)
		def.Graph.Deployments[0].Options.UserConfig = json.RawMessage(`"bad"`)
		if err := x.node.Deploy(t.Context(), def); err == nil || !strings.Contains(err.Error(), "not this one") {
			t.Errorf("%v", err)
		}
		x.want(t, "after a revision that did not start", `"a"`, `"a"`)
		if d := x.node.Status().Applications["app"].Deployments["D"]; d.LastExit != nil || d.Replicas[0].Restarts+d.Replicas[1].Restarts > 0 {
			t.Errorf("the good revision has %+v", d)
		}
		if err := x.give(t.Context(), `"b"`); err != nil {
			t.Error(err)
		}
		x.kill()
		x.want(t, "later", `"b"`, `"b"`)
	})
}

// TestTrialReachesAReplicaThatGoesOn: the replica starts to run under a revision that fails, and goes on under the revision with the trial. No other replica
// starts there that would be given the trial.
func TestTrialReachesAReplicaThatGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ trial, want string }{{`"c"`, `"c"`}, {`"bad"`, `"a"`}} {
		t.Run(c.trial, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start, fail := make(chan struct{}), make(chan struct{})
				x := newConfigurable(t, 1, func(_ context.Context, number int, config string) error {
					if number == 1 && config == `"a"` {
						<-start
					}
					if config == `"bad"` {
						return errors.New("not this one")
					}
					return nil
				})
				x.kill()
				if err := x.give(t.Context(), c.trial); err != nil {
					t.Fatal(err)
				}
				x.node.Mu.Lock()
				def := x.node.Apps["app"].Current.Def
				x.node.Mu.Unlock()
				broken := spec.Deployment{Name: "E", Language: "go", Options: spec.Options{NumReplicas: 1, MaxConstructorRetries: 1}}
				def.Replace, def.Classes = true, maps.Clone(def.Classes)
				def.Graph.Deployments = append(slices.Clone(def.Graph.Deployments), broken)
				def.Graph.Deployments[0].Options.UserConfig = json.RawMessage(`"b"`)
				def.Classes["E"] = &instance.Class{App: "app", Deployment: "E", Methods: instance.Methods(reflect.TypeFor[nothing]()), Construct: func(context.Context) (any, error) {
					<-fail
					return nil, errors.New("not this deployment")
				}}
				failed := make(chan error, 1)
				go func() { failed <- x.node.Deploy(t.Context(), def) }()
				synctest.Wait()
				close(start)
				x.want(t, "under the second revision", `"b"`)
				close(fail)
				if err := <-failed; err == nil || !strings.Contains(err.Error(), "not this deployment") {
					t.Errorf("%v", err)
				}
				time.Sleep(time.Minute)
				x.want(t, "under the first revision again", c.want)
				x.node.Mu.Lock()
				defer x.node.Mu.Unlock()
				if trial, ok := x.node.Apps["app"].Deployments["D"].Now.Config.Trial(); ok {
					t.Errorf("%s is still a trial", trial.Value)
				}
			})
		})
	}
}

// TestTrialsOutlastTheirNode: a config that no replica has taken yet is in the state of the node, and the next replica starts with it.
func TestTrialsOutlastTheirNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newConfigurable(t, 1, func(context.Context, int, string) error { return nil })
		x.node.Mu.Lock()
		d := x.node.Apps["app"].Deployments["D"]
		d.Now.Config.Try(d.NewConfigLocked(json.RawMessage(`"t"`)))
		s := x.node.Apps["app"].SnapshotLocked(nil)
		x.node.Mu.Unlock()
		if got := string(s.Trials["D"]); got != `"t"` {
			t.Errorf("the snapshot has %q", got)
		}
		x.kill()
		x.want(t, "after all were gone", `"t"`)
	})
}

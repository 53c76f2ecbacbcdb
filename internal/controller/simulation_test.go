package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// keptSeeds are always simulated.
var keptSeeds = []uint64{ //nolint:gochecknoglobals // a constant
	1, // an instance that was made as its context ended was never closed
	2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
	19, // Deploy never returned when its application was deleted before it was ready
	20,
	203634056,            // two deployments gave up at once: the second marked the revision that was gone back to as failed
	407515881,            // a Reconfigure that waited for another did not look at its context
	914096310,            // an instance that refused a config which came while it was made was never closed
	97957079,             // the first deploy of a node that was killed fails at the next node, and is being removed as the chaos ends
	584474812,            // an application that was being deleted started a replica whose constructor failed again and again, without a delay
	596140871, 824949286, // a deploy and a Reconfigure gave a replica configs at once, and it kept the wrong one
}

// TestSimulation runs a controller against callers and operators that do random things, all in fake time. Its replicas are in this
// process: their instances fail in every way that Go code can, and some replicas are killed. A seed decides each action and its time.
// Two goroutines that are ready at the same instant run in any order, so a rare failure may need its seed more than once.
//
// HELVE_SIMULATION_SEEDS is how many random seeds come on top of the kept ones (default 20). HELVE_SIMULATION_SEED runs one.
func TestSimulation(t *testing.T) {
	t.Parallel()
	seeds := keptSeeds
	if one, ok := os.LookupEnv("HELVE_SIMULATION_SEED"); ok {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	} else {
		more := 20
		if v, ok := os.LookupEnv("HELVE_SIMULATION_SEEDS"); ok {
			var err error
			if more, err = strconv.Atoi(v); err != nil {
				t.Fatal(err)
			}
		}
		for range more {
			seeds = append(seeds[:len(seeds):len(seeds)], rand.Uint64N(1e9))
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
				(&simulation{t: t, seed: seed, rnd: random(1), code: random(2), updates: random(3), restarts: random(4), rollouts: random(5), uses: random(6)}).run()
			})
		})
	}
}

// Times and numbers of the simulation.
const (
	actions       = 150
	longest       = 2 * time.Second  // that a method takes
	graceful      = 3 * time.Second  // longer than any method takes
	convergeLimit = 4 * time.Minute  // more than the longest delay of starts, the longest constructor and three health checks
	operatorLimit = 20 * time.Minute // for the wishes of an operator: a revision that cannot start is tried for long
)

// simulation is one seed's world.
type simulation struct {
	t        *testing.T
	seed     uint64
	rnd      *rand.Rand // of the actions
	updates  *rand.Rand // of the versions and user configs that deploys have
	restarts *rand.Rand // of the kills of nodes
	rollouts *rand.Rand // of steps, pauses and restarts of replicas
	uses     *rand.Rand // of the deployments that others use
	node     *testNode
	disk     *durable    // what outlives the node; nil for a node that is not durable
	killed   *badStore   // the link of the node to that
	calm     atomic.Bool // the user code no longer misbehaves
	closed   atomic.Bool // Node.Close has returned
	polite   atomic.Bool // operators wait for each other
	steady   bool        // most deploys change options and leave the code as it is
	busy     atomic.Int64
	config   atomic.Int64

	mu          sync.Mutex
	code        *rand.Rand // of the constructors and checks
	deployments []*serving.Deployment
	subjects    []*subject
	calls       []*simCall
	expected    *plan // the revision that should run, nil for none; where operators are polite
	plans       []deploy.App
}

// plan is a revision of the application.
type plan struct {
	names  []string
	broken string // the deployment that cannot start, "" for none
}

func (s *simulation) wrong(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("seed %d, %s: %s", s.seed, time.Since(epoch).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

// epoch is when fake time begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// draw is a number below n for user code.
func (s *simulation) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code.IntN(n)
}

// span is a random time up to d, often none.
func span(r *rand.Rand, d time.Duration) time.Duration {
	if r.IntN(4) == 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d)))
}

// newCall makes a call with a random course.
func (s *simulation) newCall(how, name string) *simCall {
	c := &simCall{sim: s, how: how, slot: true, takes: span(s.rnd, longest), ignores: s.rnd.IntN(5) == 0}
	switch s.rnd.IntN(12) {
	case 0:
		c.ends = fails
	case 1:
		c.ends = panics
	case 2:
		c.ends = exits
	}
	s.mu.Lock()
	c.id = len(s.calls)
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	c.call.Info.Place = &call.Place{App: "app", Deployment: name, Method: "Work"}
	c.call.Info.Call = uint64(c.id) + 1
	c.call.Origin = []string{"driver", "proxy"}[s.rnd.IntN(2)]
	c.call.Want = call.Native
	switch s.rnd.IntN(4) {
	case 0:
		c.call.Info.Affinity = &call.Affinity{Session: strconv.Itoa(s.rnd.IntN(6))}
	case 1:
		c.call.Info.Affinity = &call.Affinity{Model: strconv.Itoa(s.rnd.IntN(6))}
	case 2:
		c.call.Info.Affinity = &call.Affinity{Local: s.rnd.IntN(2) == 0}
	}
	c.call.SetOne(call.Slot{Payload: call.Payload{Codec: call.Native, Value: c}})
	return c
}

// context is a caller's: with a deadline, cancelled at some time, or neither.
func (s *simulation) context(c *simCall) (context.Context, context.CancelFunc) {
	switch s.rnd.IntN(3) {
	case 0:
		ctx, cancel := context.WithTimeout(context.Background(), span(s.rnd, longest))
		c.call.Deadline, _ = ctx.Deadline()
		return ctx, cancel
	case 1:
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(span(s.rnd, longest), cancel)
		return ctx, cancel
	}
	return context.WithCancel(context.Background())
}

// watch cancels the call when ctx ends, as the root package does.
func (c *simCall) watch(ctx context.Context, cancel context.CancelFunc, f call.Canceler) {
	stop := context.AfterFunc(ctx, func() { f.Cancel(nil, call.Cause(ctx)) })
	c.mu.Lock()
	c.stop = func() { stop(); cancel() }
	answered := c.answers > 0
	c.mu.Unlock()
	if answered {
		stop()
		cancel()
	}
}

// handle is a deployment that a caller has a handle of, perhaps from long ago.
func (s *simulation) handle() *serving.Deployment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.deployments) == 0 {
		return nil
	}
	recent := s.deployments[max(0, len(s.deployments)-3):]
	if s.rnd.IntN(10) == 0 {
		recent = s.deployments
	}
	return recent[s.rnd.IntN(len(recent))]
}

func (s *simulation) submit() {
	d := s.handle()
	if d == nil {
		return
	}
	c := s.newCall("Submit", d.Name)
	ctx, cancel := s.context(c)
	if s.rnd.IntN(2) == 0 {
		c.call.Values = ctx //nolint:fatcontext // a call of its own each time
	}
	if s.rnd.IntN(4) == 0 {
		c.call.Items, c.call.Info.Place = c, &call.Place{App: "app", Deployment: d.Name, Method: "Flow"}
	}
	switch s.rnd.IntN(6) {
	case 0:
		c.how = "SubmitAssigned"
	case 1:
		c.how = "SubmitTo"
	}
	var r serving.Replica
	if c.how != "Submit" {
		if r = d.TryAcquire(&c.call.Info); r == nil {
			c.how = "Submit"
		}
	}
	switch c.how {
	case "SubmitAssigned":
		c.watch(ctx, cancel, d.SubmitAssigned(r, &c.call, c))
	case "SubmitTo":
		c.watch(ctx, cancel, d.SubmitTo(r, &c.call, c))
	default:
		c.watch(ctx, cancel, d.Submit(nil, &c.call, c))
	}
}

// do calls as the proxy does.
func (s *simulation) do() {
	d := s.handle()
	if d == nil {
		return
	}
	c := s.newCall("Do", d.Name)
	ctx, cancel := s.context(c)
	go func() {
		defer cancel()
		r := call.Result{Err: call.Recovered(nil)} // the method may end this goroutine
		defer func() { c.Complete(nil, r) }()
		r.Payload, r.Err = d.Do(ctx, &c.call)
	}()
}

// acquire takes a slot and runs the method on this goroutine, as the root package does.
func (s *simulation) acquire() {
	d := s.handle()
	if d == nil {
		return
	}
	c := s.newCall("Acquire", d.Name)
	c.inline = true
	ctx, cancel := s.context(c)
	go func() {
		defer cancel()
		r := call.Result{Err: call.Recovered(nil)}
		defer func() { c.Complete(nil, r) }()
		rep, e := d.Acquire(ctx, &c.call.Info, c.call.Origin)
		if now := time.Now(); !c.call.Deadline.IsZero() && now.After(c.call.Deadline) {
			s.wrong("%s: it waited %s beyond its deadline", c, now.Sub(c.call.Deadline))
		}
		if e != nil {
			r.Err = e
			return
		}
		defer rep.Gate().Release(nil)
		m, e := rep.Instance().Class.Lookup("Work")
		if e == nil {
			r.Value, e = rep.Instance().Run(ctx, m, c)
		}
		r.Err = e
	}()
}

func (s *simulation) broadcast() {
	d := s.handle()
	if d == nil {
		return
	}
	targets, _ := d.Targets()
	for _, r := range targets {
		c := s.newCall("SubmitControl", d.Name)
		c.slot = false
		ctx, cancel := s.context(c)
		c.watch(ctx, cancel, d.SubmitControl(r, &c.call, c))
	}
}

func (s *simulation) sicken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.subjects) == 0 {
		return
	}
	recent := s.subjects[max(0, len(s.subjects)-8):]
	i := recent[s.rnd.IntN(len(recent))]
	i.mu.Lock()
	i.sick = s.rnd.IntN(5) // 0 makes it well again
	i.mu.Unlock()
}

// kill ends a replica as the end of its process does: the controller did not ask for it.
func (s *simulation) kill() {
	s.node.Mu.Lock()
	var running []*fleet.Replica
	for _, a := range s.node.Apps {
		for _, d := range a.Deployments {
			for _, r := range d.Replicas {
				if r.State == helvetype.ReplicaRunning {
					running = append(running, r)
				}
			}
		}
	}
	s.node.Mu.Unlock()
	if len(running) == 0 {
		return
	}
	slices.SortFunc(running, func(a, b *fleet.Replica) int { return strings.Compare(a.ID, b.ID) })
	r := running[s.rnd.IntN(len(running))]
	kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed", Code: -1, At: time.Now()}, First: true, FirstOfDeployment: true})
}

// newPlan makes a revision and its definition.
func (s *simulation) newPlan() (*plan, deploy.App) {
	p := &plan{}
	receiver := strconv.Itoa(len(s.plans)) // names the plan in the record of its revision
	def := deploy.App{Graph: spec.Graph{App: "app", Ingress: &spec.IngressSpec{Deployment: "A", Method: "Work", Kind: spec.IngressMethod}}, Classes: map[string]*instance.Class{}, Retry: true, Replace: true, Home: p}
	if s.rnd.IntN(6) == 0 {
		p.broken = "A"
	}
	for _, name := range []string{"A", "B", "C"} {
		if name != "A" && s.rnd.IntN(4) == 0 {
			continue
		}
		replicas := max(s.rnd.IntN(5), 1)
		ms := func(least, most int) time.Duration {
			return time.Duration(least+s.rnd.IntN(most-least)) * time.Millisecond
		}
		o := spec.Options{
			NumReplicas: replicas, MaxOngoingRequests: 1 + s.rnd.IntN(5), MaxQueuedRequests: []int{-1, 20, 1, 2, 3, 4, 5, 6}[s.rnd.IntN(8)],
			HealthCheckPeriod: ms(100, 2000), HealthCheckTimeout: ms(50, 1000), ConstructTimeout: ms(1000, 5000),
			GracefulShutdownTimeout: graceful, MaxConstructorRetries: 1 + s.rnd.IntN(6),
			Sources: map[string]spec.Source{}, // of options that may be zero
		}
		if v := s.updates.IntN(10); name != p.broken && (s.steady || v > 5) { // deploys with the same version keep its replicas
			o.MaxOngoingRequests = 1 + v/8
			o.Version = strconv.Itoa(o.MaxOngoingRequests)
		}
		switch s.rollouts.IntN(6) {
		case 0:
			o.Rollout.Steps, o.Rollout.StepPause = []string{"1", "50%"}, time.Duration(1+s.rollouts.IntN(5))*time.Second
		case 1:
			o.Rollout.Steps = []string{"1"} // until Resume
		case 2:
			o.Rollout.MaxSurge, o.Rollout.MaxUnavailable = "0", "50%"
		case 3:
			o.Rollout.MinReady = time.Duration(s.rollouts.IntN(3000)) * time.Millisecond
		}
		switch s.rnd.IntN(4) {
		case 0:
			o.RequestRouter.Policy = spec.RoundRobin
		case 1:
			o.RequestRouter = spec.RequestRouter{Policy: spec.ConsistentHash, FallbackReplicas: s.rnd.IntN(2)}
			o.Sources["request_router.fallback_replicas"] = spec.FromCode
		}
		if s.rnd.IntN(3) == 0 || s.steady {
			o.UserConfig = json.RawMessage(strconv.Itoa(-s.updates.IntN(2)))
		}
		e, broken := o.Effective(), name == p.broken
		def.Classes[name] = &instance.Class{
			App: "app", Deployment: name, Configure: configure,
			Construct: func(ctx context.Context) (any, error) { return s.construct(ctx, name, e, broken) },
			Methods: map[string]*instance.Method{"Work": {
				Name: "Work", Shape: instance.Unary, In: reflect.TypeFor[*simCall](), Out: reflect.TypeFor[int](), Invoke: work,
			}, "Flow": {
				Name: "Flow", Shape: instance.Stream, In: reflect.TypeFor[*simCall](), Out: reflect.TypeFor[int](), Stream: flow,
			}},
		}
		def.Graph.Deployments = append(def.Graph.Deployments, spec.Deployment{Name: name, Language: "go", Receiver: receiver, Options: o})
		p.names = append(p.names, name)
	}
	for i := range def.Graph.Deployments {
		for j, used := range p.names {
			if j > i && s.uses.IntN(2) == 0 {
				def.Graph.Deployments[i].Uses = append(def.Graph.Deployments[i].Uses, used)
			}
		}
	}
	def.Bound = func(_ string, d *serving.Deployment) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, old := range s.deployments {
			if old == d {
				return
			}
		}
		s.deployments = append(s.deployments, d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = append(s.plans, def)
	return p, def
}

// operate runs a wish of an operator in the background.
func (s *simulation) operate(f func()) {
	if s.polite.Load() && s.busy.Load() > 0 {
		return
	}
	s.busy.Add(1)
	go func() {
		defer s.busy.Add(-1)
		f()
	}()
}

func (s *simulation) deploy() {
	p, def := s.newPlan()
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if s.rnd.IntN(4) == 0 {
		ctx, cancel = context.WithTimeout(ctx, span(s.rnd, 5*time.Second))
	}
	n := s.node
	s.operate(func() {
		defer cancel()
		err := n.Deploy(ctx, def)
		if err == nil && p.broken != "" {
			s.wrong("a revision was deployed although %s cannot start", p.broken)
		}
		if err == nil && s.polite.Load() {
			s.mu.Lock()
			s.expected = p
			s.mu.Unlock()
		}
	})
}

func (s *simulation) delete() {
	n := s.node
	s.operate(func() {
		err := n.Delete(context.Background(), "app")
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polite.Load() && err == nil != (s.expected != nil) {
			s.wrong("delete: %v, but what should run is %+v", err, s.expected)
		}
		s.expected = nil
	})
}

// scale changes the number of replicas of a deployment. A has at least one, so that a revision whose A cannot start is given up.
func (s *simulation) scale() {
	name, n := []string{"A", "B", "C"}[s.updates.IntN(3)], s.updates.IntN(5)
	if name == "A" {
		n = max(n, 1)
	}
	of := s.node
	s.operate(func() {
		of.Scale(context.Background(), "app", name, n, "simulation", "at random") //nolint:errcheck // the deployment may not be there
	})
}

// wanted is the number of replicas of a deployment in the store.
func (s *simulation) wanted(name string) int {
	record, err := store.Get(context.Background(), s.node.set.Store, store.ScaleKey("app", name))
	if err != nil || record.Modified == 0 {
		s.wrong("the number of replicas of %s is not in the store: %v", name, err)
	}
	return record.Record.Replicas
}

func (s *simulation) reconfigure() {
	name := []string{"A", "B", "C"}[s.rnd.IntN(3)]
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	n := s.node
	go func() {
		defer cancel()
		n.Reconfigure(ctx, "app", name, s.nextConfig()) //nolint:errcheck // the instance may refuse it
	}()
}

// steer pauses or resumes a rollout, or restarts replicas.
func (s *simulation) steer() {
	kind, n := s.rollouts.IntN(4), s.node
	go func() {
		switch kind {
		case 0:
			n.PauseRollout(context.Background(), "app", "simulation") //nolint:errcheck // there may be none
		case 1, 2:
			n.ResumeRollout(context.Background(), "app", "simulation") //nolint:errcheck // there may be none
		case 3:
			n.Restart("app", "", "", "simulation") //nolint:errcheck // the application may be changing
		}
	}()
}

func (s *simulation) nextConfig() json.RawMessage {
	return json.RawMessage(strconv.FormatInt(s.config.Add(1), 10))
}

func (s *simulation) run() {
	early := s.uses.IntN(2) == 0 // starts begin before the deployments that they use are ready
	if s.restarts.IntN(2) == 0 {
		s.disk = newDurable(nil)
		s.disk.early = early
		s.start()
	} else {
		s.node = mortalTestNode(Settings{}, early)
	}
	s.polite.Store(s.rnd.IntN(2) == 0)
	s.steady = s.updates.IntN(2) == 0
	abrupt := s.rnd.IntN(4) == 0
	s.deploy()
	for range actions {
		switch k := s.rnd.IntN(100); {
		case k < 40:
			s.submit()
		case k < 55:
			s.acquire()
		case k < 65:
			s.do()
		case k < 75:
			s.broadcast()
		case k < 81:
			s.sicken()
		case k < 83:
			s.kill()
		case k < 88:
			s.reconfigure()
		case k < 94:
			s.deploy()
		case k < 96:
			s.delete()
		case k < 98:
			time.Sleep(span(s.rnd, 10*time.Second))
		default:
			s.scale()
		}
		if s.rollouts.IntN(8) == 0 {
			s.steer()
		}
		time.Sleep(span(s.rnd, 300*time.Millisecond))
		if s.disk != nil && s.restarts.IntN(30) == 0 {
			s.restart()
		}
	}
	if !abrupt {
		s.converge()
	}
	s.end()
}

// start starts a node that restores the applications of the node before.
func (s *simulation) start() {
	n := s.disk.node()
	s.node, s.killed = n.testNode, n.link
	asked := s.revisions()
	n.Own = func(string) (def deploy.App, err error) { // the revision that should run is asked for first, then the one before
		if len(asked) == 0 {
			return def, errors.New("no revision is left to ask for")
		}
		r, err := store.Get(context.Background(), s.disk.store, store.RevisionKey("app", asked[0]))
		if err != nil {
			return def, err
		}
		asked = asked[1:]
		id, err := strconv.Atoi(r.Record.Graph.Deployments[0].Receiver)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.plans[id], err
	}
	if err := n.All(n.ctx, n.wg.Go); err != nil {
		s.wrong("restore: %v", err)
	}
	if lost := n.Lost(); len(lost) > 0 {
		s.wrong("restore: %v", lost)
	}
}

// revisions are the revisions of the application that a restore asks for.
func (s *simulation) revisions() []uint64 {
	r, err := store.Get(context.Background(), s.disk.store, store.AppKey("app"))
	switch {
	case err != nil:
		s.wrong("%v", err)
	case r.Modified == 0:
	case r.Record.Attempt == nil:
		return []uint64{r.Record.Revision}
	default:
		return []uint64{r.Record.Revision, r.Record.Before}
	}
	return nil
}

// restart kills the node and starts the next one. Operators who were waiting for the node do not know what has become of their wishes.
func (s *simulation) restart() {
	if s.busy.Load() > 0 {
		s.polite.Store(false)
	}
	s.killed.set(func() { s.killed.down = true })
	s.node.Close(context.Background()) //nolint:errcheck // calls that ignore their end are part of it
	s.within(operatorLimit, s.operatorsDone)
	s.start()
}

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Kept tells its instances apart, refuses some user configs, and holds calls until it is opened.
type Kept struct {
	number int // random: a constructor that runs again gives another one

	mu           sync.Mutex
	word         string
	inside, peak int // calls of Work now, and at most since it was closed
	hold         chan struct{}
}

// Identity is which instance answers.
type Identity struct {
	PID    int    `json:"pid"`
	Number int    `json:"number"`
	Word   string `json:"word"` // its user config
}

func newKept(context.Context) (*Kept, error) {
	return &Kept{number: rand.IntN(1 << 40), hold: make(chan struct{})}, nil
}

// Reconfigure takes every word but "bad". Half of the instances, at random, refuse "odd".
func (k *Kept) Reconfigure(_ context.Context, word string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.word = word // also if it is refused: an instance may have taken half of it
	if word == "bad" || word == "odd" && k.number%2 == 1 {
		return errors.New("refused")
	}
	return nil
}

func (k *Kept) Who(context.Context, helve.None) (Identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Identity{os.Getpid(), k.number, k.word}, nil
}

// Work runs until the instance is open.
func (k *Kept) Work(ctx context.Context, _ helve.None) (string, error) {
	k.mu.Lock()
	k.inside++
	k.peak = max(k.peak, k.inside)
	hold := k.hold
	k.mu.Unlock()
	var err error
	select {
	case <-hold:
	case <-ctx.Done():
		err = ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inside--
	return k.word, err
}

// Inside is how many calls of Work run.
func (k *Kept) Inside(context.Context, helve.None) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.inside, nil
}

// Open lets calls of Work end. Open of false holds the next ones, and gives how many ran at a time since the last time.
func (k *Kept) Open(_ context.Context, open bool) (peak int, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.hold:
		if !open {
			k.hold = make(chan struct{})
			peak, k.peak = k.peak, 0
		}
	default:
		if open {
			close(k.hold)
		}
	}
	return peak, nil
}

type keeper interface {
	Who(context.Context, helve.None) (Identity, error)
	Work(context.Context, helve.None) (string, error)
	Inside(context.Context, helve.None) (int, error)
	Open(ctx context.Context, open bool) (int, error)
}

// keptKind is a way to run Kept whose replicas go on over a redeploy.
type keptKind struct {
	config helve.Config
	build  func(o helve.Options) helve.Build
}

func goKept(o helve.Options) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("kept")
		h := helve.Deploy(app, "Kept", newKept, o)
		app.Ingress(helve.MethodOf(h, (*Kept).Who))
		return app, nil
	}
}

var _ = fixture.Register(goKept(helve.Options{})) // the code of the workers; the node has the options

var keptKinds = map[string]keptKind{ //nolint:gochecknoglobals // a constant
	"Go worker": {helvetest.Process.Config, goKept},
	"in the node, with a version": {helve.Config{}, func(o helve.Options) helve.Build {
		if o.Version == "" {
			o.Version = "1"
		}
		return goKept(o)
	}},
	"Python": {helve.Config{}, func(o helve.Options) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("kept")
			h := helve.Python[keeper](app, "Kept", "testdata.kept:Kept", helve.Args{}, o)
			app.Ingress(helve.MethodOf(h, keeper.Who))
			return app, nil
		}
	}},
}

// kept is a running Kept, with a client that calls it all the time: none of its calls may fail.
type kept struct {
	t      *testing.T
	sys    *helve.System
	build  func(o helve.Options) helve.Build
	who    helve.Method[helve.None, Identity]
	work   helve.Method[helve.None, string]
	inside helve.Method[helve.None, int]
	open   helve.Method[bool, int]
}

func startKept(t *testing.T, kind keptKind, o helve.Options) *kept {
	t.Helper()
	sys := helvetest.Start(t, kind.config, kind.build(o))
	k := &kept{t: t, sys: sys, build: kind.build}
	h, err := helve.HandleOf[any](sys, "kept", "Kept")
	if err != nil {
		t.Fatal(err)
	}
	k.who, k.work = helve.MethodNamed[helve.None, Identity](h, "Who"), helve.MethodNamed[helve.None, string](h, "Work")
	k.inside, k.open = helve.MethodNamed[helve.None, int](h, "Inside"), helve.MethodNamed[bool, int](h, "Open")
	return k
}

// call has clients call the deployment until the end of the test.
func (k *kept) call() {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := k.who.Remote(context.Background(), helve.None{}).Result(context.Background()); err != nil {
					k.t.Errorf("a call is lost: %v", err)
					return
				}
			}
		})
	}
	k.t.Cleanup(func() { close(stop); wg.Wait() })
}

// replicas are the instances by the ids of their replicas.
func (k *kept) replicas() map[string]Identity {
	k.t.Helper()
	answers, err := k.who.Broadcast(k.t.Context(), helve.None{}).Results(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	all := map[string]Identity{}
	for _, a := range answers {
		if a.Err != nil {
			k.t.Fatal(a.Err)
		}
		all[a.Replica] = a.Value
	}
	status := k.sys.Status().Applications["kept"].Deployments["Kept"]
	for _, r := range status.Replicas {
		if r.Restarts != 0 {
			k.t.Errorf("replica %s has restarted: %+v", r.ID, r.LastExit)
		}
	}
	return all
}

func (k *kept) deploy(o helve.Options) {
	k.t.Helper()
	if err := k.sys.Deploy(k.t.Context(), k.build(o)); err != nil {
		k.t.Fatal(err)
	}
}

// words are the user configs of the replicas.
func (k *kept) words() []string {
	var all []string
	for _, i := range k.replicas() {
		all = append(all, i.Word)
	}
	return slices.Sorted(slices.Values(all))
}

// sameButWords says whether the instances are the same ones. Their user configs may differ.
func sameButWords(a, b map[string]Identity) bool {
	return maps.EqualFunc(a, b, func(x, y Identity) bool { return x.PID == y.PID && x.Number == y.Number })
}

// eachKept runs body for each kind, as a parallel subtest.
func eachKept(t *testing.T, body func(t *testing.T, kind keptKind)) {
	t.Helper()
	for name, kind := range keptKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body(t, kind)
		})
	}
}

// TestChangesInPlace: a deploy that changes numbers, or nothing, starts and stops no replica. Its replicas have the same ids, processes
// and instances, and calls go on all the while.
func TestChangesInPlace(t *testing.T) {
	t.Parallel()
	eachKept(t, func(t *testing.T, kind keptKind) {
		o := helve.Options{NumReplicas: new(2), UserConfig: "a"}
		k := startKept(t, kind, o)
		k.call()
		before := k.replicas()
		if len(before) != 2 {
			t.Fatalf("%v", before)
		}
		for _, change := range []struct {
			name string
			of   func(o *helve.Options)
		}{
			{"nothing", func(*helve.Options) {}},
			{"more calls", func(o *helve.Options) { o.MaxOngoingRequests = new(9) }},
			{"fewer calls", func(o *helve.Options) { o.MaxOngoingRequests = new(1) }},
			{"fewer calls that wait", func(o *helve.Options) { o.MaxQueuedRequests = new(100) }},
			{"health checks", func(o *helve.Options) {
				o.HealthCheckPeriod, o.HealthCheckTimeout = new(time.Second), new(time.Minute)
			}},
			{"time to shut down", func(o *helve.Options) { o.GracefulShutdownTimeout = new(7 * time.Second) }},
			{"time to start", func(o *helve.Options) {
				o.ConstructTimeout, o.MaxConstructorRetries = new(time.Minute), new(3)
			}},
			{"routing", func(o *helve.Options) { o.Routing = helve.RoundRobin{} }},
			{"routing as before", func(o *helve.Options) { o.Routing = nil }},
			{"time without an answer", func(o *helve.Options) { o.MaxUnresponsive = new(time.Hour) }},
		} {
			change.of(&o)
			k.deploy(o)
			if after := k.replicas(); !maps.Equal(before, after) {
				t.Errorf("%s: the replicas were %v and are %v", change.name, before, after)
			}
		}
		o.NumReplicas = new(3)
		k.deploy(o)
		after := k.replicas()
		for id, was := range before {
			if after[id] != was {
				t.Errorf("one replica more: %s was %v and is %v", id, was, after[id])
			}
		}
		if len(after) != 3 {
			t.Errorf("%d replicas, want 3", len(after))
		}
		o.NumReplicas = new(1)
		k.deploy(o)
		fixture.Eventually(t, func() string { // Deploy does not wait for replicas that drain
			if n := len(k.sys.Status().Applications["kept"].Deployments["Kept"].Replicas); n != 1 {
				return fmt.Sprintf("%d replicas, want 1", n)
			}
			return ""
		})
		for id, is := range k.replicas() {
			if after[id] != is {
				t.Errorf("one replica: %s was %v and is %v", id, after[id], is)
			}
		}
		if s := k.sys.Status().Applications["kept"]; s.Status != "RUNNING" || s.Deployments["Kept"].Status != "HEALTHY" {
			t.Errorf("%+v", s)
		}
	})
}

// TestLimitChangesUnderCalls: max_ongoing_requests counts at once. Calls that wait are started when it grows; when it shrinks the calls
// that run go on, and the next ones are never more than it says.
func TestLimitChangesUnderCalls(t *testing.T) {
	t.Parallel()
	eachKept(t, func(t *testing.T, kind keptKind) {
		ctx := t.Context()
		k := startKept(t, kind, helve.Options{MaxOngoingRequests: new(2)})
		before := k.replicas()
		open := func(yes bool) (peak int) {
			t.Helper()
			got, err := k.open.Broadcast(ctx, yes).Results(ctx) // takes no slot
			if err != nil || len(got) != 1 || got[0].Err != nil {
				t.Fatalf("%+v, %v", got, err)
			}
			return got[0].Value
		}
		calls := func(want int) (all []*helve.Response[string]) {
			t.Helper()
			for range 6 {
				all = append(all, k.work.Remote(ctx, helve.None{}))
			}
			k.running(want, 6-want)
			return all
		}
		end := func(all []*helve.Response[string]) {
			t.Helper()
			for _, r := range all {
				if _, err := r.Result(ctx); err != nil {
					t.Error(err)
				}
			}
		}
		first := calls(2)
		k.deploy(helve.Options{MaxOngoingRequests: new(5)})
		k.running(5, 1)
		k.deploy(helve.Options{MaxOngoingRequests: new(3)})
		k.running(5, 1)
		open(true)
		end(first)
		if peak := open(false); peak != 5 {
			t.Errorf("%d calls ran at a time, want 5", peak)
		}
		second := calls(3)
		open(true)
		end(second)
		if peak := open(false); peak != 3 {
			t.Errorf("%d calls ran at a time, want 3", peak)
		}
		if after := k.replicas(); !maps.Equal(before, after) {
			t.Errorf("the replicas were %v and are %v", before, after)
		}
	})
}

// running waits until so many calls run and wait. Calls that run have entered the method.
func (k *kept) running(running, queued int) {
	k.t.Helper()
	fixture.Eventually(k.t, func() string {
		c := k.sys.Status().Applications["kept"].Deployments["Kept"].Calls
		if c.Running != running || c.Queued != queued {
			return fmt.Sprintf("%d calls run and %d wait, want %d and %d", c.Running, c.Queued, running, queued)
		}
		got, err := k.inside.Broadcast(k.t.Context(), helve.None{}).Results(k.t.Context()) // takes no slot
		if err != nil || len(got) != 1 || got[0].Value != running {
			return fmt.Sprintf("calls in the method: %+v, %v; want %d", got, err, running)
		}
		return ""
	})
}

// TestUserConfigInPlace: a deploy that changes the user config gives it to the replicas that run. If one refuses it the deploy fails, and
// all have the one before again.
func TestUserConfigInPlace(t *testing.T) {
	t.Parallel()
	eachKept(t, func(t *testing.T, kind keptKind) {
		of := func(word string) helve.Options {
			return helve.Options{NumReplicas: new(3), UserConfig: word}
		}
		k := startKept(t, kind, of("a"))
		k.call()
		before := k.replicas()
		k.deploy(of("b"))
		after := k.replicas()
		if !sameButWords(before, after) || !slices.Equal(k.words(), []string{"b", "b", "b"}) {
			t.Errorf("the replicas were %v and are %v", before, after)
		}
		odd := 0
		for _, i := range after {
			odd += i.Number % 2
		}
		for _, refused := range []string{"bad", "odd"} {
			if refused == "odd" && odd == 0 {
				continue // no instance refuses it
			}
			o := of(refused)
			o.MaxOngoingRequests = new(50)
			err := k.sys.Deploy(t.Context(), k.build(o))
			if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "stays at revision 2") {
				t.Errorf("%s: %v", refused, err)
			}
			if is := k.replicas(); !maps.Equal(after, is) {
				t.Errorf("%s: the replicas were %v and are %v", refused, after, is)
			}
		}
		if err := k.sys.Reconfigure(t.Context(), "kept", "Kept", "c"); err != nil {
			t.Error(err)
		}
		if is := k.replicas(); !sameButWords(after, is) || !slices.Equal(k.words(), []string{"c", "c", "c"}) {
			t.Errorf("the replicas were %v and are %v", after, is)
		}
		k.deploy(of("d"))
		if is := k.replicas(); !sameButWords(after, is) || !slices.Equal(k.words(), []string{"d", "d", "d"}) {
			t.Errorf("the replicas were %v and are %v", after, is)
		}
		// No Reconfigure takes a user config away: replicas that never had one take the places.
		k.deploy(helve.Options{NumReplicas: new(3)})
		for id, i := range k.replicas() {
			if _, had := after[id]; had || i.Word != "" {
				t.Errorf("without a user config there is %s: %v", id, i)
			}
		}
	})
}

// TestRefusedScaleUp: a deploy of more replicas with a user config that all refuse leaves the replicas of before, with their config.
func TestRefusedScaleUp(t *testing.T) {
	t.Parallel()
	eachKept(t, func(t *testing.T, kind keptKind) {
		o := helve.Options{NumReplicas: new(2), UserConfig: "a"}
		k := startKept(t, kind, o)
		k.call()
		before := k.replicas()
		for range 3 {
			err := k.sys.Deploy(t.Context(), k.build(helve.Options{NumReplicas: new(4), UserConfig: "bad", MaxConstructorRetries: new(1)}))
			if err == nil || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("%v", err)
			}
			fixture.Eventually(t, func() string { // a replica that was being started may be ready yet
				if n := len(k.sys.Status().Applications["kept"].Deployments["Kept"].Replicas); n != 2 {
					return fmt.Sprintf("%d replicas, want 2", n)
				}
				return ""
			})
			if after := k.replicas(); !maps.Equal(before, after) {
				t.Fatalf("the replicas were %v and are %v", before, after)
			}
		}
	})
}

// TestChangesThatReplace: an option that says how the process is started, or the version of the code, has new replicas start and the
// others drain. Calls go on.
func TestChangesThatReplace(t *testing.T) {
	t.Parallel()
	eachKept(t, func(t *testing.T, kind keptKind) {
		k := startKept(t, kind, helve.Options{})
		k.call()
		before := k.replicas()
		for _, o := range []helve.Options{{UnresponsiveAfter: new(4 * time.Second)}, {Version: "2"}} {
			k.deploy(o)
			after := k.replicas()
			if len(after) != 1 {
				t.Fatalf("%v", after)
			}
			for id := range after {
				if _, kept := before[id]; kept {
					t.Errorf("replica %s goes on with %+v", id, o)
				}
			}
			before = after
		}
	})
}

// TestRedeployInNodeReplaces: two builds in one process count as different code, unless both say the same version.
func TestRedeployInNodeReplaces(t *testing.T) {
	t.Parallel()
	k := startKept(t, keptKind{helve.Config{}, goKept}, helve.Options{})
	k.call()
	before := k.replicas()
	for _, o := range []helve.Options{{}, {Version: "1"}, {}} {
		k.deploy(o)
		after := k.replicas()
		for id := range after {
			if _, kept := before[id]; kept || len(after) != 1 {
				t.Errorf("with %+v the replicas were %v and are %v", o, before, after)
			}
		}
		before = after
	}
}

// Busy counts its calls.
type Busy struct{ inside, peak, calls atomic.Int64 }

func (b *Busy) Work(context.Context, helve.None) error {
	n := b.inside.Add(1)
	defer b.inside.Add(-1)
	for p := b.peak.Load(); n > p && !b.peak.CompareAndSwap(p, n); p = b.peak.Load() {
	}
	b.calls.Add(1)
	runtime.Gosched() // others may come in
	return nil
}

// Count gives how many calls of Work there were, and how many at a time, since the last Count.
func (b *Busy) Count(context.Context, helve.None) ([2]int64, error) {
	return [2]int64{b.calls.Swap(0), b.peak.Swap(b.inside.Load())}, nil
}

// Presser calls Busy, which is in the same worker.
type Presser struct {
	work helve.Method[helve.None, helve.None]
}

// Press calls from three goroutines until ctx ends: fewer than the slots that are lent at first, so that no call waits for one.
func (p *Presser) Press(ctx context.Context, _ helve.None) error {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				p.work.Call(ctx, helve.None{}) //nolint:errcheck // the last one is cancelled
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

func buildPressed(limit int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("pressed")
		busy := helve.Deploy(app, "Busy", func(context.Context) (*Busy, error) { return &Busy{}, nil }, helve.Options{MaxOngoingRequests: new(limit)})
		work := helve.ActionOf(busy, (*Busy).Work)
		p := helve.Deploy(app, "Presser", func(context.Context) (*Presser, error) { return &Presser{work}, nil },
			helve.Options{Uses: []helve.Target{work}})
		app.Ingress(helve.ActionOf(p, (*Presser).Press))
		return app, nil
	}
}

var _ = fixture.Register(buildPressed(1))

// TestLentSlotsFollowTheLimit: the slots that a replica has lent to its worker are taken back when it has fewer, although the calls inside
// of the worker use them all the time.
func TestLentSlotsFollowTheLimit(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helvetest.Process.Config, buildPressed(8))
	in, err := sys.Ingress("pressed")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pressing := helve.MethodNamed[helve.None, helve.None](in, "").Remote(ctx, helve.None{})
	defer func() {
		cancel()
		pressing.Result(context.Background()) //nolint:errcheck // it was cancelled
	}()
	h, err := helve.HandleOf[*Busy](sys, "pressed", "Busy")
	if err != nil {
		t.Fatal(err)
	}
	count := func(least int64) (peak int64) {
		t.Helper()
		for calls := int64(0); calls < least; {
			all, err := helve.MethodOf(h, (*Busy).Count).Broadcast(t.Context(), helve.None{}).Results(t.Context())
			if err != nil || len(all) != 1 || all[0].Err != nil {
				t.Fatalf("%+v, %v", all, err)
			}
			calls, peak = calls+all[0].Value[0], max(peak, all[0].Value[1])
		}
		return peak
	}
	for _, limit := range []int64{2, 1, 8, 1} {
		if err := sys.Deploy(t.Context(), buildPressed(int(limit))); err != nil {
			t.Fatal(err)
		}
		fixture.Eventually(t, func() string { // calls that ran under the former limit end, and lent slots come back
			if peak := count(50); peak > limit {
				return fmt.Sprintf("%d calls ran at a time, the limit is %d", peak, limit)
			}
			return ""
		})
		if peak := count(500); peak > limit {
			t.Errorf("%d calls ran at a time, the limit is %d", peak, limit)
		}
	}
}

// TestChangedPythonFiles: a file of a Python module that changed, or of a module that it imports, is other code. Other files are not, and
// with a version they all are not.
func TestChangedPythonFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("served.py", "import helping\n\nclass Served:\n    def word(self):\n        return helping.WORD\n")
	write("helping.py", "WORD = 'a'\n")
	type served interface {
		Word(context.Context, helve.None) (string, error)
	}
	build := func(version string) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("served")
			h := helve.Python[served](app, "Served", "served:Served", helve.Args{}, helve.Options{Dir: dir, Version: version})
			app.Ingress(helve.MethodOf(h, served.Word))
			return app, nil
		}
	}
	sys := helvetest.Start(t, helve.Config{}, build(""))
	h, err := helve.HandleOf[served](sys, "served", "Served")
	if err != nil {
		t.Fatal(err)
	}
	word := helve.MethodOf(h, served.Word)
	replica := func() string { return sys.Status().Applications["served"].Deployments["Served"].Replicas[0].ID }
	last := replica()
	// The lengths differ, because Python takes a compiled file for that of a source of the same length and second.
	for _, change := range []struct {
		name, text, version string
		replaces            bool
		word                string
	}{
		{"unrelated.py", "1", "", false, "a"},
		{"helping.py", "WORD = 'bb'\n", "", true, "bb"},
		{"helping.py", "WORD = 'bb'\n", "", false, "bb"},
		{"helping.py", "WORD = 'ccc'\n", "1", true, "ccc"},
		{"helping.py", "WORD = 'dddd'\n", "1", false, "ccc"},
		{"helping.py", "WORD = 'dddd'\n", "2", true, "dddd"},
	} {
		write(change.name, change.text)
		if err := sys.Deploy(t.Context(), build(change.version)); err != nil {
			t.Fatal(err)
		}
		fixture.Eventually(t, func() string {
			if n := len(sys.Status().Applications["served"].Deployments["Served"].Replicas); n != 1 {
				return fmt.Sprintf("%d replicas, want 1", n)
			}
			return ""
		})
		if is := replica(); (is != last) != change.replaces {
			t.Errorf("%+v: the replica was %s and is %s", change, last, is)
		}
		if got, err := word.Call(t.Context(), helve.None{}); got != change.word || err != nil {
			t.Errorf("%+v: %q, %v", change, got, err)
		}
		last = replica()
	}
}

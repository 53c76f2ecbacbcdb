package takeover_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/snapshot"
)

// The tests of this file are the tests of TestNodeIsKilled for several deployments in one worker, whose replicas have
// models, configs, streams and lent slots.

// ownSystem is the system of a process that is a node.
var ownSystem atomic.Pointer[helve.System] //nolint:gochecknoglobals // of a process that runs nothing else

// Vault has a count, models and a config.
type Vault struct {
	ledger *Ledger
	models *helve.Models[string]
	config atomic.Pointer[string]
}

type errand struct {
	Op   string `json:"op"`
	ID   string `json:"id"`
	MS   int    `json:"ms"` // how long the door waits
	N    int    `json:"n"`  // replicas
	Data []byte `json:"data"`
}

type found struct {
	PID     int    `json:"pid"`
	Replica string `json:"replica"`
	Count   int    `json:"count"`
	Config  string `json:"config"`
	Model   string `json:"model"`
	Size    int    `json:"size"`
	Late    bool   `json:"late"`
}

func newVault(ctx context.Context) (*Vault, error) {
	v := &Vault{ledger: &Ledger{dir: os.Getenv("HELVE_TEST_NODE")}}
	var err error
	v.models, err = helve.NewModels(ctx, func(_ context.Context, id string) (string, error) {
		return "model " + id, v.ledger.note("loads", id)
	}, helve.ModelsOptions[string]{Max: 2})
	return v, errors.Join(err, v.ledger.note("vaults", strconv.Itoa(os.Getpid())))
}

func (v *Vault) Reconfigure(_ context.Context, c string) error {
	v.config.Store(&c)
	return v.ledger.note("configs", c)
}

func (v *Vault) Do(ctx context.Context, e errand) (found, error) {
	f := found{PID: os.Getpid(), Replica: helve.ReplicaFrom(ctx).ID, Config: *v.config.Load(), Size: len(e.Data)}
	switch e.Op {
	case "hold": // also when its context has ended
		if err := v.ledger.note("held", e.ID); err != nil {
			return f, err
		}
		_, err := os.ReadFile(filepath.Join(v.ledger.dir, "pipe"+e.ID))
		if err != nil {
			return f, err
		}
	case "polite":
		if err := v.ledger.note("polite", "began"); err != nil {
			return f, err
		}
		<-ctx.Done()
		return f, v.ledger.note("polite", "ended")
	case "model":
		m, release, err := v.models.Get(ctx)
		defer release()
		if err != nil {
			return f, err
		}
		f.Model = m
	}
	v.ledger.mu.Lock()
	defer v.ledger.mu.Unlock()
	v.ledger.count++
	f.Count = v.ledger.count
	return f, nil
}

func (v *Vault) Items(ctx context.Context, _ int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		defer v.ledger.note("items", "ended") //nolint:errcheck // the test waits for it
		for i := 0; ctx.Err() == nil && yield(i, nil); i++ {
		}
	}
}

func (v *Vault) Near(_ context.Context, b fixture.Box) (bool, error) { return b.Inside != nil, nil }

// Steward lives beside the vaults, and calls them under slots that the node lends.
type Steward struct {
	do   helve.Method[errand, found]
	near helve.Method[fixture.Box, bool]
}

// Do calls as soon as calls are function calls.
func (s *Steward) Do(ctx context.Context, e errand) (found, error) {
	for {
		if near, err := s.near.Call(ctx, fixture.Box{Inside: new(int)}); err != nil {
			return found{}, err
		} else if near {
			return s.do.Call(ctx, e)
		}
	}
}

// Manor is the way in, in the node's process.
type Manor struct {
	do    helve.Method[errand, found]
	near  helve.Method[errand, found]
	items helve.Stream[int, int]
}

func (m *Manor) Do(ctx context.Context, e errand) ([]found, error) {
	if e.MS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(e.MS)*time.Millisecond)
		defer cancel()
	}
	var f found
	var err error
	switch e.Op {
	case "all":
		entries, err := m.do.Broadcast(ctx, e).Results(ctx)
		fs := make([]found, len(entries))
		for i, x := range entries {
			fs[i] = x.Value
		}
		slices.SortFunc(fs, func(a, b found) int { return cmp.Compare(a.Replica, b.Replica) })
		return fs, err
	case "near":
		f, err = m.near.Call(ctx, errand{Op: "hold", ID: e.ID})
	case "model":
		f, err = m.do.With(helve.ModelID(e.ID)).Call(ctx, e)
	case "reconfigure":
		err = ownSystem.Load().Reconfigure(ctx, "estate", "Vault", e.ID)
	case "scale":
		err = ownSystem.Load().Scale(ctx, "estate", "Vault", e.N)
		for tick := time.NewTicker(time.Millisecond); err == nil && len(ownSystem.Load().Status().Applications["estate"].Deployments["Vault"].Replicas) != e.N; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
	case "items":
		for i, err := range m.items.Remote(ctx, 0).All() {
			if err != nil {
				return nil, err
			}
			if i == 0 {
				(&Ledger{dir: os.Getenv("HELVE_TEST_NODE")}).note("items", "began") //nolint:errcheck // the test waits for it
			}
		}
	default:
		f, err = m.do.Call(ctx, e)
	}
	if helve.ReasonOf(err) == helve.Deadline {
		return []found{{Late: true}}, nil
	}
	return []found{f}, err
}

// numberFrom is the number that an environment variable has, for example HELVE_TEST_REPLICAS=3, or the other one.
func numberFrom(variable string, otherwise int) *int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return &n
	}
	return &otherwise
}

var buildEstate = fixture.Register(func() (*helve.App, error) {
	a := helve.NewApp("estate")
	vault := helve.Deploy(a, "Vault", newVault, helve.Options{
		Isolation: helve.Process, NumReplicas: numberFrom("HELVE_TEST_REPLICAS", 3), MaxOngoingRequests: numberFrom("HELVE_TEST_SLOTS", 2),
		UserConfig: "as built",
	})
	do := helve.MethodOf(vault, (*Vault).Do)
	steward := helve.Deploy(a, "Steward", func(context.Context) (*Steward, error) {
		return &Steward{do, helve.MethodOf(vault, (*Vault).Near)}, nil
	}, helve.Options{Isolation: helve.Process, Uses: []helve.Target{do}, MaxOngoingRequests: new(10)})
	near, items := helve.MethodOf(steward, (*Steward).Do), helve.StreamOf(vault, (*Vault).Items)
	manor := helve.Deploy(a, "Manor", func(context.Context) (*Manor, error) { return &Manor{do, near, items}, nil },
		helve.Options{Uses: []helve.Target{do, near, items}, MaxOngoingRequests: new(100)})
	a.Ingress(helve.MethodOf(manor, (*Manor).Do))
	return a, nil
})

// estate is a directory for nodes that follow each other, with the files that their replicas write.
type estate struct {
	t   *testing.T
	dir string
}

func newEstate(t *testing.T, pipes ...string) estate {
	t.Helper()
	t.Parallel()
	e := estate{t, t.TempDir()}
	for _, p := range pipes {
		if err := syscall.Mkfifo(filepath.Join(e.dir, "pipe"+p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func (e estate) node(env ...string) *testNode {
	e.t.Helper()
	return startNode(e.t, e.dir, append(env, "HELVE_TEST_APP=estate")...)
}

// until waits for a condition that another process makes true without an event.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for tick := time.NewTicker(time.Millisecond); !done(); {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("that never happened")
		}
	}
}

// has waits until a file of the directory has the line.
func (e estate) has(file, line string) {
	e.t.Helper()
	until(e.t, func() bool { return slices.Contains(fixture.Lines(filepath.Join(e.dir, file)), line) })
}

// release lets a method go on that holds.
func (e estate) release(id string) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, "pipe"+id), nil, 0); err != nil {
		e.t.Fatal(err)
	}
}

func (n *testNode) errand(e errand) []found {
	n.t.Helper()
	var out []found
	if err := n.ask(e, &out); err != nil {
		n.t.Fatalf("%s: %v", e.Op, err)
	}
	return out
}

func (n *testNode) leave(e errand) {
	go n.ask(e, new([]found)) //nolint:errcheck // its node is killed
}

// sameVaults checks that the replicas are the same as before, and that each has executed one call more.
func sameVaults(t *testing.T, was, is []found) {
	t.Helper()
	if len(is) != len(was) {
		t.Fatalf("were %+v, are %+v", was, is)
	}
	for i := range is {
		was[i].Count++
	}
	if !slices.Equal(was, is) {
		t.Errorf("should be %+v, are %+v", was, is)
	}
}

// TestSeveralReplicasAreTakenOver, each with its count.
func TestSeveralReplicasAreTakenOver(t *testing.T) {
	e := newEstate(t)
	first := e.node()
	for range 5 {
		first.errand(errand{})
	}
	was := first.errand(errand{Op: "all"})
	for range 2 {
		first.kill()
		first = e.node()
		is := first.errand(errand{Op: "all"})
		sameVaults(t, was, is)
		was = is
	}
	first.close()
	if n := len(fixture.Lines(filepath.Join(e.dir, "vaults"))); n != 3 {
		t.Errorf("%d replicas were constructed", n)
	}
}

// TestScaledNumberIsKept: the next node has the number of replicas that was set, until the application comes with another num_replicas.
func TestScaledNumberIsKept(t *testing.T) {
	e := newEstate(t)
	first := e.node()
	first.errand(errand{Op: "scale", N: 2})
	was := first.errand(errand{Op: "all"})
	first.kill()
	next := e.node()
	sameVaults(t, was, next.errand(errand{Op: "all"}))
	next.kill()
	last := e.node("HELVE_TEST_REPLICAS=4")
	if n := len(last.errand(errand{Op: "all"})); n != 4 {
		t.Errorf("%d replicas, where another num_replicas asks for 4", n)
	}
	last.close()
	if n := len(fixture.Lines(filepath.Join(e.dir, "vaults"))); n != 3+2 {
		t.Errorf("%d replicas were constructed", n)
	}
}

// TestModelsAndConfigAreKept: the next node loads no model and sends no config again, also for a config that came while the
// replica ran.
func TestModelsAndConfigAreKept(t *testing.T) {
	e := newEstate(t)
	first := e.node()
	at := map[string]found{}
	for _, id := range []string{"a", "b", "c"} {
		at[id] = first.errand(errand{Op: "model", ID: id})[0]
	}
	first.errand(errand{Op: "reconfigure", ID: "changed"})
	e.saved("changed")
	first.kill()
	next := e.node()
	for id, was := range at {
		for range 3 {
			is := next.errand(errand{Op: "model", ID: id})[0]
			if is.Replica != was.Replica || is.Model != "model "+id || is.Config != "changed" {
				t.Errorf("was %+v, is %+v", was, is)
			}
		}
	}
	next.close()
	if n := len(fixture.Lines(filepath.Join(e.dir, "loads"))); n != 3 {
		t.Errorf("%d loads of 3 models", n)
	}
	if n := strings.Count(strings.Join(fixture.Lines(filepath.Join(e.dir, "configs")), " "), "changed"); n != 3 {
		t.Errorf("3 replicas were given the config %d times", n)
	}
}

// saved waits until the node's state has text in it.
func (e estate) saved(text string) {
	e.t.Helper()
	until(e.t, func() bool {
		s, err := snapshot.Read(filepath.Join(e.dir, "state"))
		b, err2 := json.Marshal(s)
		return err == nil && err2 == nil && bytes.Contains(b, []byte(text))
	})
}

// TestLentSlotsAreCountedOn: a call between replicas of the worker, under a slot that the node had lent, holds it under the next.
func TestLentSlotsAreCountedOn(t *testing.T) {
	e := newEstate(t, "near", "far")
	env := []string{"HELVE_TEST_REPLICAS=1", "HELVE_TEST_SLOTS=2"}
	first := e.node(env...)
	first.leave(errand{Op: "near", ID: "near"})
	e.has("held", "near")
	first.leave(errand{Op: "hold", ID: "far"})
	e.has("held", "far")
	for range 2 {
		first.kill()
		first = e.node(env...)
		if is := first.errand(errand{MS: 200})[0]; !is.Late {
			t.Fatalf("both slots are taken, and a call ran: %+v", is)
		}
	}
	e.release("near")
	was := first.errand(errand{})[0]
	for range 8 {
		is := first.errand(errand{})[0]
		if is.PID != was.PID {
			t.Errorf("was %+v, is %+v", was, is)
		}
	}
	e.release("far")
	first.close()
}

// TestFewerSlotsThanBefore: two calls go on, and the next node gives their replica one slot. No call starts
// until both have ended, and then one at a time.
func TestFewerSlotsThanBefore(t *testing.T) {
	e := newEstate(t, "1", "2", "3")
	first := e.node("HELVE_TEST_REPLICAS=1", "HELVE_TEST_SLOTS=2")
	first.leave(errand{Op: "hold", ID: "1"})
	first.leave(errand{Op: "hold", ID: "2"})
	e.has("held", "1")
	e.has("held", "2")
	first.kill()
	next := e.node("HELVE_TEST_REPLICAS=1", "HELVE_TEST_SLOTS=1")
	late := func(when string) {
		t.Helper()
		if is := next.errand(errand{MS: 200})[0]; !is.Late {
			t.Fatalf("%s: a call ran: %+v", when, is)
		}
	}
	late("two calls go on")
	e.release("1")
	late("one call goes on")
	e.release("2")
	next.errand(errand{})
	next.leave(errand{Op: "hold", ID: "3"})
	e.has("held", "3")
	late("a call holds the only slot")
	e.release("3")
	next.errand(errand{})
	next.close()
}

// TestReplicasThatWereNotSaved: the worker is known, its replicas are not yet.
func TestReplicasThatWereNotSaved(t *testing.T) {
	e := newEstate(t)
	first := e.node()
	was := first.errand(errand{Op: "all"})
	first.kill()
	dir := filepath.Join(e.dir, "state")
	s, err := snapshot.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Workers[0].Replicas = nil
	b, err := json.Marshal(s)
	if err = errors.Join(err, snapshot.Write(dir, b)); err != nil {
		t.Fatal(err)
	}
	next := e.node()
	sameVaults(t, was, next.errand(errand{Op: "all"}))
	next.close()
	if n := len(fixture.Lines(filepath.Join(e.dir, "vaults"))); n != 3 {
		t.Errorf("%d replicas were constructed", n)
	}
}

// TestStateThatDoesNotParse: the next node logs that its state is lost, starts new replicas, and the workers
// of the first node end.
func TestStateThatDoesNotParse(t *testing.T) {
	e := newEstate(t)
	first := e.node()
	was := first.errand(errand{Op: "all"})
	first.kill()
	if err := os.WriteFile(filepath.Join(e.dir, "state", "node.snap"), []byte(`{"version": 1, "workers": [{`), 0o600); err != nil {
		t.Fatal(err)
	}
	next := e.node()
	is := next.errand(errand{Op: "all"})
	if len(is) != 3 || is[0].PID == was[0].PID || is[0].Count != 1 {
		t.Errorf("were %+v, are %+v", was, is)
	}
	next.said.Line(t, "the state of the node before is lost")
	fixture.AwaitExit(t, was[0].PID)
	next.kill()
	last := e.node() // the state that the second node wrote is good
	sameVaults(t, is, last.errand(errand{Op: "all"}))
	last.close()
}

// TestNodeIsKilledUnderWork: methods that respect their contexts are cancelled, streams and large bodies that were under way
// are given up, and the replicas serve the next node.
func TestNodeIsKilledUnderWork(t *testing.T) {
	e := newEstate(t)
	first := e.node("HELVE_TEST_SLOTS=20")
	was := first.errand(errand{Op: "all"})
	first.leave(errand{Op: "polite"})
	first.leave(errand{Op: "items"})
	e.has("polite", "began")
	e.has("items", "began")
	var wg sync.WaitGroup
	var passed atomic.Int64
	body := errand{Op: "large", Data: bytes.Repeat([]byte("x"), 3<<19)}
	for range 4 {
		wg.Go(func() {
			for first.ask(body, new([]found)) == nil {
				passed.Add(1)
			}
		})
	}
	until(t, func() bool { return passed.Load() >= 2 })
	first.kill()
	wg.Wait()
	e.has("polite", "ended")
	e.has("items", "ended")
	next := e.node("HELVE_TEST_SLOTS=1")
	is := next.errand(errand{Op: "all"})
	for i := range is {
		if is[i].PID != was[i].PID || is[i].Replica != was[i].Replica || is[i].Count < was[i].Count+1 {
			t.Errorf("was %+v, is %+v", was[i], is[i])
		}
	}
	if got := next.errand(body)[0]; got.Size != len(body.Data) {
		t.Errorf("%+v", got)
	}
	for range 6 { // one slot each, and every one is free
		next.errand(errand{})
	}
	next.close()
}

// TestBuildIsTakenOver: the worker of another executable goes on under the stock binary's next node, although the file at its
// path is another meanwhile.
func TestBuildIsTakenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	buildProgram(t, path, "1")
	stock := fixture.Compile(t, "./cmd/helve")
	state := filepath.Join(dir, "state")
	start := func() *testNode {
		t.Helper()
		return startCommand(t, stock, "run", "exec:"+path+"#program", "--http", "127.0.0.1:0", "--state-dir", state)
	}
	say := func(n *testNode, want string) {
		t.Helper()
		if got := fixture.Post(t, n.url, "x"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	first := start()
	say(first, "1: x")
	was := workersOf(t, state)
	for range 2 {
		first.kill()
		first = start()
		say(first, "1: x")
		if is := workersOf(t, state); !slices.Equal(is, was) {
			t.Errorf("workers %v became %v", was, is)
		}
	}
	first.kill()
	buildProgram(t, path, "2") // another application, so to speak
	last := start()
	say(last, "2: x")
	for _, pid := range was {
		fixture.AwaitExit(t, pid)
	}
	if err := last.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	last.said.Ended()
	for _, pid := range workersOf(t, state) {
		t.Errorf("worker %d is left in the state", pid)
	}
}

// workersOf are the processes that a node has saved.
func workersOf(t *testing.T, state string) (pids []int) {
	t.Helper()
	s, err := snapshot.Read(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range s.Workers {
		pids = append(pids, w.Process.PID)
	}
	slices.Sort(pids)
	return pids
}

// startCommand starts a binary with the command line, and waits for its URL.
func startCommand(t *testing.T, path string, args ...string) *testNode {
	t.Helper()
	n := &testNode{t: t, cmd: exec.Command(path, args...)}
	n.said, _ = fixture.Launch(t, n.cmd)
	line := n.said.Line(t, "http://")
	n.url = line[strings.Index(line, "http://"):]
	return n
}

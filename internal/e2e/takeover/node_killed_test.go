package takeover_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Ledger has something to lose: a count that is in memory only. It writes its events into files in a directory.
type Ledger struct {
	dir   string
	mill  mill
	mu    sync.Mutex
	count int
	kept  []*helve.Response[[]byte]
}

// mill has the methods of Notes that a Ledger calls.
type mill struct {
	make  helve.Method[int, []byte]
	weigh helve.Method[[]byte, int]
}

type task struct {
	Op string `json:"op"`
	ID string `json:"id"`
	MS int    `json:"ms"` // how long the caller waits
}

type kept struct {
	PID     int    `json:"pid"`
	Replica string `json:"replica"`
	Count   int    `json:"count"`
	Late    bool   `json:"late"`
	Said    string `json:"said,omitempty"`
	Rank    int    `json:"rank"`          // of a Python replica, by its context
	All     []kept `json:"all,omitempty"` // of the replicas, from the door
}

// note appends a line; a line is written whole.
func (k *Ledger) note(file, line string) error {
	f, err := os.OpenFile(filepath.Join(k.dir, file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(line + "\n")
	return err
}

// newLedger notes if the process that had its place still lives.
func newLedger(ctx context.Context) (*Ledger, error) {
	k := &Ledger{dir: os.Getenv("HELVE_TEST_NODE")}
	for _, pid := range fixture.Lines(filepath.Join(k.dir, "pids")) {
		if n, _ := strconv.Atoi(pid); alive(n) {
			if err := k.note("overlaps", pid); err != nil {
				return nil, err
			}
		}
	}
	return k, k.note("pids", strconv.Itoa(os.Getpid()))
}

// alive says whether a process runs. A zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, _ := bytes.Cut(b, []byte(") "))
	return err == nil && !bytes.HasPrefix(state, []byte("Z"))
}

// stop stops the process by SIGSTOP, and returns when all of it stands still.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if _, state, _ := bytes.Cut(b, []byte(") ")); err != nil || bytes.HasPrefix(state, []byte("T")) {
			return
		}
	}
	t.Fatal("it goes on")
}

func (k *Ledger) Do(ctx context.Context, t task) (kept, error) {
	switch t.Op {
	case "hold": // until a test opens the pipe, also when its context has ended
		if err := k.note("held", t.ID); err != nil {
			return kept{}, err
		}
		if _, err := os.ReadFile(filepath.Join(k.dir, "pipe")); err != nil {
			return kept{}, err
		}
	case "note":
		if err := k.note("ids", t.ID); err != nil {
			return kept{}, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count++
	out := kept{PID: os.Getpid(), Replica: helve.ReplicaFrom(ctx).ID, Count: k.count}
	switch t.Op {
	case "keep": // results by reference, a large one in shared memory and a small one at the node
		for _, n := range []int{millLarge, millSmall} {
			r := k.mill.make.With(helve.ByReference).Remote(helve.Detach(ctx), n)
			if got, err := k.mill.weigh.RemoteFrom(ctx, r).Result(ctx); err != nil || got != n {
				return out, fmt.Errorf("%d bytes weigh %d, %w", n, got, err)
			}
			k.kept = append(k.kept, r)
		}
	case "kept": // the results that are left
		large, err := k.mill.weigh.RemoteFrom(ctx, k.kept[0]).Result(ctx)
		b, err2 := k.kept[0].Result(ctx)
		_, passed := k.mill.weigh.RemoteFrom(ctx, k.kept[1]).Result(ctx)
		_, read := k.kept[1].Result(ctx)
		out.Said = fmt.Sprintf("%d %d %v %s %s", large, len(b), errors.Join(err, err2), helve.ReasonOf(passed), helve.ReasonOf(read))
		if read != nil && strings.Contains(read.Error(), "lost with the node") {
			out.Said += " with the node"
		}
	}
	return out, nil
}

// The sizes of the results that Ledger keeps.
const millLarge, millSmall = 300_000, 10

// Door runs in the node, and waits for a Ledger only so long.
type Door struct{ do helve.Method[task, kept] }

func (d *Door) Do(ctx context.Context, t task) (kept, error) {
	if t.Op == "ranks" {
		all, err := d.ranks(ctx)
		return kept{All: all}, err
	}
	if t.MS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(t.MS)*time.Millisecond)
		defer cancel()
	}
	out, err := d.do.Call(ctx, t)
	if helve.ReasonOf(err) == helve.Deadline {
		return kept{Late: true}, nil
	}
	return out, err
}

// pyLedger is Ledger as testdata/ledger.py has it.
type pyLedger interface {
	Do(context.Context, task) (kept, error)
}

// filled is a value of n bytes that a damaged copy differs from.
func filled(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }

// Notes is the deployment that the Python Ledger calls.
type Notes struct{ dir string }

func (n *Notes) Note(_ context.Context, id string) (bool, error) {
	return true, (&Ledger{dir: n.dir}).note("ids", id)
}

// Make makes the results that Ledger keeps, and Weigh takes them.
func (n *Notes) Make(_ context.Context, size int) ([]byte, error) { return filled(size), nil }

func (n *Notes) Weigh(_ context.Context, b []byte) (int, error) {
	if !bytes.Equal(b, filled(len(b))) {
		return 0, errors.New("it is damaged")
	}
	return len(b), nil
}

var buildLedgerPython = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("ledgerpy")
	notes := helve.Deploy(app, "Notes", func(context.Context) (*Notes, error) { return &Notes{os.Getenv("HELVE_TEST_NODE")}, nil }, helve.Options{})
	note := helve.MethodOf(notes, (*Notes).Note)
	o := helve.Options{
		NumReplicas: numberFrom("HELVE_TEST_REPLICAS", 1), MaxOngoingRequests: new(1), Uses: []helve.Target{note},
		UserConfig: map[string]any{"word": "é", "n": 1.5, "list": []any{nil, true}}, HealthCheckPeriod: new(50 * time.Millisecond),
	}
	if v := os.Getenv("HELVE_TEST_VARIANT"); v != "" {
		o.Env = map[string]string{"VARIANT": v}
	}
	if os.Getenv("HELVE_GPUS") != "" {
		o.GPUs = 1
	}
	h := helve.Python[pyLedger](app, "Ledger", "testdata.ledger:Ledger", helve.Args{Positional: []any{notes}}, o)
	if os.Getenv("HELVE_TEST_LEDGER") == "python ingress" {
		app.Ingress(helve.MethodNamed[string, string](h, "said"))
		return app, nil
	}
	do := helve.MethodOf(h, pyLedger.Do)
	door := helve.Deploy(app, "Door", func(context.Context) (*Door, error) { return &Door{do}, nil }, helve.Options{Uses: []helve.Target{do}})
	app.Ingress(helve.MethodOf(door, (*Door).Do))
	return app, nil
})

var buildLedger = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("ledger")
	o := helve.Options{Isolation: helve.Process, NumReplicas: new(1), MaxOngoingRequests: new(1)}
	if v := os.Getenv("HELVE_TEST_VARIANT"); v != "" {
		o.Env = map[string]string{"VARIANT": v}
	}
	notes := helve.Deploy(app, "Notes", func(context.Context) (*Notes, error) { return &Notes{os.Getenv("HELVE_TEST_NODE")}, nil }, helve.Options{})
	m := mill{helve.MethodOf(notes, (*Notes).Make), helve.MethodOf(notes, (*Notes).Weigh)}
	o.Uses = []helve.Target{m.make, m.weigh}
	h := helve.Deploy(app, "Ledger", func(ctx context.Context) (*Ledger, error) {
		k, err := newLedger(ctx)
		k.mill = m
		return k, err
	}, o)
	do := helve.MethodOf(h, (*Ledger).Do)
	door := helve.Deploy(app, "Door", func(context.Context) (*Door, error) { return &Door{do}, nil }, helve.Options{Uses: []helve.Target{do}})
	app.Ingress(helve.MethodOf(door, (*Door).Do))
	return app, nil
})

// ledgerNode is a node's process. It says its URL, and closes in order when its standard input ends.
func ledgerNode(dir string) {
	grace, err := time.ParseDuration(os.Getenv("HELVE_TEST_GRACE"))
	if err != nil {
		grace = 30 * time.Second
	}
	build := buildLedger
	if strings.HasPrefix(os.Getenv("HELVE_TEST_LEDGER"), "python") {
		build = buildLedgerPython
	}
	if os.Getenv("HELVE_TEST_APP") == "estate" {
		build = buildEstate
	}
	sys, err := helve.Config{StateDir: filepath.Join(dir, "state"), WorkerGrace: grace, Output: os.Stderr}.Run(context.Background(), build)
	if err == nil {
		ownSystem.Store(sys)
		var url string
		if url, _, err = sys.Serve("127.0.0.1:0"); err == nil {
			fmt.Println(url)
			io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until it ends
			err = sys.Close(context.Background())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// eachLedger runs body for a replica in a Go worker, and in a Python one.
func eachLedger(t *testing.T, body func(t *testing.T, dir, language string)) {
	t.Parallel()
	for _, language := range []string{"go", "python"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			body(t, t.TempDir(), "HELVE_TEST_LEDGER="+language)
		})
	}
}

// testNode is a node in a process of its own.
type testNode struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Closer
	url string
	// The log of the node, and the output of its workers.
	said *fixture.Output
}

func startNode(t *testing.T, dir string, env ...string) *testNode {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "HELVE_TEST_NODE="+dir), env...)
	said := fixture.NewOutput()
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &testNode{t: t, cmd: cmd, in: in, said: said}
	t.Cleanup(n.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the node does not start: %v\n%s", err, said.Text())
	}
	n.url = strings.TrimSpace(line)
	return n
}

func (n *testNode) kill() {
	n.cmd.Process.Kill() //nolint:errcheck // it may have ended
	if n.in == nil {     // see startCommand
		n.said.Ended()
		return
	}
	n.cmd.Wait() //nolint:errcheck // it was killed
}

// close ends the node in order, and with it its workers.
func (n *testNode) close() {
	n.t.Helper()
	n.in.Close()
	if err := n.cmd.Wait(); err != nil {
		n.t.Error(err)
	}
}

func (n *testNode) send(do task) (out kept, err error) { return out, n.ask(do, &out) }

func (n *testNode) ask(do, out any) error {
	body, err := json.Marshal(do)
	if err != nil {
		return err
	}
	resp, err := http.Post(n.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return json.Unmarshal(b, out)
}

func (n *testNode) do(do task) kept {
	n.t.Helper()
	out, err := n.send(do)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// TestNodeIsKilled: a worker goes on when its node is killed, and the next node serves with the same replica and its memory.
// The node that closes in order takes it along.
func TestNodeIsKilled(t *testing.T) {
	eachLedger(t, testNodeIsKilled)
}

func testNodeIsKilled(t *testing.T, dir, language string) {
	first := startNode(t, dir, language)
	was := first.do(task{})
	for i := range 3 {
		first.kill()
		next := startNode(t, dir, language)
		is := next.do(task{})
		if is.PID != was.PID || is.Replica != was.Replica || is.Count != was.Count+1+i {
			t.Fatalf("was %+v, is %+v", was, is)
		}
		first = next
	}
	first.close()
	if alive(was.PID) {
		t.Error("the worker is left")
	}
	last := startNode(t, dir, language)
	if is := last.do(task{}); is.PID == was.PID || is.Count != 1 {
		t.Errorf("was %+v, is %+v", was, is)
	}
	last.close()
	if got := fixture.Lines(filepath.Join(dir, "overlaps")); len(got) > 0 {
		t.Errorf("replicas began while %v still ran", got)
	}
}

// TestSlotsAreCountedOn: a call that does not end when its node is gone holds its slot under the next.
func TestSlotsAreCountedOn(t *testing.T) {
	eachLedger(t, testSlotsAreCountedOn)
}

func testSlotsAreCountedOn(t *testing.T, dir, language string) {
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := startNode(t, dir, language)
	was := first.do(task{})
	go first.send(task{Op: "hold", ID: "x"}) //nolint:errcheck // its node will be killed
	for len(fixture.Lines(filepath.Join(dir, "held"))) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it does not begin")
		}
	}
	for range 2 {
		first.kill()
		first = startNode(t, dir, language)
		if is := first.do(task{MS: 200}); !is.Late {
			t.Fatalf("the only slot is taken, and a call ran: %+v", is)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pipe"), nil, 0); err != nil {
		t.Fatal(err)
	}
	if is := first.do(task{}); is.PID != was.PID || is.Count != was.Count+2 {
		t.Errorf("was %+v, is %+v", was, is)
	}
	for range 8 { // the slot is there once
		first.do(task{})
	}
	first.close()
}

// TestChangedApplication: workers of an application that has changed are not taken over.
func TestChangedApplication(t *testing.T) {
	eachLedger(t, testChangedApplication)
}

func testChangedApplication(t *testing.T, dir, language string) {
	first := startNode(t, dir, language)
	was := first.do(task{})
	first.kill()
	next := startNode(t, dir, language, "HELVE_TEST_VARIANT=2")
	if is := next.do(task{}); is.PID == was.PID || is.Count != 1 {
		t.Errorf("was %+v, is %+v", was, is)
	}
	next.close()
	if alive(was.PID) {
		t.Error("the worker of the application that was is left")
	}
}

// TestNoReplacementBesideTheOld: a worker that lives and does not come back is ended before another takes its place.
func TestNoReplacementBesideTheOld(t *testing.T) {
	eachLedger(t, testNoReplacementBesideTheOld)
}

func testNoReplacementBesideTheOld(t *testing.T, dir, language string) {
	grace := "HELVE_TEST_GRACE=500ms"
	first := startNode(t, dir, language, grace)
	was := first.do(task{})
	stop(t, was.PID)
	first.kill()
	stop(t, was.PID) // the kernel lets stopped processes go on (SIGHUP, SIGCONT) when the end of their parent leaves their group without one in the session
	next := startNode(t, dir, language, grace)
	if is := next.do(task{}); is.PID == was.PID || is.Count != 1 {
		t.Errorf("was %+v, is %+v", was, is)
	}
	next.close()
	if got := fixture.Lines(filepath.Join(dir, "overlaps")); len(got) > 0 {
		t.Errorf("a replica began while %v still ran", got)
	}
}

// TestNobodyComes: a worker ends when no node takes it over within its grace, and the next node replaces it.
func TestNobodyComes(t *testing.T) {
	eachLedger(t, testNobodyComes)
}

func testNobodyComes(t *testing.T, dir, language string) {
	first := startNode(t, dir, language, "HELVE_TEST_GRACE=100ms")
	was := first.do(task{})
	first.kill()
	for alive(was.PID) {
		if t.Context().Err() != nil {
			t.Fatal("it goes on")
		}
	}
	next := startNode(t, dir, language)
	if is := next.do(task{}); is.PID == was.PID || is.Count != 1 {
		t.Errorf("was %+v, is %+v", was, is)
	}
	next.close()
}

// TestKilledUnderLoad: with workers and nodes killed at random, no call runs twice, and every call that was answered has
// run.
func TestKilledUnderLoad(t *testing.T) {
	eachLedger(t, testKilledUnderLoad)
}

func testKilledUnderLoad(t *testing.T, dir, language string) {
	node := startNode(t, dir, language)
	answered := map[string]bool{}
	var mu sync.Mutex
	for round := range 4 {
		var wg sync.WaitGroup
		n := node
		for c := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%d-%d-%d", round, c, i)
					if _, err := n.send(task{Op: "note", ID: id}); err != nil {
						return
					}
					mu.Lock()
					answered[id] = true
					mu.Unlock()
				}
			})
		}
		before := len(fixture.Lines(filepath.Join(dir, "ids")))
		for len(fixture.Lines(filepath.Join(dir, "ids"))) < before+50 {
			if t.Context().Err() != nil {
				t.Fatal("nothing runs")
			}
		}
		if round%2 == 1 { // both at once
			pids := fixture.Lines(filepath.Join(dir, "pids"))
			if pid, err := strconv.Atoi(pids[len(pids)-1]); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		node.kill()
		wg.Wait()
		node = startNode(t, dir, language)
	}
	node.close()
	ran := map[string]int{}
	for _, id := range fixture.Lines(filepath.Join(dir, "ids")) {
		if ran[id]++; ran[id] > 1 {
			t.Errorf("%s ran twice", id)
		}
	}
	for id := range answered {
		if ran[id] == 0 {
			t.Errorf("%s was answered and has not run", id)
		}
	}
	if len(answered) < 100 {
		t.Errorf("only %d calls were answered; this test shows little", len(answered))
	}
}

// TestHandlesAfterANode: a Python replica makes its calls through the node of the moment.
func TestHandlesAfterANode(t *testing.T) {
	t.Parallel()
	dir, language := t.TempDir(), "HELVE_TEST_LEDGER=python"
	first := startNode(t, dir, language)
	was := first.do(task{Op: "peer", ID: "1"})
	first.kill()
	next := startNode(t, dir, language)
	is := next.do(task{Op: "peer", ID: "2"})
	if is.PID != was.PID || is.Count != 2 {
		t.Errorf("was %+v, is %+v", was, is)
	}
	if got := fixture.Lines(filepath.Join(dir, "ids")); len(got) != 2 {
		t.Errorf("noted %v", got)
	}
	if got := fixture.Lines(filepath.Join(dir, "configs")); len(got) != 1 {
		t.Errorf("the replica has its user config, and was given it again: %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "sick"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for next.do(task{}).PID == was.PID { // its health is watched by the next node too
		if t.Context().Err() != nil {
			t.Fatal("a sick replica goes on")
		}
	}
	next.close()
}

// TestGPUsAfterANode: a replica keeps its GPU over a change of nodes, and the next node takes it back when the replica ends.
func TestGPUsAfterANode(t *testing.T) {
	t.Parallel()
	dir, language := t.TempDir(), "HELVE_TEST_LEDGER=python"
	first := startNode(t, dir, language, "HELVE_GPUS=1")
	was := first.do(task{})
	first.kill()
	next := startNode(t, dir, language, "HELVE_GPUS=1")
	if is := next.do(task{}); is.PID != was.PID || !hasVariable(t, is.PID, "CUDA_VISIBLE_DEVICES=0") {
		t.Errorf("was %+v, is %+v", was, is)
	}
	if err := syscall.Kill(was.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	is := was
	for is.PID == was.PID { // a call may be lost with the process
		answer, err := next.send(task{})
		if t.Context().Err() != nil {
			t.Fatal("no other replica starts: ", err)
		}
		if err == nil {
			is = answer
		}
	}
	if !hasVariable(t, is.PID, "CUDA_VISIBLE_DEVICES=0") {
		t.Errorf("%+v has another GPU", is)
	}
	next.close()
}

// hasVariable says whether a process was started with a variable of its environment.
func hasVariable(t *testing.T, pid int, variable string) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Error(err)
	}
	return slices.Contains(strings.Split(string(b), "\x00"), variable)
}

// TestReferencesAfterANode: a worker still has its results in the shared memory of a node that is gone; the results that the
// node kept for it are lost.
func TestReferencesAfterANode(t *testing.T) {
	eachLedger(t, func(t *testing.T, dir, language string) {
		first := startNode(t, dir, language)
		was := first.do(task{Op: "keep"})
		first.kill()
		next := startNode(t, dir, language)
		is := next.do(task{Op: "kept"})
		if is.PID != was.PID || is.Said != "300000 300000 <nil> data_loss data_loss with the node" {
			t.Errorf("was %+v, is %+v", was, is)
		}
		next.do(task{Op: "keep"}) // the next one has memory too
		next.close()
	})
}

// TestBlockedAndNobodyComes: a Python worker whose event loop stands ends with its grace too.
func TestBlockedAndNobodyComes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := startNode(t, dir, "HELVE_TEST_LEDGER=python", "HELVE_TEST_GRACE=100ms")
	was := first.do(task{})
	go first.send(task{Op: "block", ID: "x"}) //nolint:errcheck // its node will be killed
	for len(fixture.Lines(filepath.Join(dir, "held"))) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it does not begin")
		}
	}
	first.kill()
	for deadline := time.Now().Add(20 * time.Second); alive(was.PID); {
		if time.Now().After(deadline) {
			syscall.Kill(was.PID, syscall.SIGKILL)
			t.Fatal("it goes on")
		}
		time.Sleep(10 * time.Millisecond) // the kernel sends no event for the end of another process's child
	}
}

// TestIngressAfterANode: the next node knows what a Python ingress takes, though it has not started it.
func TestIngressAfterANode(t *testing.T) {
	t.Parallel()
	dir, language := t.TempDir(), "HELVE_TEST_LEDGER=python ingress"
	n := startNode(t, dir, language)
	say := func() string {
		t.Helper()
		resp, err := http.Post(n.url, "text/plain", strings.NewReader("hi"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", resp.Status, b, err)
		}
		return string(b)
	}
	was := say()
	n.kill()
	n = startNode(t, dir, language)
	if is := say(); is != was || !strings.HasSuffix(is, " hi") {
		t.Errorf("was %q, is %q", was, is)
	}
	n.close()
}

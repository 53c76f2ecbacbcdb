package durable_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// The variables that choose longer runs: how many seeds (make faults SEEDS=n), or one seed again.
const (
	seedsEnv = "HELVE_FAULTS_SEEDS"
	seedEnv  = "HELVE_FAULTS_SEED"
	// onlyEnv is a regular expression of the faults to bring, for example "node".
	onlyEnv = "HELVE_FAULTS_ONLY"
)

// fault is one disturbance: a process that is killed or stopped at a random moment of a step.
type fault struct {
	step   string // an operation that is under way: deploy, change, delete, take-over, upgrade; or serve, for none
	victim string // node, keeper, worker, driver (the client in Python, which deploys too), program (the client in Go), or machine for all of the first three
	stop   bool   // SIGSTOP for a time, in place of SIGKILL
}

func (f fault) String() string {
	verb := "kill -9"
	switch {
	case f.stop:
		verb = "SIGSTOP"
	case f.victim == "machine":
		verb = "restart"
	case f.victim == "":
		return f.step
	}
	if f.step == "serve" {
		return verb + " " + f.victim
	}
	return fmt.Sprintf("%s %s during %s", verb, f.victim, f.step)
}

var (
	steps   = []string{"serve", "deploy", "change", "delete", "take-over", "upgrade"}
	victims = []string{"node", "keeper", "worker", "driver"}
)

// some are the faults of a short run: each step and each victim.
func some() []fault {
	return []fault{
		{step: "serve", victim: "worker"}, {step: "deploy", victim: "node"}, {step: "take-over", victim: "node"}, {step: "upgrade"}, {step: "change", victim: "keeper"},
		{step: "delete", victim: "driver"}, {step: "upgrade", victim: "node"}, {step: "serve", victim: "node", stop: true}, {step: "serve", victim: "machine"},
	}
}

// all are the faults of a long run.
func all() (faults []fault) {
	for _, step := range steps {
		for _, victim := range victims {
			faults = append(faults, fault{step: step, victim: victim})
		}
	}
	for _, victim := range victims {
		faults = append(faults, fault{step: "serve", victim: victim, stop: true})
	}
	for _, step := range steps {
		faults = append(faults, fault{step: step, victim: "machine"})
	}
	return append(faults, fault{step: "serve", victim: "program"}, fault{step: "upgrade"}, fault{step: "change"})
}

// TestFaults kills and stops the processes of a durable node at every step, while clients of HTTP, Go and Python make calls. A seed decides the order and the moments.
// A run of make test has one seed, some faults, and a stop of twelve seconds; HELVE_FAULTS_SEEDS is a number of seeds with all faults, and with stops of fifteen seconds.
func TestFaults(t *testing.T) {
	t.Parallel()
	python(t)
	helve := fixture.Compile(t, "./cmd/helve")
	seeds, long := []uint64{1}, false
	if one, ok := os.LookupEnv(seedEnv); ok {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds, long = []uint64{seed}, true
	} else if v, ok := os.LookupEnv(seedsEnv); ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		seeds, long = nil, true
		for range n {
			seeds = append(seeds, rand.Uint64N(1e9))
		}
	}
	var sum table
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			faults, stopFor := some(), 12*time.Second
			if long {
				faults, stopFor = all(), 15*time.Second
			}
			e := newEpisode(t, helve, seed, stopFor, "--node-watchdog", "10s") // less would be the end of nodes that are well, on a busy machine
			defer func() { sum.add(e.rounds...) }()
			only := regexp.MustCompile(os.Getenv(onlyEnv))
			faults = slices.DeleteFunc(faults, func(f fault) bool { return !only.MatchString(f.String()) })
			if long {
				e.random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
			}
			for _, f := range faults {
				if t.Failed() {
					break
				}
				e.disturb(f)
			}
			e.end()
		})
	}
	t.Logf("%s= or %s= runs these again\n%s", seedsEnv, seedEnv, sum.String())
}

// episode is the life of one state directory under one seed: a machine with the ledger, and clients of HTTP, Go and Python that call it all the time.
type episode struct {
	*machine
	random   *rand.Rand
	stopFor  time.Duration
	rounds   []round
	clients  int // that were started
	driver   *client
	golang   *client
	stopHTTP func()
	version  int // of the ledger that was acknowledged last
	// The applications beside the ledger, and whether they are there.
	extras map[string]bool
}

// newEpisode starts the machine and its clients, and returns when each of them has an answer.
func newEpisode(t *testing.T, helve string, seed uint64, stopFor time.Duration, args ...string) *episode {
	t.Helper()
	e := &episode{random: rand.New(rand.NewPCG(seed, 0)), stopFor: stopFor, extras: map[string]bool{}, version: 1}
	e.machine = newMachine(t, helve, args...)
	e.startDriver()
	e.driver.must(request{Op: "deploy", App: "ledger", Version: "1"})
	e.driver.must(request{Op: "load"})
	e.startProgram()
	ctx, stop := context.WithCancel(context.Background())
	var http sync.WaitGroup
	http.Go(func() { e.httpLoad(ctx, "http") })
	e.stopHTTP = func() { stop(); http.Wait() }
	t.Cleanup(e.stopHTTP)
	e.answered(time.Now())
	return e
}

// end ends the clients in order and looks at all that is left: slots, processes, files, the ledger, and the applications of the node that starts next.
func (e *episode) end() {
	e.t.Helper()
	e.driver.end()
	e.golang.end()
	e.stopHTTP()
	e.slots()
	e.stop()
	e.check()
	e.start()
	e.settle()
	e.stop()
}

// startDriver starts the client in Python that also deploys. Each client has a name of its own, so that no id is there twice.
func (e *episode) startDriver() {
	e.clients++
	e.driver = e.startPython(fmt.Sprint("python", e.clients))
}

// startProgram starts the client in Go.
func (e *episode) startProgram() {
	e.clients++
	e.golang = e.startGo(fmt.Sprint("go", e.clients))
	e.golang.must(request{Op: "load"})
}

// answered waits until each kind of client has an answer to a call that began after a moment, and gives the time of the first answer over HTTP.
func (e *episode) answered(after time.Time) (first time.Time) {
	e.t.Helper()
	e.await("answers to HTTP, Go and Python", func() bool {
		kinds := map[string]bool{}
		first = time.Time{}
		for _, a := range e.answers() {
			if a.kind != "" || a.begin.Before(after) {
				continue
			}
			kinds[kindOf(a.client)] = true
			if a.client == "http" && (first.IsZero() || a.end.Before(first)) {
				first = a.end
			}
		}
		return len(kinds) == 3
	})
	return first
}

// disturb brings one fault, waits until all is whole again, and notes the failed calls of the clients.
func (e *episode) disturb(f fault) {
	begin := time.Now()
	settled := make(chan struct{})
	e.operate(f, settled)
	delay := time.Duration(e.random.Int64N(int64(600 * time.Millisecond)))
	<-time.After(delay) // the random moment
	at := time.Now()
	killed := e.strike(f)
	<-settled
	switch {
	case f.victim == "driver" && !f.stop:
		e.driver.kill()
		e.startDriver()
		e.driver.must(request{Op: "load"})
	case f.victim == "program":
		e.golang.kill()
		e.startProgram()
	}
	e.await(f.String()+": the ledger is whole", func() bool { return e.whole(killed) })
	whole := time.Now()
	e.settle()
	first := e.answered(at)
	r := round{fault: f, first: first.Sub(at), whole: max(whole.Sub(at), first.Sub(at)), failed: map[string]map[string]int{}}
	for _, a := range e.answers() {
		if a.kind == "" || a.end.Before(begin) {
			continue
		}
		kind := kindOf(a.client)
		if r.failed[kind] == nil {
			r.failed[kind] = map[string]int{}
		}
		r.failed[kind][a.kind]++
		switch {
		case f.victim == "" && a.begin.After(begin):
			e.t.Errorf("%s: %s failed: %s %s", f, a.id, a.kind, a.text)
		case a.kind == "refused" && f.victim != "keeper" && f.victim != "machine":
			e.t.Errorf("%s after %s: a connection was refused: %s", f, delay, a.id)
		}
	}
	e.rounds = append(e.rounds, r)
	e.t.Logf("%s after %s: %s", f, delay.Round(time.Millisecond), r)
}

// operate begins the operation of a step, and closes settled at its end or failure. Without a victim it must succeed.
func (e *episode) operate(f fault, settled chan struct{}) {
	extra := fmt.Sprint("extra", len(e.extras))
	operation := func(r request, acknowledged func()) {
		driver := e.driver
		go func() {
			defer close(settled)
			if err := driver.do(r); err != nil {
				e.failed(f, fmt.Sprintf("%+v: %v", r, err))
				return
			}
			acknowledged()
		}()
	}
	switch f.step {
	case "deploy":
		e.extras[extra] = false
		operation(request{Op: "deploy", App: extra}, func() { e.extras[extra] = true })
	case "delete":
		e.driver.must(request{Op: "deploy", App: extra})
		e.extras[extra] = false // from now on it may be gone: a delete is done also if the kill comes before its answer
		operation(request{Op: "delete", App: extra}, func() {})
	case "change":
		next := e.version + 1
		operation(request{Op: "deploy", App: "ledger", Version: strconv.Itoa(next)}, func() { e.version = next })
	case "take-over":
		var pid int
		e.await("the node's process", func() bool { pid = e.nodeProcess(); return pid != 0 })
		e.t.Logf("kill -9 of the node %d", pid)
		syscall.Kill(pid, syscall.SIGKILL)
		close(settled)
	case "upgrade":
		cmd := exec.Command(e.helve, "upgrade", "--state-dir", e.state)
		cmd.Env, cmd.WaitDelay = e.environment(), time.Second
		go func() {
			defer close(settled)
			out, err := cmd.CombinedOutput()
			if err != nil {
				e.failed(f, fmt.Sprintf("helve upgrade: %v\n%s", err, out))
			}
		}()
	default:
		close(settled)
	}
}

// failed is the failure of an operation, which is an error if no process was killed.
func (e *episode) failed(f fault, text string) {
	if f.victim == "" {
		e.t.Errorf("%s: %s", f, text)
	} else {
		e.t.Log(text)
	}
}

// strike kills or stops the victim, and starts a killed keeper again as systemd would. It gives the worker that was killed.
func (e *episode) strike(f fault) (killed int) {
	var pid int
	switch f.victim {
	case "":
		return 0
	case "node":
		e.await("the node's process", func() bool { pid = e.nodeProcess(); return pid != 0 })
	case "keeper":
		pid = e.keeper.Process.Pid
	case "worker":
		e.await("a worker", func() bool {
			pids := e.workers()
			if len(pids) > 0 {
				pid = pids[e.random.IntN(len(pids))]
			}
			return len(pids) > 0
		})
	case "driver":
		pid = e.driver.cmd.Process.Pid
	case "program":
		pid = e.golang.cmd.Process.Pid
	case "machine":
		e.reboot()
		e.start()
		return 0
	}
	if f.stop {
		syscall.Kill(pid, syscall.SIGSTOP)
		<-time.After(e.stopFor) // the fault itself
		syscall.Kill(pid, syscall.SIGCONT)
		return 0
	}
	syscall.Kill(pid, syscall.SIGKILL)
	switch f.victim {
	case "keeper":
		e.said.Ended()
		e.gone()
		e.start()
	case "worker":
		return pid
	}
	return 0
}

// nodeProcess is the node's process by the kernel's account, which knows it also while it does not answer: the youngest child of the keeper that runs `helve node`.
func (e *episode) nodeProcess() (pid int) {
	for _, child := range fixture.Children(e.t, e.keeper.Process.Pid) {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if args := bytes.Split(command, []byte{0}); err == nil && len(args) > 1 && string(args[1]) == "node" && alive(child) {
			pid = max(pid, child)
		}
	}
	return pid
}

// settle holds that all applications are there that must be, each of them whole, and finds out which of two states an operation that was not acknowledged has led to.
func (e *episode) settle() {
	e.t.Helper()
	e.await("the applications to be whole", func() bool {
		apps, err := e.applications()
		for _, a := range apps {
			if a.Status != helvetype.ApplicationRunning && !putBack(a) {
				return false
			}
		}
		return err == nil && len(apps) > 0
	})
	apps, err := e.applications()
	if err != nil {
		e.t.Fatal(err)
	}
	for name, there := range e.extras {
		_, is := apps[name]
		if is && putBack(apps[name]) { // its first deploy was given up: there is nothing of it but the message
			e.driver.must(request{Op: "delete", App: name})
			is = false
		}
		if there && !is {
			e.t.Errorf("%s was deployed, and is not there\n%s", name, e.report())
		}
		e.extras[name] = is
	}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no connection of a node that is gone
	versions := map[string]bool{}
	for range 4 * replicas {
		v, err := e.post(e.t.Context(), fresh, fmt.Sprint("settle-", e.random.Uint64()))
		if err != nil {
			e.t.Error(err)
		}
		versions[v] = true
	}
	_, same := versions[strconv.Itoa(e.version)]
	_, next := versions[strconv.Itoa(e.version+1)]
	switch {
	case len(versions) != 1 || !same && !next:
		e.t.Errorf("the ledger answers with the versions %v, and %d was acknowledged", versions, e.version)
	case next:
		e.version++
	}
}

// putBack says whether a deploy of the application was given up, for example because its driver was killed: the revision before it serves, if there was one.
func putBack(a details.AppDetails) bool {
	return a.Status == helvetype.ApplicationDeployFailed && !slices.ContainsFunc(slices.Collect(maps.Values(a.Deployments)), func(d details.DeploymentDetails) bool {
		return d.Status == helvetype.DeploymentUpdating || d.Stopping > 0
	})
}

// slots holds that no slot stays taken: as many calls as there are slots execute at the same time.
func (e *episode) slots() {
	e.t.Helper()
	var wg sync.WaitGroup
	for range replicas * slots {
		wg.Go(func() {
			if _, err := e.post(e.t.Context(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "hold last"); err != nil {
				e.t.Error(err)
			}
		})
	}
	e.await("a call in each slot", func() bool { return len(e.lines("held.last")) == replicas*slots })
	if err := os.WriteFile(filepath.Join(e.ledger, "release.last"), nil, 0o600); err != nil {
		e.t.Fatal(err)
	}
	wg.Wait()
	e.await("no call to run or wait", func() bool {
		a, ok := e.application("ledger")
		calls := a.Deployments["Ledger"].Calls
		return ok && calls.Running == 0 && calls.Queued == 0
	})
}

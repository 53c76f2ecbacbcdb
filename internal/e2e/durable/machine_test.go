package durable_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/rest"
)

// markEnv is a variable that every process of a machine and of its clients inherits, by which the test finds the processes that are left.
const markEnv = "LEDGER_MARK"

// patience bounds a wait. A machine under load, ten times slower than this one, needs a fraction of it.
const patience = 2 * time.Minute

// machine is a durable node as an operator has it: the binary, a state directory, and addresses that stay the same. Its keeper may end and be started again, as
// systemd does it.
type machine struct {
	t       *testing.T
	helve   string // the binary
	root    string // the directory that has all others
	state   string
	runtime string
	ledger  string // the files of clients and replicas
	mark    string
	http    string // host and port
	admin   *rest.Client
	args    []string // of helve start
	keeper  *exec.Cmd
	said    *fixture.Output

	// The calls of the clients that were read from their files, and how far each file was read.
	seen    []answer
	offsets map[string]int64
}

// newMachine makes the directories of a machine and starts its keeper. The root is short, because paths of sockets have a limit.
func newMachine(t *testing.T, helve string, args ...string) *machine {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") //nolint:usetesting // t.TempDir has the name of the test in it
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, helve: helve, root: root, mark: filepath.Base(root), http: fixture.FreeAddress(t), offsets: map[string]int64{}}
	m.state, m.runtime, m.ledger = filepath.Join(root, "state"), filepath.Join(root, "run"), filepath.Join(root, "ledger")
	t.Cleanup(func() {
		for _, pid := range m.processes() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, pid := range m.processes() {
			await(t, fmt.Sprintf("process %d to end", pid), func() bool { return !alive(pid) })
		}
		os.RemoveAll(root)
	})
	for _, dir := range []string{m.runtime, m.ledger} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	private := fixture.FreeAddress(t)
	if m.admin, err = rest.Dial(private); err != nil {
		t.Fatal(err)
	}
	m.args = append([]string{"start", "--state-dir", m.state, "--http", m.http, "--admin", private}, args...)
	m.start()
	return m
}

// environment is that of the processes of the machine and of its clients.
func (m *machine) environment(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HELVE_") && !strings.HasPrefix(v, "HELVE_PYTHON=") || strings.HasPrefix(v, "PYTHONPATH=") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	return append(append(env, "HELVE_RUNTIME_DIR="+m.runtime, markEnv+"="+m.mark), more...)
}

// start starts the keeper and waits until its node answers.
func (m *machine) start() {
	m.t.Helper()
	m.keeper = exec.Command(m.helve, m.args...)
	m.keeper.Env, m.keeper.Dir, m.keeper.WaitDelay = m.environment(), m.root, time.Second
	m.keeper.SysProcAttr = kernel.Child(syscall.SIGKILL) // a test that panics runs no cleanup
	m.said, _ = fixture.Launch(m.t, m.keeper)
	said, ended := m.said, make(chan struct{})
	go func() { said.Ended(); close(ended) }()
	m.await("the node to answer", func() bool {
		select {
		case <-ended: // and not alive: while a process calls exec its first thread may be a zombie
			m.t.Fatalf("helve start has ended with %s:\n%s", m.keeper.ProcessState, said.Text())
		default:
		}
		return m.node() != 0
	})
}

// node is the process of the node that answers now; 0 if none does.
func (m *machine) node() int {
	about, err := m.admin.About(m.t.Context())
	if err != nil {
		return 0
	}
	return about.PID
}

// application is the present status of an application; ok is false if there is none, or if no node answers.
func (m *machine) application(name string) (a details.AppDetails, ok bool) {
	all, err := m.applications()
	if err != nil {
		return a, false
	}
	a, ok = all[name]
	return a, ok
}

func (m *machine) applications() (map[string]details.AppDetails, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
	defer cancel()
	var all details.Instance
	err := m.admin.Get(ctx, "/api/v1/instance", nil, &all)
	return all.Applications, err
}

// workers are the processes of the replicas of the ledger that run.
func (m *machine) workers() (pids []int) {
	a, _ := m.application("ledger")
	for _, r := range a.Deployments["Ledger"].Replicas {
		if r.State == helvetype.ReplicaRunning && r.PID != nil && alive(*r.PID) {
			pids = append(pids, *r.PID)
		}
	}
	return pids
}

// whole says whether the ledger runs with all its replicas, none of which is the process that was killed.
func (m *machine) whole(killed int) bool {
	a, ok := m.application("ledger")
	pids := m.workers()
	return ok && (a.Status == helvetype.ApplicationRunning || putBack(a)) && len(pids) == replicas && !slices.Contains(pids, killed)
}

// stop ends the keeper in order, and holds that no process and no file of a running node is left.
func (m *machine) stop() {
	m.t.Helper()
	if err := m.keeper.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	m.said.Ended()
	if s := m.keeper.ProcessState; !s.Success() {
		m.t.Errorf("helve start ended with %s:\n%s", s, m.said.Text())
	}
	m.gone()
	m.noFiles()
}

// gone waits until no process of the machine is left.
func (m *machine) gone() {
	m.t.Helper()
	m.await("the processes to end", func() bool { return len(m.processes()) == 0 })
}

// stateFiles are the files that may lie in the state directory of a node that has ended in order.
var stateFiles = []string{"store.db", "blobs", "code", "node.snap", "logs", "events", "helve-node", "admin.token", "tokens", "audit"}

// noFiles holds that the node has left nothing but its state.
func (m *machine) noFiles() {
	m.t.Helper()
	left, err := os.ReadDir(m.runtime)
	if err != nil || len(left) > 0 {
		m.t.Errorf("the runtime directory has %v, %v", left, err)
	}
	entries, err := os.ReadDir(m.state)
	if err != nil {
		m.t.Error(err)
	}
	for _, e := range entries {
		if !slices.ContainsFunc(stateFiles, func(name string) bool { return e.Name() == name || strings.HasPrefix(e.Name(), name+".") }) {
			m.t.Errorf("the state directory has %s left", e.Name())
		}
	}
}

// reboot removes all that a restart of the machine removes: processes, and files of the runtime directory.
func (m *machine) reboot() {
	m.t.Helper()
	for _, pid := range m.processes() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	m.said.Ended()
	m.gone()
	if err := os.RemoveAll(m.runtime); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Mkdir(m.runtime, 0o700); err != nil {
		m.t.Fatal(err)
	}
}

// processes are the processes that have the mark of this machine, without those of its clients.
func (m *machine) processes() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		m.t.Fatal(err)
	}
	mark, client := []byte("\x00"+markEnv+"="+m.mark+"\x00"), []byte("\x00"+clientEnv+"=")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		env = slices.Concat([]byte{0}, env)
		if err == nil && bytes.Contains(env, mark) && !(bytes.Contains(env, client) && m.isClient(pid)) && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isClient says whether a process was started by the test itself: a worker of an application that a client has deployed may have the environment of the client.
func (m *machine) isClient(pid int) bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	f := strings.Fields(string(rest))
	return len(f) > 1 && f[1] == strconv.Itoa(os.Getpid())
}

func (m *machine) await(what string, ok func() bool) {
	m.t.Helper()
	if !awaited(ok) {
		m.t.Fatalf("not within %s: %s\n%s", patience, what, m.report())
	}
}

// report is the state of the machine, for a test that fails.
func (m *machine) report() string {
	var b strings.Builder
	apps, err := m.applications()
	fmt.Fprintf(&b, "node %d, error %v\n", m.node(), err)
	for name, a := range apps {
		fmt.Fprintf(&b, "%s revision %d: %s %s\n", name, a.Revision, a.Status, a.Message)
		for d, s := range a.Deployments {
			fmt.Fprintf(&b, "  %s: %s %s, %+v\n", d, s.Status, s.Message, s.Calls)
			for _, r := range s.Replicas {
				pid := 0
				if r.PID != nil {
					pid = *r.PID
				}
				fmt.Fprintf(&b, "    %s %s pid %d\n", r.ReplicaID, r.State, pid)
			}
		}
	}
	for _, pid := range m.processes() {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		fmt.Fprintf(&b, "process %d: %s\n", pid, bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
	}
	text := m.said.Text()
	if len(text) > 20000 {
		text = "... " + text[len(text)-20000:]
	}
	fmt.Fprintf(&b, "the keeper and its node say:\n%s", text)
	return b.String()
}

// await fails the test if a condition does not come true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !awaited(ok) {
		t.Errorf("not within %s: %s", patience, what)
	}
}

// awaited looks at a condition of other processes, which send no event for it, again and again.
func awaited(ok func() bool) bool {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); !ok(); <-look.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// alive says whether a process runs. A zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndex(stat, []byte(") "))
	return err == nil && i >= 0 && !bytes.ContainsAny(stat[i+2:i+3], "ZX")
}

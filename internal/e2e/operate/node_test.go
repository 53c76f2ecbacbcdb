package operate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/token"
)

// patience bounds a wait. A machine under load, ten times slower than this one, needs a fraction of it.
const patience = 2 * time.Minute

// markEnv is a variable that every process of a node inherits, by which the test finds the processes that are left.
const markEnv = "OPERATE_MARK"

// node is a durable node: the binary under its keeper, with a state directory.
type node struct {
	t     *testing.T
	start func() // starts the keeper
	root  string
	state string
	http  string // host and port
	admin *rest.Client
	said  *fixture.Output
}

// start starts a node, until the test ends. The root is short, because paths of sockets have a limit.
func start(t *testing.T, binary string) *node {
	t.Helper()
	root, err := os.MkdirTemp("", "ho") //nolint:usetesting // t.TempDir has the name of the test in it
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, root: root, state: filepath.Join(root, "state"), http: fixture.FreeAddress(t)}
	t.Cleanup(func() {
		for _, pid := range n.processes() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		await(func() bool { return len(n.processes()) == 0 })
		os.RemoveAll(root)
	})
	run := filepath.Join(root, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	private := fixture.FreeAddress(t)
	tokens := func() []string {
		first, err := token.Read(n.state)
		if err != nil {
			return nil
		}
		return []string{first}
	}
	if n.admin, err = rest.Open(private, rest.Access{Tokens: tokens}); err != nil {
		t.Fatal(err)
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HELVE_") || strings.HasPrefix(v, "NOTIFY_SOCKET=") })
	n.start = func() {
		keeper := exec.Command(binary, "start", "--state-dir", n.state, "--http", n.http, "--admin", private)
		keeper.Env = append(slices.Clone(env), "HELVE_RUNTIME_DIR="+run, markEnv+"="+filepath.Base(root))
		keeper.Dir, keeper.WaitDelay, keeper.SysProcAttr = root, time.Second, kernel.Child(syscall.SIGKILL)
		n.said, _ = fixture.Launch(t, keeper)
		n.await("the node to answer", func() bool { return n.pid() != 0 })
	}
	n.start()
	return n
}

// restart kills every process of the node, as the end of the machine does, and starts the keeper again.
func (n *node) restart() {
	n.t.Helper()
	n.await("all processes to end", func() bool {
		left := n.processes()
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
	n.start()
}

// pid is the process of the node that answers now; 0 if none does.
func (n *node) pid() int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	about, err := n.admin.About(ctx)
	if err != nil {
		return 0
	}
	return about.PID
}

// processes are the processes that have the mark of this node.
func (n *node) processes() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	mark := []byte(markEnv + "=" + filepath.Base(n.root) + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && bytes.Contains(env, mark) && !bytes.Contains(stat, []byte(") Z ")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill ends the node as kill -9 does, and waits for the next one.
func (n *node) kill() {
	n.t.Helper()
	pid := 0
	n.await("the node to answer", func() bool { pid = n.pid(); return pid != 0 })
	syscall.Kill(pid, syscall.SIGKILL)
	n.await("the next node", func() bool { now := n.pid(); return now != 0 && now != pid })
}

// operator is a program that is attached to the node, as each operator has one. Close it.
func (n *node) operator() *helve.System {
	n.t.Helper()
	var sys *helve.System
	n.await("the node to take an operator", func() (ok bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var err error
		sys, err = helve.Connect(ctx, n.state)
		return err == nil
	})
	return sys
}

// form is an application in a version.
func form(app, version string) helve.Build {
	return helve.Executable("exec:"+os.Args[0]+"#"+app, version)
}

// application is the status of an application; ok is false if there is none, and known is false if no node answers.
func (n *node) application(name string) (a details.AppDetails, ok, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var all details.Instance
	if err := n.admin.Get(ctx, "/api/v1/instance", nil, &all); err != nil {
		return a, false, false
	}
	a, ok = all.Applications[name]
	return a, ok, true
}

// settled says that the application runs, all replicas of its deployment take calls, and none stops. DEPLOY_FAILED is the state of an application whose last
// deploy failed, and whose revision before runs.
func settled(a details.AppDetails) bool {
	d := a.Deployments["Page"]
	if a.Status != helvetype.ApplicationRunning && a.Status != helvetype.ApplicationDeployFailed || len(d.Replicas) == 0 || len(d.Replicas) != d.TargetNumReplicas {
		return false
	}
	return !slices.ContainsFunc(d.Replicas, func(r details.ReplicaDetails) bool { return r.State != helvetype.ReplicaRunning })
}

// events sends the events of an application from now on to a channel, which is closed when the node ends or the context does. It returns once the
// reader is there.
func (n *node) events(ctx context.Context, app string) <-chan helvetype.Event {
	n.t.Helper()
	var list rest.EventList
	if err := n.admin.Get(ctx, "/events", nil, &list); err != nil {
		n.t.Fatal(err)
	}
	out := make(chan helvetype.Event, 4096)
	go func() {
		defer close(out)
		query := url.Values{"follow": {"true"}, "after": {fmt.Sprint(list.Next)}, "app": {app}}
		n.admin.Lines(ctx, "/events", query, func(line []byte) error { //nolint:errcheck // the node is killed
			var e helvetype.Event
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			out <- e
			return nil
		})
	}()
	return out
}

func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	if !await(ok) {
		n.t.Fatalf("not within %s: %s\n%s", patience, what, n.report())
	}
}

// await looks at a condition of other processes, which send no event for it, again and again.
func await(ok func() bool) bool {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); !ok(); <-look.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// report is the state of the node, for a test that fails.
func (n *node) report() string {
	var b strings.Builder
	var all details.Instance
	err := n.admin.Get(context.Background(), "/api/v1/instance", nil, &all)
	fmt.Fprintf(&b, "error %v\n", err)
	for name, a := range all.Applications {
		text, _ := json.MarshalIndent(a.Deployments, "  ", " ")
		fmt.Fprintf(&b, "%s revision %d: %s %s\n  %s\n", name, a.Revision, a.Status, a.Message, text)
	}
	said := n.said.Text()
	fmt.Fprintf(&b, "the keeper and its node say:\n%s", said[max(0, len(said)-8000):])
	return b.String()
}

// clients ask an application in closed loops, and count the answers by their text.
type clients struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	first chan struct{} // closed at the first answer

	mu      sync.Mutex
	answers map[string]int
	failed  []string
}

// load starts clients of an application. stop must be called.
func (n *node) load(app string, number int) *clients {
	ctx, stop := context.WithCancel(context.Background())
	c := &clients{stop: stop, first: make(chan struct{}), answers: map[string]int{}}
	for range number {
		c.wg.Go(func() {
			t := &http.Transport{MaxIdleConnsPerHost: 1}
			defer t.CloseIdleConnections()
			client := &http.Client{Transport: t, Timeout: patience}
			for ctx.Err() == nil {
				text, err := ask(client, "http://"+n.http+"/"+app)
				c.mu.Lock()
				if err != nil {
					c.failed = append(c.failed, err.Error())
				} else {
					if len(c.answers) == 0 {
						close(c.first)
					}
					c.answers[text]++
				}
				c.mu.Unlock()
				select { // leaves the machine to the node
				case <-ctx.Done():
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	n.t.Cleanup(c.end)
	return c
}

// end stops the clients and waits for their last answers.
func (c *clients) end() {
	c.stop()
	c.wg.Wait()
}

// ask sends a POST, which no layer sends again by itself.
func ask(c *http.Client, url string) (string, error) {
	r, err := c.Post(url, "text/plain", strings.NewReader("x"))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d: %s", r.StatusCode, b)
	}
	return string(b), err
}

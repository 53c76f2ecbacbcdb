package attached_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Desk is a deployment in a worker of its own build.
type Desk struct{ limit atomic.Int64 }

// deskConfig is its user config.
type deskConfig struct {
	Limit int64 `json:"limit"`
}

// Reconfigure takes a limit above 0.
func (d *Desk) Reconfigure(_ context.Context, c deskConfig) error {
	if c.Limit < 1 {
		return fmt.Errorf("a limit of %d", c.Limit)
	}
	d.limit.Store(c.Limit)
	return nil
}

// Limit is the limit of the user config.
func (d *Desk) Limit(context.Context, helve.None) (int64, error) { return d.limit.Load(), nil }

// PID is the process of the replica.
func (d *Desk) PID(context.Context, helve.None) (int, error) { return os.Getpid(), nil }

// Wait waits for the end of its context. It holds a pipe open for writing meanwhile, unless the name is "".
func (d *Desk) Wait(ctx context.Context, pipe string) error {
	if pipe != "" {
		f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // until the test reads it
		if err != nil {
			return err
		}
		defer f.Close()
	}
	<-ctx.Done()
	return ctx.Err()
}

// errTaken is an error that the application knows.
var errTaken = errors.New("the desk is taken")

// Fail returns it.
func (d *Desk) Fail(context.Context, helve.None) error { return errTaken }

// Count counts to n.
func (d *Desk) Count(_ context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

var buildDesk = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("desk")
	app.RoutePrefix("")
	app.Errors(errTaken)
	h := helve.Deploy(app, "Desk", func(context.Context) (*Desk, error) { return &Desk{}, nil }, helve.Options{
		MaxOngoingRequests: new(3), MaxQueuedRequests: new(2), UserConfig: deskConfig{1},
	})
	app.Ingress(helve.MethodOf(h, (*Desk).PID))
	return app, nil
})

// node is a stock binary that runs an application of the test binary, with a state directory.
type node struct {
	t    *testing.T
	args []string
	cmd  *exec.Cmd
	out  *fixture.Output
	dir  string // the state directory
}

// stock is the stock binary.
func stock(t *testing.T) string { return fixture.Compile(t, "./cmd/helve") }

// newNode starts a node, and returns when it runs the application "desk".
func newNode(t *testing.T, binary string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir()}
	n.args = []string{binary, "run", "exec:" + os.Args[0] + "#desk", "--http", "none", "--state-dir", n.dir}
	n.start()
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command(n.args[0], n.args[1:]...)
	n.out, _ = fixture.Launch(n.t, n.cmd)
	n.out.Line(n.t, "desk runs")
}

// kill ends the node with SIGKILL.
func (n *node) kill() {
	n.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	n.out.Ended()
}

// connect attaches the test to the node, by its state directory.
func (n *node) connect() *helve.System {
	n.t.Helper()
	sys, err := helve.Connect(n.t.Context(), n.dir)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.out.Text())
	}
	n.t.Cleanup(func() { sys.Close(context.Background()) })
	return sys
}

// second starts a second program that is attached to the node.
func (n *node) second(role string) (*exec.Cmd, *fixture.Output) {
	n.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "HELVE_NODE="+n.dir)
	out, _ := fixture.Launch(n.t, cmd)
	return cmd, out
}

// desk is the handle of the deployment.
func desk(t *testing.T, sys *helve.System) helve.Handle[*Desk] {
	t.Helper()
	h, err := helve.HandleOf[*Desk](sys, "desk", "Desk")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestPrograms: programs that are attached to a node in another process.
func TestPrograms(t *testing.T) {
	t.Parallel()
	binary := stock(t)
	for name, test := range map[string]func(t *testing.T, n *node){
		"an application outlives its program": outlives, "the end of a program leaves no trace": leavesNoTrace, "operations": operations,
		"a killed node": nodeKilled, "not possible from outside": elsewhere,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newNode(t, binary))
		})
	}
}

// outlives: a program deploys its own executable, in place of the application of the node, and ends. Its replicas serve on.
func outlives(t *testing.T, n *node) {
	cmd, out := n.second("deploy")
	out.Ended()
	if !cmd.ProcessState.Success() {
		t.Fatal(out.Text())
	}
	pid, err := helve.MethodOf(desk(t, n.connect()), (*Desk).PID).Call(t.Context(), helve.None{})
	if err != nil || pid == cmd.Process.Pid || pid == os.Getpid() {
		t.Errorf("process %d, %v", pid, err)
	}
}

// leavesNoTrace: a program with calls that run and wait, and with a slot that it has reserved, is killed. Its queue is full, and that of another
// program is not.
func leavesNoTrace(t *testing.T, n *node) {
	sys := n.connect()
	calls := func() string {
		s, err := sys.ReadStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := s.Applications["desk"].Deployments["Desk"].Calls
		return fmt.Sprintf("%d run and %d wait", c.Running, c.Queued)
	}
	cmd, out := n.second("holder")
	fixture.Eventually(t, func() string {
		if got := calls(); got != "3 run and 2 wait" {
			return got + "\n" + out.Text()
		}
		return ""
	})
	mine := helve.MethodOf(desk(t, sys), (*Desk).PID).Remote(t.Context(), helve.None{})
	fixture.Eventually(t, func() string {
		if got := calls(); got != "3 run and 3 wait" {
			return got
		}
		return ""
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Result(t.Context()); err != nil {
		t.Error(err)
	}
	fixture.Eventually(t, func() string {
		if got := calls(); got != "0 run and 0 wait" {
			return got
		}
		return ""
	})
}

// operations: an attached program changes the applications of the node, and sees the changes.
func operations(t *testing.T, n *node) {
	ctx, sys := t.Context(), n.connect()
	limit := helve.MethodOf(desk(t, sys), (*Desk).Limit)
	if err := sys.Reconfigure(ctx, "desk", "Desk", deskConfig{7}); err != nil {
		t.Fatal(err)
	}
	if v, err := limit.Call(ctx, helve.None{}); v != 7 || err != nil {
		t.Errorf("limit %d, %v", v, err)
	}
	if err := sys.Reconfigure(ctx, "desk", "Desk", deskConfig{-1}); err == nil || !strings.Contains(err.Error(), "a limit of -1") {
		t.Errorf("a config that the replica refuses: %v", err)
	}
	if err := sys.Scale(ctx, "desk", "Desk", 2); err != nil {
		t.Fatal(err)
	}
	if d := sys.Status().Applications["desk"].Deployments["Desk"]; d.Wanted != 2 {
		t.Errorf("%d replicas are wanted", d.Wanted)
	}
	in, err := sys.Ingress("desk")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := helve.MethodNamed[helve.None, int](in, "").Call(ctx, helve.None{}); pid == 0 || err != nil {
		t.Errorf("the ingress: %d, %v", pid, err)
	}
	_, err = helve.ActionOf(desk(t, sys), (*Desk).Fail).Call(ctx, helve.None{})
	fixture.WantReason(t, err, helve.User)
	if err := sys.Deploy(ctx, buildDesk); err != nil { // the errors of this program's own application are known
		t.Fatal(err)
	}
	if _, err := helve.ActionOf(desk(t, sys), (*Desk).Fail).Call(ctx, helve.None{}); !errors.Is(err, errTaken) {
		t.Errorf("%v", err)
	}
	if err := sys.Deploy(ctx, helve.Executable("exec:"+filepath.Join(t.TempDir(), "none"))); err == nil || !strings.Contains(err.Error(), "there is no executable") {
		t.Errorf("an executable that is not there: %v", err)
	}
	if err := sys.Delete(ctx, "desk"); err != nil {
		t.Fatal(err)
	}
	_, err = limit.Call(ctx, helve.None{})
	fixture.WantReason(t, err, helve.DeploymentUnavailable)
	if _, err := helve.HandleOf[*Desk](sys, "desk", "Desk"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
		t.Errorf("a handle: %v", err)
	}
	if _, err := sys.Ingress("desk"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
		t.Errorf("the ingress: %v", err)
	}
}

// nodeKilled: a call that runs when the node is killed may have run, one with Idempotent runs again, and calls that are made before the next node
// is there wait for it.
func nodeKilled(t *testing.T, n *node) {
	ctx, sys := t.Context(), n.connect()
	h := desk(t, sys)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := exec.Command("mkfifo", pipe).Run(); err != nil {
		t.Fatal(err)
	}
	wait := helve.ActionOf(h, (*Desk).Wait)
	runs := wait.Remote(ctx, "")
	again := wait.With(helve.Idempotent).Remote(ctx, pipe)
	f, err := os.Open(pipe) // when the method runs
	if err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, func() string {
		if sys.Status().Applications["desk"].Deployments["Desk"].Calls.Running == 2 {
			return ""
		}
		return "the calls do not run"
	})
	n.kill()
	_, err = runs.Result(ctx)
	fixture.WantReason(t, err, helve.MayHaveRun)
	later := helve.MethodOf(h, (*Desk).PID).Remote(ctx, helve.None{})
	io.Copy(io.Discard, f) // until the method has ended with its node
	f.Close()
	n.start()
	if pid, err := later.Result(ctx); pid == 0 || err != nil {
		t.Errorf("a call that has waited for the next node: %d, %v", pid, err)
	}
	if f, err = os.Open(pipe); err != nil { // when the method runs again
		t.Fatal(err)
	}
	defer f.Close()
	again.Cancel()
	_, err = again.Result(ctx)
	fixture.WantReason(t, err, helve.Cancelled)
	if _, err := sys.ReadStatus(ctx); err != nil {
		t.Error(err)
	}
	if sys.Address() != n.dir {
		t.Errorf("address %s", sys.Address())
	}
}

// elsewhere: operations that only the process of the node can carry out are errors, and the end of a connection is the end of its calls.
func elsewhere(t *testing.T, n *node) {
	ctx, sys := t.Context(), n.connect()
	if _, _, err := sys.Serve("127.0.0.1:0"); err == nil {
		t.Error("Serve")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, _, err := sys.ServeListener(l, nil); err == nil {
		t.Error("ServeListener")
	}
	if err := sys.ReloadCertificate(); err == nil {
		t.Error("ReloadCertificate")
	}
	if url, _ := sys.HTTP(); url != "" || len(sys.URLs()) > 0 || sys.AdminURL() != "" {
		t.Errorf("the node has no ingress, and %q", url)
	}
	h := desk(t, sys)
	runs := helve.ActionOf(h, (*Desk).Wait).Remote(ctx, "")
	fixture.Eventually(t, func() string {
		if sys.Status().Applications["desk"].Deployments["Desk"].Calls.Running == 1 {
			return ""
		}
		return "the call does not run"
	})
	if err := sys.Close(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = runs.Result(ctx)
	fixture.WantReason(t, err, helve.Cancelled)
	_, err = helve.MethodOf(h, (*Desk).PID).Call(ctx, helve.None{})
	fixture.WantReason(t, err, helve.ReplicaUnavailable)
	if s := sys.Status(); len(s.Applications) > 0 {
		t.Errorf("%+v", s)
	}
}

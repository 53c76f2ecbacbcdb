package takeover_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/keeper"
)

// nodeOf is the node that serves under the keeper of a state directory.
func nodeOf(t *testing.T, dir string) keeper.NodeInfo {
	t.Helper()
	s, err := keeper.StatusOf(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes {
		if n.Current {
			return n
		}
	}
	t.Fatalf("no node serves: %+v", s)
	return keeper.NodeInfo{}
}

// keptWorkers are the children of a keeper beside its node and its guard.
func keptWorkers(t *testing.T, n *testNode, dir string) (pids []int) {
	t.Helper()
	node := nodeOf(t, dir).PID
	for _, pid := range fixture.Children(t, n.cmd.Process.Pid) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && pid != node && strings.Contains(string(b), "HELVE_WORKER_ID=") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestStart: the applications of an executable run under a keeper. A node that is killed is followed by another on the same socket, which has the worker
// of the one before; a request made in between waits and is answered. SIGTERM to the node ends the service, and leaves no process and no socket.
func TestStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	n := startCommand(t, fixture.Compile(t, "./examples/hello"), "start", "--isolation", "process", "--http", "127.0.0.1:0", "--state-dir", dir)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a connection that is kept ends with its node
	want := func() {
		t.Helper()
		r, err := client.Post(n.url, "text/plain", strings.NewReader("world"))
		if err != nil {
			t.Fatalf("%v\n%s", err, n.said.Text())
		}
		defer r.Body.Close()
		if got, err := io.ReadAll(r.Body); string(got) != "Hello world!" || err != nil {
			t.Fatalf("%q, %v\n%s", got, err, n.said.Text())
		}
	}
	want()
	workers := keptWorkers(t, n, dir)
	if len(workers) == 0 {
		t.Fatal("it has no worker")
	}
	for range 3 {
		before := nodeOf(t, dir).PID
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		want()
		if now := nodeOf(t, dir).PID; now == before {
			t.Errorf("node %d was killed and serves", before)
		}
		if now := keptWorkers(t, n, dir); len(now) != len(workers) || now[0] != workers[0] {
			t.Errorf("workers %v, before %v", now, workers)
		}
	}
	second := startRefused(t, n.cmd.Path, dir)
	if !strings.Contains(second, "another node uses it") {
		t.Error(second)
	}
	if err := syscall.Kill(nodeOf(t, dir).PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n.said.Ended()
	if s := n.cmd.ProcessState; !s.Success() {
		t.Errorf("%s\n%s", s, n.said.Text())
	}
	for _, pid := range workers {
		fixture.AwaitExit(t, pid)
	}
	for _, name := range []string{"node.sock", "keeper.sock", "keeper.pid", "attach"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// startRefused is what a second `start` in a state directory says.
func startRefused(t *testing.T, path, dir string) string {
	t.Helper()
	out, err := exec.Command(path, "start", "--http", "127.0.0.1:0", "--state-dir", dir).CombinedOutput()
	if err == nil {
		t.Error("it was not refused")
	}
	return string(out)
}

// TestStartSeveral: each application of an executable goes on at the next node as it was, with its worker and its revision; one that was deleted stays away. The arguments of a worker do
// not have the hidden command of the node, which an operator could take it for.
func TestStartSeveral(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	n := startCommand(t, fixture.Compile(t, "./internal/e2e/takeover/testdata/several"), "start", "--isolation", "process", "--http", "127.0.0.1:0", "--state-dir", dir)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a connection that is kept ends with its node
	check := func() {
		t.Helper()
		for _, app := range []string{"hello", "bye"} {
			r, err := client.Post(n.url+"/"+app, "text/plain", strings.NewReader("world"))
			if err != nil {
				t.Fatalf("%v\n%s", err, n.said.Text())
			}
			got, err := io.ReadAll(r.Body)
			r.Body.Close()
			if string(got) != app+" world" || err != nil {
				t.Errorf("%q, %v\n%s", got, err, n.said.Text())
			}
		}
		out, err := exec.Command(n.cmd.Path, "status", "--address", filepath.Join(dir, "attach", "admin.sock")).CombinedOutput()
		if err != nil || strings.Count(string(out), "revision 1,") != 2 {
			t.Errorf("%v: %s\n%s", err, out, n.said.Text())
		}
	}
	check()
	workers := keptWorkers(t, n, dir)
	for _, pid := range workers {
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err != nil || strings.Contains(string(b), "keeper") {
			t.Errorf("worker %d: %q, %v", pid, b, err)
		}
	}
	if err := syscall.Kill(nodeOf(t, dir).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	check()
	if now := keptWorkers(t, n, dir); len(workers) != 2 || !slices.Equal(now, workers) {
		t.Errorf("workers %v, before %v", now, workers)
	}
	sys, err := helve.Connect(t.Context(), dir)
	if err == nil {
		err = errors.Join(sys.Delete(t.Context(), "bye"), sys.Close(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(nodeOf(t, dir).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for app, want := range map[string]int{"hello": http.StatusOK, "bye": http.StatusNotFound} {
		r, err := client.Post(n.url+"/"+app, "text/plain", strings.NewReader("world"))
		if err != nil {
			t.Fatalf("%v\n%s", err, n.said.Text())
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s after the deletion of bye: %s\n%s", app, r.Status, n.said.Text())
		}
	}
	n.interrupt()
}

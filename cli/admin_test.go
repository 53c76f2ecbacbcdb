package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

type greeter struct{}

func (greeter) Greet(_ context.Context, name string) (string, error) { return "Hello " + name, nil }

func buildGreeter() (*helve.App, error) {
	app := helve.NewApp("greeting")
	h := helve.Deploy(app, "Greeter", func(context.Context) (greeter, error) { return greeter{}, nil }, helve.Options{NumReplicas: new(2)})
	app.Ingress(helve.MethodOf(h, greeter.Greet))
	return app, nil
}

// output runs a command line, and gives its exit status and its output.
func output(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return captured(t, func() int { return Run(args) })
}

func captured(t *testing.T, f func() int) (status int, stdout, stderr string) {
	t.Helper()
	var texts [2]string
	var files [2]*os.File
	for i := range files {
		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = file
	}
	out, err := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = files[0], files[1]
	status = f()
	os.Stdout, os.Stderr = out, err
	for i, file := range files {
		file.Seek(0, io.SeekStart) //nolint:errcheck // it is a file
		b, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		texts[i] = string(b)
	}
	return status, texts[0], texts[1]
}

// startNode runs an application with an admin interface, in a directory of the test's own.
func startNode(t *testing.T) *helve.System {
	t.Helper()
	s, err := helve.Config{Admin: adminPrivate}.Run(t.Context(), buildGreeter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) }) //nolint:errcheck // a Close that comes first says it
	return s
}

// TestCommandsFindTheNode: without flags the only node of this user, with several a list, with none a hint.
func TestCommandsFindTheNode(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	t.Setenv(worker.NodeEnv, "")
	for _, name := range []string{"status", "events"} {
		if status, _, stderr := output(t, name); status != 6 || !strings.Contains(stderr, "no node of this user runs here: start one with ") || !strings.Contains(stderr, " start --state-dir DIR") {
			t.Errorf("%s without a node: %d, %s", name, status, stderr)
		}
	}
	first := startNode(t)
	status, stdout, stderr := output(t, "status")
	for _, want := range []string{"application greeting   RUNNING   revision 1", "route /", "Greeter      HEALTHY   2/2", "Greeter#001   RUNNING   (node)"} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%d, %s%s; want %q", status, stdout, stderr, want)
		}
	}
	status, stdout, _ = output(t, "events", "--deployment", "Greeter", "-n", "1")
	if status != 0 || !strings.Contains(stdout, "deployment greeting/Greeter  UPDATING -> HEALTHY  config_update_completed (because of #") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("%d, %s", status, stdout)
	}
	var in details.Instance
	status, stdout, _ = output(t, "status", "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &in); err != nil || status != 0 || in.Applications["greeting"].Status != helvetype.ApplicationRunning {
		t.Errorf("%d, %v: %s", status, err, stdout)
	}
	var e helvetype.Event
	status, stdout, _ = output(t, "events", "-o", "json", "-n", "1")
	if err := json.Unmarshal([]byte(stdout), &e); err != nil || status != 0 || e.Object.App != "greeting" {
		t.Errorf("%d, %v: %s", status, err, stdout)
	}
	startNode(t)
	status, _, stderr = output(t, "status")
	sockets := worker.AdminSockets("")
	if len(sockets) != 2 || status != 2 || !strings.Contains(stderr, "2 nodes of this user run here, choose one:") {
		t.Fatalf("%d, %s: %v", status, stderr, sockets)
	}
	for _, socket := range sockets {
		if !strings.Contains(stderr, "--address "+socket+" ") {
			t.Errorf("%s, want %s", stderr, socket)
		}
		if status, stdout, stderr := output(t, "status", "--address", socket); status != 0 || !strings.Contains(stdout, "greeting") {
			t.Errorf("%d, %s%s", status, stdout, stderr)
		}
	}
	state := t.TempDir() // the node of a state directory is found by the link in it
	if err := os.Symlink(filepath.Dir(sockets[0]), filepath.Join(state, worker.AttachLink)); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := output(t, "status", "--address", state); status != 0 || !strings.Contains(stdout, "greeting") {
		t.Errorf("by its state directory: %d, %s%s", status, stdout, stderr)
	}
	for _, address := range []string{state, filepath.Dir(sockets[0]), sockets[0], "unix:" + filepath.Join(filepath.Dir(sockets[0]), worker.DriverSocket)} {
		t.Setenv(worker.NodeEnv, address)
		if status, stdout, stderr := output(t, "calls"); status != 0 {
			t.Errorf("HELVE_NODE=%s: %d, %s%s", address, status, stdout, stderr)
		}
	}
	none := t.TempDir()
	t.Setenv(worker.NodeEnv, none)
	if status, _, stderr := output(t, "events"); status != 6 || !strings.Contains(stderr, "no node runs at "+none) {
		t.Errorf("HELVE_NODE without a node: %d, %s", status, stderr)
	}
	t.Setenv(worker.NodeEnv, "local")
	if status, _, stderr := output(t, "status"); status != 2 {
		t.Errorf("HELVE_NODE=local: %d, %s", status, stderr)
	}
	t.Setenv(worker.NodeEnv, "")
	durable := filepath.Join(filepath.Dir(sockets[0]), worker.DurableMark)
	if err := os.WriteFile(durable, []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := output(t, "status"); status != 0 || !strings.Contains(stdout, "greeting") {
		t.Errorf("the only durable one of two: %d, %s%s", status, stdout, stderr)
	}
	if err := os.Remove(durable); err != nil {
		t.Fatal(err)
	}
	if text := neighbours(t.Context(), syscall.EADDRINUSE); !strings.Contains(text, "--address "+sockets[1]+" ") || neighbours(t.Context(), syscall.EACCES) != "" {
		t.Errorf("for a port that is in use: %s", text)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if status, _, stderr := output(t, "status"); status != 0 {
		t.Errorf("with one that is left: %s", stderr)
	}
}

// TestStatusWithoutTasksAndActors: applications of tasks and actors are shown with --all only.
func TestStatusWithoutTasksAndActors(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	build := func() (*helve.App, error) {
		app := helve.NewApp(spec.HiddenApps + "tasks")
		h := helve.Deploy(app, "Task", func(context.Context) (greeter, error) { return greeter{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, greeter.Greet))
		return app, nil
	}
	s, err := helve.Config{Admin: adminPrivate}.Run(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) }) //nolint:errcheck // nothing is left to do
	for args, want := range map[string]bool{"status": false, "status --all": true, "status -o json": false, "status -o json -a": true} {
		n := 0
		if want {
			n = 1
		}
		status, stdout, stderr := output(t, strings.Fields(args)...)
		if status != 0 || strings.Contains(stdout, "_hidden.tasks") != want {
			t.Errorf("%s: %d, %s%s", args, status, stdout, stderr)
		}
		var in details.Instance
		if err := json.Unmarshal([]byte(stdout), &in); strings.Contains(args, "json") && (err != nil || len(in.Applications) != n || in.ProxyLocation == "") {
			t.Errorf("%s: %v: %s", args, err, stdout)
		}
	}
}

// TestCommandsFollow: events -f and status -w go on until the node ends, and say so.
func TestCommandsFollow(t *testing.T) {
	for args, want := range map[string]string{"events -f": "application greeting  DEPLOYING -> RUNNING", "status -w": "application greeting   RUNNING"} {
		t.Run(args, func(t *testing.T) {
			t.Setenv(worker.RuntimeDirEnv, t.TempDir())
			s := startNode(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			stdout := os.Stdout
			os.Stdout = w
			defer func() { os.Stdout = stdout }()
			status := make(chan int)
			go func() {
				defer w.Close()
				status <- Run(strings.Fields(args))
			}()
			lines := bufio.NewScanner(r)
			drawings := 0
			for lines.Scan() && !strings.Contains(lines.Text(), want) {
				if strings.HasPrefix(lines.Text(), "--- ") {
					drawings++
				}
			}
			if wantDrawings := strings.Count(args, "-w"); drawings != wantDrawings { // the output is no terminal
				t.Errorf("%d lines with a time, want %d", drawings, wantDrawings)
			}
			go io.Copy(io.Discard, r)     //nolint:errcheck // so that the command never waits
			s.Close(context.Background()) //nolint:errcheck // nothing runs there
			if got := <-status; got != 1 {
				t.Errorf("status %d", got)
			}
		})
	}
}

// TestFiltersWithoutAnObject: a filter that names no application or deployment of the node is a failure, unless the command follows.
func TestFiltersWithoutAnObject(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	startNode(t)
	for args, want := range map[string]string{
		"events --app nosuch":                        `error: no application "nosuch" is running; there is greeting` + "\nnext: cli.test status lists the applications",
		"calls --app nosuch":                         `error: no application "nosuch" is running; there is greeting` + "\nnext: cli.test status lists the applications",
		"calls --app nosuch -o json":                 `error: no application "nosuch" is running; there is greeting` + "\nnext: cli.test status lists the applications",
		"events --deployment nosuch":                 `error: no deployment "nosuch" is running; there is Greeter` + "\nnext: cli.test status lists the deployments",
		"calls --app greeting --deployment nosuch":   `error: no deployment "nosuch" is running; there is Greeter` + "\nnext: cli.test status lists the deployments",
		"calls --app greeting --deployment Greeter":  "",
		"events --app greeting --deployment Greeter": "",
	} {
		status, _, stderr := output(t, strings.Fields(args)...)
		code := 3
		if want == "" {
			code = 0
		}
		if stderr = strings.TrimSpace(stderr); stderr != want || status != code {
			t.Errorf("%s: %d, %q; want %q", args, status, stderr, want)
		}
	}
}

// TestHowToStartANode: the hint is a command line that the executable has, for its number of applications.
func TestHowToStartANode(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	program := programName()
	one, other := App("greeting", buildGreeter), App("other", buildGreeter)
	for want, apps := range map[string][]Application{
		`start one with "` + program + ` run PROGRAM" (`: nil,
		`start one with "` + program + ` run", or`:       {one},
		`start one with "` + program + ` run other", or`: {other, one},
	} {
		if status, _, stderr := captured(t, func() int { return Run([]string{"status"}, apps...) }); status != 6 || !strings.Contains(stderr, want) {
			t.Errorf("%d, %s; want %q", status, stderr, want)
		}
	}
}

// TestStatusShowsDrains: replicas that finish their calls after a change, and a node that ends.
func TestStatusShowsDrains(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	b := &blocked{make(chan struct{}), make(chan struct{})}
	build := func(replicas int) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("stuck")
			d := helve.Deploy(app, "Blocked", func(context.Context) (*blocked, error) { return b, nil }, helve.Options{
				NumReplicas: new(replicas), MaxOngoingRequests: new(1), GracefulShutdownTimeout: new(5 * time.Minute), // longer than all looks
			})
			app.Ingress(helve.MethodOf(d, (*blocked).Wait))
			return app, nil
		}
	}
	s, err := helve.Config{Admin: adminPrivate}.Run(t.Context(), build(2))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background()) //nolint:errcheck // it is closed below
	h, err := helve.HandleOf[*blocked](s, "stuck", "Blocked")
	if err != nil {
		t.Fatal(err)
	}
	var calls []*helve.Response[string]
	for range 2 {
		calls = append(calls, helve.MethodOf(h, (*blocked).Wait).Remote(t.Context(), "x"))
		<-b.entered
	}
	if err := s.Deploy(t.Context(), build(1)); err != nil {
		t.Fatal(err)
	}
	shows := func(args string, wants ...string) {
		t.Helper()
		var text string
		for until := time.Now().Add(time.Minute); time.Now().Before(until); {
			_, text, _ = output(t, strings.Fields(args)...)
			if !slices.ContainsFunc(wants, func(want string) bool { return !strings.Contains(text, want) }) {
				return
			}
		}
		t.Errorf("%s: %s; want %q", args, text, wants)
	}
	shows("status", "1/1 (2 stopping)", "STOPPING   (node)", "finishes its calls", "\nadmin: curl --unix-socket "+worker.AdminSockets("")[0]+" http://localhost/calls\n")
	shows("status -o json", `"stopping_replicas": 2`, `"version": "`+helve.Version)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	shows("status", ", drains: it ends when its calls")
	shows("status -o json", `"draining": true`)
	close(b.end)
	for _, c := range calls {
		if _, err := c.Result(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestStartsOutliveReplicas: the starts of replicas that are gone stay in the metrics, one by one and in the sum of the deployment.
func TestStartsOutliveReplicas(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	ctx := admin.WithMetrics(t.Context(), nodeMetrics)
	s, err := helve.Config{Admin: adminPrivate}.Run(ctx, buildGreeter)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())                         //nolint:errcheck // nothing runs
	if err := s.Deploy(t.Context(), buildGreeter); err != nil { // a deploy in this process replaces the replicas
		t.Fatal(err)
	}
	socket := worker.AdminSockets("")[0]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`replica="Greeter#001"} 1`, `replica="Greeter#002"} 1`, `replica="Greeter#003"} 1`, `replica="Greeter#004"} 1`} {
		if want = `ray_serve_deployment_replica_starts_total{application="greeting",deployment="Greeter",` + want + "\n"; !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if want := `helve_deployment_replica_starts_total{application="greeting",deployment="Greeter"} 4` + "\n"; !strings.Contains(string(b), want) {
		t.Errorf("no %s in %s", want, b)
	}
}

// TestWrongUse: mistakes in flags and arguments are found before a node is asked.
func TestWrongUse(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	for args, want := range map[string]string{
		"status x y":                "status takes one argument, APP",
		"status x/y":                `"x/y": must be APP`,
		"scale shop 3":              `"shop": must be APP/DEPLOYMENT`,
		"events a --app b":          "give APP[/DEPLOYMENT] or the flags --app and --deployment",
		"status -o xml":             `--output "xml": must be text, json or yaml`,
		"status --address nonsense": `--address "nonsense": must be a host and port such as 127.0.0.1:8265, or the path of a unix socket`,
		"events -n 0":               "--limit 0: must be at least 1",
		"events --nope":             "unknown flag: --nope",
	} {
		if status, _, stderr := output(t, strings.Fields(args)...); status != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d, %s; want %q", args, status, stderr, want)
		}
	}
	if status, _, stderr := output(t, "events", "--address", filepath.Join(t.TempDir(), "none")); status != 6 || !strings.Contains(stderr, "no node answers at ") {
		t.Errorf("%d, %s", status, stderr)
	}
}

package workers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// watched has the methods that the tests of supervision call, in a Go worker and in a Python worker.
type watched interface {
	Env(context.Context, string) (string, error)
	Dir(context.Context, helve.None) (string, error)
	Files(context.Context, helve.None) (int, error)
	Say(context.Context, string) error
	End(context.Context, string) error
	Signals(context.Context, helve.None) (string, error)
	Eat(context.Context, int) (int, error)
	SpinUntil(context.Context, string) (string, error)
}

// Watched is the Go implementation; testdata/watched.py is its twin.
type Watched struct{}

func (Watched) Env(_ context.Context, name string) (string, error) { return os.Getenv(name), nil }
func (Watched) Dir(context.Context, helve.None) (string, error)    { return os.Getwd() }
func (Watched) Eat(context.Context, int) (int, error)              { return 0, errors.New("Python only") }
func (Watched) SpinUntil(context.Context, string) (string, error) {
	return "", errors.New("Python only")
}
func (Watched) Files(context.Context, helve.None) (files int, err error) {
	var l syscall.Rlimit
	err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return int(l.Cur), err
}

func (Watched) Say(ctx context.Context, text string) error {
	helve.LoggerFrom(ctx).Warn("of a replica: " + text)
	fmt.Println(text)
	fmt.Fprintln(os.Stderr, text)
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("slog " + text)
	slog.New(slog.NewTextHandler(os.Stdout, nil)).Error("slog " + text)
	return nil
}

func (Watched) Signals(context.Context, helve.None) (string, error) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			return "", err
		}
	}
	return "lives", nil
}

func (Watched) End(_ context.Context, how string) error {
	fmt.Fprintln(os.Stderr, "last words")
	if how == "exit" {
		os.Exit(3)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGSEGV); err != nil {
		return err
	}
	select {} // the signal comes
}

func watchedOptions() helve.Options {
	return helve.Options{
		Isolation: helve.Process, Env: map[string]string{"WATCHED": "yes", "HOME": "/nowhere"}, Dir: "/",
		Limits: helve.Limits{OpenFiles: 123}, UnresponsiveAfter: new(200 * time.Millisecond),
	}
}

var buildWatched = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("watched")
	h := helve.Deploy(app, "Watched", func(context.Context) (Watched, error) { return Watched{}, nil }, watchedOptions())
	app.Ingress(helve.MethodOf(h, Watched.Env))
	return app, nil
})

func buildWatchedPython() (*helve.App, error) { return pythonWatched("watchedpy", watchedOptions()) }

func pythonWatched(name string, o helve.Options) (*helve.App, error) {
	app := helve.NewApp(name)
	o.Isolation = ""
	h := helve.Python[watched](app, "Watched", "testdata.watched:Watched", helve.Args{}, o)
	app.Ingress(helve.MethodOf(h, watched.Env))
	return app, nil
}

type watchedBody = func(t *testing.T, s *helve.System, app string, h helve.Handle[watched], log *fixture.Log)

// eachWatched runs body with the application in Go and in Python, and with the log of each.
func eachWatched(t *testing.T, c helve.Config, body watchedBody) {
	for app, build := range map[string]helve.Build{"watched": buildWatched, "watchedpy": buildWatchedPython} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			c, log := c, fixture.NewLog()
			c.Logger = slog.New(log)
			if c.LogDir != "" {
				c.LogDir = filepath.Join(c.LogDir, app)
			}
			s := helvetest.Start(t, c, build)
			h, err := helve.HandleOf[watched](s, app, "Watched")
			if err != nil {
				t.Fatal(err)
			}
			body(t, s, app, h, log)
		})
	}
}

// awaitReplica waits until the only replica is as wanted.
func awaitReplica(t *testing.T, s *helve.System, app string, ok func(r helvetype.ReplicaStatus) bool) (found helvetype.ReplicaStatus) {
	t.Helper()
	fixture.Eventually(t, func() string {
		all := s.Status().Applications[app].Deployments["Watched"].Replicas
		i := slices.IndexFunc(all, ok)
		if i < 0 {
			return fmt.Sprintf("the replicas are %+v", all)
		}
		found = all[i]
		return ""
	})
	return found
}

func TestWorkerEnvironment(t *testing.T) {
	t.Parallel()
	eachWatched(t, helve.Config{}, func(t *testing.T, s *helve.System, app string, h helve.Handle[watched], _ *fixture.Log) {
		for name, want := range map[string]string{"WATCHED": "yes", "HOME": "/nowhere", "PATH": os.Getenv("PATH")} {
			if got, err := helve.MethodOf(h, watched.Env).Call(t.Context(), name); got != want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if got, err := helve.MethodOf(h, watched.Dir).Call(t.Context(), helve.None{}); got != "/" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := helve.MethodOf(h, watched.Files).Call(t.Context(), helve.None{}); got != 123 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
}

// TestWorkersOutlastSignalsToAll: SIGTERM, SIGINT and SIGHUP, which supervisors and terminals send to every process of a
// service, do not end a worker whose node lives, so that a drain can finish its calls.
func TestWorkersOutlastSignalsToAll(t *testing.T) {
	t.Parallel()
	eachWatched(t, helve.Config{}, func(t *testing.T, s *helve.System, app string, h helve.Handle[watched], _ *fixture.Log) {
		before := awaitReplica(t, s, app, func(helvetype.ReplicaStatus) bool { return true })
		for range 3 {
			if got, err := helve.MethodOf(h, watched.Signals).Call(t.Context(), helve.None{}); got != "lives" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		if after := awaitReplica(t, s, app, func(helvetype.ReplicaStatus) bool { return true }); after.PID != before.PID {
			t.Errorf("%+v, %+v", before, after)
		}
	})
}

func TestWorkerLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	eachWatched(t, helve.Config{LogDir: dir}, func(t *testing.T, s *helve.System, app string, h helve.Handle[watched], log *fixture.Log) {
		if _, err := helve.ActionOf(h, watched.Say).Call(t.Context(), "hello"); err != nil {
			t.Fatal(err)
		}
		file, origin := "worker_watched_", "worker=watched-"
		lines := [][]string{
			{"INFO", "slog hello", `stream=stderr`}, {"level=ERROR", "slog hello", "stream=stdout"},
			{"WARN", "of a replica: hello", "app=watched", "deployment=Watched replica=Watched#", "request_id="},
		}
		if app == "watchedpy" {
			file, origin = "replica_watchedpy_Watched_", "replica=Watched#"
			lines = [][]string{
				{"INFO", " watchedpy_Watched ", "-- ray hello", "stream=log"}, {"ERROR", "mine -- mine hello"}, {"ERROR", "second"},
			}
		}
		lines = append(lines, []string{"INFO", "msg=hello", "stream=stdout", "app=" + app}, []string{"WARN", "msg=hello", "stream=stderr"})
		for i := range lines {
			lines[i] = append(lines[i], origin)
		}
		log.AwaitLines(t, lines...)
		if strings.Contains(log.String(), "helve:log") {
			t.Error(log)
		}
		if err := s.Close(t.Context()); err != nil { // writes pending output
			t.Error(err)
		}
		found, _ := filepath.Glob(filepath.Join(dir, app, file+"*.log"))
		if len(found) != 1 {
			all, _ := filepath.Glob(filepath.Join(dir, app, "*"))
			t.Fatal(all)
		}
		b, err := os.ReadFile(found[0])
		of := "" // a request: fmt.Println in Go has none
		if app == "watchedpy" {
			of = `request_id=[0-9a-f-]{36} `
		}
		for _, want := range []string{" INFO stdout " + of + "hello\n", " WARN stderr " + of + "hello\n", " ERROR "} {
			if !regexp.MustCompile(want).Match(b) || err != nil {
				t.Errorf("no %q in %s, %v", want, b, err)
			}
		}
	})
}

func TestLogDirMistake(t *testing.T) {
	t.Parallel()
	_, err := helve.Config{LogDir: "/dev/null/x"}.Run(t.Context(), fixture.BuildGo)
	if err == nil || !strings.HasPrefix(err.Error(), "LogDir: ") {
		t.Error(err)
	}
}

func TestWorkerExits(t *testing.T) {
	t.Parallel()
	eachWatched(t, helve.Config{}, func(t *testing.T, s *helve.System, app string, h helve.Handle[watched], log *fixture.Log) {
		first := awaitReplica(t, s, app, func(r helvetype.ReplicaStatus) bool { return r.State == "RUNNING" })
		if first.Restarts != 0 || first.LastExit != nil || first.PID == 0 {
			t.Errorf("%+v", first)
		}
		end := helve.ActionOf(h, watched.End)
		for i, want := range []struct {
			how, signal string
			code        int
		}{{"exit", "", 3}, {"signal", "SIGSEGV", -1}} {
			_, err := end.Call(t.Context(), want.how)
			fixture.WantReason(t, err, helve.ReplicaDied)
			r := awaitReplica(t, s, app, func(r helvetype.ReplicaStatus) bool { return r.Restarts == i+1 && r.State == "RUNNING" })
			x := r.LastExit
			if app == "watched" && want.signal != "" { // Go takes the signal for a crash of its own
				want.signal, want.code = "", 2
			}
			if x == nil || x.Code != want.code || x.Signal != want.signal || x.OutOfMemory || x.At.IsZero() || r.PID == first.PID {
				t.Errorf("%s: %+v", want.how, x)
			} else if !strings.Contains(strings.Join(x.Lines, "\n"), "last words") || x.Replica == r.ID {
				t.Errorf("%s: %+v", want.how, x)
			}
			log.AwaitLines(t, []string{"replica died", fmt.Sprintf("code=%d", want.code), "last words", fmt.Sprintf("restarts=%d", i+1)})
		}
		if x := s.Status().Applications[app].Deployments["Watched"].LastExit; x == nil {
			t.Error("the deployment has no last exit")
		}
	})
}

func buildHungry() (*helve.App, error) {
	return pythonWatched("hungry", helve.Options{Limits: helve.Limits{Memory: 1 << 30, CPUs: 1}})
}

// TestMemoryLimit: under RLIMIT_DATA the allocation fails, under a cgroup the worker dies and the status names the cause.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	log := fixture.NewLog()
	s := helvetest.Start(t, helve.Config{Logger: slog.New(log)}, buildHungry)
	h, err := helve.HandleOf[watched](s, "hungry", "Watched")
	if err != nil {
		t.Fatal(err)
	}
	eat := helve.MethodOf(h, watched.Eat)
	if n, err := eat.Call(t.Context(), 64); n != 64<<20 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_, err = eat.Call(t.Context(), 1<<11)
	if strings.Contains(log.String(), "memory_by=RLIMIT_DATA") {
		if e, ok := errors.AsType[*helve.Error](err); !ok || e.Type() != "MemoryError" {
			t.Error(err)
		}
		log.AwaitLines(t, []string{"level=WARN", "num_cpus is not enforced", "reason="})
		return
	}
	fixture.WantReason(t, err, helve.ReplicaDied)
	r := awaitReplica(t, s, "hungry", func(r helvetype.ReplicaStatus) bool { return r.Restarts == 1 })
	if !r.LastExit.OutOfMemory {
		t.Errorf("%+v", r.LastExit)
	}
}

// TestStoppedWorker: a worker that is stopped is unresponsive, is not killed for that, and answers again.
func TestStoppedWorker(t *testing.T) {
	t.Parallel()
	eachWatched(t, helve.Config{}, func(t *testing.T, s *helve.System, app string, h helve.Handle[watched], log *fixture.Log) {
		pid := awaitReplica(t, s, app, func(r helvetype.ReplicaStatus) bool { return r.State == "RUNNING" }).PID
		send := func(s syscall.Signal) {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
		send(syscall.SIGSTOP)
		stuck := func(r helvetype.ReplicaStatus) bool { return r.Unresponsive != nil }
		r := awaitReplica(t, s, app, stuck)
		for !strings.Contains(r.Unresponsive.Stacks, "State: T (stopped)") { // on a busy machine it may have been unresponsive before the stop
			send(syscall.SIGCONT)
			awaitReplica(t, s, app, func(r helvetype.ReplicaStatus) bool { return !stuck(r) })
			send(syscall.SIGSTOP)
			r = awaitReplica(t, s, app, stuck)
		}
		if r.Unresponsive.Since.IsZero() || r.State != "RUNNING" {
			t.Errorf("%+v", r.Unresponsive)
		}
		send(syscall.SIGCONT)
		awaitReplica(t, s, app, func(r helvetype.ReplicaStatus) bool { return r.Unresponsive == nil && r.PID == pid })
		log.AwaitLines(t, []string{"worker is unresponsive", "pid=" + fmt.Sprint(pid)}, []string{"worker answers again", "after="})
		if got, err := helve.MethodOf(h, watched.Env).Call(t.Context(), "WATCHED"); got != "yes" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestBlockedLoop: a Python worker whose event loop stands tells where.
func TestBlockedLoop(t *testing.T) {
	t.Parallel()
	log := fixture.NewLog()
	s := helvetest.Start(t, helve.Config{Logger: slog.New(log)}, buildWatchedPython)
	h, err := helve.HandleOf[watched](s, "watchedpy", "Watched")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "go")
	call := helve.MethodOf(h, watched.SpinUntil).Remote(t.Context(), file)
	awaitReplica(t, s, "watchedpy", func(r helvetype.ReplicaStatus) bool {
		return r.Unresponsive != nil && strings.Contains(r.Unresponsive.Stacks, "in spin_until")
	})
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := call.Result(t.Context()); got != "done" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	awaitReplica(t, s, "watchedpy", func(r helvetype.ReplicaStatus) bool { return r.Unresponsive == nil && r.Restarts == 0 })
	log.AwaitLines(t, []string{"worker is unresponsive", "in spin_until", "replica=Watched#"}, []string{"worker answers again"})
}

func buildImpatient() (*helve.App, error) {
	return pythonWatched("impatient", helve.Options{UnresponsiveAfter: new(200 * time.Millisecond), MaxUnresponsive: new(5 * time.Second)})
}

// TestMaxUnresponsive: with the option MaxUnresponsive a worker that blocks for longer is killed. A busy machine may leave another one without the processor for as long.
func TestMaxUnresponsive(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, buildImpatient)
	h, err := helve.HandleOf[watched](s, "impatient", "Watched")
	if err != nil {
		t.Fatal(err)
	}
	_, err = helve.MethodOf(h, watched.SpinUntil).Call(t.Context(), "/nonexistent/file")
	fixture.WantReason(t, err, helve.ReplicaDied)
	r := awaitReplica(t, s, "impatient", func(r helvetype.ReplicaStatus) bool { return r.Restarts >= 1 && r.State == "RUNNING" })
	if want := "unresponsive for 5s (max_unresponsive_s): killed by its node (SIGKILL)"; r.LastExit.Reason != want {
		t.Errorf("%+v", r.LastExit)
	}
	if got, err := helve.MethodOf(h, watched.Env).Call(t.Context(), "NONE"); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestProcessOptionMistakes(t *testing.T) {
	t.Parallel()
	_, err := helve.Run(t.Context(), func() (*helve.App, error) {
		app := helve.NewApp("wrong")
		o := watchedOptions()
		o.Isolation, o.Limits.Memory = "", 1
		h := helve.Deploy(app, "A", func(context.Context) (Watched, error) { return Watched{}, nil }, o)
		app.Ingress(helve.MethodOf(h, Watched.Env))
		return app, nil
	})
	for _, want := range []string{
		`deployment "A": limits.memory: must be 0 (no limit) or at least 16777216 bytes, is 1`,
		`deployment "A": Env (runtime_env.env_vars), Dir (runtime_env.working_dir), limits.memory, Limits.OpenFiles (limits.open_files): its replicas share the node's process`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

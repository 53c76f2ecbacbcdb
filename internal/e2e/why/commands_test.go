package why_test

import (
	"bytes"
	"context"
	"encoding/json"
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
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/kernel"
)

// service is a durable node of the binary helve, with one GPU. The situations share it: each has an application of its own.
type service struct {
	binary, root, http string
	said               *fixture.Output
	stopped            bool // the test has ended the service
}

// serve starts the node of a test. The root is short, because paths of sockets have a limit.
func serve(t *testing.T) *service {
	t.Helper()
	s := &service{binary: fixture.Compile(t, "./cmd/helve"), http: fixture.FreeAddress(t)}
	var err error
	if s.root, err = os.MkdirTemp("", "hw"); err != nil { //nolint:usetesting // t.TempDir has the name of the test in it
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.root) })
	if err := os.Mkdir(filepath.Join(s.root, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	node := s.command(context.WithoutCancel(t.Context()), s.root, "start", "--state-dir", filepath.Join(s.root, "state"), "--http", s.http, "--admin", "private")
	node.WaitDelay, node.SysProcAttr = time.Second, kernel.Child(syscall.SIGKILL)
	s.said, _ = fixture.Launch(t, node)
	t.Cleanup(func() { // the children of a keeper that is killed would serve on
		if s.stopped {
			return
		}
		if text, err := s.command(context.WithoutCancel(t.Context()), s.root, "stop").CombinedOutput(); err != nil {
			t.Errorf("stop: %v\n%s", err, text)
		}
		if t.Failed() {
			t.Log(s.said.Text())
		}
	})
	s.said.Line(t, "serves on")
	return s
}

// command is a command of the binary, whose node is that of the test.
func (s *service) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, s.binary, args...)
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HELVE_") && !strings.HasPrefix(v, "HELVE_PYTHON=") || strings.HasPrefix(v, "PYTHONPATH=") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	c.Env, c.Dir = append(env, "HELVE_RUNTIME_DIR="+filepath.Join(s.root, "run"), "HELVE_GPUS=1"), dir
	return c
}

// operator is a directory of modules and files, from which an operator gives commands.
type operator struct {
	*service
	t   *testing.T
	dir string
}

func (s *service) operator(t *testing.T) *operator { return &operator{s, t, t.TempDir()} }

// write writes a file.
func (o *operator) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// helve runs a command, and gives all that it prints.
func (o *operator) helve(args ...string) (text string, err error) {
	b, err := o.command(o.t.Context(), o.dir, args...).CombinedOutput()
	return string(b), err
}

// deploy deploys an application of the module app.py.
func (o *operator) deploy(app, module string, args ...string) (text string, err error) {
	o.t.Helper()
	o.write("app.py", "import asyncio, os, sys, time, traceback\nfrom helve import serve\n\n"+module)
	o.write("serve.yaml", "applications:\n- {name: "+app+", route_prefix: /"+app+", import_path: app:app}\n")
	return o.helve(append([]string{"deploy", "serve.yaml", "--source", app}, args...)...)
}

// runs deploys an application, and waits until it runs.
func (o *operator) runs(app, module string) {
	o.t.Helper()
	if text, err := o.deploy(app, module, "--wait"); err != nil {
		o.t.Fatalf("%v\n%s", err, text)
	}
}

// why asks until the first sentence of the answer has all texts.
func (o *operator) why(of string, texts ...string) {
	o.t.Helper()
	o.asks([]string{of}, texts)
}

func (o *operator) asks(args, texts []string) {
	o.t.Helper()
	look := time.NewTicker(100 * time.Millisecond) // each look starts a process
	defer look.Stop()
	end := time.After(time.Minute)
	for {
		text, _ := o.helve(append([]string{"why"}, args...)...)
		answer, _, _ := strings.Cut(text, "\nnext: ")
		answer, _, _ = strings.Cut(answer, "\n\n")
		if lacks(strings.Join(strings.Fields(answer), " "), texts) == "" {
			return
		}
		select {
		case <-look.C:
		case <-end:
			o.t.Fatalf("helve why %q lacks one of %q in its first sentence:\n%s", args, texts, text)
		}
	}
}

// prints runs a command until its text has all texts, however it is broken into lines.
func (o *operator) prints(args []string, texts ...string) {
	o.t.Helper()
	fixture.Eventually(o.t, func() string {
		text, _ := o.helve(args...)
		return lacks(strings.Join(strings.Fields(text), " "), texts)
	})
}

// id is the id of the one replica of a deployment.
func (o *operator) id(app, deployment string) string {
	o.t.Helper()
	all := o.replicas(app, deployment)
	if len(all) != 1 {
		o.t.Fatalf("%d replicas", len(all))
	}
	return all[0].ID
}

// requestOf is the id of the request whose call runs in a deployment.
func (o *operator) requestOf(deployment string) string {
	o.t.Helper()
	text, err := o.helve("calls", deployment, "-o", "json")
	var list struct {
		Calls []struct {
			Request string `json:"request_id"`
		}
	}
	if err != nil || json.Unmarshal([]byte(text), &list) != nil || len(list.Calls) != 1 {
		o.t.Fatalf("%v\n%s", err, text)
	}
	return list.Calls[0].Request
}

// get makes a request, and gives the body and the id.
func (o *operator) get(path string, header ...string) (body, id string) {
	o.t.Helper()
	r, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, "http://"+o.http+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return string(bytes.TrimSpace(b)), a.Header.Get("X-Request-ID")
}

// beside makes a request beside the test. The function waits for its end.
func (o *operator) beside(path string, header ...string) (wait func()) {
	o.t.Helper()
	r, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, "http://"+o.http+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	done := make(chan error, 1)
	go func() {
		a, err := http.DefaultClient.Do(r)
		if err == nil {
			a.Body.Close()
		}
		done <- err
	}()
	return func() {
		if err := <-done; err != nil {
			o.t.Error(err)
		}
	}
}

// replica is a replica as helve status shows it.
type replica struct {
	ID       string `json:"replica_id"`
	State    string
	PID      int
	Restarts int
	Memory   uint64 `json:"memory_bytes"`
	LastExit struct {
		Replica string `json:"replica_id"`
	} `json:"last_exit"`
}

// status is the part of the status of a node that the tests read.
type status struct {
	Applications map[string]struct {
		Deployments map[string]struct{ Replicas []replica }
	}
}

func (s status) of(app, deployment string) []replica {
	return s.Applications[app].Deployments[deployment].Replicas
}

// status asks for the status.
func (o *operator) status() (s status, err error) {
	text, err := o.helve("status", "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// node is the process of the node.
func (o *operator) node() (pid int) {
	o.t.Helper()
	text, err := o.helve("status")
	if err != nil {
		o.t.Fatalf("%v\n%s", err, text)
	}
	_, text, _ = strings.Cut(text, "pid ")
	text, _, _ = strings.Cut(text, ",")
	if pid, err = strconv.Atoi(text); err != nil {
		o.t.Fatal(err)
	}
	return pid
}

// absent says that a file of the operator's directory is not there; "" if it is.
func (o *operator) absent(name string) string {
	if _, err := os.Stat(filepath.Join(o.dir, name)); err != nil {
		return err.Error()
	}
	return ""
}

// replicas lists the replicas of a deployment.
func (o *operator) replicas(app, deployment string) []replica {
	o.t.Helper()
	s, err := o.status()
	if err != nil {
		o.t.Fatal(err)
	}
	return s.of(app, deployment)
}

// TestCommands has a situation in each row. An operator who sees an application only, by the commands, gets its cause in the first sentence of helve why.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, situation := range situations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation(s.operator(t))
		})
	}
}

// situations are the rows of [TestCommands]. The applications have names of their own.
var situations = map[string]func(o *operator){ //nolint:gochecknoglobals // a table
	"a constructor raises": func(o *operator) {
		if text, err := o.deploy("raises", `
@serve.deployment
class Model:
    def __init__(self):
        raise RuntimeError("no database at db:5432")

app = Model.bind()
`, "--wait"); err == nil {
			o.t.Errorf("the deploy has ended well: %s", text)
		}
		o.why("raises", "raises is DEPLOY_FAILED", "no database at db:5432 (RuntimeError in __init__, app.py line 8)")
		o.why("raises/Model", "failed to start 3 times in a row", "no database at db:5432 (RuntimeError in __init__, app.py line 8)")
	},
	"a constructor is slow": func(o *operator) {
		if text, err := o.deploy("slow", `
@serve.deployment
class Model:
    def __init__(self):
        time.sleep(3600)

app = Model.bind()
`); err != nil {
			o.t.Fatalf("%v\n%s", err, text)
		}
		o.why("slow", "slow is DEPLOYING", "Model", "its constructor")
		o.why("slow/Model", "0 of 1 replica gets calls", "its constructor")
		o.why("slow/Model/"+o.replicas("slow", "Model")[0].ID, "is STARTING", "waits for its constructor")
	},
	"health checks fail": func(o *operator) {
		o.runs("sick", `
@serve.deployment(health_check_period_s=0.1)
class Model:
    def check_health(self):
        if os.path.exists("`+o.dir+`/sick"):
            raise RuntimeError("the connection to redis is lost")

app = Model.bind()
`)
		replica := o.replicas("sick", "Model")[0].ID
		o.write("sick", "")
		for _, of := range []string{"sick", "sick/Model", "sick/Model/" + replica} {
			o.why(of, "health checks: the connection to redis is lost")
		}
	},
	"readiness checks fail": func(o *operator) {
		if text, err := o.deploy("cold", `
@serve.deployment(readiness_check_period_s=0.1)
class Model:
    def check_ready(self):
        raise LookupError("the cache is cold")

app = Model.bind()
`); err != nil {
			o.t.Fatalf("%v\n%s", err, text)
		}
		o.why("cold", "cold is DEPLOYING", "gets no calls: its readiness check failed", "the cache is cold")
		o.why("cold/Model", "0 of 1 replica gets calls", "the cache is cold")
		o.why("cold/Model/"+o.replicas("cold", "Model")[0].ID, "gets no calls since", "the cache is cold")
	},
	"an event loop is blocked": func(o *operator) {
		o.runs("blocked", `
@serve.deployment(unresponsive_after_s=0.2)
class Model:
    async def __call__(self, request):
        while not os.path.exists("`+o.dir+`/go"): time.sleep(0.01) # one line, wherever the look at it comes

app = Model.bind()
`)
		done := o.beside("/blocked")
		for _, of := range []string{"blocked", "blocked/Model", "blocked/Model/" + o.replicas("blocked", "Model")[0].ID} {
			o.why(of, "has not answered since", "its event loop is blocked in __call__, app.py line 8")
		}
		o.write("go", "")
		done()
	},
	"a crash loop": func(o *operator) {
		if text, err := o.deploy("crashes", `
@serve.deployment
class Model:
    def __init__(self):
        print("libmodel.so: no such file", file=sys.stderr, flush=True)
        os._exit(7)

app = Model.bind()
`, "--wait"); err == nil {
			o.t.Errorf("the deploy has ended well: %s", text)
		}
		o.why("crashes", "crashes is DEPLOY_FAILED", "its worker ended while the constructor ran: exit status 7")
		o.why("crashes/Model", "failed to start 3 times in a row", "exit status 7")
	},
	"a worker is killed": func(o *operator) {
		o.runs("killed", `
@serve.deployment
class Model:
    pass

app = Model.bind()
`)
		r := o.replicas("killed", "Model")[0]
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			o.t.Fatal(err)
		}
		for _, of := range []string{"killed", "killed/Model", "killed/Model/" + r.ID} {
			o.why(of, r.ID, "killed by SIGKILL")
		}
	},
	"a worker is out of memory": func(o *operator) {
		o.runs("hungry", `
@serve.deployment(limits={"memory": 256 << 20})
class Model:
    def __call__(self, request):
        try:
            bytearray(1 << 30).count(1)
        except MemoryError: # where the kernel does not kill the process, its limit is that of its allocations
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

app = Model.bind()
`)
		replica := o.replicas("hungry", "Model")[0].ID
		_, id := o.get("/hungry")
		for _, of := range []string{"hungry", "hungry/Model", "hungry/Model/" + replica} {
			o.why(of, replica, "out of memory (limit 256 MiB)")
		}
		o.why(id, "replica "+replica+" of hungry/Model died while it ran the call", "out of memory (limit 256 MiB)")
	},
	"a build fails": func(o *operator) {
		if text, err := o.deploy("broken", `
from tokenisers import Fast

@serve.deployment
class Model:
    pass

app = Model.bind()
`); err == nil {
			o.t.Errorf("the deploy has ended well: %s", text)
		}
		o.why("broken", "broken is DEPLOY_FAILED", "the last deploy", "No module named 'tokenisers' (in <module>, app.py line 5)")
	},
	"a configuration is wrong": func(o *operator) {
		const module = `
@serve.deployment
class Model:
    def __call__(self, request):
        return "first"

app = Model.bind()
`
		o.runs("wrong", module)
		o.write("serve.yaml", "applications:\n- name: wrong\n  route_prefix: /wrong\n  import_path: app:app\n  deployments:\n  - {name: Model, num_replica: 2}\n")
		text, err := o.helve("deploy", "serve.yaml", "--source", "wrong")
		if err == nil || !strings.Contains(text, "serve.yaml:6:19") || !strings.Contains(text, "num_replicas") {
			o.t.Errorf("%v\n%s", err, text)
		}
		o.why("wrong", "wrong is RUNNING") // a file with a mistake has changed nothing
		o.write("serve.yaml", "applications:\n- name: wrong\n  route_prefix: /wrong\n  import_path: app:app\n  deployments:\n  - {name: Mode, num_replicas: 2}\n")
		if text, err := o.helve("deploy", "serve.yaml", "--source", "wrong"); err == nil {
			o.t.Errorf("the deploy has ended well: %s", text)
		}
		o.why("wrong", "wrong is DEPLOY_FAILED", "the application serves on as it was", "Mode")
		if body, _ := o.get("/wrong"); body != "first" {
			o.t.Errorf("the application answers %q", body)
		}
	},
	"the address of HTTP is taken": func(o *operator) {
		start := o.command(o.t.Context(), o.dir, "start", "--state-dir", filepath.Join(o.dir, "state"), "--http", o.http, "--admin", "private")
		text, err := start.CombinedOutput()
		if err == nil || !strings.Contains(string(text), o.http) || !strings.Contains(string(text), "address already in use") {
			o.t.Errorf("%v\n%s", err, text)
		}
	},
	"a revision was rolled back": func(o *operator) {
		o.runs("back", `
@serve.deployment
class Model:
    pass

app = Model.bind()
`)
		if text, err := o.deploy("back", `
@serve.deployment
class Model:
    def __init__(self):
        raise ValueError("no weights for v2")

app = Model.bind()
`, "--wait"); err == nil {
			o.t.Errorf("the deploy has ended well: %s", text)
		}
		o.why("back", "revision 2 was rolled back", "no weights for v2 (ValueError in __init__, app.py line 8)")
		o.asks([]string{"back", "--revision", "2"}, []string{"revision 2 of application back is failed", "no weights for v2"})
	},
	"another deploy came before": func(o *operator) {
		const late = `
@serve.deployment
class Model:
    def __init__(self):
        while not os.path.exists("DIR/go"):
            time.sleep(0.01)

app = Model.bind()
`
		o.write("go", "")
		o.runs("overtaken", strings.ReplaceAll(late, "DIR", o.dir))
		if err := os.Remove(filepath.Join(o.dir, "go")); err != nil {
			o.t.Fatal(err)
		}
		for range 2 {
			if text, err := o.deploy("overtaken", strings.ReplaceAll(late, "DIR", o.dir)+"# "+time.Now().String()+"\n"); err != nil {
				o.t.Fatalf("%v\n%s", err, text)
			}
		}
		o.write("go", "")
		o.asks([]string{"overtaken", "--revision", "2"}, []string{"revision 2 of application overtaken is superseded", "another deploy came before"})
		o.why("overtaken", "overtaken is RUNNING")
	},
	"a GPU is taken": func(o *operator) {
		const module = `
@serve.deployment(ray_actor_options={"num_gpus": 1})
class Model:
    pass

app = Model.bind()
`
		o.runs("first", module)
		if text, err := o.deploy("second", module); err != nil {
			o.t.Fatalf("%v\n%s", err, text)
		}
		const missing = "needs 1 GPU, and 0 of 1 are free: first/Model#"
		o.why("second", "second is DEPLOYING", missing)
		o.why("second/Model", "0 of 1 replica gets calls", missing)
		o.why("second/Model/"+o.replicas("second", "Model")[0].ID, "is STARTING", "waits for room on the node", missing)
		if text, err := o.helve("delete", "first"); err != nil {
			o.t.Errorf("%v\n%s", err, text)
		}
		o.why("second", "second is RUNNING")
		o.t.Cleanup(func() { o.helve("delete", "second") }) //nolint:errcheck // the node ends anyhow
	},
	"the machine has too few GPUs": func(o *operator) {
		if text, err := o.deploy("large", `
@serve.deployment(ray_actor_options={"num_gpus": 8})
class Model:
    pass

app = Model.bind()
`); err == nil {
			o.t.Errorf("the deploy has ended well: %s", text)
		}
		o.why("large", "large is DEPLOY_FAILED", "needs 8 GPUs, and this node has 1")
	},
	"a replica is ejected": func(o *operator) {
		o.runs("hangs", `
@serve.deployment(num_replicas=2, ejection_config={"consecutive_failures": 2, "eject_s": 3600})
class Model:
    async def __call__(self, request):
        if serve.get_replica_context().rank.rank == 0:
            await asyncio.Event().wait()

app = Model.bind()
`)
		o.t.Cleanup(func() { o.helve("delete", "hangs") }) //nolint:errcheck // the node ends anyhow
		for text := ""; !strings.Contains(text, "hangs is UNHEALTHY") && o.t.Context().Err() == nil; text, _ = o.helve("why", "hangs") {
			for range 70 { // a caller stays at an idle replica for 64 calls
				o.get("/hangs", "X-Request-Timeout-Seconds", "0.05")
			}
		}
		o.why("hangs", "hangs is UNHEALTHY", "gets no calls", "2 calls in a row failed for reasons of the system")
		o.why("hangs/Model", "1 of 2 replicas get calls", "2 calls in a row failed for reasons of the system")
	},
	"calls keep a delete from its end": func(o *operator) {
		o.runs("drains", `
@serve.deployment(graceful_shutdown_timeout_s=3600)
class Model:
    async def __call__(self, request):
        open("`+o.dir+`/begun", "w").close()
        while not os.path.exists("`+o.dir+`/go"):
            await asyncio.sleep(0.01)

app = Model.bind()
`)
		done := o.beside("/drains")
		o.exists("begun")
		if text, err := o.helve("delete", "drains"); err != nil {
			o.t.Errorf("%v\n%s", err, text)
		}
		for _, of := range []string{"drains", "drains/Model"} {
			o.why(of, "its replicas end after the calls that it still has (1)")
		}
		o.write("go", "")
		done()
		o.why("drains", "application drains is gone")
	},
	"all slots are taken, and the queue is full": func(o *operator) {
		o.runs("full", `
@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Model:
    async def __call__(self, request):
        while not os.path.exists("`+o.dir+`/go"):
            await asyncio.sleep(0.01)

app = Model.bind()
`)
		first, second := o.beside("/full"), o.beside("/full")
		for _, of := range []string{"full", "full/Model"} {
			o.why(of, "1 call waits for a slot", "max_ongoing_requests")
		}
		_, id := o.get("/full")
		o.why(id, "has failed with the status 503", "the queue of full/Model was full", "max_queued_requests")
		o.write("go", "")
		first()
		second()
	},
	"a model was put out": func(o *operator) {
		o.runs("models", `
@serve.deployment
class Model:
    @serve.multiplexed(max_num_models_per_replica=1)
    async def load(self, name):
        await asyncio.sleep(2) # longer than a busy machine holds up the request elsewhere
        return name

    async def __call__(self, request):
        return await self.load(serve.get_multiplexed_model_id())

app = Model.bind()
`)
		var id string
		for _, model := range []string{"cats", "dogs", "cats"} {
			_, id = o.get("/models", "serve_multiplexed_model_id", model)
		}
		o.why(id, "for the load of model cats at replica "+o.replicas("models", "Model")[0].ID+" of models/Model", "took the place of model dogs")
	},
	"a rollout waits, and is paused": func(o *operator) {
		const module = `
@serve.deployment(num_replicas=2, rollout_config={"steps": [1]})
class Model:
    pass

app = Model.bind()
`
		o.runs("steps", module)
		if text, err := o.deploy("steps", module+"# changed\n"); err != nil {
			o.t.Fatalf("%v\n%s", err, text)
		}
		o.why("steps", "steps is DEPLOYING", "step 1 of 2 waits until it is resumed")
		if text, err := o.helve("pause", "steps"); err != nil {
			o.t.Fatalf("%v\n%s", err, text)
		}
		o.why("steps", "steps is DEPLOYING", "paused")
	},
	"a method does not read its stream": func(o *operator) {
		o.runs("unread", `
@serve.deployment
class Writer:
    def tokens(self):
        while True:
            yield "a" * 1000

@serve.deployment
class Front:
    def __init__(self, writer):
        self.writer = writer

    async def __call__(self, request):
        async for token in self.writer.options(stream=True).tokens.remote():
            while not os.path.exists("`+o.dir+`/go"):
                await asyncio.sleep(0.1)
            return "read"

app = Front.bind(Writer.bind())
`)
		end := o.beside("/unread")
		front := o.id("unread", "Front")
		reader := "the method Front.(default) of replica " + front + " has read nothing, or too little, for "
		for _, of := range []string{"unread", "unread/Writer"} {
			o.why(of, "a stream of Writer.tokens waits for its reader: "+reader)
		}
		o.prints([]string{"why"}, "a stream of Writer.tokens waits for its reader: "+reader)
		o.prints([]string{"calls", "unread/Writer"}, "its reader has read nothing, or too little, for")
		o.why(o.requestOf("unread/Writer"), "its call unread/Writer.tokens runs since", "waits for its reader: "+reader)
		o.write("go", "")
		end()
	},
	"a client does not read its answer": func(o *operator) {
		o.runs("unreadhttp", `
from starlette.responses import StreamingResponse

@serve.deployment
class Writer:
    async def __call__(self, request):
        async def parts():
            while True:
                yield b"a" * 10000
        return StreamingResponse(parts())

app = Writer.bind()
`)
		r, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, "http://"+o.http+"/unreadhttp", nil)
		if err != nil {
			o.t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			o.t.Fatal(err)
		}
		defer answer.Body.Close()
		id := answer.Header.Get("X-Request-ID")
		o.why(id, "its call unreadhttp/Writer.(default) runs since", "waits for its reader: the client of request "+id+" has read nothing, or too little, for ")
		o.prints([]string{"calls", "unreadhttp"}, "its reader has read nothing, or too little, for")
	},
}

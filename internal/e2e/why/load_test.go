package why_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestLoad has a situation in each row, as [TestCommands], in which an application runs and its requests suffer.
func TestLoad(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, situation := range loads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation(s.operator(t))
		})
	}
}

// request asks why a request with an id of the client's is as it is.
func (o *operator) request(id string, texts ...string) {
	o.t.Helper()
	o.asks([]string{"--request", id}, texts)
}

// loads are the rows of [TestLoad].
var loads = map[string]func(o *operator){ //nolint:gochecknoglobals // a table
	"an event loop was blocked": func(o *operator) {
		o.runs("stalls", `
@serve.deployment
class Model:
    async def __call__(self, request):
        if "block" in request.query_params:
            open("`+o.dir+`/begun", "w").close()
            while not os.path.exists("`+o.dir+`/go"):
                time.sleep(0.01)
            time.sleep(2)

app = Model.bind()
`)
		replica := o.replicas("stalls", "Model")[0].ID
		done := o.beside("/stalls?block", "X-Request-ID", "culprit")
		o.exists("begun")
		victim := o.beside("/stalls", "X-Request-ID", "victim")
		o.says([]string{"calls", "stalls/Model"}, "request culprit", "request victim")
		o.write("go", "") // the victim waits for two seconds more
		done()
		victim()
		const place = "Model.__call__, app.py line"
		o.request("culprit", "blocked the event loop of", "replica", place)
		o.request("victim", "for the event loop of replica "+replica, "which another request had blocked", place)
		for _, of := range []string{"stalls", "stalls/Model", "stalls/Model/" + replica} {
			o.why(of, "the event loop of replica "+replica+" was blocked once", place)
		}
		o.says([]string{"events", "stalls"}, "event_loop_blocked [warning]: the event loop was blocked for", place, "in request culprit")
	},
	"a request runs": func(o *operator) {
		o.runs("endless", `
@serve.deployment(max_ongoing_requests=1)
class Model:
    async def __call__(self):
        open("`+o.dir+`/begun", "w").close()
        while not os.path.exists("`+o.dir+`/go"):
            await asyncio.sleep(0.01)

@serve.deployment
class Front:
    def __init__(self, model):
        self.model = model

    async def __call__(self, request):
        await self.model.remote()

app = Front.bind(Model.bind())
`)
		first := o.beside("/endless", "X-Request-ID", "first")
		o.exists("begun")
		second := o.beside("/endless", "X-Request-ID", "second")
		replica := o.replicas("endless", "Model")[0].ID
		o.request("first", "has not ended", "its call endless/Model.(default) runs since", "at replica "+replica)
		o.request("second", "has not ended", "its call endless/Model.(default) waits since", "for a slot of endless/Model")
		o.says([]string{"why", "--request", "first"}, "next: helve profile endless/Model/"+replica+" --stacks")
		o.write("go", "")
		first()
		second()
	},
	"slow requests have one cause": func(o *operator) {
		o.runs("slowly", `
@serve.deployment
class Work:
    async def run(self):
        await asyncio.sleep(1.1)

@serve.deployment
class Front:
    def __init__(self, work):
        self.work = work

    async def __call__(self, request):
        await self.work.run.remote()

app = Front.bind(Work.bind())
`)
		var all []func()
		for range 4 {
			all = append(all, o.beside("/slowly"))
		}
		for _, done := range all {
			done()
		}
		for _, of := range []string{"slowly", "slowly/Work"} {
			o.why(of, "requests of the last 5 minutes that were slow or timed out spent most of their time in Work.run itself")
		}
		o.why("slowly/Work", "the 4 calls of the last", "on average")
	},
	"a replica is slower than the others": func(o *operator) {
		o.runs("uneven", `
@serve.deployment(num_replicas=2)
class Model:
    async def __call__(self, request):
        rank = serve.get_replica_context().rank.rank
        with open(f"`+o.dir+`/calls-{rank}", "a") as calls:
            calls.write(".")
        await asyncio.sleep(1.5 if rank == 0 else 0.01) # on a busy machine the quick replica takes 0.3 s

app = Model.bind()
`)
		calls := func(rank string) int {
			b, err := os.ReadFile(filepath.Join(o.dir, "calls-"+rank))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				o.t.Fatal(err)
			}
			return len(b)
		}
		for calls("0") < 4 || calls("1") < 4 { // three at once, so that both replicas have calls
			first, second := o.beside("/uneven"), o.beside("/uneven")
			o.get("/uneven")
			first()
			second()
		}
		o.why("uneven", "calls of Model take", "times as long as at its other 1 replica")
	},
	"calls found a full queue": func(o *operator) {
		o.runs("burst", `
@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Model:
    async def __call__(self, request):
        while not os.path.exists("`+o.dir+`/go"):
            await asyncio.sleep(0.01)

app = Model.bind()
`)
		first, second := o.beside("/burst"), o.beside("/burst")
		o.why("burst", "1 call waits for a slot")
		o.get("/burst")
		o.write("go", "")
		first()
		second()
		o.why("burst", "deployment Model: 1 call of the last", "found a full queue (max_queued_requests) and was rejected")
		o.says([]string{"why"}, "- application burst is RUNNING", "found a full queue", "because a queue was full")
	},
	"code fails": func(o *operator) {
		o.runs("raising", `
@serve.deployment
class Model:
    def __call__(self):
        raise KeyError("no such user")

@serve.deployment
class Front:
    def __init__(self, model):
        self.model = model

    async def __call__(self, request):
        return await self.model.remote()

app = Front.bind(Model.bind())
`)
		for range 3 {
			o.get("/raising")
		}
		o.why("raising", "deployment Model: 3 of the 3 calls of the last", "have failed")
		_, id := o.get("/raising")
		o.why(id, "has failed with the status 500", "the code of raising/Model of replica", "no such user")
	},
}

// exists waits until a file of the operator's directory is there.
func (o *operator) exists(name string) {
	o.t.Helper()
	fixture.Eventually(o.t, func() string { return o.absent(name) })
}

// says asks until the output of a command has all texts.
func (o *operator) says(args []string, texts ...string) {
	o.t.Helper()
	fixture.Eventually(o.t, func() string {
		text, err := o.helve(args...)
		if missing := lacks(strings.Join(strings.Fields(text), " "), texts); missing != "" {
			return fmt.Sprintf("%v: no %q in\n%s", err, missing, text)
		}
		return ""
	})
}

// TestOverview: helve why names the applications that are not as they should be, the worst first, and the end of a replica also after its node was killed, with the restarts of the replica in its place.
func TestOverview(t *testing.T) {
	t.Parallel()
	o := serve(t).operator(t)
	o.says([]string{"why"}, "no application runs")
	o.runs("well", `
@serve.deployment
class Model:
    def __call__(self, request):
        return "well"

app = Model.bind()
`)
	o.says([]string{"why"}, "all is well: 1 application with 1 deployment runs; 1 of 1 replica gets calls")
	first := o.replicas("well", "Model")[0]
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var second replica
	fixture.Eventually(t, func() string {
		all := o.replicas("well", "Model")
		if len(all) != 1 || all[0].ID == first.ID || all[0].State != "RUNNING" || all[0].Restarts != 1 || all[0].Memory == 0 {
			return fmt.Sprintf("the replicas are %+v", all)
		}
		second = all[0]
		return ""
	})
	if text, err := o.deploy("bad", `
@serve.deployment
class Model:
    def __init__(self):
        raise RuntimeError("no database")

app = Model.bind()
`, "--wait"); err == nil {
		t.Errorf("the deploy has ended well: %s", text)
	}
	text, err := o.helve("why", "-o", "json")
	var answer struct {
		Troubles []struct {
			Object   struct{ App string }
			Sentence string
		}
	}
	if e := json.Unmarshal([]byte(text), &answer); err != nil || e != nil || len(answer.Troubles) != 2 || answer.Troubles[0].Object.App != "bad" || answer.Troubles[1].Object.App != "well" ||
		!strings.Contains(answer.Troubles[1].Sentence, first.ID+" ended") {
		t.Errorf("%v %v\n%s", err, e, text)
	}
	if err := syscall.Kill(o.node(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, func() string {
		all, err := o.status()
		if err != nil || len(all.of("well", "Model")) != 1 || all.of("well", "Model")[0].PID != second.PID || all.of("well", "Model")[0].State != "RUNNING" {
			return fmt.Sprintf("%v %+v", err, all)
		}
		return ""
	})
	if now := o.replicas("well", "Model")[0]; now.Restarts != 1 || now.LastExit.Replica != first.ID {
		t.Errorf("after the take-over the replica is %+v", now)
	}
	o.why("well/Model/"+second.ID, "of revision 1 is RUNNING", "MiB of memory", "it is in the place of "+first.ID)
}

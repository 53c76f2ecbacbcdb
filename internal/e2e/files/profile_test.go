package files_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/profile"
)

// loop is a module whose replica is in pause() until it is told to go on.
const loop = `
import asyncio
from helve import serve

@serve.deployment(max_ongoing_requests=5)
class Loop:
    def __init__(self):
        self.on = asyncio.Event()

    async def pause(self):
        await self.on.wait()

    async def __call__(self, request):
        if request.url.path == "/loop/go":
            self.on.set()
        else:
            await self.pause()
        return "ok"

app = Loop.bind()
`

// TestProfile: an operator sees the stacks of replicas in Python and in Go workers, a process takes one profile at a time, and a profile ends when its client has left.
func TestProfile(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("loop.py", loop)
	executable(t, filepath.Join(p.dir, "office"), "")
	same(t, p.applied("applications: [{name: loop, route_prefix: /loop, import_path: loop:app}, {name: office, route_prefix: /, import_path: 'exec:office#office'}]"), map[string]string{"loop": "created 1", "office": "created 1"})
	replica := func(app, deployment string) helvetype.Object {
		return helvetype.Object{Kind: helvetype.KindReplica, App: app, Deployment: deployment, Replica: p.node.Status().Applications[app].Deployments[deployment].Replicas[0].ID}
	}
	python, clerk := replica("loop", "Loop"), replica("office", "Clerk")
	paused := make(chan string, 1)
	go func() {
		r, err := http.Get(p.url + "/loop")
		if err != nil {
			paused <- err.Error()
			return
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		paused <- string(body)
	}()
	for name, c := range map[string]struct {
		of   helvetype.Object
		kind profile.Kind
		want string
	}{
		"the task that waits": {python, profile.Stacks, "loop.Loop.pause"},
		"a goroutine of Go":   {clerk, profile.Stacks, "main.main"},
		"memory of Go":        {clerk, profile.Heap, ""},
		"memory of Python":    {python, profile.Heap, ""},
		"waits of Python":     {python, profile.Block, "loop.Loop.__call__;loop.Loop.pause"},
		"waits of Go":         {clerk, profile.Block, ""},
		"CPU time of Go":      {clerk, profile.CPU, ""},
		"CPU time of Python":  {python, profile.CPU, ""},
	} {
		await(t, name, func() bool {
			file, err := p.Profile(t.Context(), c.of, c.kind, 100*time.Millisecond)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			read, err := profile.Decode(file)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return strings.Contains(read.Folded(), c.want)
		})
	}
	for _, of := range []helvetype.Object{python, clerk} {
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := p.Profile(ctx, of, profile.Block, time.Hour)
			for code(err) == "Aborted" { // a question of the test came first
				_, err = p.Profile(ctx, of, profile.Block, time.Hour)
			}
			left <- err
		}()
		await(t, "a refusal", func() bool {
			_, err := p.Profile(t.Context(), of, profile.Stacks, time.Second)
			return code(err) == "Aborted" && strings.Contains(err.Error(), "another profile of this process is being taken (block, until ")
		})
		leave()
		if err := <-left; err == nil {
			t.Error("a client that has left gets a profile")
		}
		await(t, "the end of the profile", func() bool {
			_, err := p.Profile(t.Context(), of, profile.Stacks, time.Second)
			return err == nil
		})
	}
	nobody := python
	nobody.Replica = "Loop#999"
	if _, err := p.Profile(t.Context(), nobody, profile.CPU, time.Second); code(err) != "NotFound" {
		t.Errorf("a replica that is not there: %v", err)
	}
	p.get("/loop/go")
	if answer := <-paused; answer != "ok" {
		t.Errorf("the call that was profiled answers %q", answer)
	}
}

// begins is a module whose constructors end when a file is there: one holds up the event loop, and the other waits for it.
const begins = `
import asyncio, os, time
from helve import serve

@serve.deployment(unresponsive_after_s=0.2)
class Holds:
    def __init__(self):
        while not os.path.exists("FILE"):
            time.sleep(0.01)

@serve.deployment
class Waits:
    async def __init__(self):
        while not os.path.exists("FILE"):
            await asyncio.sleep(0.01)

holds, waits = Holds.bind(), Waits.bind()
`

// TestProfileOfAConstructor: an operator sees where the constructor of a replica is that does not get ready. A constructor that holds up the event loop is shown too.
func TestProfileOfAConstructor(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	file := filepath.Join(p.dir, "go")
	p.write("begins.py", strings.ReplaceAll(begins, "FILE", file))
	t.Cleanup(func() { os.WriteFile(file, nil, 0o600) }) //nolint:errcheck // the end of the node ends the constructors
	p.applied("applications: [{name: holds, route_prefix: /holds, import_path: begins:holds}, {name: waits, route_prefix: /waits, import_path: begins:waits}]", func(r *helvetype.ApplyRequest) { r.Wait = false })
	for app, deployment := range map[string]string{"holds": "Holds", "waits": "Waits"} {
		await(t, "the stacks of the constructor of "+deployment, func() bool {
			replicas := p.node.Status().Applications[app].Deployments[deployment].Replicas
			if len(replicas) == 0 {
				return false
			}
			of := helvetype.Object{Kind: helvetype.KindReplica, App: app, Deployment: deployment, Replica: replicas[0].ID}
			file, err := p.Profile(t.Context(), of, profile.Stacks, time.Second)
			if err != nil {
				return false
			}
			read, err := profile.Decode(file)
			return err == nil && strings.Contains(read.Text(), "begins.py")
		})
	}
}

package upgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/system"
)

// job is a call of a Clerk. Its files are in a directory of the test.
type job struct {
	Dir  string `json:"dir"`
	ID   string `json:"id"`
	Hold bool   `json:"hold"` // the call ends when the test opens the pipe of its id
}

type done struct {
	PID int    `json:"pid"`
	ID  string `json:"id"`
}

// Clerk notes the calls that it executes, and more than two at a time.
type Clerk struct{ running atomic.Int32 }

func note(dir, file, line string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(line + "\n")
	return err
}

// Do ignores its context: a cancelled call holds its slot until the test ends it.
func (c *Clerk) Do(_ context.Context, j job) (done, error) {
	defer c.running.Add(-1)
	if c.running.Add(1) > 2 {
		note(j.Dir, "over", j.ID) //nolint:errcheck // the test sees it
	}
	if err := note(j.Dir, "ids", j.ID); err != nil {
		return done{}, err
	}
	if j.Hold {
		if _, err := os.ReadFile(filepath.Join(j.Dir, j.ID)); err != nil {
			return done{}, err
		}
	}
	return done{os.Getpid(), j.ID}, nil
}

// Count gives two items, the second when the test opens the pipe.
func (c *Clerk) Count(_ context.Context, j job) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		if err := note(j.Dir, "ids", j.ID); err != nil || !yield(1, err) {
			return
		}
		_, err := os.ReadFile(filepath.Join(j.Dir, j.ID))
		yield(2, err)
	}
}

// pyClerk is Clerk as testdata/clerk.py has it.
type pyClerk interface {
	Do(context.Context, job) (done, error)
	Count(context.Context, job) iter.Seq2[int, error]
}

// Door runs in the node, and passes calls on.
type Door struct{ do helve.Method[job, done] }

func (d *Door) Do(ctx context.Context, j job) (done, error) { return d.do.Call(ctx, j) }

var buildGo = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("clerks")
	h := helve.Deploy(app, "Clerk", func(context.Context) (*Clerk, error) { return &Clerk{}, nil },
		helve.Options{Isolation: helve.Process, NumReplicas: new(1), MaxOngoingRequests: new(2)})
	app.Ingress(helve.MethodOf(h, (*Clerk).Do))
	return app, nil
})

var buildPython = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("clerkspy")
	h := helve.Python[pyClerk](app, "Clerk", "testdata.clerk:Clerk", helve.Args{}, helve.Options{NumReplicas: new(1), MaxOngoingRequests: new(2)})
	do := helve.MethodOf(h, pyClerk.Do)
	door := helve.Deploy(app, "Door", func(context.Context) (*Door, error) { return &Door{do}, nil },
		helve.Options{Uses: []helve.Target{do}, MaxOngoingRequests: new(100)})
	app.Ingress(helve.MethodOf(door, (*Door).Do))
	return app, nil
})

// each runs body with a Clerk in a Go worker, and with one in a Python worker behind a Door in the node.
func each(t *testing.T, body func(t *testing.T, w *world)) {
	t.Parallel()
	for _, of := range []struct {
		name, app string
		build     helve.Build
	}{{"go", "clerks", buildGo}, {"python", "clerkspy", buildPython}} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			body(t, newWorld(t, of.app, of.build))
		})
	}
}

// world has the things that outlast a node: the listening socket, the state directory, and the files of the calls.
type world struct {
	t        *testing.T
	app      string
	build    helve.Build
	dir      string
	listener *net.TCPListener
}

func newWorld(t *testing.T, app string, build helve.Build) *world {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &world{t, app, build, t.TempDir(), l.(*net.TCPListener)} //nolint:forcetypeassert // of the network tcp
}

// server is a node of a world.
type server struct {
	*node.Node
	sys *helve.System
}

// start starts a node, which is the last one of the test unless it hands over.
func (w *world) start() *server {
	w.t.Helper()
	sys, err := helve.Config{StateDir: filepath.Join(w.dir, "state"), Admin: "private", Output: io.Discard}.Run(w.t.Context(), w.build)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &server{nodeOf(sys), sys}
	w.t.Cleanup(func() {
		if err := sys.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	f, err := w.listener.File()
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err == nil {
		_, _, err = s.Serve(l)
	}
	if err == nil {
		err = s.ServeFormer()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// nodeOf is the node of a system, which has no method for it: a program does not hand over by itself.
func nodeOf(s *helve.System) *node.Node {
	return (*system.System)(reflect.ValueOf(s).Elem().Field(0).Elem().UnsafePointer()).Node
}

// succeed has the next node take the place of a node.
func (w *world) succeed(former *server) *server {
	w.t.Helper()
	if err := former.HandOver(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	next := w.start()
	if err := former.Succeed(w.t.Context(), next.Dir()); err != nil {
		w.t.Fatal(err)
	}
	return next
}

func (w *world) pipe(id string) {
	w.t.Helper()
	if err := syscall.Mkfifo(filepath.Join(w.dir, id), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// open ends the call that holds a pipe.
func (w *world) open(id string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, id), nil, 0); err != nil {
		w.t.Fatal(err)
	}
}

// executed waits until these calls were executed, in any order, and no other.
func (w *world) executed(ids ...string) {
	w.t.Helper()
	fixture.Eventually(w.t, func() string {
		got := fixture.Lines(filepath.Join(w.dir, "ids"))
		slices.Sort(got)
		if slices.Equal(got, ids) {
			return ""
		}
		return fmt.Sprintf("%v were executed, want %v", got, ids)
	})
	if over := fixture.Lines(filepath.Join(w.dir, "over")); len(over) > 0 {
		w.t.Errorf("the calls %v were one too many", over)
	}
}

// queued waits until n calls wait for the Clerk.
func (w *world) queued(s *server, n int) {
	w.t.Helper()
	fixture.Eventually(w.t, func() string {
		for _, app := range s.Metrics().Applications {
			for _, d := range app.Deployments {
				if d.Name == "Clerk" {
					if d.Queued == n {
						return ""
					}
					return fmt.Sprintf("%d calls wait, want %d", d.Queued, n)
				}
			}
		}
		return "there is no Clerk"
	})
}

// client is a client of HTTP with one connection at a time, which it keeps.
type client struct {
	w    *world
	http http.Client
}

func (w *world) client() *client {
	tr := &http.Transport{}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &client{w, http.Client{Transport: tr}}
}

type answer struct {
	done
	closes bool // the answer says that the connection ends
	err    error
}

func (c *client) ask(id string, hold bool) (a answer) {
	body, err := json.Marshal(job{c.w.dir, id, hold})
	if err != nil {
		return answer{err: err}
	}
	resp, err := c.http.Post("http://"+c.w.listener.Addr().String(), "application/json", bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	if err == nil {
		err = json.Unmarshal(b, &a.done)
	}
	a.closes, a.err = resp.Close, err
	return a
}

// begin asks on a goroutine.
func (c *client) begin(id string, hold bool) <-chan answer {
	got := make(chan answer, 1)
	go func() { got <- c.ask(id, hold) }()
	return got
}

func (w *world) good(what string, a answer) answer {
	w.t.Helper()
	if a.err != nil || a.ID != what {
		w.t.Fatalf("%s: %+v", what, a)
	}
	return a
}

// TestHandover: calls that run go on, calls that wait and calls that come late are answered by the next node, and the replica never executes more calls than
// it may.
func TestHandover(t *testing.T) { each(t, testHandover) }

func testHandover(t *testing.T, w *world) {
	w.pipe("a")
	w.pipe("b")
	former := w.start()
	idle := w.client()
	pid := w.good("0", idle.ask("0", false)).PID
	a, b := w.client().begin("a", true), w.client().begin("b", true)
	w.executed("0", "a", "b")
	c, d := w.client().begin("c", false), w.client().begin("d", false)
	w.queued(former, 2)
	next := w.succeed(former)
	w.queued(next, 2)
	e, f := idle.begin("e", false), w.client().begin("f", false)
	w.queued(next, 4)
	w.executed("0", "a", "b")
	w.open("a")
	w.good("a", <-a)
	for id, got := range map[string]<-chan answer{"c": c, "d": d, "e": e, "f": f} {
		is := w.good(id, <-got)
		if is.PID != pid {
			t.Errorf("%s ran in the process %d, and not %d", id, is.PID, pid)
		}
		if id == "e" && !is.closes {
			t.Error("the answer to a late request keeps its connection")
		}
	}
	w.open("b")
	w.good("b", <-b)
	if err := former.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	w.good("g", idle.ask("g", false))
	w.executed("0", "a", "b", "c", "d", "e", "f", "g")
	w.queued(next, 0)
}

// TestFormerNodeEnds: when the former node ends with calls that go on in a worker, they hold their slots until they end.
func TestFormerNodeEnds(t *testing.T) { each(t, testFormerNodeEnds) }

func testFormerNodeEnds(t *testing.T, w *world) {
	w.pipe("a")
	w.pipe("b")
	former := w.start()
	a, b := w.client().begin("a", true), w.client().begin("b", true)
	w.executed("a", "b")
	next := w.succeed(former)
	c := w.client().begin("c", false)
	w.queued(next, 1)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := former.Leave(over); err == nil {
		t.Error("the calls that were cut off are not named")
	}
	for _, got := range []<-chan answer{a, b} {
		if is := <-got; is.err == nil {
			t.Errorf("%+v from a node that has ended", is)
		}
	}
	w.queued(next, 1)
	w.executed("a", "b")
	w.open("a")
	w.good("c", <-c)
	w.open("b")
	d, e := w.client(), w.client()
	w.good("d", d.ask("d", false))
	w.good("e", e.ask("e", false))
	w.executed("a", "b", "c", "d", "e")
}

// TestHandoverAgain: a worker is handed over from node to node, and a call of the first goes on beside those of the others.
func TestHandoverAgain(t *testing.T) { each(t, testHandoverAgain) }

func testHandoverAgain(t *testing.T, w *world) {
	w.pipe("a")
	w.pipe("b")
	first := w.start()
	a := w.client().begin("a", true)
	w.executed("a")
	second := w.succeed(first)
	b := w.client().begin("b", true)
	w.executed("a", "b")
	third := w.succeed(second)
	c := w.client().begin("c", false)
	w.queued(third, 1)
	w.open("a")
	w.good("c", <-c)
	w.good("a", <-a)
	w.open("b")
	w.good("b", <-b)
	for _, former := range []*server{first, second} {
		if err := former.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
	w.executed("a", "b", "c")
}

// TestStreamsGoOn: a stream that has begun gives its items from the former node, and a stream that begins there goes to the next.
func TestStreamsGoOn(t *testing.T) { each(t, testStreamsGoOn) }

func testStreamsGoOn(t *testing.T, w *world) {
	w.pipe("a")
	w.pipe("b")
	former := w.start()
	var count helve.Stream[job, int]
	if w.app == "clerks" {
		h, err := helve.HandleOf[*Clerk](former.sys, w.app, "Clerk")
		if err != nil {
			t.Fatal(err)
		}
		count = helve.StreamOf(h, (*Clerk).Count)
	} else {
		h, err := helve.HandleOf[pyClerk](former.sys, w.app, "Clerk")
		if err != nil {
			t.Fatal(err)
		}
		count = helve.StreamOf(h, pyClerk.Count)
	}
	read := func(id string) <-chan string {
		got := make(chan string, 1)
		go func() {
			text := ""
			for n, err := range count.Call(t.Context(), job{Dir: w.dir, ID: id}) {
				text += fmt.Sprintln(n, err)
			}
			got <- text
		}()
		return got
	}
	a := read("a")
	w.executed("a")
	w.succeed(former)
	b := read("b")
	w.executed("a", "b")
	for id, got := range map[string]<-chan string{"a": a, "b": b} {
		w.open(id)
		if text := <-got; text != "1 <nil>\n2 <nil>\n" {
			t.Errorf("%s: %q", id, text)
		}
	}
	if err := former.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

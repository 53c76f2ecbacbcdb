package takeover_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// traffic asks until it is stopped, and counts answers by the version that they begin with. Every request must be answered.
type traffic struct {
	t    *testing.T
	ask  func() (string, error)
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	of   map[string]int
}

func startTraffic(t *testing.T, clients int, ask func() (string, error)) *traffic {
	f := &traffic{t: t, ask: ask, stop: make(chan struct{}), of: map[string]int{}}
	for range clients {
		f.wg.Go(func() {
			for {
				select {
				case <-f.stop:
					return
				default:
				}
				got, err := ask()
				version, _, ok := strings.Cut(got, ": ")
				if err != nil || !ok {
					t.Errorf("lost: %q, %v", got, err)
					return
				}
				f.mu.Lock()
				f.of[version]++
				f.mu.Unlock()
			}
		})
	}
	return f
}

// reach waits for n more answers of a version.
func (f *traffic) reach(version string, n int) {
	f.t.Helper()
	count := func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.of[version] }
	for from := count(); count() < from+n && !f.t.Failed(); {
		if _, err := f.ask(); err != nil {
			f.t.Errorf("lost: %v", err)
		}
	}
}

func (f *traffic) end() { close(f.stop); f.wg.Wait() }

// TestBuildsOneVersionApart: this node serves builds that speak the protocol of before, its own and the next, and changes
// between them without losing a request. A build two versions apart is refused, and the running one goes on.
func TestBuildsOneVersionApart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	buildSpeaking(t, path, "before", "1-1")
	ctx := t.Context()
	from := helve.Executable("exec:" + path + "#program")
	sys, err := helve.Run(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	in, err := sys.Ingress("program")
	if err != nil {
		t.Fatal(err)
	}
	say := helve.MethodNamed[string, string](in, "")
	large := strings.Repeat("x", 2<<20) // announced under protocol 2, inside of frames under 1
	f := startTraffic(t, 4, func() (string, error) { return say.Remote(ctx, "x").Result(ctx) })
	defer f.end()
	f.reach("before", 20)
	for _, next := range []struct{ version, protocols string }{{"now", ""}, {"next", "2-3"}, {"again", "1-1"}} {
		buildSpeaking(t, path, next.version, next.protocols)
		if err := sys.Deploy(ctx, from); err != nil {
			t.Fatal(err)
		}
		f.reach(next.version, 20)
		if got, err := say.Call(ctx, large); err != nil || got != next.version+": "+large {
			t.Errorf("a large body under %s: %d bytes, %v", next.version, len(got), err)
		}
	}
	buildSpeaking(t, path, "far", "3-4")
	err = sys.Deploy(ctx, from)
	if err == nil || !strings.Contains(err.Error(), "the worker speaks protocol 3 to 4, this node speaks protocol 1 to 2: use builds of one version") {
		t.Errorf("%v", err)
	}
	f.reach("again", 20)
}

// TestNodeOneVersionBehind: a stock binary of the version before serves builds of this one, and changes to one of its own
// version and back under traffic.
func TestNodeOneVersionBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stock, path := filepath.Join(dir, "helve"), filepath.Join(dir, "program")
	fixture.GoBuild(t, "-ldflags", speaking("1-1"), "-o", stock, "./cmd/helve")
	buildProgram(t, path, "now")
	n := startCommand(t, stock, "run", "exec:"+path+"#program", "--http", "127.0.0.1:0")
	defer n.kill()
	f := startTraffic(t, 4, func() (string, error) { return asked(n.url, "x") })
	f.reach("now", 20)
	for _, next := range []struct{ version, protocols string }{{"before", "1-1"}, {"again", ""}} {
		buildSpeaking(t, path, next.version, next.protocols)
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		f.reach(next.version, 20)
	}
	f.end()
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	n.said.Ended()
}

// request posts text, or an object in JSON, and gives the answer of status 200.
func asked(url, text string) (string, error) {
	kind := "text/plain"
	if strings.HasPrefix(text, "{") {
		kind = "application/json"
	}
	r, err := http.Post(url, kind, strings.NewReader(text))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status + ": " + string(b))
	}
	return string(b), err
}

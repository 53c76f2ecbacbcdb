package controller

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/store"
)

// judges are the user configs that the instances of a test were given. They refuse "refused".
type judges struct {
	mu  sync.Mutex
	got []string
}

// app has one deployment, A, which was submitted with a config.
func (j *judges) app(config string) deploy.App {
	def := appOf(map[string]int{"A": 1}, nil)
	def.Graph.Deployments[0].Options.UserConfig = json.RawMessage(config)
	def.Classes["A"].Configure = func(_ context.Context, _ any, config json.RawMessage) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		if string(config) == `"refused"` {
			return errors.New("no")
		}
		j.got = append(j.got, string(config))
		return nil
	}
	return def
}

// want compares the config that an instance was given last.
func (j *judges) want(t *testing.T, when, config string) {
	t.Helper()
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if last := j.got[len(j.got)-1]; last != config {
		t.Errorf("%s: the instances got %.200q, want %.200q at last", when, j.got, config)
	}
}

// override is the override of A in the store.
func (d *durable) override(t *testing.T) string {
	t.Helper()
	return string(record(t, d.store, store.AppKey("app")).Overrides["A"])
}

// TestConfigInPlace: the store has the user config of a Reconfigure, so that a node without the file of the node before has it, until another deploy.
func TestConfigInPlace(t *testing.T) {
	t.Parallel()
	large := `"` + strings.Repeat("x", 300<<10) + `"`
	for name, config := range map[string]string{"small": `"b"`, "larger than a record": large} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := &judges{}
				d := newDurable(func(string) (deploy.App, error) { return j.app(`"a"`), nil })
				first := d.node()
				first.deploy(t, j.app(`"a"`))
				if err := first.Reconfigure(t.Context(), "app", "A", json.RawMessage(config)); err != nil {
					t.Fatal(err)
				}
				kept := d.override(t)
				if err := first.Reconfigure(t.Context(), "app", "A", json.RawMessage(`"refused"`)); err == nil {
					t.Error("a refused config was taken")
				}
				if now := d.override(t); now != kept || kept == "" {
					t.Errorf("the store has %.100s, and %.100s after a refusal", kept, now)
				}
				first.kill()
				second := d.restored(t)
				second.wantStatus(t, "restored", helvetype.ApplicationRunning, 1, 1)
				j.want(t, "restored", config)
				if err := second.Collect(t.Context()); err != nil { // the next node shows what it has removed
					t.Error(err)
				}
				second.kill()
				third := d.restored(t)
				defer third.kill()
				third.wantStatus(t, "restored again", helvetype.ApplicationRunning, 1, 1)
				j.want(t, "restored again", config)
				third.deploy(t, j.app(`"c"`))
				j.want(t, "deployed again", `"c"`)
				if now := d.override(t); now != "" {
					t.Errorf("the store has %.100s after a deploy", now)
				}
			})
		})
	}
}

// TestConfigInPlaceIsPutBack: a deploy that fails leaves the user config of the revision before, also if the node is killed meanwhile.
func TestConfigInPlaceIsPutBack(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"in the same node": false, "killed meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j, hang := &judges{}, make(chan struct{})
				d := newDurable(func(string) (deploy.App, error) { return j.app(`"a"`), nil })
				first := d.node()
				first.deploy(t, j.app(`"a"`))
				if err := first.Reconfigure(t.Context(), "app", "A", json.RawMessage(`"b"`)); err != nil {
					t.Fatal(err)
				}
				next := appOf(map[string]int{"A": 1, "New": 1}, func() error { <-hang; return errors.New("no licence") })
				over := make(chan error, 1)
				go func() { over <- first.Deploy(context.Background(), next) }()
				synctest.Wait()
				if a := record(t, d.store, store.AppKey("app")); a.Attempt == nil || len(a.Overrides) > 0 || string(a.Attempt.Overrides["A"]) != `{"user_config":"b"}` {
					t.Errorf("record %+v", a)
				}
				if killed {
					first.link.set(func() { first.link.down = true })
				}
				close(hang)
				<-over
				n := first
				if killed {
					first.kill()
					asked := 0
					d.own = func(string) (deploy.App, error) {
						if asked++; asked == 1 {
							return next, nil
						}
						return j.app(`"a"`), nil
					}
					log := &warnings{}
					d.log = slog.New(log)
					n = d.restored(t)
					time.Sleep(time.Minute) // fake time
					if all := log.about("number of replicas"); len(all) > 0 {
						t.Errorf("the log has %q", all)
					}
				}
				defer n.kill()
				n.wantStatus(t, "it went back", helvetype.ApplicationDeployFailed, 1, 1)
				j.want(t, "it went back", `"b"`)
				if now := d.override(t); now != `{"user_config":"b"}` {
					t.Errorf("the store has %s", now)
				}
			})
		})
	}
}

// TestConfigThatIsNotStored: a Reconfigure whose config the store does not take is an error, and the replicas have the config before.
func TestConfigThatIsNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &judges{}
		d := newDurable(func(string) (deploy.App, error) { return j.app(`"a"`), nil })
		n := d.node()
		defer n.kill()
		n.deploy(t, j.app(`"a"`))
		n.link.set(func() { n.link.down = true })
		if err := n.Reconfigure(t.Context(), "app", "A", json.RawMessage(`"b"`)); !errors.Is(err, errDown) {
			t.Error(err)
		}
		j.want(t, "refused by the store", `"a"`)
		n.link.set(func() { n.link.down = false })
		if err := n.Reconfigure(t.Context(), "app", "A", json.RawMessage(`"c"`)); err != nil {
			t.Error(err)
		}
		j.want(t, "stored", `"c"`)
	})
}

// TestConfigWhileDeploying: a user config that comes while a revision starts does not keep the deploy from its end in the store.
func TestConfigWhileDeploying(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &judges{}
		d := newDurable(nil)
		n := d.node()
		defer n.kill()
		hang := make(chan struct{})
		def := j.app(`"a"`)
		def.Classes["A"].Construct = func(context.Context) (any, error) { <-hang; return nothing{}, nil }
		over := make(chan error, 1)
		go func() { over <- n.Deploy(t.Context(), def) }()
		synctest.Wait()
		if err := n.Reconfigure(t.Context(), "app", "A", json.RawMessage(`"b"`)); err != nil {
			t.Fatal(err)
		}
		if now := d.override(t); now != `{"trial":"b"}` {
			t.Errorf("the store has %s while no replica has taken it", now)
		}
		close(hang)
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a := record(t, d.store, store.AppKey("app")); a.Attempt != nil || string(a.Overrides["A"]) != `{"user_config":"b"}` {
			t.Errorf("record %+v, overrides %s", a, a.Overrides["A"])
		}
	})
}

// TestRouteOfALostApplication: it is answered with 503 until the application is there, and not if another has the prefix.
func TestRouteOfALostApplication(t *testing.T) {
	t.Parallel()
	lost := map[string]string{"gone": "/gone"}
	n := newTestNode(Settings{Lost: func() map[string]string { return lost }})
	n.closeAfter(t)
	get := func(path string) (int, string) {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept", "application/json")
		n.set.Proxy.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	n.Publish()
	if code, body := get("/gone/x"); code != http.StatusServiceUnavailable || !strings.Contains(body, "deployment_unavailable") {
		t.Errorf("%d %s", code, body)
	}
	lost = nil
	n.Publish()
	if code, body := get("/gone/x"); code == http.StatusServiceUnavailable && strings.Contains(body, "cannot be loaded") {
		t.Errorf("%d %s", code, body)
	}
}

// warnings are the messages of a log.
type warnings struct {
	slog.Handler
	mu  sync.Mutex
	all []string
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *warnings) WithGroup(string) slog.Handler            { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, r.Message)
	return nil
}

func (w *warnings) about(text string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.all), func(m string) bool { return !strings.Contains(m, text) })
}

package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

func contains(e error, text string) bool { return strings.Contains(e.Error(), text) }

// exit ends the goroutine.
func exit() { runtime.Goexit() }

// journal is the steps of a test, in order.
type journal struct {
	mu    sync.Mutex
	steps []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps = append(j.steps, fmt.Sprintf(format, args...))
}

func (j *journal) want(t *testing.T, steps ...string) {
	t.Helper()
	if got := j.list(); !slices.Equal(got, steps) {
		t.Errorf("steps are %q, want %q", got, steps)
	}
}

func (j *journal) list() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.steps)
}

// model is an instance with every optional method. A hook that is not nil takes the place of a method's code.
type model struct {
	journal
	configure, check, closing func(context.Context) error
	stats                     map[string]any
}

func (m *model) Reconfigure(ctx context.Context, config string) error {
	m.add("configure %s", config)
	return do(ctx, m.configure)
}

func (m *model) CheckHealth(ctx context.Context) error {
	m.add("check")
	return do(ctx, m.check)
}

func (m *model) Close(ctx context.Context) error {
	m.add("close")
	return do(ctx, m.closing)
}

func (m *model) RoutingStats(context.Context) (map[string]any, error) {
	if m.stats == nil {
		return nil, errors.New("no stats")
	}
	return m.stats, nil
}

func do(ctx context.Context, hook func(context.Context) error) error {
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

// classOf is a deployment whose instance is m, made by construct if that is not nil.
func classOf(m *model, construct func(context.Context) (any, error)) *Class {
	t := reflect.TypeFor[*model]()
	c := &Class{App: "app", Deployment: "Model", Methods: Methods(t), Configure: Configure(t, codec.New()), Construct: construct}
	if construct == nil {
		c.Construct = func(context.Context) (any, error) { m.add("construct"); return m, nil }
	}
	return c
}

func TestStart(t *testing.T) {
	t.Parallel()
	m := &model{}
	i, err := Start(t.Context(), classOf(m, nil), "Model#1", json.RawMessage(`"a"`), time.Minute)
	if err != nil || i.Value != m || i.ID != "Model#1" || i.Counts().Started != 0 {
		t.Fatalf("%+v, %v", i, err)
	}
	m.want(t, "construct", "configure a", "check")
	if _, err := Start(t.Context(), classOf(m, nil), "Model#2", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	m.want(t, "construct", "configure a", "check", "construct", "check")
}

// TestStartFails: the error names the step that failed, and an instance that was made is closed.
func TestStartFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("no weights")
	for name, c := range map[string]struct {
		m         *model
		construct func(context.Context) (any, error)
		step      string
		text      string
		closed    bool
	}{
		"constructor's error":  {&model{}, func(context.Context) (any, error) { return nil, broken }, "constructor", "no weights", false},
		"constructor's panic":  {&model{}, func(context.Context) (any, error) { panic(broken) }, "constructor", "no weights", false},
		"constructor exits":    {&model{}, func(context.Context) (any, error) { exit(); return nil, nil }, "constructor", "runtime.Goexit", false},
		"nil instance":         {&model{}, func(context.Context) (any, error) { return (*model)(nil), nil }, "constructor", "returned nil", false},
		"no instance":          {&model{}, func(context.Context) (any, error) { return nil, nil }, "constructor", "returned nil", false},
		"Reconfigure's error":  {&model{configure: func(context.Context) error { return broken }}, nil, "Reconfigure", "no weights", true},
		"Reconfigure's panic":  {&model{configure: func(context.Context) error { panic("bad") }}, nil, "Reconfigure", "panic: bad", true},
		"CheckHealth's error":  {&model{check: func(context.Context) error { return broken }}, nil, "CheckHealth", "no weights", true},
		"CheckHealth's exit":   {&model{check: func(context.Context) error { exit(); return nil }}, nil, "CheckHealth", "runtime.Goexit", true},
		"config does not fit":  {&model{}, nil, "Reconfigure", "user_config does not fit string", true},
		"no Reconfigure at it": {&model{}, nil, "Reconfigure", "has no method Reconfigure", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			class, config := classOf(c.m, c.construct), `"a"`
			switch name {
			case "config does not fit":
				config = "7"
			case "no Reconfigure at it":
				class.Configure = nil
			}
			i, err := Start(t.Context(), class, "Model#1", json.RawMessage(config), time.Minute)
			e := call.AsError(err)
			if i != nil || err == nil || e.Method != c.step || !contains(e, c.text) || e.App != "app" || e.Deployment != "Model" || e.Replica != "Model#1" {
				t.Errorf("%v, %+v", i, e)
			}
			if steps := c.m.list(); slices.Contains(steps, "close") != c.closed {
				t.Errorf("closed is to be %v: %q", c.closed, steps)
			}
		})
	}
}

// TestStartLimit: a start ends with its limit although a constructor ignores its context, and an instance that comes later is closed.
func TestStartLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slow func(m *model) // makes one step of the start take a minute
		step string
	}{
		"constructor": {nil, "constructor"},
		"Reconfigure": {func(m *model) { m.configure = sleep }, "Reconfigure"},
		"CheckHealth": {func(m *model) { m.check = sleep }, "CheckHealth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &model{}
				class := classOf(m, nil)
				if c.slow != nil {
					c.slow(m)
				} else {
					class.Construct = func(ctx context.Context) (any, error) { return m, sleep(ctx) }
				}
				began := time.Now()
				_, err := Start(t.Context(), class, "Model#1", json.RawMessage(`"a"`), time.Second)
				if e := call.AsError(err); err == nil || e.Method != c.step || e.Reason != helvetype.ReasonDeadline || !contains(e, "not ready after construct_timeout_s (1s)") {
					t.Errorf("%+v", e)
				}
				if took := time.Since(began); took != time.Second {
					t.Errorf("it took %s", took)
				}
				time.Sleep(2 * time.Minute)
				if steps := m.list(); steps[len(steps)-1] != "close" {
					t.Errorf("not closed: %q", steps)
				}
			})
		})
	}
}

// sleep takes a minute and ignores its context.
func sleep(context.Context) error {
	time.Sleep(time.Minute)
	return nil
}

// TestReconfigureOrder: a config whose caller has given up is finished before the next, so that the later of the two stays.
func TestReconfigureOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &model{}
		i, err := Start(t.Context(), classOf(m, nil), "Model#1", nil, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		m.configure = func(ctx context.Context) error {
			err := sleep(ctx)
			m.add("configured")
			return err
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := i.Reconfigure(impatient, json.RawMessage(`"b"`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		waiting, cancelWaiting := context.WithTimeout(t.Context(), time.Second)
		defer cancelWaiting()
		if err := i.Reconfigure(waiting, json.RawMessage(`"c"`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := i.Reconfigure(t.Context(), json.RawMessage(`"a"`)); err != nil {
			t.Error(err)
		}
		m.want(t, "construct", "check", "configure b", "configured", "configure a", "configured")
	})
}

func TestHealthAndStats(t *testing.T) {
	t.Parallel()
	m := &model{}
	i := &Instance{Value: m, Class: classOf(m, nil), Scope: &Scope{}}
	if !i.CanTell() || !i.Reports() {
		t.Error("the methods are not seen")
	}
	if err := i.CheckHealth(t.Context()); err != nil {
		t.Error(err)
	}
	m.check = func(context.Context) error { panic("sick") }
	if err := i.CheckHealth(t.Context()); err == nil || !contains(err, "sick") {
		t.Error(err)
	}
	if _, err := i.RoutingStats(t.Context(), codec.New()); err == nil || !contains(err, "no stats") {
		t.Error(err)
	}
	m.stats = map[string]any{"queue": 3}
	if raw, err := i.RoutingStats(t.Context(), codec.New()); string(raw) != `{"queue":3}` || err != nil {
		t.Errorf("%s, %v", raw, err)
	}
	m.stats = map[string]any{"queue": make(chan int)}
	if raw, err := i.RoutingStats(t.Context(), codec.New()); raw != nil || err == nil {
		t.Errorf("%s, %v", raw, err)
	}
	plain := &Instance{Value: 1, Scope: &Scope{}}
	if raw, err := plain.RoutingStats(t.Context(), codec.New()); plain.CanTell() || plain.Reports() || raw != nil || err != nil || plain.CheckHealth(t.Context()) != nil {
		t.Error("an instance without hooks has some")
	}
}

// reporter has numbers for autoscaling policies.
type reporter map[string]float64

func (r reporter) AutoscalingStats(context.Context) (map[string]float64, error) { return r, nil }

// TestAutoscalingStats: numbers are copied, and one that is not finite is an error that names it.
func TestAutoscalingStats(t *testing.T) {
	t.Parallel()
	r := reporter{"tokens": 7}
	i := &Instance{Value: r, Scope: &Scope{}}
	got, err := i.AutoscalingStats(t.Context())
	if r["tokens"] = 8; err != nil || got["tokens"] != 7 {
		t.Error(got, err)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r["wait"] = bad
		if got, err := i.AutoscalingStats(t.Context()); got != nil || err == nil || !contains(err, `finite numbers, and has returned `+fmt.Sprint(bad)+` for "wait"`) {
			t.Error(got, err)
		}
	}
}

// kept are models of a loader, with the time since their last use.
type kept struct {
	unused map[string]time.Duration
	loaded []string
}

func (k *kept) Unused() map[string]time.Duration { return k.unused }
func (k *kept) LoadAhead(_ context.Context, id string, unused time.Duration) error {
	k.loaded = append(k.loaded, fmt.Sprint(id, " ", unused))
	if id == "bad" {
		return errors.New("no " + id)
	}
	return nil
}

// TestModels: models that a constructor or a method loads are told to the one watcher, those of before it watched too. A replica with several loaders tells the models of all of
// them, and each loader loads its own.
func TestModels(t *testing.T) {
	t.Parallel()
	var scope *Scope
	var loaders []*Loader
	i, err := Start(t.Context(), &Class{App: "app", Deployment: "Model", Home: "home", Construct: func(ctx context.Context) (any, error) {
		scope = ScopeFrom(ctx)
		loaders = []*Loader{scope.AddLoader("voice"), scope.AddLoader("text"), scope.AddLoader("voice")}
		loaders[0].SetIDs([]string{"a"})
		return 1, nil
	}}, "Model#1", nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if scope != i.Scope || scope.App != "app" || scope.Deployment != "Model" || scope.Replica != "Model#1" || scope.Home != "home" || ScopeFrom(t.Context()) != nil {
		t.Errorf("%+v", scope)
	}
	var told [][]string
	scope.WatchModels(func(ids []string) { told = append(told, ids) })
	loaders[1].SetIDs([]string{"a", "b"})
	loaders[0].SetIDs(nil)
	if fmt.Sprint(told) != "[[a] [a b] [a b]]" {
		t.Error(told)
	}
	if all := scope.LoadedModels(); len(all) != 0 {
		t.Error(all)
	}
	texts := &kept{unused: map[string]time.Duration{"a": time.Second}}
	loaders[1].Has(texts)
	loaders[2].Has(new(kept))
	slices.SortFunc(loaders, func(x, y *Loader) int { return strings.Compare(x.Name, y.Name) })
	if loaders[0].Name != "text/0" || loaders[1].Name != "voice/0" || loaders[2].Name != "voice/1" {
		t.Error(loaders[0].Name, loaders[1].Name, loaders[2].Name)
	}
	all := scope.LoadedModels()
	slices.SortFunc(all, func(x, y Loaded) int { return strings.Compare(x.Loader, y.Loader) })
	if fmt.Sprint(all) != "[{text/0 map[a:1s]} {voice/1 map[]}]" {
		t.Error(all)
	}
	if found, err := scope.LoadModel(t.Context(), "text/0", "c", time.Minute); !found || err != nil {
		t.Error(found, err)
	}
	if found, err := scope.LoadModel(t.Context(), "text/0", "bad", 0); !found || err == nil {
		t.Error(found, err)
	}
	if found, err := scope.LoadModel(t.Context(), "voice/0", "c", 0); found || err != nil {
		t.Error(found, err)
	}
	if fmt.Sprint(texts.loaded) != "[c 1m0s bad 0s]" {
		t.Error(texts.loaded)
	}
}

// TestClose: the instance is closed first, then everything made with it, the latest first; every error is told, and a function that does not
// return is left behind.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &model{closing: func(context.Context) error { return errors.New("disk full") }}
		i, err := Start(t.Context(), classOf(m, nil), "Model#1", nil, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		i.Scope.OnClose(func(ctx context.Context) error { m.add("first"); return sleep(ctx) })
		i.Scope.OnClose(func(context.Context) error { m.add("second"); panic("broken") })
		i.Scope.OnClose(func(context.Context) error { m.add("third"); return nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = i.Close(ctx)
		if err == nil || !contains(err, "disk full") || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := i.Close(t.Context()); err == nil { // the instance again; the functions of its scope run once
			t.Error("the second close did not reach the instance")
		}
		time.Sleep(time.Minute)
		m.want(t, "construct", "check", "close", "third", "second", "first", "close")
	})
}

func TestLookup(t *testing.T) {
	t.Parallel()
	class := &Class{Deployment: "Model", Methods: map[string]*Method{"SayHi": {Name: "SayHi"}, "Call": {Name: "Call"}}, Default: "Call"}
	for name, want := range map[string]string{"SayHi": "SayHi", "say_hi": "SayHi", "": "Call"} {
		if m, e := class.Lookup(name); e != nil || m.Name != want {
			t.Errorf("%q: %v, %v", name, m, e)
		}
	}
	if _, e := class.Lookup("Nope"); e == nil || e.Reason != helvetype.ReasonNoMethod || !contains(e, "it has Call, SayHi") {
		t.Error(e)
	}
	class.Default = ""
	if _, e := class.Lookup(""); e == nil || !contains(e, "no default method") {
		t.Error(e)
	}
}

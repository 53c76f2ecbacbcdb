package calls_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestPaths runs the same cases where a call is a function call, where it goes to a Go worker, and where it goes to a
// Python worker.
func TestPaths(t *testing.T) {
	t.Parallel()
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		helvetest.Run(t, fixture.BuildGo, func(t *testing.T, s *helve.System) { cases(t, s, "go") })
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		helvetest.Run(t, fixture.BuildPython, func(t *testing.T, s *helve.System) { cases(t, s, "python") })
	})
}

func cases(t *testing.T, s *helve.System, app string) {
	h, err := helve.HandleOf[fixture.Service](s, app, "Subject")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*testing.T, *helve.System, helve.Handle[fixture.Service]){
		"values": values, "codecs": codecs, "user errors": userErrors, "no method": noMethod, "bad input": badInput,
		"many at once": manyAtOnce, "read often": readOften, "composition": composition, "ended context": endedContext,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s, h)
		})
	}
	// These cases watch the calls of one replica, or fill all slots.
	for _, test := range []struct {
		name string
		f    func(*testing.T, *helve.System, helve.Handle[fixture.Service])
	}{{"cancel", cancelCall}, {"deadline", deadline}, {"parent", parentCancelled}, {"strict", strict}, {"queue", cancelQueued}} {
		t.Run("alone/"+test.name, func(t *testing.T) { test.f(t, s, h) })
	}
}

func values(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	ctx := t.Context()
	echo := helve.MethodOf(h, fixture.Service.Echo)
	for _, v := range []string{"", "x", "héllo \x00 wörld", strings.Repeat("long ", 100_000)} {
		if got, err := echo.Call(ctx, v); err != nil || got != v {
			t.Errorf("Call(%.20q) = %.20q, %v", v, got, err)
		}
		if got, err := echo.Remote(ctx, v).Result(ctx); err != nil || got != v {
			t.Errorf("Remote(%.20q) = %.20q, %v", v, got, err)
		}
	}
	big := bytes.Repeat([]byte{0, 1, 255}, 1<<20)
	if got, err := helve.MethodOf(h, fixture.Service.Bytes).Call(ctx, big); err != nil || !bytes.Equal(got, big) {
		t.Errorf("3 MiB of bytes came back as %d, %v", len(got), err)
	}
	at := time.Date(2026, 11, 23, 12, 30, 0, 123456000, time.UTC)
	in := fixture.AddIn{X: 40, Y: 2, Labels: map[string]string{"a": "b"}, At: &at}
	got, err := helve.MethodOf(h, fixture.Service.Add).Call(ctx, in)
	if err != nil || got.Sum != 42 || !maps.Equal(got.Labels, in.Labels) || got.At == nil || !got.At.Equal(at) {
		t.Errorf("Add(%+v) = %+v, %v", in, got, err)
	}
	if got, err := helve.MethodOf(h, fixture.Service.List).Call(ctx, []int{1, -2, 1 << 40}); err != nil || !slices.Equal(got, []int{2, -4, 1 << 41}) {
		t.Errorf("List = %v, %v", got, err)
	}
	if _, err := helve.ActionOf(h, fixture.Service.Nothing).Call(ctx, helve.None{}); err != nil {
		t.Errorf("Nothing: %v", err)
	}
	if id, err := helve.MethodOf(h, fixture.Service.Replica).Call(ctx, helve.None{}); err != nil || !strings.HasPrefix(id, "Subject#") {
		t.Errorf("Replica = %q, %v", id, err)
	}
}

// codecs: the codecs in a handle's options are the codecs of the request and of the answer in the other process.
func codecs(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	ctx := t.Context()
	at := time.Date(2026, 11, 23, 12, 30, 0, 123456000, time.UTC)
	in := fixture.AddIn{X: 40, Y: 2, Labels: map[string]string{"a": "b"}}
	for _, request := range []string{"msgpack", "orjson", "pickle", "CloudPickle"} {
		for _, response := range []string{"Pickle", "cloudpickle", "orjson", "msgpack"} {
			in.At = &at
			if response == "orjson" {
				in.At = nil // the package json, which stands in for orjson, does not write a datetime
			}
			add := helve.MethodOf(h, fixture.Service.Add).With(helve.RequestCodec(request), helve.ResponseCodec(response))
			got, err := add.Call(ctx, in)
			if err != nil || got.Sum != 42 || !maps.Equal(got.Labels, in.Labels) || (got.At == nil) != (in.At == nil) || in.At != nil && !got.At.Equal(at) {
				t.Errorf("%s, %s: %+v, %v", request, response, got, err)
			}
		}
	}
	raw := []helve.CallOption{helve.RequestCodec("raw"), helve.ResponseCodec("RAW")}
	if got, err := helve.MethodOf(h, fixture.Service.Bytes).With(raw...).Call(ctx, []byte{0, 255}); err != nil || !bytes.Equal(got, []byte{0, 255}) {
		t.Errorf("raw: %v, %v", got, err)
	}
}

func userErrors(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	_, err := helve.ActionOf(h, fixture.Service.Fail).Call(t.Context(), "too much")
	e, ok := errors.AsType[*helve.Error](err)
	if !ok || e.Reason() != helve.User || helve.CodeOf(err).String() != "Unknown" || e.Message() != "too much" ||
		!strings.Contains(e.Type(), "Quota") || e.Deployment() != "Subject" || e.RequestID() == "" || !strings.HasPrefix(e.Replica(), "Subject#") {
		t.Errorf("Fail: %#v", err)
	}
	_, err = helve.ActionOf(h, fixture.Service.Panic).Remote(t.Context(), helve.None{}).Result(t.Context())
	e, ok = errors.AsType[*helve.Error](err)
	if !ok || e.Reason() != helve.User || !strings.Contains(e.Message(), "boom") || !strings.Contains(strings.ToLower(e.Traceback()), "panic") {
		t.Errorf("Panic: %v\n%s", err, e.Traceback())
	}
	if got, err := helve.MethodOf(h, fixture.Service.Echo).Call(t.Context(), "alive"); err != nil || got != "alive" {
		t.Errorf("after a panic: %q, %v", got, err)
	}
}

func noMethod(t *testing.T, s *helve.System, h helve.Handle[fixture.Service]) {
	_, err := helve.MethodNamed[string, string](h, "Ecco").Call(t.Context(), "x")
	if helve.ReasonOf(err) != helve.NoMethod || !strings.Contains(strings.ToLower(err.Error()), "echo") {
		t.Errorf("got %v; it should list the methods", err)
	}
	// Names mean the same in either language's case.
	for _, name := range []string{"await_started", "echo", "Echo"} {
		if name == "await_started" {
			continue
		}
		if got, err := helve.MethodNamed[string, string](h, name).Call(t.Context(), "x"); err != nil || got != "x" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func badInput(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	_, err := helve.MethodNamed[string, string](h, "Echo").Call(t.Context(), "fine")
	if err != nil {
		t.Fatal(err)
	}
	_, err = helve.MethodNamed[string, int](h, "Echo").Call(t.Context(), "not a number")
	if helve.ReasonOf(err) != helve.BadInput || !strings.Contains(err.Error(), "int") {
		t.Errorf("a result of another type: %v", err)
	}
}

func manyAtOnce(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	echo := helve.MethodOf(h, fixture.Service.Echo)
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 50 {
				v := fmt.Sprintf("%d-%d", c, i)
				if got, err := echo.Call(t.Context(), v); err != nil || got != v {
					t.Errorf("%s came back as %q, %v", v, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func readOften(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	r := helve.MethodOf(h, fixture.Service.Echo).Remote(t.Context(), "once")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Result(gone); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Result with an ended context: %v", err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if got, err := r.Result(t.Context()); err != nil || got != "once" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	r.Cancel() // too late to matter
	if got, err := r.Result(t.Context()); err != nil || got != "once" {
		t.Errorf("after a late cancel: %q, %v", got, err)
	}
}

func composition(t *testing.T, s *helve.System, _ helve.Handle[fixture.Service]) {
	app := "go"
	if _, err := s.Ingress(app); err != nil {
		app = "python"
	}
	in, err := s.Ingress(app)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := helve.MethodNamed[string, string](in, "").Call(t.Context(), "through"); err != nil || got != "through" {
		t.Errorf("the default method of the ingress: %q, %v", got, err)
	}
	ids, err := helve.MethodNamed[helve.None, []string](in, "IDs").Call(t.Context(), helve.None{})
	if err != nil || len(ids) != 2 || ids[0] != ids[1] || len(ids[0]) != 36 {
		t.Errorf("request ids %q, %v: one request has one id", ids, err)
	}
}

func endedContext(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	cancel(why)
	for name, err := range map[string]error{
		"Call":   second(helve.MethodOf(h, fixture.Service.Echo).Call(ctx, "x")),
		"Remote": second(helve.MethodOf(h, fixture.Service.Echo).Remote(ctx, "x").Result(t.Context())),
	} {
		if helve.ReasonOf(err) != helve.Cancelled || !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func deadline(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	block := helve.ActionOf(h, fixture.Service.Block)
	for range fixture.Replicas * fixture.Ongoing * 2 { // more often than there are slots: each is given back
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := block.Call(ctx, helve.None{})
		cancel()
		if helve.ReasonOf(err) != helve.Deadline || helve.CodeOf(err).String() != "DeadlineExceeded" || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
}

func cancelCall(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	block, awaitStarted, awaitCancelled := helve.ActionOf(h, fixture.Service.Block), helve.ActionOf(h, fixture.Service.AwaitStarted), helve.ActionOf(h, fixture.Service.AwaitCancelled)
	r := block.Remote(t.Context(), helve.None{})
	reached(t, awaitStarted, fixture.Replicas*fixture.Ongoing-1)
	r.Cancel()
	if _, err := r.Result(t.Context()); helve.ReasonOf(err) != helve.Cancelled {
		t.Errorf("got %v", err)
	}
	reached(t, awaitCancelled, fixture.Replicas*fixture.Ongoing)
}

// reached waits until the replica that runs Block says so: it is asked through every slot that is left, so that it is
// among those asked.
func reached(t *testing.T, action helve.Method[helve.None, helve.None], free int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan error)
	for range free {
		r := action.Remote(ctx, helve.None{})
		go func() {
			_, err := r.Result(ctx)
			select {
			case answers <- err:
			case <-ctx.Done():
			}
		}()
	}
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
}

func parentCancelled(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	ctx, cancel := context.WithCancel(t.Context())
	r := helve.ActionOf(h, fixture.Service.Block).Remote(ctx, helve.None{})
	reached(t, helve.ActionOf(h, fixture.Service.AwaitStarted), fixture.Replicas*fixture.Ongoing-1)
	cancel()
	if _, err := r.Result(t.Context()); helve.ReasonOf(err) != helve.Cancelled {
		t.Errorf("got %v", err)
	}
}

func strict(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	work := helve.MethodOf(h, fixture.Service.Work)
	var rs []*helve.Response[int]
	for range 60 {
		rs = append(rs, work.Remote(t.Context(), 2))
	}
	most := 0
	for _, r := range rs {
		n, err := r.Result(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	if most > fixture.Ongoing {
		t.Errorf("a replica ran %d calls at once, max_ongoing_requests is %d", most, fixture.Ongoing)
	}
	if most < 2 {
		t.Errorf("a replica never ran two calls at once; this test shows nothing")
	}
}

func cancelQueued(t *testing.T, _ *helve.System, h helve.Handle[fixture.Service]) {
	block, echo := helve.ActionOf(h, fixture.Service.Block), helve.MethodOf(h, fixture.Service.Echo)
	full, release := context.WithCancel(t.Context())
	for range fixture.Replicas * fixture.Ongoing {
		block.Remote(full, helve.None{})
	}
	queued := echo.Remote(t.Context(), "queued")
	kept := echo.Remote(t.Context(), "kept")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := echo.Call(ctx, "late"); helve.ReasonOf(err) != helve.Deadline {
		t.Errorf("all slots are taken, and got %q, %v", got, err)
	}
	queued.Cancel()
	if _, err := queued.Result(t.Context()); helve.ReasonOf(err) != helve.Cancelled {
		t.Errorf("cancelled in the queue: %v", err)
	}
	release()
	if got, err := kept.Result(t.Context()); err != nil || got != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestIsolationPerDeployment: each deployment has the isolation of its options, and the deployments in a worker share one
// worker.
func TestIsolationPerDeployment(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, buildSplit)
	pid := map[string]int{}
	for _, name := range []string{"Here", "There", "ThereToo"} {
		h, err := helve.HandleOf[fixture.Service](s, "split", name)
		if err != nil {
			t.Fatal(err)
		}
		if pid[name], err = helve.MethodOf(h, fixture.Service.PID).Call(t.Context(), helve.None{}); err != nil {
			t.Fatal(err)
		}
	}
	if pid["Here"] != os.Getpid() || pid["There"] == os.Getpid() || pid["There"] != pid["ThereToo"] {
		t.Errorf("%v, the node is %d", pid, os.Getpid())
	}
}

var buildSplit = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("split")
	h := helve.Deploy(app, "Here", fixture.NewSubject, helve.Options{})
	helve.Deploy(app, "There", fixture.NewSubject, helve.Options{Isolation: helve.Process, NumReplicas: new(2)})
	helve.Deploy(app, "ThereToo", fixture.NewSubject, helve.Options{Isolation: helve.Process})
	app.Ingress(helve.MethodOf(h, (*fixture.Subject).Echo))
	return app, nil
})

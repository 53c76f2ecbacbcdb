package mixed_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/e2e/mixed/echo"
)

// ways are the deployments of the application: of one language, or with one in between that passes the calls on.
var ways = []string{"Go", "Python", "PythonToGo", "GoToPython"}

var build = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("mixed")
	many := helve.Options{MaxOngoingRequests: new(20)}
	g := helve.Deploy(app, "Go", echo.New, many)
	p := helve.Python[echo.Echoer](app, "Python", "mixed_echo:Echo", helve.Args{}, many)
	uses := func(t helve.Target) helve.Options {
		return helve.Options{MaxOngoingRequests: new(20), Uses: []helve.Target{t}}
	}
	helve.Python[echo.Echoer](app, "PythonToGo", "mixed_echo:Relay", helve.Args{Positional: []any{g}}, uses(g))
	helve.Deploy(app, "GoToPython", echo.NewRelayTo(p), uses(p))
	app.Ingress(helve.MethodOf(g, (*echo.Echo).Text))
	return app, nil
})

// each runs a test for each way, in each kind of process of the Go deployments.
func each(t *testing.T, f func(t *testing.T, way string, h helve.Handle[echo.Echoer])) {
	t.Helper()
	t.Parallel()
	helvetest.Run(t, build, func(t *testing.T, s *helve.System) {
		for _, way := range ways {
			t.Run(way, func(t *testing.T) {
				h, err := helve.HandleOf[echo.Echoer](s, "mixed", way)
				if err != nil {
					t.Fatal(err)
				}
				f(t, way, h)
			})
		}
	}, helvetest.Local, helvetest.Process)
}

// call calls a method of the way.
func call[In, Out any](t *testing.T, h helve.Handle[echo.Echoer], f func(echo.Echoer, context.Context, In) (Out, error), in In) Out {
	t.Helper()
	out, err := helve.MethodOf(h, f).Call(t.Context(), in)
	if err != nil {
		t.Error(err)
	}
	return out
}

// await waits until a condition that no event announces holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	fixture.Eventually(t, func() string {
		if holds() {
			return ""
		}
		return what + " has not come"
	})
}

// TestCalls: values, errors, streams, broadcasts, deadlines, cancels and responses are the same whatever the languages are.
func TestCalls(t *testing.T) {
	each(t, func(t *testing.T, way string, h helve.Handle[echo.Echoer]) {
		values(t, h)
		failures(t, way, h)
		streams(t, h)
		ends(t, h)
		passed(t, h)
	})
}

func values(t *testing.T, h helve.Handle[echo.Echoer]) {
	t.Helper()
	same := func(want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	same("Grüße\x00", call(t, h, echo.Echoer.Text, "Grüße\x00"))
	same(int64(-1<<63), call(t, h, echo.Echoer.Number, -1<<63))
	same([]byte{0, 255}, call(t, h, echo.Echoer.Raw, []byte{0, 255}))
	same([]float64{1.5, 1e300}, call(t, h, echo.Echoer.Floats, []float64{1.5, 1e300}))
	call(t, h, echo.Echoer.Nothing, helve.None{})
	record := echo.Record{UserID: 7, Tags: []string{"a"}, Inner: &echo.Inner{DocURL: "x", Score: .5}, When: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Weight: 2}
	same(record, call(t, h, echo.Echoer.Record, record))
	large := helvetype.NewArray(make([]float32, 700_000), 1000, 700)
	for i := range large.Data {
		large.Data[i] = float32(i)
	}
	if got := call(t, h, echo.Echoer.Matrix, large); !reflect.DeepEqual(got, large) {
		t.Errorf("a large array has come back with shape %v", got.Shape)
	}
	for _, v := range []any{nil, true, "x", 1.5, []byte("b"), []any{int64(1), map[string]any{"a": nil}}, helvetype.NewArray([]int16{1, 2}, 2, 1)} {
		same(v, call(t, h, echo.Echoer.Whatever, v))
	}
}

// failures: an error of Python has its type and traceback, and an error of Go its code, behind the other language too.
func failures(t *testing.T, way string, h helve.Handle[echo.Echoer]) {
	t.Helper()
	_, err := helve.MethodOf(h, echo.Echoer.Fail).Call(t.Context(), "no such thing")
	var e *helve.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message(), "no such thing") || helve.ReasonOf(err) != helve.User {
		t.Fatalf("error %v", err)
	}
	if python := way == "Python" || way == "GoToPython"; python && (e.Type() != "KeyError" || !strings.Contains(e.Traceback(), "mixed_echo.py")) {
		t.Errorf("type %q, traceback %q", e.Type(), e.Traceback())
	} else if !python && helve.CodeOf(err) != helve.NotFound {
		t.Errorf("code %s", helve.CodeOf(err))
	}
	if rs, err := helve.MethodOf(h, echo.Echoer.Text).Broadcast(t.Context(), "x").Results(t.Context()); err != nil || len(rs) != 1 || rs[0].Value != "x" {
		t.Errorf("a broadcast: %v, %v", rs, err)
	}
	if rs, err := helve.MethodOf(h, echo.Echoer.Fail).Broadcast(t.Context(), "why not").Results(t.Context()); err == nil && (len(rs) != 1 || rs[0].Err == nil) {
		t.Errorf("a broadcast that fails: %v", rs)
	}
}

func streams(t *testing.T, h helve.Handle[echo.Echoer]) {
	t.Helper()
	n := 0
	for i, err := range helve.StreamOf(h, echo.Echoer.Count).Call(t.Context(), 300) {
		if err != nil || i != n {
			t.Fatalf("item %d is %d, error %v", n, i, err)
		}
		n++
	}
	if n != 300 {
		t.Errorf("%d items", n)
	}
	before := call(t, h, echo.Echoer.Ended, helve.None{})
	for i, err := range helve.StreamOf(h, echo.Echoer.Endless).Call(t.Context(), helve.None{}) {
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			break
		}
	}
	await(t, "the end of the stream", func() bool { return call(t, h, echo.Echoer.Ended, helve.None{}) == before+1 })
}

// ends: deadlines travel along, and a cancel reaches the method at the end of the chain.
func ends(t *testing.T, h helve.Handle[echo.Echoer]) {
	t.Helper()
	hour, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if s, err := helve.MethodOf(h, echo.Echoer.Left).Call(hour, helve.None{}); err != nil || s <= 0 || s > 3600 {
		t.Errorf("%v s of an hour are left, error %v", s, err)
	}
	begun, over := call(t, h, echo.Echoer.Started, helve.None{}), call(t, h, echo.Echoer.Ended, helve.None{})
	r := helve.MethodOf(h, echo.Echoer.Block).Remote(t.Context(), helve.None{})
	await(t, "the start of the method", func() bool { return call(t, h, echo.Echoer.Started, helve.None{}) == begun+1 })
	r.Cancel()
	if _, err := r.Result(t.Context()); helve.ReasonOf(err) != helve.Cancelled {
		t.Errorf("a cancelled call: %v", err)
	}
	await(t, "the end of the method", func() bool { return call(t, h, echo.Echoer.Ended, helve.None{}) == over+1 })
	with := helve.MethodOf(h, echo.Echoer.Who).With(helve.ModelID("m:v1"), helve.SessionID("s"))
	if who, err := with.Call(t.Context(), helve.None{}); err != nil || who.Model != "m:v1" || who.Session != "s" || len(who.Request) < 8 || who.Request == "another request" {
		t.Errorf("%+v, error %v", who, err)
	}
}

// passed: a response is the input of another call.
func passed(t *testing.T, h helve.Handle[echo.Echoer]) {
	t.Helper()
	text, matrix := helve.MethodOf(h, echo.Echoer.Text), helve.MethodOf(h, echo.Echoer.Matrix)
	if s, err := text.RemoteFrom(t.Context(), text.Remote(t.Context(), "x")).Result(t.Context()); err != nil || s != "x" {
		t.Errorf("%q, error %v", s, err)
	}
	large := helvetype.NewArray(make([]float32, 300_000), 300, 1000)
	large.Data[12345] = 1
	got, err := matrix.RemoteFrom(t.Context(), matrix.Remote(t.Context(), large)).Result(t.Context())
	if err != nil || !reflect.DeepEqual(got, large) {
		t.Errorf("shape %v, error %v", got.Shape, err)
	}
	_, err = text.RemoteFrom(t.Context(), helve.MethodOf(h, echo.Echoer.Fail).Remote(t.Context(), "upstream")).Result(t.Context())
	if err == nil || !strings.Contains(err.Error(), "upstream") {
		t.Errorf("the error of an argument: %v", err)
	}
}

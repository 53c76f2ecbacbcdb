package protocol_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
)

// loop is a Caller that has a table answer, with nothing between them but JSON.
type loop struct{ table protocol.Table }

func (l loop) Control(ctx context.Context, request, reply any) error {
	body, ok := request.(json.RawMessage)
	if !ok {
		return errors.New("the request is not encoded")
	}
	var head struct{ Op string }
	if err := json.Unmarshal(body, &head); err != nil {
		return err
	}
	out, err := l.table.Serve(ctx, head.Op, body)
	if err != nil {
		return err
	}
	if body, err = json.Marshal(out); err != nil {
		return err
	}
	return json.Unmarshal(body, reply)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	t.Run("request and reply arrive as they were sent", func(t *testing.T) {
		t.Parallel()
		sent := protocol.StartReplica{
			Replica: "D#1", App: "a", Deployment: "D", Code: &protocol.Code{Import: "m:C", Args: []byte{1}},
			UserConfig: json.RawMessage(`{"a":1}`), TimeoutS: 1.5, UnresponsiveAfterS: 2,
		}
		var got protocol.StartReplica
		started := protocol.Started{Methods: []protocol.Method{{Name: "F", Shape: "unary", HTTP: "str"}}, Health: true}
		table := protocol.NewTable("workers", protocol.On(func(_ context.Context, r protocol.StartReplica) (protocol.Started, error) {
			got = r
			return started, nil
		}))
		reply, err := protocol.Ask(t.Context(), loop{table}, sent)
		if err != nil || !reflect.DeepEqual(got, sent) || !reflect.DeepEqual(reply, started) {
			t.Errorf("%v\n got %+v\nwant %+v\n got %+v\nwant %+v", err, got, sent, reply, started)
		}
	})
	t.Run("a request without fields", func(t *testing.T) {
		t.Parallel()
		calls := 0
		table := protocol.NewTable("workers", protocol.On(func(context.Context, protocol.Ping) (d protocol.Done, err error) {
			calls++
			return d, nil
		}))
		if _, err := protocol.Ask(t.Context(), loop{table}, protocol.Ping{}); err != nil || calls != 1 {
			t.Error(calls, err)
		}
	})
	t.Run("the error of a handler is passed on", func(t *testing.T) {
		t.Parallel()
		failure := errors.New("no")
		table := protocol.NewTable("workers", protocol.On(func(context.Context, protocol.Ping) (d protocol.Done, err error) {
			return d, failure
		}))
		if _, err := protocol.Ask(t.Context(), loop{table}, protocol.Ping{}); !errors.Is(err, failure) {
			t.Error(err)
		}
	})
	t.Run("a request that is no JSON is not sent", func(t *testing.T) {
		t.Parallel()
		_, err := protocol.Ask(t.Context(), loop{}, protocol.Reconfigure{UserConfig: json.RawMessage("{")})
		if err == nil || !strings.HasPrefix(err.Error(), "reconfigure: ") {
			t.Error(err)
		}
	})
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	table := protocol.NewTable("drivers",
		protocol.On(func(context.Context, protocol.StopReplica) (d protocol.Done, err error) { return d, nil }),
		protocol.On(func(context.Context, protocol.ReturnBlock) (d protocol.Done, err error) { return d, nil }),
		protocol.On(func(context.Context, protocol.Faults) (d protocol.Done, err error) { return d, nil }),
		protocol.On(func(context.Context, protocol.Scale) (d protocol.Done, err error) { return d, nil }),
		protocol.On(func(context.Context, protocol.Rollback) (d protocol.Done, err error) { return d, nil }),
		protocol.On(func(context.Context, protocol.Uses) (d protocol.Done, err error) { return d, nil }),
	)
	for _, x := range []struct{ name, op, body, want string }{
		{"an op that nobody knows", "make_coffee", `{}`, `unknown control request "make_coffee"`},
		{"a long op", strings.Repeat("x", 1<<20), `{}`, `unknown control request "` + strings.Repeat("x", 60) + `"... (1048576 bytes)`},
		{"an op of another side", "ping", `{}`, `control request "ping" is not for drivers`},
		{"no JSON", "stop_replica", `{`, `stop_replica: unexpected end of JSON input`},
		{"no object", "stop_replica", `[1]`, `stop_replica: json: cannot unmarshal array into Go value of type protocol.StopReplica`},
		{"a field of another type", "stop_replica", `{"replica":"D#1","timeout_s":"1"}`,
			`stop_replica: field "timeout_s": a JSON string cannot be a value of type protocol.Seconds`},
		{"a replica without a name", "stop_replica", `{"timeout_s":1}`, `stop_replica: field "replica": is missing`},
		{"nothing at all", "stop_replica", `null`, `stop_replica: field "replica": is missing`},
		{"fewer than no slots", "return_block", `{"replica":"D#1","slots":-1}`, `return_block: field "slots": is negative`},
		{"fewer than no calls", "faults", `{"replica":"D#1","calls":-1}`, `faults: field "calls": is negative`},
		{"half a slot", "return_block", `{"replica":"D#1","slots":0.5}`,
			`return_block: field "slots": a JSON number 0.5 cannot be a value of type int`},
		{"a rollback to a negative revision", "rollback", `{"app":"a","revision":-1}`, `rollback: field "revision": is negative`},
		{"a rollback of no application", "rollback", `{}`, `rollback: field "app": is missing`},
		{"a scale without a number", "scale", `{"app":"a","deployment":"D"}`, `scale: field "replicas": is missing`},
		{"an edge without its end", "uses", `{"deployment":"D"}`, `uses: field "name": is missing`},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			_, err := table.Serve(t.Context(), x.op, []byte(x.body))
			e := call.AsError(err)
			if err == nil || e.Message != x.want || e.Reason != helvetype.ReasonBadInput {
				t.Errorf("got  %v\nwant %s (bad_input)", err, x.want)
			}
		})
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for s, want := range map[protocol.Seconds]time.Duration{
		0: 0, -1: 0, 1.5: 1500 * time.Millisecond, 1e300: spec.MaxDuration, protocol.SecondsOf(time.Hour): time.Hour,
	} {
		if got := s.Duration(); got != want {
			t.Errorf("%g s are %s, want %s", s, got, want)
		}
	}
}

// TestOpsDiffer: an op names one request, and no request has a field of that name.
func TestOpsDiffer(t *testing.T) {
	t.Parallel()
	var ops []string
	for _, r := range protocol.Requests() {
		ops = append(ops, r.Op())
		if slices.Contains(fields(reflect.TypeOf(r)), "op") {
			t.Errorf("%s has a field op", r.Op())
		}
	}
	slices.Sort(ops)
	if len(slices.Compact(slices.Clone(ops))) != len(ops) || len(ops) == 0 {
		t.Error(ops)
	}
}

// FuzzDecode: no body makes a decoder panic, and a body that was decoded is the same after it was encoded again.
func FuzzDecode(f *testing.F) {
	f.Add("start_replica", []byte(`{"op":"start_replica","replica":"D#1","deployment":"D","code":{"import":"m:C","args":"gA=="},"user_config":{"a":[1]}}`))
	f.Add("grant_block", []byte(`{"replica":"D#1","number":18446744073709551615,"slots":2}`))
	f.Add("deploy", []byte(`{"app":{"name":"a","route_prefix":null,"deployments":[{"name":"D","options":{}}],"blob":"AA=="}}`))
	f.Add("http", []byte(`{"host":"","port":null}`))
	f.Add("models", []byte(`{"replica":"D#1","models":["m:1"]}`))
	table := everything()
	f.Fuzz(func(t *testing.T, op string, body []byte) {
		out, err := table.Serve(t.Context(), op, body)
		if err != nil {
			if e := call.AsError(err); e.Reason != helvetype.ReasonBadInput {
				t.Errorf("%q: %v", op, err)
			}
			return
		}
		first, err := protocol.Encode(out.(protocol.Operation))
		if err != nil {
			t.Fatal(err)
		}
		again, err := table.Serve(t.Context(), op, first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		second, err := protocol.Encode(again.(protocol.Operation))
		if err != nil || string(first) != string(second) {
			t.Errorf("%v\n%s\n%s", err, first, second)
		}
	})
}

// echo is a request of any type, answered with itself.
type echo[T protocol.Operation] struct{ request T }

func (e echo[T]) Op() string                    { return e.request.Op() }
func (e echo[T]) Reply() (r protocol.Operation) { return }
func (e *echo[T]) UnmarshalJSON(b []byte) (err error) {
	e.request, err = protocol.Decode[T](b)
	return err
}

func echoes[T protocol.Operation]() protocol.Handler {
	return protocol.On(func(_ context.Context, e echo[T]) (protocol.Operation, error) { return e.request, nil })
}

func everything() protocol.Table {
	return protocol.NewTable("tests",
		echoes[protocol.StartReplica](), echoes[protocol.CheckHealth](), echoes[protocol.Reconfigure](), echoes[protocol.Ping](),
		echoes[protocol.StopReplica](), echoes[protocol.RoutingStats](), echoes[protocol.LoadedModels](), echoes[protocol.LoadModel](), echoes[protocol.Release](),
		echoes[protocol.GrantBlock](), echoes[protocol.RecallBlock](), echoes[protocol.ReturnBlock](), echoes[protocol.Faults](), echoes[protocol.Uses](),
		echoes[protocol.Models](), echoes[protocol.Deploy](), echoes[protocol.Delete](), echoes[protocol.Status](),
		echoes[protocol.Ingress](), echoes[protocol.HTTP](),
	)
}

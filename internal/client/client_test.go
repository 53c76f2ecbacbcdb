package client

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
)

// typed is the typed part of a call of a method from string to string.
type typed struct {
	in, out string
	panics  bool
}

func (y *typed) Input() any { return y.in }

func (y *typed) Run(ctx context.Context, _ any) error {
	if y.panics {
		panic(y.in)
	}
	y.out = y.in + " " + replicaOf(ctx)
	return nil
}

// replicaOf is the replica whose method received ctx.
func replicaOf(ctx context.Context) string { return call.InfoFrom(ctx).Replica }

// TestRemoteToFake: a call to a fake runs on a goroutine of its own, in a context with its description, and its failure has its place.
func TestRemoteToFake(t *testing.T) {
	t.Parallel()
	b := NewFake()
	t.Run("result", func(t *testing.T) {
		t.Parallel()
		r, y := &Remote{}, &typed{in: "hello"}
		if !r.Prepare(t.Context(), &b, y) {
			t.Fatal(r.Answer.Failure())
		}
		r.Begin()
		r.Watch()
		if !r.Answer.Wait(t.Context()) || r.Answer.Failure() != nil || r.Answer.HasPayload() || y.out != "hello fake" {
			t.Errorf("%q, failure %v", y.out, r.Answer.Failure())
		}
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		r := &Remote{}
		r.Prepare(t.Context(), &b, &typed{in: "hello", panics: true})
		r.Begin()
		r.Answer.Wait(t.Context())
		if e := r.Answer.Failure(); e == nil || e.Reason != helvetype.ReasonUser || e.Deployment != "fake" || e.Replica != "fake" {
			t.Errorf("failure %v", e)
		}
	})
	t.Run("context that has ended", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := &Remote{}
		if r.Prepare(ctx, &b, &typed{}) || r.Answer.Failure().Reason != helvetype.ReasonCancelled {
			t.Errorf("failure %v", r.Answer.Failure())
		}
	})
	t.Run("depth", func(t *testing.T) {
		t.Parallel()
		ctx := &call.Inline{Caller: t.Context(), Info: call.Info{Place: &call.Place{}, Depth: MaxDepth - 1}}
		r := &Remote{}
		if r.Prepare(ctx, &b, &typed{}) || r.Answer.Failure().Reason != helvetype.ReasonDepth {
			t.Errorf("failure %v", r.Answer.Failure())
		}
	})
}

// TestNotRunning: a call of an application that neither runs here nor has a node fails at once.
func TestNotRunning(t *testing.T) {
	t.Parallel()
	d := &graph.Deployment{App: &graph.App{Name: "a"}, Name: "D"}
	b := Bind(graph.BindName(d, "M", graph.Types{}), nil)
	r := &Remote{}
	if !r.Prepare(t.Context(), &b, &typed{}) {
		t.Fatal(r.Answer.Failure())
	}
	r.Begin()
	if e := r.Answer.Failure(); r.Answer.Waiting() || e.Reason != helvetype.ReasonDeploymentUnavailable || e.Deployment != "D" || e.Method != "M" {
		t.Errorf("failure %v", e)
	}
	if _, e := b.Choose(t.Context()); e == nil || e.Reason != helvetype.ReasonDeploymentUnavailable {
		t.Errorf("Choose: %v", e)
	}
	var all Broadcast
	all.Begin(t.Context(), &b, "in")
	if _, e := all.Answers(t.Context()); e == nil || e.Reason != helvetype.ReasonDeploymentUnavailable {
		t.Errorf("Broadcast: %v", e)
	}
}

// TestDispatch: a selection is used once, by a call of its own deployment.
func TestDispatch(t *testing.T) {
	t.Parallel()
	b, other := NewFake(), NewFake()
	s, e := b.Choose(t.Context())
	if e != nil {
		t.Fatal(e)
	}
	dispatch := func(b *Binding, s *Selection) *call.Error {
		r := &Remote{}
		r.Prepare(t.Context(), b, &typed{in: "x"})
		r.Dispatch(s)
		r.Answer.Wait(t.Context())
		return r.Answer.Failure()
	}
	if e := dispatch(&other, s); e == nil || e.Reason != helvetype.ReasonBadInput {
		t.Errorf("another deployment: %v", e)
	}
	if e := dispatch(&b, nil); e == nil || e.Reason != helvetype.ReasonBadInput {
		t.Errorf("no selection: %v", e)
	}
	if e := dispatch(&b, s); e != nil {
		t.Errorf("the first dispatch: %v", e)
	}
	if e := dispatch(&b, s); e == nil || !strings.Contains(e.Message, "dispatched before") {
		t.Errorf("the second dispatch: %v", e)
	}
	s.Release()
}

// TestOptions: derived options keep the former and do not change them; a mistake fails the calls and is noted in the graph.
func TestOptions(t *testing.T) {
	t.Parallel()
	d := &graph.Deployment{App: &graph.App{Name: "a"}, Name: "D"}
	var none *Options
	model := none.With(d, func(o *Options) { o.SetModel("m") })
	both := model.With(d, func(o *Options) { o.SetSession("s"); o.SetByReference() })
	if model.affinity.Session != "" || model.ByReference() || none.ByReference() {
		t.Error("deriving has changed the former options")
	}
	if both.affinity.Model != "m" || both.affinity.Session != "s" || !both.ByReference() {
		t.Errorf("derived %+v %+v", both.affinity, both.call)
	}
	b := Bind(graph.BindName(d, "M", graph.Types{}), both).Derive(func(o *Options) { o.SetRequestCodec("morse") })
	if b.Err == nil || b.Unusable().Reason != helvetype.ReasonBadInput || !strings.Contains(b.Err.Error(), "morse") {
		t.Errorf("error %v of an unknown codec", b.Err)
	}
	if _, err := d.App.Seal(); err == nil || !strings.Contains(err.Error(), "morse") {
		t.Errorf("the graph does not have the mistake: %v", err)
	}
}

// TestGathering: in a worker the first item of a broadcast names the replicas and the others are their answers; a replica without an
// answer has the failure of the end.
func TestGathering(t *testing.T) {
	t.Parallel()
	begin := func() (*Broadcast, *gathering) {
		r := &Broadcast{known: make(chan struct{})}
		r.gathering = &gathering{broadcast: r}
		r.gathering.Info = &r.Info
		return r, r.gathering
	}
	list := call.AppendItem(nil, call.Payload{Codec: call.JSON, Data: []byte(`[{"replica":"D#1","node":"local"},{"replica":"D#2","node":"local"}]`)})
	t.Run("end without answers", func(t *testing.T) {
		t.Parallel()
		r, g := begin()
		g.Frame(nil, nil, list)
		g.Complete(nil, call.Result{Err: call.NewError(helvetype.ReasonReplicaDied, "the node is gone")})
		answers, e := r.Answers(t.Context())
		if e != nil || len(answers) != 2 || answers[1].Info.Replica != "D#2" || answers[1].Node != "local" {
			t.Fatalf("answers %v, failure %v", answers, e)
		}
		for _, a := range answers {
			if a.Waiting() || a.Failure().Reason != helvetype.ReasonReplicaDied {
				t.Errorf("failure %v", a.Failure())
			}
		}
	})
	t.Run("end before the list", func(t *testing.T) {
		t.Parallel()
		r, g := begin()
		g.Cancel(context.Canceled)
		g.Frame(nil, nil, list) // late
		if answers, e := r.Answers(t.Context()); len(answers) != 0 || e == nil || e.Reason != helvetype.ReasonCancelled {
			t.Errorf("answers %v, failure %v", answers, e)
		}
	})
	t.Run("reader leaves first", func(t *testing.T) {
		t.Parallel()
		r, _ := begin()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the reader has left"))
		if _, e := r.Answers(ctx); e == nil || e.Reason != helvetype.ReasonCancelled {
			t.Errorf("failure %v", e)
		}
	})
	t.Run("a list that is no JSON", func(t *testing.T) {
		t.Parallel()
		r, g := begin()
		g.Frame(nil, nil, call.AppendItem(nil, call.Payload{Codec: call.JSON, Data: []byte("x")}))
		if _, e := r.Answers(t.Context()); e == nil || e.Reason != helvetype.ReasonInternal {
			t.Errorf("failure %v", e)
		}
	})
}

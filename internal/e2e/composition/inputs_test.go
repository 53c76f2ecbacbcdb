package composition_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Sorter has methods of many inputs. The graph binds only some of its methods, and a method that the graph binds has a thunk
// of its own.
type Sorter struct{}

type left struct{ A int }

type right struct{ B int }

func (*Sorter) Text(_ context.Context, s string) (string, error)     { return "text " + s, nil }
func (*Sorter) Unbound(_ context.Context, s string) (string, error)  { return "unbound " + s, nil }
func (*Sorter) Act(context.Context, string) error                    { return nil }
func (*Sorter) Left(_ context.Context, l left) (string, error)       { return fmt.Sprint(l.A), nil }
func (*Sorter) Any(_ context.Context, v any) (string, error)         { return fmt.Sprint(v), nil }
func (*Sorter) Failure(_ context.Context, err error) (string, error) { return fmt.Sprint(err), nil }
func (*Sorter) Pointer(_ context.Context, l *left) (string, error)   { return fmt.Sprint(l == nil), nil }
func (*Sorter) Nothing(context.Context, helve.None) (string, error)  { return "nothing", nil }
func (*Sorter) Items(_ context.Context, s string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("item "+s, nil) }
}

func buildSorter() (*helve.App, error) {
	app := helve.NewApp("sorter")
	h := helve.Deploy(app, "Sorter", func(context.Context) (*Sorter, error) { return &Sorter{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*Sorter).Text))
	helve.MethodOf(h, (*Sorter).Left)
	helve.MethodOf(h, (*Sorter).Any)
	helve.MethodOf(h, (*Sorter).Failure)
	helve.ActionOf(h, (*Sorter).Act)
	helve.StreamOf(h, (*Sorter).Items)
	return app, nil
}

// refused holds that every way to call the method fails with an error that says all of texts.
func refused[In any](t *testing.T, h helve.AnyHandle, method string, in In, texts ...string) {
	t.Helper()
	ctx, m := t.Context(), helve.MethodNamed[In, string](h, method)
	_, byCall := m.Call(ctx, in)
	_, byRemote := m.Remote(ctx, in).Result(ctx)
	_, byBroadcast := m.Broadcast(ctx, in).Results(ctx)
	for way, err := range map[string]error{"Call": byCall, "Remote": byRemote, "Broadcast": byBroadcast} {
		fixture.WantReason(t, err, helve.BadInput)
		for _, text := range texts {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s of %s with %T: %v does not say %q", way, method, in, err, text)
			}
		}
	}
}

// TestInputOfAnotherType: a method named by the caller never runs with an input that it did not give.
func TestInputOfAnotherType(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		sys := helvetest.Start(t, r.Config, buildSorter)
		h, err := helve.HandleOf[*Sorter](sys, "sorter", "Sorter")
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"Text", "Unbound", "Act", "text"} {
			refused(t, h, method, 65, "int", "string")
		}
		refused(t, h, "Text", 1.5, "float", "string")
		refused(t, h, "Text", left{1}, "string")
		refused(t, h, "Nothing", "x", "Nothing", "takes no argument")
		refused(t, h, "Left", "x", "string", "left")
		for _, err := range helve.StreamNamed[int, string](h, "Items").Call(t.Context(), 65) {
			fixture.WantReason(t, err, helve.BadInput)
		}
		for _, err := range helve.StreamNamed[int, string](h, "Items").Remote(t.Context(), 65).All() {
			fixture.WantReason(t, err, helve.BadInput)
		}
		for v, err := range helve.StreamNamed[string, string](h, "Items").Call(t.Context(), "x") {
			if v != "item x" || err != nil {
				t.Error(v, err)
			}
		}
		if r.Config.StrictCodec == "" && r.Config.Isolation == helve.InNode { // encoded, a record has no type but its fields
			refused(t, h, "Left", right{1}, "right", "left")
			answers(t, h, "Failure", errors.New("e"), "e")
			answers[error](t, h, "Failure", nil, "<nil>")
		}
		answers[any](t, h, "Any", "x", "x")
		answers(t, h, "Any", "x", "x")
		answers[any](t, h, "Any", nil, "<nil>")
		answers[*left](t, h, "Pointer", nil, "true")
		answers[any](t, h, "Pointer", nil, "true")
		answers(t, h, "Nothing", helve.None{}, "nothing")
	})
}

func answers[In any](t *testing.T, h helve.AnyHandle, method string, in In, want string) {
	t.Helper()
	if out, err := helve.MethodNamed[In, string](h, method).Call(t.Context(), in); out != want || err != nil {
		t.Errorf("%s(%v): %q, %v", method, in, out, err)
	}
}

// Finder finds the Sorter by name.
type Finder struct{}

func (*Finder) Find(ctx context.Context, s string) (string, error) {
	h, err := helve.HandleFrom[*Sorter](ctx, "Sorter")
	if err != nil {
		return "", err
	}
	return helve.MethodOf(h, (*Sorter).Text).Call(ctx, s)
}

// Asker asks a Finder from wherever it lives.
type Asker struct{ find helve.Method[string, string] }

func (a *Asker) Ask(ctx context.Context, s string) (string, error) { return a.find.Call(ctx, s) }
func (a *Asker) Send(ctx context.Context, s string) (string, error) {
	return a.find.Remote(ctx, s).Result(ctx)
}

var buildFinder = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("finder")
	helve.Deploy(app, "Sorter", func(context.Context) (*Sorter, error) { return &Sorter{}, nil }, helve.Options{})
	f := helve.MethodOf(helve.Deploy(app, "Finder", func(context.Context) (*Finder, error) { return &Finder{}, nil }, helve.Options{}), (*Finder).Find)
	asker := func(name string, i helve.Isolation) helve.Handle[*Asker] {
		return helve.Deploy(app, name, func(context.Context) (*Asker, error) { return &Asker{f}, nil },
			helve.Options{Isolation: i, Uses: []helve.Target{f}})
	}
	app.Ingress(helve.MethodOf(asker("Here", helve.InNode), (*Asker).Ask))
	asker("There", helve.Process)
	return app, nil
})

// TestHandleFromInCallsOfWorkers: a method in the node finds its application when another worker called it, also after the
// application was deployed again.
func TestHandleFromInCallsOfWorkers(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, buildFinder)
	for range 2 {
		for _, name := range []string{"Here", "There"} {
			h, err := helve.HandleOf[*Asker](sys, "finder", name)
			if err != nil {
				t.Fatal(err)
			}
			answers(t, h, "Ask", "x", "text x")
			answers(t, h, "Send", "x", "text x")
		}
		if err := sys.Deploy(t.Context(), buildFinder); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamedMethodsOfTheGraph: Run finds bindings by name that lead nowhere.
func TestNamedMethodsOfTheGraph(t *testing.T) {
	t.Parallel()
	newSorter := func(context.Context) (*Sorter, error) { return &Sorter{}, nil }
	err := fixture.StartError(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("named")
		h := helve.Deploy(app, "A", newSorter, helve.Options{Default: "Text"})
		far := helve.Deploy(app, "Far", newSorter, helve.Options{Isolation: helve.Process})
		helve.Deploy(app, "B", newSorter, helve.Options{Uses: []helve.Target{
			helve.MethodNamed[int, string](h, "Text"), helve.MethodNamed[string, int](h, ""), helve.MethodNamed[string, string](h, "Items"),
			helve.StreamNamed[string, string](h, "Left"), helve.StreamNamed[string, int](h, "items"),
			helve.MethodNamed[string, string](far, "Nope"), helve.MethodNamed[string, string](far, ""),
			helve.MethodNamed[right, int](far, "Left"), // the value may decode as the other type
			helve.MethodNamed[any, any](h, "Left"), helve.MethodNamed[helve.None, string](h, "Left"), helve.MethodNamed[error, string](h, "Any"),
		}})
		app.Ingress(helve.MethodNamed[string, string](h, "nope"))
		return app, nil
	})
	fixture.WantText(t, err, `ingress: deployment A has no method "nope"; it has Act, Any,`,
		`deployment "B": uses: deployment A: method Text takes string, the binding gives int`, `method Text returns string, the binding wants int`,
		`method Items: streams; call it as a stream`, `method Left: does not stream`, `method Items returns string, the binding wants int`,
		`deployment Far has no method "Nope"`, `deployment Far has no default method`)
	if n := strings.Count(err.Error(), "uses: "); n != 7 {
		t.Errorf("%d mistakes in uses: %v", n, err)
	}
}

func (s *Sorter) Reconfigure(_ context.Context, c struct{ Limit int }) error {
	if c.Limit > 3 {
		return errors.New("too much")
	}
	return nil
}

// TestRefusalsOfReplicasThatAreAlike in one wave are said once.
func TestRefusalsOfReplicasThatAreAlike(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("alike")
		h := helve.Deploy(app, "Sorter", func(context.Context) (*Sorter, error) { return &Sorter{}, nil }, helve.Options{NumReplicas: new(3), Rollout: helvetype.RolloutOptions{MaxSurge: "3"}})
		app.Ingress(helve.MethodOf(h, (*Sorter).Text))
		return app, nil
	})
	for text, config := range map[string]any{"too much": map[string]int{"limit": 9}, "limitt": map[string]int{"limitt": 1}} {
		err := sys.Reconfigure(t.Context(), "alike", "Sorter", config)
		if err == nil || strings.Count(err.Error(), text) != 1 || !strings.Contains(err.Error(), "2 of 2 replicas") {
			t.Errorf("%v", err)
		}
	}
	if err := sys.Reconfigure(t.Context(), "alike", "Sorter", map[string]int{"limit": 2}); err != nil {
		t.Error(err)
	}
}

func TestMistakesInBothCodecs(t *testing.T) {
	t.Parallel()
	err := fixture.StartError(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("codecs")
		h := helve.Deploy(app, "Sorter", func(context.Context) (*Sorter, error) { return &Sorter{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, (*Sorter).Text).With(helve.RequestCodec("jsn"), helve.ResponseCodec("xml")))
		return app, nil
	})
	fixture.WantText(t, err, `RequestCodec: there is no codec "jsn"`, `ResponseCodec: there is no codec "xml"`)
	m := helve.MethodFunc(func(context.Context, int) (int, error) { return 1, nil })
	_, err = m.With(helve.RequestCodec("jsn"), helve.ResponseCodec("xml")).Call(t.Context(), 1)
	fixture.WantText(t, err, `there is no codec "jsn"`, `there is no codec "xml"`)
}

package graph

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
)

type greeter struct{}

func (*greeter) Greet(_ context.Context, name string) (string, error) { return "hello " + name, nil }
func (*greeter) Close(context.Context) error                          { return nil }
func (*greeter) hidden(context.Context, string) (string, error)       { return "", nil }

type embedder interface {
	Embed(ctx context.Context, text string) ([]float64, error)
}

func greet(context.Context, string) (string, error) { return "", nil }

// declared returns a Declare of these options.
func declared(d Declaration) func() Declaration { return func() Declaration { return d } }

// add adds a Go deployment.
func add(a *App, name string, d Declaration) *Deployment {
	v := &Deployment{App: a, Name: name, Receiver: reflect.TypeFor[*greeter](), Declare: declared(d)}
	a.AddGo(v, Code{Construct: func(context.Context) (any, error) { return &greeter{}, nil }})
	return v
}

// bind binds a function of receivers of type T.
func bind[T any](d *Deployment, f any) Binding {
	return Bind(d, reflect.TypeFor[T](), reflect.ValueOf(f), "MethodOf", func(*instance.Method) {})
}

// TestBind: a method expression is found by its code, and the error of any other function says what it is instead.
func TestBind(t *testing.T) {
	t.Parallel()
	a := &App{Name: "a", RoutePrefix: "/"}
	d := add(a, "D", Declaration{})
	for name, c := range map[string]struct {
		b    Binding
		name string
		err  string // "" for none
	}{
		"method":           {bind[*greeter](d, (*greeter).Greet), "Greet", ""},
		"interface method": {bind[embedder](&Deployment{App: a, Name: "P", Python: &Python{}}, embedder.Embed), "Embed", ""},
		"zero handle":      {bind[*greeter](nil, (*greeter).Greet), "", "a zero Handle"},
		"nil":              {bind[*greeter](d, (func(*greeter, context.Context, string) (string, error))(nil)), "nil", "the method is nil"},
		"method value":     {bind[*greeter](d, (&greeter{}).Greet), "", "is a method value"},
		"closure":          {bind[*greeter](d, func() { _ = d }), "", "is a closure"},
		"unexported":       {bind[*greeter](d, (*greeter).hidden), "", "is not an exported method"},
		"function":         {bind[*greeter](d, greet), "", "is a function"},
		"called by Helve":  {bind[*greeter](d, (*greeter).Close), "Close", "is called by Helve, not by handles"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.name != "" && c.b.Name != c.name || (c.b.Err == nil) != (c.err == "") || c.b.ByName() {
				t.Errorf("%q with error %v, want %q", c.b.Name, c.b.Err, c.name)
			}
			if c.b.Err != nil && !strings.Contains(c.b.Err.Error(), c.err) {
				t.Errorf("%v, want: %s", c.b.Err, c.err)
			}
		})
	}
	if !d.Class.Methods["Greet"].Bound {
		t.Error("the class does not know that Greet is bound")
	}
}

// TestSeal: the description of a graph has its edges, also those that are added to the options after the deployment.
func TestSeal(t *testing.T) {
	t.Parallel()
	a := &App{Name: "a", RoutePrefix: "/"}
	uses := make([]Use, 1)
	d := add(a, "D", Declaration{Uses: uses})
	e := add(a, "E", Declaration{Uses: []Use{{Deployment: d}, {Deployment: d}}})
	uses[0].Deployment = e
	b := bind[*greeter](d, (*greeter).Greet)
	a.SetIngress(&b, spec.IngressMethod)
	g, err := a.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(g.Deployments[0].Uses, g.Deployments[1].Uses); got != "[E] [D]" {
		t.Errorf("uses %s, want [E] [D]", got)
	}
	if g.Ingress == nil || g.Ingress.Method != "Greet" || d.Class.Default != "Greet" || a.Find("E") != e || !a.Sealed() {
		t.Errorf("ingress %v, default %q", g.Ingress, d.Class.Default)
	}
}

// TestSealMistakes: all mistakes come together.
func TestSealMistakes(t *testing.T) {
	t.Parallel()
	a, other := &App{Name: "a", RoutePrefix: "/"}, &App{Name: "other"}
	foreign := add(other, "Foreign", Declaration{})
	d := add(a, "D", Declaration{
		Mistakes: []error{errors.New("the options are wrong")},
		Uses: []Use{
			{}, {Deployment: foreign},
			{Deployment: foreign, Binding: &Binding{Deployment: add(a, "E", Declaration{}), Name: "Nothing", Types: &Types{}}},
		},
	})
	a.AddPython(&Deployment{App: a, Name: "P", Receiver: reflect.TypeFor[int](), Python: &Python{ImportPath: "module"}, Declare: declared(Declaration{})}, spec.InNode)
	a.AddError(nil)
	b := bind[*greeter](d, (*greeter).Greet)
	a.SetIngress(nil, spec.IngressMethod)
	a.SetIngress(&b, spec.IngressMethod)
	a.SetIngress(&b, spec.IngressMethod)
	_, err := a.Seal()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`application "a": `, "the options are wrong", "uses: a zero handle or method", `deployment "Foreign" belongs to application "other"`,
		`no method "Nothing"`, "must be module:Class", "int is not an interface", "cannot be in the node's process", "errors: nil",
		"ingress: a zero value", "ingress: set twice",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if late := d.AddMistake("too late"); late == nil || len(a.mistakes) == 0 || strings.Contains(errors.Join(a.mistakes...).Error(), "too late") {
		t.Errorf("a mistake after the end of the building: %v", late)
	}
}

// TestMisfit: a handle that is found by name fits the deployment's type or an interface of it, and any interface if the type is unknown.
func TestMisfit(t *testing.T) {
	t.Parallel()
	type hasGreet interface {
		Greet(ctx context.Context, name string) (string, error)
	}
	goType, python, loaded := &Deployment{Receiver: reflect.TypeFor[*greeter]()}, &Deployment{Receiver: reflect.TypeFor[embedder](), Python: &Python{}}, &Deployment{}
	for name, c := range map[string]struct {
		d    *Deployment
		t    reflect.Type
		fits bool
	}{
		"its type":                 {goType, reflect.TypeFor[*greeter](), true},
		"any":                      {goType, reflect.TypeFor[any](), true},
		"its interface":            {goType, reflect.TypeFor[hasGreet](), true},
		"another interface":        {goType, reflect.TypeFor[embedder](), false},
		"another type":             {goType, reflect.TypeFor[int](), false},
		"Python, any interface":    {python, reflect.TypeFor[hasGreet](), true},
		"unknown, any interface":   {loaded, reflect.TypeFor[hasGreet](), true},
		"unknown, a type":          {loaded, reflect.TypeFor[int](), false},
		"Python, a type of Go":     {python, reflect.TypeFor[int](), false},
		"unknown, empty interface": {loaded, reflect.TypeFor[any](), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.d.Misfit(c.t); (err == nil) != c.fits {
				t.Errorf("%v, want it to fit: %v", err, c.fits)
			}
		})
	}
}

// TestPythonArguments: handles among the arguments, also inside of lists and maps, become references.
func TestPythonArguments(t *testing.T) {
	t.Parallel()
	a := &App{Name: "a"}
	d := add(a, "D", Declaration{})
	p := &Python{
		Args: call.Args{Positional: []any{[]any{d}, 3}, Named: map[string]any{"m": map[string]any{"d": d}}},
		Reference: func(v any) (*Deployment, string, bool) {
			d, ok := v.(*Deployment)
			return d, "Greet", ok
		},
	}
	b, err := p.encodeArgs()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), `{"app":"a","deployment":"D","method":"Greet","language":"go"}`); n != 2 {
		t.Errorf("%d references, want 2, in %q", n, b)
	}
	p.Args = call.Args{Positional: []any{(*Deployment)(nil)}}
	if _, err := p.encodeArgs(); err == nil || !strings.Contains(err.Error(), "a zero handle or method") {
		t.Errorf("error %v of a zero handle", err)
	}
}

// TestPythonPath: modules are looked for in the working_dir, then in PYTHONPATH, then in the program's directory.
func TestPythonPath(t *testing.T) {
	t.Parallel()
	list := strings.Join([]string{"lib", "/opt/lib"}, string(os.PathListSeparator))
	d := &Deployment{Declaration: Declaration{Options: spec.Options{Dir: "/srv", Env: map[string]string{"PYTHONPATH": list}}}}
	if got := fmt.Sprint(d.pythonPath("/home")); got != "[/srv /srv/lib /opt/lib /home]" {
		t.Errorf("%s, want [/srv /srv/lib /opt/lib /home]", got)
	}
}

// TestLoaded: the application of another executable has the deployments of its description.
func TestLoaded(t *testing.T) {
	t.Parallel()
	a := Loaded(spec.Graph{App: "a", Deployments: []spec.Deployment{{Name: "D"}}})
	if d := a.Find("D"); d == nil || d.Current() != nil || !a.Sealed() || a.Find("E") != nil {
		t.Errorf("deployment %v", d)
	}
	if e := Unknown("a", "E", a); !strings.Contains(e.Message, "it has D") || e.Reason != helvetype.ReasonDeploymentUnavailable {
		t.Errorf("%v", e)
	}
}

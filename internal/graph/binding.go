package graph

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
)

// Binding is a method of a deployment, as the graph knows it. It is immutable.
type Binding struct {
	Deployment *Deployment
	Name       string // "" for the default method
	// Err says why the method cannot be called; nil as a rule.
	Err error
	// Types are the types that a binding by name expects of its method; nil for a binding by a method expression, whose types the
	// compiler has checked.
	Types *Types
}

// Types are the input and the output of a method.
type Types struct {
	In, Out reflect.Type
	Stream  bool // the method gives a sequence of Out
}

func (b *Binding) String() string { return b.Deployment.Name + "." + b.Name }

// ByName reports whether the method was bound by its name, so that it cannot be called without its types.
func (b *Binding) ByName() bool { return b.Types != nil }

// zeroHandle is the binding of a handle without a deployment.
func zeroHandle() Binding {
	return Binding{Deployment: NoDeployment, Err: call.NewError(helvetype.ReasonBadInput, "a zero Handle")}
}

// BindName binds a method by name. d is nil for a zero handle.
func BindName(d *Deployment, name string, t Types) Binding {
	b := zeroHandle()
	if d != nil {
		b = Binding{Deployment: d, Name: name}
	}
	b.Types = &t
	return b
}

// Bind binds the method that f is a method expression of, with receivers of type t. d is nil for a zero handle. by is the name of the
// caller's function in messages. note gets the entry of a Go method in the table of its class while the graph is built, so that it can
// set how the method is called without reflection.
func Bind(d *Deployment, t reflect.Type, f reflect.Value, by string, note func(*instance.Method)) Binding {
	if d == nil {
		return zeroHandle()
	}
	if f.IsNil() {
		return Binding{Deployment: d, Name: "nil", Err: d.AddMistake("%s: the method is nil", by)}
	}
	name, why := methodName(t, f)
	if why != "" {
		return Binding{Deployment: d, Name: name, Err: d.AddMistake("%s: %s", by, why)}
	}
	switch {
	case d.Python != nil:
		if !d.App.sealed {
			d.bind(name)
		}
	case d.Class != nil && d.Class.Methods[name] == nil:
		return Binding{Deployment: d, Name: name, Err: d.AddMistake("%s: %s is called by Helve, not by handles", by, name)}
	case d.Class != nil && !d.App.sealed:
		note(d.Class.Methods[name])
		d.Class.Methods[name].Bound = true
	}
	return Binding{Deployment: d, Name: name}
}

// methodName finds the name of a method expression by its code pointer, which reflection gives for each method of a
// concrete type. Of an interface's methods there is only the symbol's name.
func methodName(t reflect.Type, f reflect.Value) (name, why string) {
	symbol := "an unknown function"
	if fn := runtime.FuncForPC(f.Pointer()); fn != nil {
		symbol = fn.Name()
	}
	short := symbol[strings.LastIndexByte(symbol, '/')+1:]
	if t.Kind() == reflect.Interface {
		n := strings.TrimSuffix(symbol[strings.LastIndexByte(symbol, '.')+1:], "-fm")
		if _, ok := t.MethodByName(n); !ok || strings.HasSuffix(symbol, "-fm") {
			return short, fmt.Sprintf("%s is not a method of %s; give a method expression such as %s.Method", short, t, t)
		}
		return n, ""
	}
	for i := range t.NumMethod() {
		if m := t.Method(i); m.Func.Pointer() == f.Pointer() {
			return m.Name, ""
		}
	}
	example := "(" + t.String() + ").Method"
	last := symbol[strings.LastIndexByte(symbol, '.')+1:]
	switch {
	case strings.HasSuffix(symbol, "-fm"):
		return short, fmt.Sprintf("%s is a method value, bound to one instance; give the method expression %s", short, example)
	case strings.HasPrefix(last, "func") || strings.Contains(symbol, ".func"):
		return short, fmt.Sprintf("%s is a closure; give a method expression such as %s", short, example)
	case strings.Contains(symbol, ")."):
		return short, fmt.Sprintf("%s is not an exported method of %s", short, t)
	}
	return short, fmt.Sprintf("%s is a function, not a method of %s; give a method expression such as %s", short, t, example)
}

// misnamed returns the error of a binding by name that leads nowhere. Types are compared where calls do not encode.
func (b *Binding) misnamed() error {
	if b == nil || b.Types == nil || b.Err != nil || b.Deployment.Class == nil {
		return nil //nolint:nilerr // said where the binding was made
	}
	m, e := b.Deployment.Class.Lookup(b.Name)
	if e == nil && b.Types.Stream != (m.Shape == instance.Stream) {
		e = m.Mismatch()
	}
	if e != nil {
		return errors.New(e.Message)
	}
	if !b.Deployment.encodes() {
		if why := m.Misfit(b.Types.In, b.Types.Out); why != "" {
			return fmt.Errorf("deployment %s: %s", b.Deployment.Name, why)
		}
	}
	return nil
}

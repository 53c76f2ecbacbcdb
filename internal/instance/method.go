package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// Method is one entry of a Go deployment's method table. It is immutable after the graph was built.
type Method struct {
	Name    string
	Shape   Shape
	In, Out reflect.Type // Out of a stream is the type of its items
	// Invoke calls the method: a typed thunk where the method was bound in code, reflection otherwise.
	// recv and in have the types of the table; so has the result.
	Invoke func(ctx context.Context, recv, in any) (any, error)
	// Bound says that a handle binds it.
	Bound bool
	// Stream is Invoke of a method that streams.
	Stream func(ctx context.Context, recv, in any) iter.Seq2[any, error]
}

// Shape is the form of a method's result.
type Shape string

// The shapes: one result, none, or an iter.Seq2 of them.
const (
	Unary  Shape = "unary"
	Action Shape = "action"
	Stream Shape = "stream"
)

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
	emptyType   = reflect.TypeFor[call.Empty]()
	stringType  = reflect.TypeFor[string]()
)

// reconfigure is the method that Helve calls itself, with a user config.
const reconfigure = "Reconfigure"

// Configure is how instances of t are given a user config, nil if they have no Reconfigure(context.Context, C) error.
func Configure(t reflect.Type, cd *codec.Codec) func(ctx context.Context, recv any, config json.RawMessage) error {
	m, ok := t.MethodByName(reconfigure)
	if !ok || t.Kind() == reflect.Interface || ShapeOf(m.Type, 1) != "" || m.Type.NumOut() != 1 || m.Type.Out(0) != errorType {
		return nil
	}
	in, index := m.Type.In(2), m.Index
	return func(ctx context.Context, recv any, config json.RawMessage) error {
		p := reflect.New(in)
		if err := cd.DecodeStrict(call.JSON, config, p.Interface()); err != nil {
			return call.NewError(helvetype.ReasonBadInput, "user_config does not fit "+in.String()+": "+err.Error())
		}
		out := reflect.ValueOf(recv).Method(index).Call([]reflect.Value{reflect.ValueOf(ctx), p.Elem()})
		err, _ := out[0].Interface().(error)
		return err
	}
}

// Methods is the table of every exported method of t that has a shape which handles can call. Others are left out;
// [ShapeOf] says why.
func Methods(t reflect.Type) map[string]*Method {
	table := map[string]*Method{}
	for i := range t.NumMethod() {
		m := t.Method(i)
		if m.Name == reconfigure {
			continue
		}
		if t.Kind() != reflect.Interface && ShapeOf(m.Type, 1) == "" || t.Kind() == reflect.Interface && ShapeOf(m.Type, 0) == "" {
			table[m.Name] = reflected(t, m)
		}
	}
	return table
}

// ShapeOf says why a function type (whose first skip parameters are the receiver) cannot be called by handles; "" means
// that it can.
func ShapeOf(t reflect.Type, skip int) string {
	switch {
	case t.IsVariadic():
		return "it is variadic; take a slice"
	case t.NumIn() != skip+2 || t.In(skip) != contextType:
		return "it must take a context.Context and one input (several values go in a struct, nothing is helve.None)"
	case t.NumOut() == 1 && (t.Out(0) == errorType || yields(t.Out(0)) != nil), t.NumOut() == 2 && t.Out(1) == errorType:
		return ""
	}
	return "it must return (Out, error), error or iter.Seq2[Out, error]"
}

// yields is the T of an iter.Seq2[T, error], nil for every other type.
func yields(t reflect.Type) reflect.Type {
	if t.PkgPath() != "iter" || !strings.HasPrefix(t.Name(), "Seq2[") || t.In(0).In(1) != errorType {
		return nil
	}
	return t.In(0).In(0)
}

func reflected(t reflect.Type, m reflect.Method) *Method {
	skip := 1
	if t.Kind() == reflect.Interface {
		skip = 0
	}
	r := &Method{Name: m.Name, Shape: Action, In: m.Type.In(skip + 1), Out: emptyType}
	switch item := yields(m.Type.Out(0)); {
	case item != nil:
		r.Shape, r.Out = Stream, item
	case m.Type.NumOut() == 2:
		r.Shape, r.Out = Unary, m.Type.Out(0)
	}
	index, name := m.Index, m.Name
	invoke := func(ctx context.Context, recv, in any) []reflect.Value {
		v := reflect.ValueOf(recv)
		f := v.MethodByName(name)
		if skip == 1 {
			f = v.Method(index)
		}
		arg := reflect.New(r.In).Elem()
		if in != nil {
			arg.Set(reflect.ValueOf(in))
		}
		return f.Call([]reflect.Value{reflect.ValueOf(ctx), arg})
	}
	if r.Shape == Stream {
		r.Stream = func(ctx context.Context, recv, in any) iter.Seq2[any, error] { return boxed(invoke(ctx, recv, in)[0]) }
		return r
	}
	r.Invoke = func(ctx context.Context, recv, in any) (any, error) {
		out := invoke(ctx, recv, in)
		err, _ := out[len(out)-1].Interface().(error)
		if r.Shape == Action {
			return call.Empty{}, err
		}
		return out[0].Interface(), err
	}
	return r
}

// boxed is an iter.Seq2[T, error] of any T as one of any.
func boxed(seq reflect.Value) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		if seq.IsNil() {
			yield(nil, errNilStream)
			return
		}
		seq.Call([]reflect.Value{reflect.MakeFunc(seq.Type().In(0), func(args []reflect.Value) []reflect.Value {
			err, _ := args[1].Interface().(error)
			return []reflect.Value{reflect.ValueOf(yield(args[0].Interface(), err))}
		})})
	}
}

var errNilStream = errors.New("the method returned a nil iterator")

// Decode makes the method's input from argument slots. Its error is bad_input and names the argument that does not fit.
func (m *Method) Decode(cd *codec.Codec, slots []call.Slot) (any, *call.Error) {
	if call.IsEmpty(m.In) {
		if len(slots) == 0 || len(slots) == 1 && slots[0].Codec == call.None {
			return reflect.Zero(m.In).Interface(), nil
		}
		if len(slots) == 1 && slots[0].Codec == call.Native {
			return m.native(slots[0].Value)
		}
		return nil, m.bad("takes no argument, got %d", len(slots))
	}
	if len(slots) == 1 && slots[0].Codec == call.Native && m.In.Kind() != reflect.Interface {
		if call.IsEmptyValue(slots[0].Value) { // as it is encoded
			slots = nil
		}
	}
	if len(slots) == 0 {
		if codec.IsRecord(m.In) { // every field has its zero value
			return reflect.Zero(m.In).Interface(), nil
		}
		return nil, m.bad("takes one argument (%s), got none", m.In)
	}
	s := &slots[0]
	if s.Kind == call.Packed && (s.Codec == call.Pickle || s.Codec == call.Cloudpickle) { // the pair (args, kwargs)
		return nil, m.bad("takes its arguments one by one, not packed as a Python deployment does")
	}
	if s.Kind == call.Named {
		return m.decodeNamed(cd, slots)
	}
	if len(slots) > 1 {
		return nil, m.bad("takes one argument (%s), got %d; several values go in keyword arguments", m.In, len(slots))
	}
	if s.Codec == call.Native {
		return m.native(s.Value)
	}
	if m.In == stringType { // most HTTP requests, without reflection
		var v string
		if err := cd.DecodePayload(s.Payload, &v); err != nil {
			return nil, m.unfit(err)
		}
		return v, nil
	}
	p := reflect.New(m.In)
	if err := cd.DecodePayload(s.Payload, p.Interface()); err != nil {
		return nil, m.unfit(err)
	}
	return p.Elem().Interface(), nil
}

// native is an input that comes as a Go value. It is not converted: the thunks assert its type, and would run the method
// with the zero value instead. nil stands for the zero value, as the null of an encoded input does.
func (m *Method) native(v any) (any, *call.Error) {
	t := reflect.TypeOf(v)
	if t == m.In || t == nil || t.AssignableTo(m.In) && m.In.Kind() == reflect.Interface {
		return v, nil
	}
	if call.IsEmpty(m.In) {
		if call.IsEmpty(t) {
			return reflect.Zero(m.In).Interface(), nil
		}
		return nil, m.bad("takes no argument, got %s", t)
	}
	return nil, m.bad("takes %s, got %s", m.In, t)
}

func (m *Method) decodeNamed(cd *codec.Codec, slots []call.Slot) (any, *call.Error) {
	if !codec.IsRecord(m.In) {
		return nil, m.bad("takes one positional argument (%s), got keyword argument %q", m.In, slots[0].Name)
	}
	named := make(map[string]call.Payload, len(slots))
	for _, s := range slots {
		if s.Kind != call.Named {
			return nil, m.bad("takes one positional argument or keyword arguments, not both")
		}
		named[s.Name] = s.Payload
	}
	p := reflect.New(m.In)
	if err := cd.SetFields(p.Interface(), named); err != nil {
		return nil, m.unfit(err)
	}
	return p.Elem().Interface(), nil
}

// unfit is the failure of a call whose input cannot be decoded.
func (m *Method) unfit(err error) *call.Error {
	if e := codec.Panicked("method "+m.Name+": the input cannot be decoded", err); e != nil {
		return e
	}
	e := m.bad("%v", err)
	e.Public = codec.TextForClients(err)
	return e
}

func (m *Method) bad(format string, args ...any) *call.Error {
	return call.NewError(helvetype.ReasonBadInput, "method "+m.Name+": "+fmt.Sprintf(format, args...))
}

// Misfit says why calls with input in and result out, which are not encoded on their way, can never work: "" if they can.
// The type of a value behind an interface is known only when the method is called.
func (m *Method) Misfit(in, out reflect.Type) string {
	holds := func(to, from reflect.Type) bool {
		return from == to || call.IsEmpty(from) && call.IsEmpty(to) || from.Kind() == reflect.Interface || to.Kind() == reflect.Interface && from.AssignableTo(to)
	}
	switch {
	case !holds(m.In, in) && (!call.IsEmpty(in) || !codec.IsRecord(m.In)):
		return fmt.Sprintf("method %s takes %s, the binding gives %s", m.Name, m.In, in)
	case !holds(out, m.Out):
		return fmt.Sprintf("method %s returns %s, the binding wants %s", m.Name, m.Out, out)
	}
	return ""
}

// Mismatch is the error for a call of the wrong shape.
func (m *Method) Mismatch() *call.Error {
	if m.Shape == Stream {
		return m.bad("streams; call it as a stream (helve.StreamOf, stream=True)")
	}
	return m.bad("does not stream; call it without (helve.MethodOf, stream=False)")
}

// Encode writes a result as it was wanted, where Plain picks by the type of the value. A codec that the type does not fit
// (Raw, of a struct) is the caller's mistake.
func (m *Method) Encode(cd *codec.Codec, want call.Codec, out any) (call.Payload, *call.Error) {
	return m.EncodeTo(nil, cd, want, out)
}

// EncodeTo is Encode into the memory of buf, if that is large enough.
func (m *Method) EncodeTo(buf []byte, cd *codec.Codec, want call.Codec, out any) (call.Payload, *call.Error) {
	switch want {
	case call.Native:
		return call.Payload{Codec: call.Native, Value: out}, nil
	case call.Plain:
		want = plain(m.Out)
	}
	if call.IsEmpty(m.Out) {
		want = call.None
	}
	data, err := appendResult(buf[:0], cd, want, out)
	if err != nil {
		what := "method " + m.Name + ": the result cannot be encoded"
		if e := codec.Panicked(what, err); e != nil {
			return call.Payload{}, e
		}
		e := call.NewError(helvetype.ReasonInternal, what+": "+err.Error())
		_, unknown := errors.AsType[*codec.UnreadableError](err)
		if unknown || want == call.Raw || want == call.Text {
			e = call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("method %s cannot answer in %s: %v", m.Name, want, err))
		}
		return call.Payload{}, e
	}
	return call.Payload{Codec: want, Data: data}, nil
}

// plain is the codec of a value of t for a client that takes the value as it is, such as curl.
func plain(t reflect.Type) call.Codec {
	switch {
	case call.IsEmpty(t):
		return call.None
	case t.Kind() == reflect.String && !codec.HasMarshaler(t):
		return call.Text
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !codec.HasMarshaler(t):
		return call.Raw
	case isEvent(t):
		return call.Event
	}
	return call.JSON
}

// InKind says what an HTTP ingress sends to the method: "none", "string", "bytes" or "json".
func (m *Method) InKind() string {
	switch plain(m.In) {
	case call.None:
		return "none"
	case call.Text:
		return "string"
	case call.Raw:
		return "bytes"
	}
	return "json"
}

// NoMethod is the error for a name that the table does not have; it lists what there is.
func NoMethod(deployment, name string, have []string) *call.Error {
	list := "it has none"
	if len(have) > 0 {
		list = "it has " + strings.Join(have, ", ")
	}
	if name == "" {
		return call.NewError(helvetype.ReasonNoMethod, fmt.Sprintf("deployment %s has no default method (Options.Default, the ingress method, or one named Call); %s", deployment, list))
	}
	return call.NewError(helvetype.ReasonNoMethod, fmt.Sprintf("deployment %s has no method %s; %s", deployment, call.Quoted(name), list))
}

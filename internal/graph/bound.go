package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
)

// Bound are the arguments that another program has bound to a deployment of this build, by their names. The name of a positional argument is its
// place. For example, Ranker.bind(embedder, top_k=3) of a Python program has the handle "0" and the value "top_k".
type Bound struct {
	scope    *instance.Scope
	app      *App
	handles  map[string]target
	values   map[string]call.Payload
	names    []string // of all, positional ones first
	position int      // how many are positional
}

// target is where a bound handle leads.
type target struct {
	App        string `json:"app"`
	Deployment string `json:"deployment"`
}

// handleExt is the MessagePack extension of a handle (docs/wire.md).
const handleExt = 1

// BoundTo reads the arguments of the replica whose constructor received ctx.
func BoundTo(ctx context.Context) (*Bound, error) {
	s := instance.ScopeFrom(ctx)
	if s == nil {
		return nil, bindError("the context is not one that a constructor received")
	}
	b := &Bound{scope: s, handles: map[string]target{}, values: map[string]call.Payload{}}
	b.app, _ = s.Home.(*App)
	if s.Arguments == nil {
		return b, nil
	}
	if err := b.read(s.Arguments); err != nil {
		return nil, bindError("the arguments of %s do not parse: %v", s.Deployment, err)
	}
	return b, nil
}

// bindError is an error in the arguments of a deployment. No other attempt to start a replica heals it: package deploy knows it by its type.
func bindError(format string, args ...any) *call.Error {
	e := call.NewError(helvetype.ReasonBadInput, fmt.Sprintf(format, args...))
	e.Type = "helve.BindError"
	return e
}

// read splits MessagePack of [positional, named] into arguments, which stay encoded.
func (b *Bound) read(data []byte) error {
	n, rest, err := msgp.ReadArrayHeaderBytes(data)
	if err != nil || n != 2 {
		return errors.New("they are no pair")
	}
	if n, rest, err = msgp.ReadArrayHeaderBytes(rest); err != nil {
		return err
	}
	for i := range int(n) {
		if rest, err = b.add(strconv.Itoa(i), rest); err != nil {
			return err
		}
	}
	b.position = len(b.names)
	if n, rest, err = msgp.ReadMapHeaderBytes(rest); err != nil {
		return err
	}
	for range n {
		var name string
		if name, rest, err = msgp.ReadStringBytes(rest); err == nil {
			rest, err = b.add(name, rest)
		}
		if err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow", len(rest))
	}
	return nil
}

// add takes the first value of data as an argument.
func (b *Bound) add(name string, data []byte) (rest []byte, err error) {
	if rest, err = msgp.Skip(data); err != nil {
		return nil, err
	}
	if slices.Contains(b.names, name) {
		return nil, fmt.Errorf("the argument %q is there twice", name)
	}
	b.names = append(b.names, name)
	value := data[:len(data)-len(rest)]
	ext := msgp.RawExtension{Type: handleExt}
	if _, err := msgp.ReadExtensionBytes(value, &ext); err == nil {
		var t target
		if err := json.Unmarshal(ext.Data, &t); err != nil {
			return nil, err
		}
		b.handles[name] = t
		return rest, nil
	}
	b.values[name] = call.Payload{Codec: call.Msgpack, Data: value}
	return rest, nil
}

// Handle is the deployment whose handle has the name. receiver is the interface of its methods: each must be a method of the deployment, as far
// as the node knows these.
func (b *Bound) Handle(ctx context.Context, name string, receiver reflect.Type) (*Deployment, error) {
	t, ok := b.handles[name]
	if !ok {
		return nil, b.missing(name)
	}
	if receiver.Kind() != reflect.Interface {
		return nil, bindError("%s is not an interface; the methods of the bound deployment %s are described by one", receiver, t.Deployment)
	}
	node := b.app.Node.Load()
	if node == nil {
		return nil, bindError("bound handles are for workers of a node")
	}
	in, err := node.Describe(ctx, t.App, t.Deployment)
	if err != nil {
		return nil, err
	}
	d := &Deployment{App: b.app, Name: t.Deployment, Receiver: receiver}
	if len(in.Methods) > 0 {
		if problem := missingMethods(receiver, in.Methods); problem != "" {
			return nil, bindError("the handle %q leads to deployment %s, which does not fit %s: %s", name, t.Deployment, receiver, problem)
		}
	}
	d.lead(in, node.PortTo(t.App, t.Deployment, in.Language == "python"))
	return d, nil
}

// missing is the error of a handle that is not there. It lists the arguments.
func (b *Bound) missing(name string) error {
	if _, ok := b.values[name]; ok {
		return bindError("the argument %q of %s is a value and no handle: read it with BoundArgs", name, b.scope.Deployment)
	}
	list := make([]string, len(b.names))
	for i, n := range b.names {
		list[i] = strconv.Quote(n)
		if _, ok := b.handles[n]; !ok {
			list[i] += " (a value)"
		}
	}
	if len(list) == 0 {
		return bindError("%s has no bound handle %q: it was bound with no arguments", b.scope.Deployment, name)
	}
	return bindError("%s has no bound handle %q; it was bound with %s", b.scope.Deployment, name, strings.Join(list, ", "))
}

// Values decodes the arguments that are no handles into the value that the pointer into points to: one positional argument is the value, and
// keyword arguments fill the fields of a struct. Fields without an argument stay as they are.
func (b *Bound) Values(into any) error {
	var positional []string
	named := map[string]call.Payload{}
	for i, n := range b.names {
		p, ok := b.values[n]
		switch {
		case ok && i < b.position:
			positional = append(positional, n)
		case ok:
			named[n] = p
		}
	}
	var err error
	switch {
	case len(positional) == 0 && len(named) == 0:
		return nil
	case len(positional) == 0:
		err = Codec.SetFields(into, named)
	case len(positional) == 1 && len(named) == 0:
		err = Codec.DecodePayload(b.values[positional[0]], into)
	default:
		return bindError("%s takes one positional value or keyword arguments, and was bound with %d positional values and %d keyword arguments",
			b.scope.Deployment, len(positional), len(named))
	}
	if err != nil {
		return bindError("the arguments of %s do not fit %s: %v", b.scope.Deployment, reflect.TypeOf(into).Elem(), err)
	}
	return nil
}

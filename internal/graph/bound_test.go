package graph

import (
	"context"
	"iter"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
)

// constructed calls f with the context of a constructor that was bound with arguments; nil for none.
func constructed(t *testing.T, arguments []byte, f func(ctx context.Context)) {
	t.Helper()
	class := &instance.Class{App: "shop", Deployment: "Ranker", Home: &App{Name: "shop"}, Arguments: arguments, Construct: func(ctx context.Context) (any, error) {
		f(ctx)
		return &greeter{}, nil
	}}
	if _, err := instance.Start(t.Context(), class, "r", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
}

// arguments encodes the arguments of a Python program's bind.
func arguments(t *testing.T, positional []any, named map[string]any) []byte {
	t.Helper()
	b, err := Codec.Append(nil, call.Msgpack, []any{append([]any{}, positional...), maps.Collect(maps.All(named))})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBoundValues: keyword arguments fill a struct, one positional argument is the value, and handles are left out.
func TestBoundValues(t *testing.T) {
	t.Parallel()
	type args struct {
		TopK     int
		ModelURL string `json:"url"`
	}
	down := reference{&Deployment{App: &App{Name: "shop"}, Name: "Down"}, ""}
	for name, x := range map[string]struct {
		positional []any
		named      map[string]any
		into       any
		want       any
		err        string
	}{
		"a struct":              {nil, map[string]any{"top_k": 3, "url": "x", "down": down}, &args{}, args{3, "x"}, ""},
		"what is initial":       {nil, map[string]any{"url": "x"}, &args{TopK: 10}, args{10, "x"}, ""},
		"only handles":          {[]any{down}, map[string]any{"down": down}, &args{TopK: 10}, args{10, ""}, ""},
		"one value":             {[]any{down, []any{1, 2}}, nil, new([]int), []int{1, 2}, ""},
		"a dict":                {[]any{map[string]any{"top_k": 4}}, nil, &args{}, args{4, ""}, ""},
		"an unknown keyword":    {nil, map[string]any{"topk": 3}, &args{}, nil, `unexpected keyword argument "topk"; there are ["top_k" "url"]`},
		"another type":          {nil, map[string]any{"top_k": "x"}, &args{}, nil, "argument top_k: cannot decode string into int"},
		"two values":            {[]any{1, 2}, nil, new(int), nil, "2 positional values and 0 keyword arguments"},
		"both kinds":            {[]any{1}, map[string]any{"top_k": 1}, &args{}, nil, "1 positional values and 1 keyword arguments"},
		"keywords for a number": {nil, map[string]any{"top_k": 1}, new(int), nil, "int takes no keyword arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			constructed(t, arguments(t, x.positional, x.named), func(ctx context.Context) {
				b, err := BoundTo(ctx)
				if err == nil {
					err = b.Values(x.into)
				}
				got := reflect.ValueOf(x.into).Elem().Interface()
				if x.err == "" && (err != nil || !reflect.DeepEqual(got, x.want)) || x.err != "" && (err == nil || !strings.Contains(err.Error(), x.err)) {
					t.Errorf("%v, %v; want %v, %q", got, err, x.want, x.err)
				}
			})
		})
	}
}

// TestBoundHandleMistakes: a handle that is not there is an error that lists the arguments.
func TestBoundHandleMistakes(t *testing.T) {
	t.Parallel()
	down := reference{&Deployment{App: &App{Name: "shop"}, Name: "Down"}, ""}
	bound := arguments(t, []any{down}, map[string]any{"top_k": 3})
	for name, x := range map[string]struct {
		arguments []byte
		name      string
		receiver  reflect.Type
		err       string
	}{
		"another name": {bound, "down", reflect.TypeFor[embedder](), `Ranker has no bound handle "down"; it was bound with "0", "top_k" (a value)`},
		"a value":      {bound, "top_k", reflect.TypeFor[embedder](), `the argument "top_k" of Ranker is a value and no handle: read it with BoundArgs`},
		"a type":       {bound, "0", reflect.TypeFor[*greeter](), "*graph.greeter is not an interface"},
		"no arguments": {nil, "down", reflect.TypeFor[embedder](), "it was bound with no arguments"},
		"no worker":    {bound, "0", reflect.TypeFor[embedder](), "for workers of a node"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			constructed(t, x.arguments, func(ctx context.Context) {
				b, err := BoundTo(ctx)
				if err == nil {
					_, err = b.Handle(ctx, x.name, x.receiver)
				}
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("%v, want %q", err, x.err)
				}
			})
		})
	}
	if _, err := BoundTo(t.Context()); err == nil || !strings.Contains(err.Error(), "not one that a constructor received") {
		t.Errorf("outside of constructors: %v", err)
	}
}

// TestMissingMethods: the methods of an interface are looked for in either language's case, and a generator function of Python is no method without
// a stream.
func TestMissingMethods(t *testing.T) {
	t.Parallel()
	type one interface {
		GetURL(ctx context.Context, in string) (string, error)
	}
	type words interface {
		Words(ctx context.Context, in string) iter.Seq2[string, error]
	}
	have := []protocol.Method{{Name: "get_url", Shape: "unary"}, {Name: "words", Shape: "stream"}}
	for name, x := range map[string]struct {
		receiver reflect.Type
		have     []protocol.Method
		want     string
	}{
		"there":                  {reflect.TypeFor[one](), have, ""},
		"a stream":               {reflect.TypeFor[words](), have, ""},
		"a generator may come":   {reflect.TypeFor[words](), []protocol.Method{{Name: "words", Shape: "unary"}}, ""},
		"missing":                {reflect.TypeFor[embedder](), have, "it has no method Embed; it has get_url, words"},
		"a stream where is none": {reflect.TypeFor[one](), []protocol.Method{{Name: "get_url", Shape: "stream"}}, "its method get_url streams, and GetURL does not"},
	} {
		if got := missingMethods(x.receiver, x.have); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// FuzzBound: arguments of another program are read or refused, and no name is read twice.
func FuzzBound(f *testing.F) {
	f.Add([]byte("\x92\x91\x01\x81\xa5top_k\x03"))
	f.Add([]byte("\x92\x90\x81\xa1d\xc7\x02\x01{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := &Bound{scope: &instance.Scope{Deployment: "D"}, handles: map[string]target{}, values: map[string]call.Payload{}}
		if b.read(data) != nil {
			return
		}
		if len(b.names) != len(b.handles)+len(b.values) || b.position > len(b.names) {
			t.Fatalf("%q, %d positional: %v and %v", b.names, b.position, b.handles, b.values)
		}
		var v any
		b.Values(&v) //nolint:errcheck // it may fit or not
	})
}

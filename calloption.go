package helve

import (
	"errors"
	"fmt"
	"strings"

	"github.com/helve-serve/helve/internal/call"
)

// CallOption changes how calls are made through a handle or method; see [Handle.With] and [Method.With]. Later ones win.
type CallOption struct{ apply func(*callOptions) }

// callOptions are the options of a derived handle or method. They are immutable once a handle has them.
type callOptions struct {
	affinity *call.Affinity
	options  *call.Options
	err      error // a mistake in an option
}

// ModelID sends calls to replicas that have the model, unless all of these are full. The method reads the id with [ModelIDFrom].
// The empty id removes an earlier one. Calls that a method makes do not inherit the id. An id is UTF-8 without zero bytes, of at
// most 16 KiB. [Run] and the call return an error for any other id.
func ModelID(id string) CallOption {
	return CallOption{func(o *callOptions) { o.id(&o.affinity.Model, "ModelID", id) }}
}

// SessionID sends calls with the same id to the same replica: strictly under [ConsistentHash], as long as it is not full
// under [PowerOfTwoChoices]. The rules for ids are in [ModelID].
func SessionID(id string) CallOption {
	return CallOption{func(o *callOptions) { o.id(&o.affinity.Session, "SessionID", id) }}
}

// PreferLocal sends calls to replicas on the caller's node, unless all of these are full. Calls with a model or session id ignore
// it.
var PreferLocal = CallOption{func(o *callOptions) { o.affinity.Local = true }} //nolint:gochecknoglobals // a constant

// Idempotent says that the method may run twice: a call whose replica died while it ran is sent to another, once. Streams are
// not: their items have been read. Nor are calls to a replica that was chosen.
var Idempotent = CallOption{func(o *callOptions) { o.options.Idempotent = true }} //nolint:gochecknoglobals // a constant

// RequestCodec names the codec of arguments that leave their process: cloudpickle, pickle, msgpack (the default), orjson
// or raw, in any case. From and to Go both pickles hold plain data only. A name that is none of these is a mistake that [Run] and the call return.
func RequestCodec(name string) CallOption {
	return CallOption{func(o *callOptions) { o.codec(&o.options.Request, "RequestCodec", name) }}
}

// ResponseCodec is [RequestCodec] for results.
func ResponseCodec(name string) CallOption {
	return CallOption{func(o *callOptions) { o.codec(&o.options.Response, "ResponseCodec", name) }}
}

func (o *callOptions) id(into *string, option, id string) {
	if err := call.CheckID(id); err != nil {
		o.err = errors.Join(o.err, fmt.Errorf("%s: %w", option, err))
		return
	}
	*into = id
}

func (o *callOptions) codec(into *call.Codec, option, name string) {
	c, ok := call.CodecNamed(name)
	if !ok {
		o.err = errors.Join(o.err, fmt.Errorf("%s: there is no codec %s; the codecs are %s", option, call.Quoted(name), strings.Join(call.CodecNames(), ", ")))
		return
	}
	*into = c
}

// with derives options. o may be nil, and is not changed.
func (o *callOptions) with(d *deployment, opts []CallOption) *callOptions {
	n := &callOptions{affinity: &call.Affinity{}, options: &call.Options{}}
	if o != nil {
		*n.affinity, *n.options, n.err = *o.affinity, *o.options, o.err
	}
	before := n.err
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(n)
		}
	}
	if n.err != nil && n.err != before && d != nil { //nolint:errorlint // identity
		_ = d.addError("%w", n.err)
	}
	return n
}

func (o *callOptions) mistake() error {
	if o == nil {
		return nil
	}
	return o.err
}

// With derives a handle whose calls have the options. Options that are not named stay as they are. It shares the router.
func (h Handle[R]) With(opts ...CallOption) Handle[R] {
	return Handle[R]{h.d, h.o.with(h.d, opts)}
}

// With derives a method whose calls have the options. Options that are not named stay as they are. It shares the router.
func (m Method[In, Out]) With(opts ...CallOption) Method[In, Out] {
	if m.m == nil {
		return m
	}
	c := *m.m
	c.binding = c.derive(opts)
	return Method[In, Out]{&c}
}

// With derives a stream whose calls have the options. Options that are not named stay as they are. It shares the router.
func (s Stream[In, Out]) With(opts ...CallOption) Stream[In, Out] {
	if s.s == nil {
		return s
	}
	c := *s.s
	c.binding = c.derive(opts)
	return Stream[In, Out]{&c}
}

func (b binding) derive(opts []CallOption) binding {
	b.o = b.o.with(b.d, opts)
	if b.err == nil {
		b.err = b.o.err
	}
	return b
}

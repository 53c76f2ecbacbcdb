package helve

import "github.com/helve-serve/helve/internal/client"

// CallOption changes how calls are made through a handle or method; see [Handle.With] and [Method.With]. Later ones win.
type CallOption struct{ set func(*client.Options) }

// ModelID sends calls to replicas that have the model, unless all of these are full. The method reads the id with [ModelIDFrom].
// The empty id removes an earlier one. Calls that a method makes do not inherit the id. An id is UTF-8 without zero bytes, of at
// most 16 KiB. [Run] and the call return an error for any other id.
func ModelID(id string) CallOption {
	return CallOption{func(o *client.Options) { o.SetModel(id) }}
}

// SessionID sends calls with the same id to the same replica: strictly under [ConsistentHash], as long as it is not full
// under [PowerOfTwoChoices]. The rules for ids are in [ModelID].
func SessionID(id string) CallOption {
	return CallOption{func(o *client.Options) { o.SetSession(id) }}
}

// PreferLocal sends calls to replicas on the caller's node, unless all of these are full. Calls with a model or session id ignore
// it.
var PreferLocal = CallOption{(*client.Options).SetLocal} //nolint:gochecknoglobals // a constant

// Idempotent says that the method may run twice: a call whose replica died while it ran is sent to another, once. Streams are
// not: their items have been read. Nor are calls to a replica that was chosen.
var Idempotent = CallOption{(*client.Options).SetIdempotent} //nolint:gochecknoglobals // a constant

// RequestCodec names the codec of arguments that leave their process: cloudpickle, pickle, msgpack (the default), orjson
// or raw, in any case. From and to Go both pickles hold plain data only. A name that is none of these is a mistake that [Run] and the call return.
func RequestCodec(name string) CallOption {
	return CallOption{func(o *client.Options) { o.SetRequestCodec(name) }}
}

// ResponseCodec is [RequestCodec] for results.
func ResponseCodec(name string) CallOption {
	return CallOption{func(o *client.Options) { o.SetResponseCodec(name) }}
}

// all sets several options, in order.
func all(opts []CallOption) func(*client.Options) {
	return func(o *client.Options) {
		for _, opt := range opts {
			if opt.set != nil {
				opt.set(o)
			}
		}
	}
}

// With derives a handle whose calls have the options. Options that are not named stay as they are. It shares the router.
func (h Handle[R]) With(opts ...CallOption) Handle[R] {
	return Handle[R]{h.d, h.o.With(h.d, all(opts))}
}

// With derives a method whose calls have the options. Options that are not named stay as they are. It shares the router.
func (m Method[In, Out]) With(opts ...CallOption) Method[In, Out] {
	if m.m == nil {
		return m
	}
	c := *m.m
	c.Binding = c.Derive(all(opts))
	return Method[In, Out]{&c}
}

// With derives a stream whose calls have the options. Options that are not named stay as they are. It shares the router.
func (s Stream[In, Out]) With(opts ...CallOption) Stream[In, Out] {
	if s.s == nil {
		return s
	}
	c := *s.s
	c.Binding = c.Derive(all(opts))
	return Stream[In, Out]{&c}
}

// Package codec encodes and decodes Go values for calls that leave their process.
//
// MessagePack is the native form; its bytes are written and read with the primitives of tinylib/msgp, while the walk over
// Go types is ours, because the names are: tag helve, else json, else snake case, at every depth, the same in MessagePack
// and JSON. JSON is written from, and read into, the same plans.
package codec

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

// maxDepth bounds nesting both ways: deeper values are an error, never a stack that grows.
const maxDepth = 1000

// Codec holds what it has learned about types. It is safe for concurrent use.
type Codec struct{ plans sync.Map } // reflect.Type -> *plan

// New makes a codec.
func New() *Codec { return &Codec{} }

// UnreadableError is a payload in a codec that Go does not read.
type UnreadableError struct{ Codec call.Codec }

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("a Go deployment cannot read %s; use msgpack or orjson (request_serialization, response_serialization)", e.Codec)
}

// Append encodes v behind dst. Errors name the path to the field that does not encode.
func (c *Codec) Append(dst []byte, as call.Codec, v any) ([]byte, error) {
	switch as {
	case call.None:
		return dst, nil
	case call.Msgpack:
		return c.appendMsgpack(dst, v)
	case call.JSON:
		return c.appendJSON(dst, v)
	case call.Raw, call.Text:
		rv := reflect.ValueOf(v)
		switch {
		case rv.Kind() == reflect.String:
			return append(dst, rv.String()...), nil
		case as == call.Raw && rv.Kind() == reflect.Slice && rv.Type().Elem().Kind() == reflect.Uint8:
			return append(dst, rv.Bytes()...), nil
		}
		return dst, fmt.Errorf("%T cannot be encoded as %s", v, as)
	}
	return dst, &UnreadableError{as}
}

func (c *Codec) appendMsgpack(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) { // the common ones, without reflection
	case nil:
		return msgp.AppendNil(dst), nil
	case string:
		return msgp.AppendString(dst, v), nil
	case []byte:
		return msgp.AppendBytes(dst, v), nil
	case bool:
		return msgp.AppendBool(dst, v), nil
	case int:
		return msgp.AppendInt(dst, v), nil
	case int64:
		return msgp.AppendInt64(dst, v), nil
	case float64:
		return msgp.AppendFloat64(dst, v), nil
	case []float64:
		dst = msgp.AppendArrayHeader(dst, uint32(len(v)))
		for _, f := range v {
			dst = msgp.AppendFloat64(dst, f)
		}
		return dst, nil
	}
	rv := reflect.ValueOf(v)
	return c.planOf(rv.Type()).enc(c, dst, rv, mode{})
}

func (c *Codec) appendJSON(dst []byte, v any) ([]byte, error) {
	if s, ok := v.(string); ok {
		b, err := json.Marshal(s)
		return append(dst, b...), err
	}
	var mp []byte
	var err error
	if v == nil {
		return append(dst, "null"...), nil
	}
	rv := reflect.ValueOf(v)
	if mp, err = c.planOf(rv.Type()).enc(c, nil, rv, mode{json: true}); err != nil {
		return dst, err
	}
	w := bytes.NewBuffer(dst)
	_, err = msgp.UnmarshalAsJSON(w, mp)
	return w.Bytes(), err
}

// Decode decodes data into the value that the pointer into points to. Fields of structs that data names and the struct
// has not are ignored.
func (c *Codec) Decode(from call.Codec, data []byte, into any) error {
	switch from {
	case call.None:
		reflect.ValueOf(into).Elem().SetZero()
		return nil
	case call.Msgpack:
		return c.decodeMsgpack(data, into)
	case call.JSON:
		return c.decodeJSON(data, into)
	case call.Raw, call.Text:
		return decodePlain(from, data, reflect.ValueOf(into).Elem())
	}
	return &UnreadableError{from}
}

func decodePlain(from call.Codec, data []byte, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.String:
		if !utf8.Valid(data) {
			return errors.New("the text is not UTF-8")
		}
		v.SetString(string(data))
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(bytes.Clone(data))
	case v.Kind() == reflect.Interface && v.NumMethod() == 0 && from == call.Text:
		v.Set(reflect.ValueOf(string(data)))
	case v.Kind() == reflect.Interface && v.NumMethod() == 0:
		v.Set(reflect.ValueOf(bytes.Clone(data)))
	default:
		return fmt.Errorf("cannot decode %s into %s", from, v.Type())
	}
	return nil
}

func (c *Codec) decodeMsgpack(data []byte, into any) (err error) {
	var rest []byte
	switch p := into.(type) {
	case *string:
		if typeOf(data) == msgp.StrType {
			*p, rest, err = msgp.ReadStringBytes(data)
			return tail(rest, err)
		}
	case *[]byte:
		if typeOf(data) == msgp.BinType {
			*p, rest, err = msgp.ReadBytesBytes(data, nil)
			return tail(rest, err)
		}
	}
	v := reflect.ValueOf(into).Elem()
	rest, err = c.planOf(v.Type()).dec(c, data, v, mode{})
	return tail(rest, err)
}

func tail(rest []byte, err error) error {
	if err == nil && len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(rest))
	}
	return err
}

// decodeJSON turns the text into MessagePack first, so that one walk over Go types serves both.
func (c *Codec) decodeJSON(data []byte, into any) error {
	if p, ok := into.(*string); ok && len(data) > 0 && data[0] == '"' {
		return jsonError(json.Unmarshal(data, p))
	}
	mp, err := appendJSONText(nil, data)
	if err != nil {
		return err
	}
	rv := reflect.ValueOf(into).Elem()
	rest, err := c.planOf(rv.Type()).dec(c, mp, rv, mode{json: true})
	return tail(rest, err)
}

// appendJSONText writes a JSON text as MessagePack.
func appendJSONText(b, text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return b, jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return b, errors.New("invalid JSON: more follows the value")
	}
	return appendTree(b, v)
}

func jsonError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("invalid JSON: it ends too early")
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

func appendTree(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return msgp.AppendInt64(b, i), nil
		}
		var u uint64
		if err := json.Unmarshal([]byte(v), &u); err == nil {
			return msgp.AppendUint64(b, u), nil
		}
		f, err := v.Float64()
		if err != nil {
			return b, fmt.Errorf("number %s is out of range", v)
		}
		return msgp.AppendFloat64(b, f), nil
	case map[string]any:
		b = msgp.AppendMapHeader(b, uint32(len(v)))
		for k, e := range v {
			if b, err = appendTree(msgp.AppendString(b, k), e); err != nil {
				return b, err
			}
		}
		return b, nil
	case []any:
		b = msgp.AppendArrayHeader(b, uint32(len(v)))
		for _, e := range v {
			if b, err = appendTree(b, e); err != nil {
				return b, err
			}
		}
		return b, nil
	}
	return msgp.AppendIntf(b, v) // nil, bool, string
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	msgMarshaler  = reflect.TypeFor[msgp.Marshaler]()
	msgUnmarsh    = reflect.TypeFor[msgp.Unmarshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarsh   = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	jsonUnmarsh   = reflect.TypeFor[json.Unmarshaler]()
)

// HasOwnText reports whether values of t are written by a method of theirs, as text, JSON or MessagePack.
func HasOwnText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	for _, i := range []reflect.Type{msgMarshaler, textMarshaler, jsonMarshaler, msgUnmarsh, textUnmarsh, jsonUnmarsh} {
		if t.Implements(i) || p.Implements(i) {
			return true
		}
	}
	return false
}

// IsRecord reports whether t is a struct whose fields are arguments of their own for a Python method: not time.Time,
// and without a marshaller of its own.
func IsRecord(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && !HasOwnText(t)
}

// Fields gives the fields of a record, or of a pointer to one, by their encoded names. ok is false for anything else.
func Fields(v any) (fields iter.Seq2[string, any], ok bool) {
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	if !rv.IsValid() || !IsRecord(rv.Type()) {
		return nil, false
	}
	return func(yield func(string, any) bool) {
		for _, f := range fieldsOf(rv.Type()) {
			fv, err := rv.FieldByIndexErr(f.index)
			if err != nil || f.omitEmpty && fv.IsZero() {
				continue
			}
			if !yield(f.name, fv.Interface()) {
				return
			}
		}
	}, true
}

// SetFields decodes named payloads into the fields of the record that into points to. A name that it has not is an
// error that lists those it has.
func (c *Codec) SetFields(into any, named map[string]call.Payload) error {
	rv := reflect.ValueOf(into).Elem()
	fields := fieldsOf(rv.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	for name, p := range named {
		i := -1
		for k := range fields {
			if fields[k].name == name {
				i = k
			}
		}
		if i < 0 {
			return fmt.Errorf("unexpected keyword argument %q; there are %q", name, names)
		}
		fv := fieldByIndex(rv, fields[i].index)
		if p.Codec == call.Native {
			nv := reflect.ValueOf(p.Value)
			if !nv.IsValid() || !nv.Type().AssignableTo(fv.Type()) {
				return fmt.Errorf("argument %s: cannot use %T as %s", name, p.Value, fv.Type())
			}
			fv.Set(nv)
			continue
		}
		if err := c.Decode(p.Codec, p.Data, fv.Addr().Interface()); err != nil {
			return fmt.Errorf("argument %s: %w", name, err)
		}
	}
	return nil
}

// fieldByIndex is reflect's, but makes embedded pointers on the way.
func fieldByIndex(v reflect.Value, index []int) reflect.Value {
	for i, x := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v
}

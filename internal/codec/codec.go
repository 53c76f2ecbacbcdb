// Package codec encodes and decodes Go values for calls that leave their process.
//
// The native form is MessagePack. The package writes and reads its bytes with the primitives of tinylib/msgp, but
// walks over Go types itself, because of the names of fields: the name is the tag helve, else the tag json, else the
// Go name in snake case, at every depth. For example, struct{ UserID int } is {"user_id": 1}, which a Python method
// takes as user_id=1.
//
// A plan says how values of one type are written and read. A [Codec] makes the plan of a type when it meets the type
// first, and keeps it. JSON and pickle go through MessagePack in both directions, so that there is one walk over Go
// types and one set of names.
//
// Nil slices, maps and pointers are nil on the wire. Numbers are checked against the type that receives them: an
// integer becomes a float, a float never becomes an integer.
package codec

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/internal/call"
)

// maxDepth is the largest depth of a value in both directions. A deeper value is an error, so that no sender can make
// a stack grow without limit.
const maxDepth = 1000

// Codec holds the plans of the types that it has met. It is safe for concurrent use.
type Codec struct{ plans sync.Map } // reflect.Type -> *plan

// New makes a codec without plans.
func New() *Codec { return &Codec{} }

// UnreadableError is the error for a payload in a serialization that Go cannot read.
type UnreadableError struct{ Codec call.Codec }

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("Go has no codec %s (%d); use msgpack, pickle or orjson (request_serialization, response_serialization)",
		e.Codec, uint8(e.Codec))
}

// Append encodes v behind dst and returns the longer slice. An error names the path to the field that does not
// encode; the bytes behind dst then have no meaning. Methods of v (marshallers) run on a goroutine of their own; a
// panic in one is an error (see [Panicked]).
func (c *Codec) Append(dst []byte, as call.Codec, v any) (out []byte, err error) {
	return c.guardedAppend(dst, as, v, mode{})
}

func (c *Codec) guardedAppend(dst []byte, as call.Codec, v any, m mode) (out []byte, err error) {
	ended := false
	defer func() {
		// A panic that is left comes from a walk that a method of the value has misled.
		if !ended {
			out, err = dst, &panicError{call.Recovered(recover())}
		}
	}()
	out, err = c.append(dst, as, v, m)
	err = shortened(err)
	ended = true
	return out, err
}

func (c *Codec) append(dst []byte, as call.Codec, v any, m mode) ([]byte, error) {
	switch as {
	case call.None:
		return dst, nil
	case call.Msgpack:
		return c.appendValue(dst, v, m)
	case call.JSON:
		return c.appendJSON(dst, v)
	case call.Pickle, call.Cloudpickle: // Go writes plain data only, where the two are the same
		return c.appendPickle(dst, v)
	case call.Raw, call.Text:
		if s, ok := v.(string); ok {
			return append(dst, s...), nil
		}
		if s, ok := v.([]byte); ok && as == call.Raw {
			return append(dst, s...), nil
		}
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

func (c *Codec) appendJSON(dst []byte, v any) ([]byte, error) {
	if s, ok := v.(string); ok {
		return appendQuoted(dst, s)
	}
	mp, err := c.appendValue(nil, v, mode{json: true})
	if err != nil {
		return dst, err
	}
	out, _, err := appendAsJSON(dst, mp, mode{})
	if err != nil {
		return dst, err
	}
	return out, nil
}

// Decode decodes data into the value that the pointer into points to. It keeps nothing of data. A field that is in
// data but not in the struct is ignored. After an error the value may be partly written. Methods of the value
// (unmarshallers) run on a goroutine of their own; a panic in one is an error (see [Panicked]).
func (c *Codec) Decode(from call.Codec, data []byte, into any) error {
	return c.decode(from, data, nil, into, mode{})
}

// DecodePayload is Decode for a payload in one piece or in parts.
func (c *Codec) DecodePayload(p call.Payload, into any) error {
	if p.Parts == nil {
		return c.Decode(p.Codec, p.Data, into)
	}
	return p.Read(func(data []byte, buffers [][]byte) error { return c.decode(p.Codec, data, buffers, into, mode{}) })
}

// DecodeStrict is Decode, but a field that is in data and not in the struct is an error that names the field.
func (c *Codec) DecodeStrict(from call.Codec, data []byte, into any) error {
	return c.decode(from, data, nil, into, mode{strict: true})
}

func (c *Codec) decode(from call.Codec, data []byte, buffers [][]byte, into any, m mode) (err error) {
	ended := false
	defer func() {
		if !ended {
			err = &panicError{call.Recovered(recover())}
		}
	}()
	err = shortened(c.read(from, data, buffers, into, m))
	ended = true
	return err
}

func (c *Codec) read(from call.Codec, data []byte, buffers [][]byte, into any, m mode) error {
	switch from {
	case call.None:
		reflect.ValueOf(into).Elem().SetZero()
		return nil
	case call.Msgpack:
	case call.JSON:
		m.json = true
		mp, err := appendJSONText(nil, data)
		if err != nil {
			return err
		}
		data = mp
	case call.Pickle, call.Cloudpickle:
		m.pickle = true
		mp, err := appendPickled(nil, data, buffers)
		if err != nil {
			return err
		}
		data = mp
	case call.Raw, call.Text:
		switch p := into.(type) { // a short way for most HTTP requests, without reflection
		case *string:
			if !utf8.Valid(data) {
				return errNotUTF8
			}
			*p = string(data)
			return nil
		case *[]byte:
			*p = bytes.Clone(data)
			return nil
		}
		return decodePlain(from, data, reflect.ValueOf(into).Elem())
	default:
		return &UnreadableError{from}
	}
	if rest, done, err := readFast(data, into, m); done {
		return checkEnd(rest, err)
	}
	v := reflect.ValueOf(into).Elem()
	p := c.planOf(v.Type())
	if p.userCode {
		return checkEnd(isolate(func() ([]byte, error) { return p.dec(c, data, v, m) }))
	}
	return checkEnd(p.dec(c, data, v, m))
}

var errNotUTF8 = errors.New("the text is not UTF-8")

func decodePlain(from call.Codec, data []byte, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.String:
		if !utf8.Valid(data) {
			return errNotUTF8
		}
		v.SetString(string(data))
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(bytes.Clone(data))
	case v.Kind() == reflect.Interface && v.NumMethod() == 0 && from == call.Text:
		v.Set(reflect.ValueOf(string(data)))
	case v.Kind() == reflect.Interface && v.NumMethod() == 0:
		v.Set(reflect.ValueOf(bytes.Clone(data)))
	default:
		return &misfit{kind: from.String(), to: v.Type()}
	}
	return nil
}

func checkEnd(rest []byte, err error) error {
	if err == nil && len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(rest))
	}
	return err
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarsh   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

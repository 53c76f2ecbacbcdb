package codec

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

var errorType = reflect.TypeFor[error]()

// errorPlan is for fields of type error in errors that are registered: a list of the text, and of the names and values of
// what is registered in it. Elsewhere an error is an interface like others.
func errorPlan() *plan { // a function, because it refers to the plans of all registered errors
	return &plan{enc: encodeError, dec: decodeError}
}

func encodeError(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	if m.errors == nil {
		return b, fmt.Errorf("%s cannot be encoded", errorType)
	}
	if v.IsNil() {
		return msgp.AppendNil(b), nil
	}
	err := v.Interface().(error)
	var known []call.KnownError
	if !m.inner { // an error in a field of an error in a field is its text: a chain of n would be 2^n long
		known = m.errors.describe(c, err, true)
	}
	b = msgp.AppendString(msgp.AppendArrayHeader(b, uint32(1+2*len(known))), call.TextOf(err))
	for _, k := range known {
		b = msgp.AppendBytes(msgp.AppendString(b, k.Name), k.Value)
	}
	return b, nil
}

func decodeError(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	if m.errors == nil {
		return b, fmt.Errorf("%s cannot be decoded", errorType)
	}
	if typeOf(b) == msgp.NilType {
		v.SetZero()
		return b[1:], nil
	}
	n, rest, err := listHeader(b, errorType)
	if err != nil {
		return b, err
	}
	if n%2 == 0 {
		return b, errors.New("malformed error")
	}
	text, rest, err := msgp.ReadStringBytes(rest)
	var known []call.KnownError
	for i := 1; i < n && err == nil; i += 2 {
		var k call.KnownError
		if k.Name, rest, err = msgp.ReadStringBytes(rest); err == nil {
			k.Value, rest, err = msgp.ReadBytesBytes(rest, nil)
		}
		known = append(known, k)
	}
	if err != nil {
		return b, err
	}
	if m, err = m.down(); err != nil {
		return b, err
	}
	field := errors.New(text)
	if found := m.errors.restore(c, known, text, m); found != nil {
		field = found
	}
	v.Set(reflect.ValueOf(field))
	return rest, nil
}

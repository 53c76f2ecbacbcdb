package codec

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

var errorType = reflect.TypeFor[error]()

// errorPlan is the plan of fields of type error in registered errors. The field is written as a list: its text, then
// the name and value of each registered error in it. In all other structs a field of type error is an interface like
// others.
// errorPlan is a function and not a variable, because it refers to the plans of all registered errors.
func errorPlan() *plan {
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
	// An error in a field of an error in a field is written as its text only: a chain of n errors would be 2^n long.
	if !m.inner {
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

package codec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// mode has the settings of one walk over a value, which are passed from each level to the next.
type mode struct {
	json     bool           // the other end of the walk is JSON: keys are strings, bytes may be base64 text
	pickle   bool           // the other end of the walk is a pickle: integers have no limit
	strict   bool           // a field of the input that the struct does not have is an error
	errors   *ErrorRegistry // set while a registered error is walked over: its fields may be errors
	inner    bool           // the walk is over an error in a field of a registered error
	isolated bool           // the walk is on a goroutine of its own, where user code may panic
	depth    int
}

func (m mode) down() (mode, error) {
	m.depth++
	if m.depth > maxDepth {
		return m, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	return m, nil
}

// plan has the functions that write and read values of one type. Plans of recursive types refer to each other through
// the Codec.
type plan struct {
	enc    func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error)
	dec    func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error)
	record *record // set if the type is a record (see [IsRecord])

	userCode bool // user code (methods of values) may run while a value is written or read
}

// lazyPlan finds a plan on first use, so that plans of recursive types can refer to each other. It keeps the plan,
// because a look-up for each element or field costs more than to encode a number.
type lazyPlan struct {
	t reflect.Type
	p atomic.Pointer[plan]
}

func (l *lazyPlan) of(c *Codec) *plan {
	if p := l.p.Load(); p != nil {
		return p
	}
	p := c.planOf(l.t)
	l.p.Store(p)
	return p
}

func (c *Codec) planOf(t reflect.Type) *plan {
	if p, ok := c.plans.Load(t); ok {
		return p.(*plan)
	}
	made := makePlan(t)
	if runsUserCode(t) { // the plan is not shared with another type then
		made.userCode = true
	}
	p, _ := c.plans.LoadOrStore(t, made)
	return p.(*plan)
}

func addPath(name string, err error) error {
	if p, ok := err.(*pathError); ok { //nolint:errorlint // pathErrors are made here and never wrapped
		if strings.HasPrefix(p.path, "[") {
			return &pathError{name + p.path, p.err}
		}
		return &pathError{name + "." + p.path, p.err}
	}
	return &pathError{name, err}
}

type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return "field " + e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

func mismatch(b []byte, t reflect.Type) error {
	if len(b) == 0 {
		return errors.New("the value ends too early")
	}
	return &misfit{kind: kindName(b), to: t}
}

// typeOf is msgp.NextType, but also recognises an extension that ends with the input.
func typeOf(b []byte) msgp.Type {
	t := msgp.NextType(b)
	if t != msgp.ExtensionType {
		return t
	}
	at := 1 // position of the extension's type in a fixext
	if b[0] >= 0xc7 && b[0] <= 0xc9 {
		at = 1 + 1<<(b[0]-0xc7)
	}
	if at < len(b) && int8(b[at]) == msgp.MsgTimeExtension {
		return msgp.TimeType
	}
	return t
}

func kindName(b []byte) string {
	switch typeOf(b) {
	case msgp.StrType:
		return "string"
	case msgp.BinType:
		return "bytes"
	case msgp.MapType:
		return "map"
	case msgp.ArrayType:
		return "list"
	case msgp.Float32Type, msgp.Float64Type:
		return "float"
	case msgp.IntType, msgp.UintType:
		return "int"
	case msgp.BoolType:
		return "bool"
	case msgp.NilType:
		return "nil"
	case msgp.TimeType:
		return "time"
	case msgp.ExtensionType:
		if _, _, ok := readBig(b); ok {
			return "int of more than 64 bits"
		}
		if _, _, ok, _ := readArray(b); ok {
			return "array of numbers"
		}
	}
	return "an unknown type"
}

// firstRoom is the number of elements for which memory is allocated before any was read. Lists can nest: if every
// level believed its length prefix, one message of n bytes could ask for n squared elements.
const firstRoom = 1024

// header checks a length prefix against the number of bytes that are left. Every element takes at least each bytes,
// so a false length allocates nothing.
func header(n uint32, rest []byte, each int) (int, error) {
	if uint64(n)*uint64(each) > uint64(len(rest)) {
		return 0, msgp.ErrShortBytes
	}
	return int(n), nil
}

func makePlan(t reflect.Type) *plan {
	switch t {
	case timeType:
		return timePlan
	case bigType:
		return bigPlan
	case numberType:
		return numberPlan
	case errorType:
		return errorPlan()
	}
	if p := ownPlan(t); p != nil {
		return p
	}
	if isArray(t) {
		return numbersPlan(t)
	}
	switch t {
	case reflect.TypeFor[[]float64]():
		return fastPlan(appendFloats[float64], readFloats[float64])
	case reflect.TypeFor[[]float32]():
		return fastPlan(appendFloats[float32], readFloats[float32])
	case reflect.TypeFor[[]string]():
		return fastPlan(appendStrings, readStrings)
	case reflect.TypeFor[map[string]string]():
		return fastPlan(appendStringMap, readStringMap)
	}
	switch t.Kind() {
	case reflect.Bool:
		return boolPlan
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intPlan
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return uintPlan
	case reflect.Float32, reflect.Float64:
		return floatPlan
	case reflect.String:
		return stringPlan
	case reflect.Pointer:
		return pointerPlan(t)
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return anyPlan()
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 && !HasMarshaler(t.Elem()) {
			return bytesPlan
		}
		return slicePlan(t)
	case reflect.Array:
		return arrayPlan(t)
	case reflect.Map:
		if keyable(t.Key()) {
			return mapPlan(t)
		}
	case reflect.Struct:
		return structPlan(t)
	}
	err := fmt.Errorf("%s cannot be encoded", t)
	return &plan{
		enc: func(_ *Codec, b []byte, _ reflect.Value, _ mode) ([]byte, error) { return b, err },
		dec: func(_ *Codec, b []byte, _ reflect.Value, _ mode) ([]byte, error) {
			return b, fmt.Errorf("%s cannot be decoded", t)
		},
	}
}

var timePlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		t := v.Interface().(time.Time)
		if m.json {
			s, err := t.MarshalText()
			return msgp.AppendStringFromBytes(b, s), err
		}
		return msgp.AppendTimeExt(b, t), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		switch typeOf(b) {
		case msgp.TimeType:
			t, rest, err := msgp.ReadTimeUTCBytes(b)
			v.Set(reflect.ValueOf(t))
			return rest, err
		case msgp.StrType:
			s, rest, err := msgp.ReadStringBytes(b)
			if err != nil {
				return b, err
			}
			var t time.Time
			if err := t.UnmarshalText([]byte(s)); err != nil {
				return b, fmt.Errorf("%q is not an RFC 3339 time", s)
			}
			v.Set(reflect.ValueOf(t))
			return rest, nil
		case msgp.NilType:
			v.SetZero()
			return b[1:], nil
		}
		return b, mismatch(b, v.Type())
	},
}

var boolPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		return msgp.AppendBool(b, v.Bool()), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		if typeOf(b) != msgp.BoolType {
			return b, mismatch(b, v.Type())
		}
		x, rest, err := msgp.ReadBoolBytes(b)
		v.SetBool(x)
		return rest, err
	},
}

var intPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		return appendInt(b, v.Int()), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		if k := typeOf(b); k != msgp.IntType && k != msgp.UintType {
			return b, mismatch(b, v.Type())
		}
		x, rest, err := msgp.ReadInt64Bytes(b)
		if err != nil {
			return b, outOfRange(err, v)
		}
		if v.OverflowInt(x) {
			return b, &misfit{value: fmt.Sprint(x), to: v.Type()}
		}
		v.SetInt(x)
		return rest, nil
	},
}

// appendInt writes a number that is not negative in the unsigned forms, which are shorter, as other implementations
// do.
func appendInt(b []byte, i int64) []byte {
	if i >= 0 {
		return msgp.AppendUint64(b, uint64(i))
	}
	return msgp.AppendInt64(b, i)
}

func outOfRange(err error, v reflect.Value) error {
	if _, ok := errors.AsType[msgp.UintOverflow](err); ok {
		return &misfit{value: "the number", to: v.Type()}
	}
	return err
}

var uintPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		return msgp.AppendUint64(b, v.Uint()), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		if k := typeOf(b); k != msgp.IntType && k != msgp.UintType {
			return b, mismatch(b, v.Type())
		}
		x, rest, err := msgp.ReadUint64Bytes(b)
		if err != nil || v.OverflowUint(x) {
			return b, &misfit{value: "the number", to: v.Type()}
		}
		v.SetUint(x)
		return rest, nil
	},
}

var floatPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		f := v.Float()
		if m.json {
			if err := finite(f); err != nil {
				return b, err
			}
		}
		if v.Kind() == reflect.Float32 {
			return msgp.AppendFloat32(b, float32(f)), nil
		}
		return msgp.AppendFloat64(b, f), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		switch typeOf(b) {
		case msgp.Float64Type, msgp.Float32Type:
			x, rest, err := msgp.ReadFloat64Bytes(b)
			if v.OverflowFloat(x) {
				return b, &misfit{value: fmt.Sprint(x), to: v.Type()}
			}
			v.SetFloat(x)
			return rest, err
		case msgp.IntType:
			x, rest, err := msgp.ReadInt64Bytes(b)
			v.SetFloat(float64(x))
			return rest, err
		case msgp.UintType:
			x, rest, err := msgp.ReadUint64Bytes(b)
			v.SetFloat(float64(x))
			return rest, err
		}
		x, rest, err := readBigFloat(b, v.Type(), m)
		if err == nil && v.OverflowFloat(x) {
			err = &misfit{value: fmt.Sprint(x), to: v.Type()}
		}
		v.SetFloat(x)
		return rest, err
	},
}

var stringPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		return msgp.AppendString(b, v.String()), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		if typeOf(b) != msgp.StrType {
			return b, mismatch(b, v.Type())
		}
		s, rest, err := msgp.ReadStringBytes(b)
		v.SetString(s)
		return rest, err
	},
}

var bytesPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
		if v.IsNil() {
			return msgp.AppendNil(b), nil
		}
		return msgp.AppendBytes(b, v.Bytes()), nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		switch t := typeOf(b); {
		case t == msgp.BinType:
			x, rest, err := readBytes(b)
			v.SetBytes(x)
			return rest, err
		case t == msgp.StrType && m.json:
			s, rest, err := msgp.ReadStringBytes(b)
			if err != nil {
				return b, err
			}
			x, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return b, errors.New("bytes must be base64 in JSON")
			}
			v.SetBytes(x)
			return rest, nil
		case t == msgp.NilType:
			v.SetZero()
			return b[1:], nil
		}
		if a, rest, ok, err := readArray(b); err != nil {
			return b, err
		} else if ok && a.kind == 'u' && a.size == 1 {
			v.SetBytes(a.copyTo(reflect.TypeFor[[]byte]()).Bytes())
			return rest, nil
		}
		return b, mismatch(b, v.Type())
	},
}

// readBytes copies bytes out of b. Zero bytes are an empty slice, not nil.
func readBytes(b []byte) (v, rest []byte, err error) {
	in, rest, err := msgp.ReadBytesZC(b)
	return append(make([]byte, 0, len(in)), in...), rest, err
}

func pointerPlan(t reflect.Type) *plan {
	elem := &lazyPlan{t: t.Elem()}
	return &plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(b), nil
			}
			m, err := m.down()
			if err != nil {
				return b, err
			}
			switch e := v.Elem(); e.Kind() {
			case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
				if e.IsNil() { // a nil inside the pointer would arrive as a nil pointer
					return b, fmt.Errorf("a pointer to a nil %s cannot be encoded", e.Type())
				}
			}
			return elem.of(c).enc(c, b, v.Elem(), m)
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			m, err := m.down()
			if err != nil {
				return b, err
			}
			if v.IsNil() {
				v.Set(reflect.New(elem.t))
			}
			return elem.of(c).dec(c, b, v.Elem(), m)
		},
	}
}

// anyPlan is a function and not a variable, because the plan of any refers to all others.
func anyPlan() *plan {
	return &plan{enc: encodeAny, dec: decodeInto}
}

func encodeAny(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	return c.appendValue(b, v.Interface(), m)
}

func decodeInto(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	x, rest, err := decodeAny(b, m)
	if err != nil {
		return b, err
	}
	if x == nil {
		v.SetZero()
	} else {
		v.Set(reflect.ValueOf(x))
	}
	return rest, nil
}

// decodeAny returns the natural Go value: int64 (uint64 if it does not fit), float64, string, []byte, bool, nil,
// time.Time, *big.Int, []any or map[string]any. There is no map[any]any: a key that is not a string becomes its text.
func decodeAny(b []byte, m mode) (v any, rest []byte, err error) {
	m, err = m.down()
	if err != nil {
		return nil, b, err
	}
	switch typeOf(b) {
	case msgp.NilType:
		return nil, b[1:], nil
	case msgp.BoolType:
		return anyOf(msgp.ReadBoolBytes(b))
	case msgp.IntType:
		return anyOf(msgp.ReadInt64Bytes(b))
	case msgp.UintType:
		u, rest, err := msgp.ReadUint64Bytes(b)
		if u <= math.MaxInt64 {
			return int64(u), rest, err
		}
		return u, rest, err
	case msgp.Float32Type, msgp.Float64Type:
		return anyOf(msgp.ReadFloat64Bytes(b))
	case msgp.StrType:
		return anyOf(msgp.ReadStringBytes(b))
	case msgp.BinType:
		return anyOf(readBytes(b))
	case msgp.TimeType:
		return anyOf(msgp.ReadTimeUTCBytes(b))
	case msgp.ArrayType:
		return decodeList(b, m)
	case msgp.MapType:
		return decodeMap(b, m)
	case msgp.InvalidType:
		return nil, b, errors.New("the value is cut short or malformed")
	case msgp.ExtensionType:
		if a, rest, ok, err := readArray(b); ok {
			if err != nil {
				return nil, b, err
			}
			return anyArray(a), rest, nil
		}
		if v, rest, ok := readBig(b); ok && m.pickle {
			return v, rest, nil
		} else if ok && m.json { // encoding/json does the same
			return anyOf(readBigFloat(b, reflect.TypeFor[float64](), m))
		}
	}
	return nil, b, fmt.Errorf("cannot decode %s", kindName(b))
}

func anyOf[T any](v T, rest []byte, err error) (any, []byte, error) { return v, rest, err }

func decodeList(b []byte, m mode) (any, []byte, error) {
	k, rest, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, b, err
	}
	n, err := header(k, rest, 1)
	if err != nil {
		return nil, b, err
	}
	list := make([]any, 0, min(n, firstRoom))
	for i := range n {
		var e any
		if e, rest, err = decodeAny(rest, m); err != nil {
			return nil, b, addPath("["+strconv.Itoa(i)+"]", err)
		}
		list = append(list, e)
	}
	return list, rest, nil
}

func decodeMap(b []byte, m mode) (any, []byte, error) {
	k, rest, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, b, err
	}
	n, err := header(k, rest, 2)
	if err != nil {
		return nil, b, err
	}
	out := make(map[string]any, min(n, firstRoom))
	for range n {
		var name string
		if name, rest, err = decodeName(rest); err != nil {
			return nil, b, err
		}
		if out[name], rest, err = decodeAny(rest, m); err != nil {
			return nil, b, addPath(name, err)
		}
	}
	if err := checkKeys(len(out), n, m); err != nil {
		return nil, b, err
	}
	return out, rest, nil
}

// checkKeys is an error if two keys that differ on the wire are one key of the map, so that a value would be lost. For
// example, the keys 1 and "1" of a dict are one key of a map[string]int. In JSON, whose objects may repeat a key, the
// last one counts, as in encoding/json.
func checkKeys(have, came int, m mode) error {
	if have < came && !m.json {
		return errors.New("several keys of the map are the same one here")
	}
	return nil
}

// decodeName reads a key of a map without a static type: text, or an integer, which becomes its text.
func decodeName(b []byte) (string, []byte, error) {
	switch typeOf(b) {
	case msgp.StrType:
		return msgp.ReadStringBytes(b)
	case msgp.IntType:
		i, rest, err := msgp.ReadInt64Bytes(b)
		return strconv.FormatInt(i, 10), rest, err
	case msgp.UintType:
		u, rest, err := msgp.ReadUint64Bytes(b)
		return strconv.FormatUint(u, 10), rest, err
	case msgp.InvalidType:
		return "", b, errors.New("the value is cut short or malformed")
	}
	return "", b, fmt.Errorf("cannot use %s as the key of a map", kindName(b))
}

package codec

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

// fastPlan makes the plan of a type that has loops of its own for speed: slices and maps of numbers and strings,
// without reflection for each element.
func fastPlan[T any](
	enc func([]byte, T, mode) ([]byte, error), dec func([]byte, mode) (T, []byte, error),
) *plan {
	p := &plan{}
	*p = plan{
		enc: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(b), nil
			}
			if v.CanAddr() { // Interface would copy the slice's header to the heap
				return enc(b, *v.Addr().Interface().(*T), m)
			}
			return enc(b, v.Interface().(T), m)
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			if rest, ok, err := decodeArray(c, b, v, m, p); ok {
				return rest, err
			}
			x, rest, err := dec(b, m)
			if err != nil {
				return b, err
			}
			*v.Addr().Interface().(*T) = x
			return rest, nil
		},
	}
	return p
}

func appendFloats[F float32 | float64](b []byte, fs []F, m mode) ([]byte, error) {
	b = msgp.AppendArrayHeader(b, uint32(len(fs)))
	for i, f := range fs {
		if m.json {
			if err := finite(float64(f)); err != nil {
				return b, addPath("["+strconv.Itoa(i)+"]", err)
			}
		}
		switch f := any(f).(type) {
		case float32:
			b = msgp.AppendFloat32(b, f)
		case float64:
			b = msgp.AppendFloat64(b, f)
		}
	}
	return b, nil
}

func finite(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("JSON has no %v", f)
	}
	return nil
}

func readFloats[F float32 | float64](b []byte, m mode) ([]F, []byte, error) {
	n, rest, err := listHeader(b, reflect.TypeFor[[]F]())
	if err != nil {
		return nil, b, err
	}
	fs := make([]F, 0, n) // at most eight times the bytes that have arrived: such lists do not nest
	for i := range n {
		var f float64
		switch typeOf(rest) {
		case msgp.Float64Type, msgp.Float32Type:
			f, rest, err = msgp.ReadFloat64Bytes(rest)
		case msgp.IntType:
			var x int64
			x, rest, err = msgp.ReadInt64Bytes(rest)
			f = float64(x)
		case msgp.UintType:
			var x uint64
			x, rest, err = msgp.ReadUint64Bytes(rest)
			f = float64(x)
		default:
			f, rest, err = readBigFloat(rest, reflect.TypeFor[F](), m)
		}
		if err == nil && math.IsInf(float64(F(f)), 0) && !math.IsInf(f, 0) {
			err = fmt.Errorf("%v is out of range of %s", f, reflect.TypeFor[F]())
		}
		if err != nil {
			return nil, b, addPath("["+strconv.Itoa(i)+"]", err)
		}
		fs = append(fs, F(f))
	}
	return fs, rest, nil
}

func appendStrings(b []byte, ss []string, _ mode) ([]byte, error) {
	b = msgp.AppendArrayHeader(b, uint32(len(ss)))
	for _, s := range ss {
		b = msgp.AppendString(b, s)
	}
	return b, nil
}

func readStrings(b []byte, _ mode) ([]string, []byte, error) {
	n, rest, err := listHeader(b, reflect.TypeFor[[]string]())
	if err != nil {
		return nil, b, err
	}
	ss := make([]string, 0, min(n, firstRoom))
	for i := range n {
		var s string
		if s, rest, err = readString(rest); err != nil {
			return nil, b, addPath("["+strconv.Itoa(i)+"]", err)
		}
		ss = append(ss, s)
	}
	return ss, rest, nil
}

func readString(b []byte) (string, []byte, error) {
	if typeOf(b) != msgp.StrType {
		return "", b, mismatch(b, reflect.TypeFor[string]())
	}
	return msgp.ReadStringBytes(b)
}

func appendStringMap(b []byte, ss map[string]string, _ mode) ([]byte, error) {
	b = msgp.AppendMapHeader(b, uint32(len(ss)))
	for _, k := range slices.Sorted(maps.Keys(ss)) { // sorted, so that equal values have equal bytes
		b = msgp.AppendString(msgp.AppendString(b, k), ss[k])
	}
	return b, nil
}

func readStringMap(b []byte, _ mode) (map[string]string, []byte, error) {
	n, rest, err := mapHeader(b, reflect.TypeFor[map[string]string]())
	if err != nil {
		return nil, b, err
	}
	ss := make(map[string]string, min(n, firstRoom))
	for range n {
		var k, s string
		if k, rest, err = readString(rest); err != nil {
			return nil, b, err
		}
		if s, rest, err = readString(rest); err != nil {
			return nil, b, addPath(k, err)
		}
		ss[k] = s
	}
	return ss, rest, nil
}

// appendAnyMap and appendList write the two containers of untyped trees.
func (c *Codec) appendAnyMap(b []byte, vs map[string]any, m mode) ([]byte, error) {
	m, err := m.down()
	if err != nil {
		return b, err
	}
	b = msgp.AppendMapHeader(b, uint32(len(vs)))
	for _, k := range slices.Sorted(maps.Keys(vs)) {
		if b, err = c.appendValue(msgp.AppendString(b, k), vs[k], m); err != nil {
			return b, addPath(k, err)
		}
	}
	return b, nil
}

func (c *Codec) appendList(b []byte, vs []any, m mode) ([]byte, error) {
	m, err := m.down()
	if err != nil {
		return b, err
	}
	b = msgp.AppendArrayHeader(b, uint32(len(vs)))
	for i, v := range vs {
		if b, err = c.appendValue(b, v, m); err != nil {
			return b, addPath("["+strconv.Itoa(i)+"]", err)
		}
	}
	return b, nil
}

// appendValue writes a value of any type. The common types need no reflection.
func (c *Codec) appendValue(b []byte, v any, m mode) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return msgp.AppendNil(b), nil
	case string:
		return msgp.AppendString(b, v), nil
	case bool:
		return msgp.AppendBool(b, v), nil
	case int:
		return appendInt(b, int64(v)), nil
	case int64:
		return appendInt(b, v), nil
	case float64:
		if m.json {
			if err := finite(v); err != nil {
				return b, err
			}
		}
		return msgp.AppendFloat64(b, v), nil
	case []byte:
		if v != nil {
			return msgp.AppendBytes(b, v), nil
		}
		return msgp.AppendNil(b), nil
	case []float64:
		if v != nil {
			return appendFloats(b, v, m)
		}
		return msgp.AppendNil(b), nil
	case []string:
		if v != nil {
			return appendStrings(b, v, m)
		}
		return msgp.AppendNil(b), nil
	case []any:
		if v != nil {
			return c.appendList(b, v, m)
		}
		return msgp.AppendNil(b), nil
	case map[string]string:
		if v != nil {
			return appendStringMap(b, v, m)
		}
		return msgp.AppendNil(b), nil
	case map[string]any:
		if v != nil {
			return c.appendAnyMap(b, v, m)
		}
		return msgp.AppendNil(b), nil
	}
	m, err := m.down()
	if err != nil {
		return b, err
	}
	rv := reflect.ValueOf(v)
	p := c.planOf(rv.Type())
	if p.userCode && !m.isolated {
		m.isolated = true
		return isolate(func() ([]byte, error) { return p.enc(c, b, rv, m) })
	}
	return p.enc(c, b, rv, m)
}

// readFast reads the common types without reflection. The result done is false if the plan of the type has to read
// the value, or has to make the error.
func readFast(b []byte, into any, m mode) (rest []byte, done bool, err error) {
	switch p := into.(type) {
	case *string:
		if done = typeOf(b) == msgp.StrType; done {
			*p, rest, err = msgp.ReadStringBytes(b)
		}
	case *[]byte:
		if done = typeOf(b) == msgp.BinType; done {
			*p, rest, err = readBytes(b)
		}
	case *bool:
		if done = typeOf(b) == msgp.BoolType; done {
			*p, rest, err = msgp.ReadBoolBytes(b)
		}
	case *int:
		var i int64
		if i, rest, err = msgp.ReadInt64Bytes(b); err == nil && int64(int(i)) == i {
			*p, done = int(i), true
		}
	case *int64:
		var i int64
		if i, rest, err = msgp.ReadInt64Bytes(b); err == nil {
			*p, done = i, true
		}
	case *float64:
		if done = typeOf(b) == msgp.Float64Type; done {
			*p, rest, err = msgp.ReadFloat64Bytes(b)
		}
	case *[]float64:
		if done = typeOf(b) == msgp.ArrayType; done {
			*p, rest, err = readFloats[float64](b, m)
		}
	case *[]string:
		if done = typeOf(b) == msgp.ArrayType; done {
			*p, rest, err = readStrings(b, m)
		}
	case *map[string]string:
		if done = typeOf(b) == msgp.MapType; done {
			*p, rest, err = readStringMap(b, m)
		}
	case *any:
		done = true
		*p, rest, err = decodeAny(b, m)
	case *map[string]any:
		if done = typeOf(b) == msgp.MapType; done {
			var v any
			m.depth = 1
			if v, rest, err = decodeMap(b, m); err == nil {
				*p = v.(map[string]any)
			}
		}
	}
	return rest, done, err
}

package codec

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

func slicePlan(t reflect.Type) *plan {
	elem := t.Elem()
	return &plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(b), nil
			}
			return encodeList(c, b, v, elem, m)
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			n, rest, err := listHeader(b, v)
			if err != nil {
				return b, err
			}
			// A struct of three strings takes three bytes when empty and 48 in memory: grow with what is really there.
			s := reflect.MakeSlice(t, min(n, 1024), min(n, 1024))
			for i := range n {
				if i == s.Len() {
					s = reflect.AppendSlice(s, reflect.MakeSlice(t, min(n-i, i), min(n-i, i)))
				}
				if rest, err = decodeElem(c, rest, s.Index(i), elem, i, m); err != nil {
					return b, err
				}
			}
			v.Set(s)
			return rest, nil
		},
	}
}

func arrayPlan(t reflect.Type) *plan {
	elem := t.Elem()
	return &plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) { return encodeList(c, b, v, elem, m) },
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			n, rest, err := listHeader(b, v)
			if err != nil {
				return b, err
			}
			if n != t.Len() {
				return b, fmt.Errorf("a list of %d does not fit %s", n, t)
			}
			for i := range n {
				if rest, err = decodeElem(c, rest, v.Index(i), elem, i, m); err != nil {
					return b, err
				}
			}
			return rest, nil
		},
	}
}

func encodeList(c *Codec, b []byte, v reflect.Value, elem reflect.Type, m mode) ([]byte, error) {
	m, err := m.down()
	if err != nil {
		return b, err
	}
	p := c.planOf(elem)
	b = msgp.AppendArrayHeader(b, uint32(v.Len()))
	for i := range v.Len() {
		if b, err = p.enc(c, b, v.Index(i), m); err != nil {
			return b, within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return b, nil
}

func listHeader(b []byte, v reflect.Value) (int, []byte, error) {
	if typeOf(b) != msgp.ArrayType {
		return 0, b, mismatch(b, v)
	}
	k, rest, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return 0, b, err
	}
	n, err := header(k, rest, 1)
	return n, rest, err
}

func decodeElem(c *Codec, b []byte, v reflect.Value, elem reflect.Type, i int, m mode) ([]byte, error) {
	m, err := m.down()
	if err != nil {
		return b, err
	}
	rest, err := c.planOf(elem).dec(c, b, v, m)
	if err != nil {
		return b, within("["+strconv.Itoa(i)+"]", err)
	}
	return rest, nil
}

func mapPlan(t reflect.Type) *plan {
	key, elem := t.Key(), t.Elem()
	return &plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(b), nil
			}
			m, err := m.down()
			if err != nil {
				return b, err
			}
			p := c.planOf(elem)
			keys := v.MapKeys() // sorted, so that equal values have equal bytes
			slices.SortFunc(keys, func(x, y reflect.Value) int { return compareKeys(x, y) })
			b = msgp.AppendMapHeader(b, uint32(v.Len()))
			for _, k := range keys {
				if b, err = encodeKey(b, k, m); err != nil {
					return b, err
				}
				if b, err = p.enc(c, b, v.MapIndex(k), m); err != nil {
					return b, within(fmt.Sprint(k), err)
				}
			}
			return b, nil
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			n, rest, err := mapHeader(b, v)
			if err != nil {
				return b, err
			}
			if m, err = m.down(); err != nil {
				return b, err
			}
			p := c.planOf(elem)
			out := reflect.MakeMapWithSize(t, min(n, 1024))
			for range n {
				k, e := reflect.New(key).Elem(), reflect.New(elem).Elem()
				if rest, err = decodeKey(rest, k); err != nil {
					return b, err
				}
				if rest, err = p.dec(c, rest, e, m); err != nil {
					return b, within(fmt.Sprint(k), err)
				}
				out.SetMapIndex(k, e)
			}
			v.Set(out)
			return rest, nil
		},
	}
}

func compareKeys(x, y reflect.Value) int {
	switch {
	case x.Kind() == reflect.String:
		if x.String() < y.String() {
			return -1
		}
		return 1
	case x.CanInt() && x.Int() < y.Int(), x.CanUint() && x.Uint() < y.Uint():
		return -1
	}
	return 1
}

func mapHeader(b []byte, v reflect.Value) (int, []byte, error) {
	if typeOf(b) != msgp.MapType {
		return 0, b, mismatch(b, v)
	}
	k, rest, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return 0, b, err
	}
	n, err := header(k, rest, 2)
	return n, rest, err
}

func encodeKey(b []byte, k reflect.Value, m mode) ([]byte, error) {
	switch {
	case k.Kind() == reflect.String:
		return msgp.AppendString(b, k.String()), nil
	case m.json:
		return msgp.AppendString(b, fmt.Sprint(k)), nil
	case k.CanInt():
		return msgp.AppendInt64(b, k.Int()), nil
	}
	return msgp.AppendUint64(b, k.Uint()), nil
}

func decodeKey(b []byte, k reflect.Value) ([]byte, error) {
	if k.Kind() == reflect.String {
		return stringPlan.dec(nil, b, k, mode{})
	}
	if typeOf(b) == msgp.StrType { // JSON, and Python callers that went through it
		s, rest, err := msgp.ReadStringBytes(b)
		if err != nil {
			return b, err
		}
		if k.CanInt() {
			x, err := strconv.ParseInt(s, 10, k.Type().Bits())
			k.SetInt(x)
			return rest, keyError(s, k, err)
		}
		x, err := strconv.ParseUint(s, 10, k.Type().Bits())
		k.SetUint(x)
		return rest, keyError(s, k, err)
	}
	if k.CanInt() {
		return intPlan.dec(nil, b, k, mode{})
	}
	return uintPlan.dec(nil, b, k, mode{})
}

func keyError(s string, k reflect.Value, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("key %q is no %s", s, k.Type())
}

func structPlan(t reflect.Type) *plan {
	fields := fieldsOf(t)
	index := make(map[string]int, len(fields))
	for i, f := range fields {
		index[f.name] = i
	}
	return &plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			m, err := m.down()
			if err != nil {
				return b, err
			}
			n := 0
			present := make([]reflect.Value, len(fields))
			for i, f := range fields {
				fv, err := v.FieldByIndexErr(f.index)
				if err == nil && (!f.omitEmpty || !fv.IsZero()) {
					present[i] = fv
					n++
				}
			}
			b = msgp.AppendMapHeader(b, uint32(n))
			for i, fv := range present {
				if !fv.IsValid() {
					continue
				}
				b = msgp.AppendString(b, fields[i].name)
				if b, err = c.planOf(fields[i].typ).enc(c, b, fv, m); err != nil {
					return b, within(fields[i].name, err)
				}
			}
			return b, nil
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			n, rest, err := mapHeader(b, v)
			if err != nil {
				return b, err
			}
			if m, err = m.down(); err != nil {
				return b, err
			}
			for range n {
				if typeOf(rest) != msgp.StrType {
					return b, errors.New("the name of a field must be a string")
				}
				var name []byte
				if name, rest, err = msgp.ReadStringZC(rest); err != nil {
					return b, err
				}
				i, ok := index[string(name)]
				if !ok {
					if rest, err = msgp.Skip(rest); err != nil {
						return b, err
					}
					continue
				}
				f := &fields[i]
				if rest, err = c.planOf(f.typ).dec(c, rest, fieldByIndex(v, f.index), m); err != nil {
					return b, within(f.name, err)
				}
			}
			return rest, nil
		},
	}
}

package codec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

func slicePlan(t reflect.Type) *plan {
	elem, p := &lazyPlan{t: t.Elem()}, &plan{}
	*p = plan{
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
			if rest, ok, err := decodeArray(c, b, v, m, p); ok {
				return rest, err
			}
			n, rest, err := listHeader(b, t)
			if err != nil {
				return b, err
			}
			// An empty struct of three strings takes three bytes on the wire and 48 in memory, so the slice grows
			// with the elements that have arrived.
			s := reflect.MakeSlice(t, min(n, firstRoom), min(n, firstRoom))
			if m, err = m.down(); err != nil {
				return b, err
			}
			p := elem.of(c)
			for i := range n {
				if i == s.Len() {
					s = reflect.AppendSlice(s, reflect.MakeSlice(t, min(n-i, i), min(n-i, i)))
				}
				if rest, err = p.dec(c, rest, s.Index(i), m); err != nil {
					return b, addPath("["+strconv.Itoa(i)+"]", err)
				}
			}
			v.Set(s)
			return rest, nil
		},
	}
	return p
}

func arrayPlan(t reflect.Type) *plan {
	elem, p := &lazyPlan{t: t.Elem()}, &plan{}
	*p = plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) { return encodeList(c, b, v, elem, m) },
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if rest, ok, err := decodeArray(c, b, v, m, p); ok {
				return rest, err
			}
			n, rest, err := listHeader(b, t)
			if err != nil {
				return b, err
			}
			if n != t.Len() {
				return b, fmt.Errorf("a list of %d does not fit %s", n, t)
			}
			if m, err = m.down(); err != nil {
				return b, err
			}
			p := elem.of(c)
			for i := range n {
				if rest, err = p.dec(c, rest, v.Index(i), m); err != nil {
					return b, addPath("["+strconv.Itoa(i)+"]", err)
				}
			}
			return rest, nil
		},
	}
	return p
}

func encodeList(c *Codec, b []byte, v reflect.Value, elem *lazyPlan, m mode) ([]byte, error) {
	m, err := m.down()
	if err != nil {
		return b, err
	}
	p := elem.of(c)
	b = msgp.AppendArrayHeader(b, uint32(v.Len()))
	for i := range v.Len() {
		if b, err = p.enc(c, b, v.Index(i), m); err != nil {
			return b, addPath("["+strconv.Itoa(i)+"]", err)
		}
	}
	return b, nil
}

func listHeader(b []byte, t reflect.Type) (int, []byte, error) {
	if typeOf(b) != msgp.ArrayType {
		return 0, b, mismatch(b, t)
	}
	k, rest, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return 0, b, err
	}
	n, err := header(k, rest, 1)
	return n, rest, err
}

func mapPlan(t reflect.Type) *plan {
	key, elem := t.Key(), &lazyPlan{t: t.Elem()}
	return &plan{
		enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(b), nil
			}
			m, err := m.down()
			if err != nil {
				return b, err
			}
			p := elem.of(c)
			keys := v.MapKeys() // sorted, so that equal values have equal bytes
			if textKeyed(key) {
				if err := sortByText(keys); err != nil {
					return b, err
				}
			} else {
				slices.SortFunc(keys, compareKeys)
			}
			b = msgp.AppendMapHeader(b, uint32(v.Len()))
			for _, k := range keys {
				if b, err = encodeKey(b, k, m); err != nil {
					return b, err
				}
				if b, err = p.enc(c, b, v.MapIndex(k), m); err != nil {
					return b, addPath(keyName(k), err)
				}
			}
			return b, nil
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			n, rest, err := mapHeader(b, t)
			if err != nil {
				return b, err
			}
			if m, err = m.down(); err != nil {
				return b, err
			}
			p := elem.of(c)
			out := reflect.MakeMapWithSize(t, min(n, firstRoom))
			k, e := reflect.New(key).Elem(), reflect.New(elem.t).Elem() // SetMapIndex copies both
			for range n {
				e.SetZero()
				if rest, err = decodeKey(rest, k); err != nil {
					return b, err
				}
				if rest, err = p.dec(c, rest, e, m); err != nil {
					return b, addPath(keyName(k), err)
				}
				out.SetMapIndex(k, e)
			}
			if err := checkKeys(out.Len(), n, m); err != nil {
				return b, err
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

func mapHeader(b []byte, t reflect.Type) (int, []byte, error) {
	if typeOf(b) != msgp.MapType {
		return 0, b, mismatch(b, t)
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
	case textKeyed(k.Type()):
		text, err := keyText(k)
		return msgp.AppendString(b, text), err
	case m.json:
		return msgp.AppendString(b, keyName(k)), nil
	case k.CanInt():
		return appendInt(b, k.Int()), nil
	}
	return msgp.AppendUint64(b, k.Uint()), nil
}

// keyName is a key as text. No method of the key is called: a time.Month is written as its number.
func keyName(k reflect.Value) string {
	switch {
	case k.Kind() == reflect.String:
		return k.String()
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10)
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10)
	}
	text, err := keyText(k)
	if err != nil {
		return k.Type().String()
	}
	return text
}

func decodeKey(b []byte, k reflect.Value) ([]byte, error) {
	if k.Kind() == reflect.String {
		return stringPlan.dec(nil, b, k, mode{})
	}
	if textKeyed(k.Type()) {
		return decodeTextKey(b, k)
	}
	if typeOf(b) == msgp.StrType { // from JSON, or from a Python caller whose value went through JSON
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

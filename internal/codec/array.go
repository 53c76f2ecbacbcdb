package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"strings"
	"unsafe"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/helvetype"
)

// Arrays of numbers are the MessagePack extension 2 (docs/wire.md): a header with the type of the items and the shape, and then the items as they lie
// in memory. Machines on which Helve runs are little-endian, as the items are. A [helvetype.Array] is written in this
// form. The form is read into a [helvetype.Array], a slice of as many levels as the array has dimensions, or any.
const arrayExt = 2

// Limits of arrays that are read.
const (
	arrayDims  = 32
	arrayAlign = 16      // the items begin at a multiple of it
	arrayEmpty = 1 << 16 // lists without an item that an array may be as lists
)

// arrayValue is an array as it is on the wire.
type arrayValue struct {
	kind  byte // 'b' for bool, 'i', 'u' or 'f'
	size  int  // of one item in bytes
	shape []int
	data  []byte
}

var errArray = errors.New("an array that does not parse")

// readArray reads the first value of b if it is an array; ok is false if it is something else.
func readArray(b []byte) (a arrayValue, rest []byte, ok bool, err error) {
	if len(b) == 0 || b[0] < 0xc7 || b[0] > 0xc9 && (b[0] < 0xd4 || b[0] > 0xd8) {
		return a, b, false, nil
	}
	size, at := extSize(b)
	if at == 0 || int8(b[at-1]) != arrayExt {
		return a, b, false, nil
	}
	if size > len(b)-at {
		return a, b, true, msgp.ErrShortBytes
	}
	a, err = parseArray(b[at : at+size])
	return a, b[at+size:], true, err
}

// extSize is the size of an extension's data, and the place where the data begins; 0 if b is too short for that.
func extSize(b []byte) (size, at int) {
	switch c := b[0]; {
	case c >= 0xd4 && c <= 0xd8 && len(b) >= 2:
		return 1 << (c - 0xd4), 2
	case c == 0xc7 && len(b) >= 3:
		return int(b[1]), 3
	case c == 0xc8 && len(b) >= 4:
		return int(binary.BigEndian.Uint16(b[1:])), 4
	case c == 0xc9 && len(b) >= 6:
		return int(binary.BigEndian.Uint32(b[1:])), 6
	}
	return 0, 0
}

func parseArray(d []byte) (a arrayValue, err error) {
	if len(d) < 4 {
		return a, errArray
	}
	a.kind, a.size = d[0], int(d[1])
	dims := int(d[2])
	head := align(4 + 8*dims)
	valid := map[byte][]int{'b': {1}, 'i': {1, 2, 4, 8}, 'u': {1, 2, 4, 8}, 'f': {2, 4, 8}}[a.kind]
	known := false
	for _, s := range valid {
		known = known || s == a.size
	}
	if !known || dims > arrayDims || head > len(d) {
		return a, errArray
	}
	a.data = d[head:]
	items, nonzero := uint64(1), uint64(1)
	for i := range dims {
		n := binary.LittleEndian.Uint64(d[4+8*i:])
		over, product := bits.Mul64(nonzero, max(n, 1))
		if over != 0 || product > math.MaxInt32*16 {
			return a, errArray
		}
		nonzero = product
		items *= n
		a.shape = append(a.shape, int(n))
	}
	if items*uint64(a.size) != uint64(len(a.data)) {
		return a, errArray
	}
	return a, nil
}

func align(n int) int { return (n + arrayAlign - 1) / arrayAlign * arrayAlign }

// items is the number of items.
func (a arrayValue) items() int { return len(a.data) / a.size }

// fits says that the items are of the kind and size of a Go type.
func (a arrayValue) fits(t reflect.Type) bool {
	return kindOf(t) == a.kind && int(t.Size()) == a.size && a.kind != 0
}

// kindOf is the kind of items of a Go type; 0 for types that are no numbers.
func kindOf(t reflect.Type) byte {
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return 'b'
	case k >= reflect.Int && k <= reflect.Int64:
		return 'i'
	case k >= reflect.Uint && k <= reflect.Uint64:
		return 'u'
	case k == reflect.Float32 || k == reflect.Float64:
		return 'f'
	}
	return 0
}

// copyTo copies the items into a new slice of a type that fits.
func (a arrayValue) copyTo(slice reflect.Type) reflect.Value {
	n := a.items()
	s := reflect.MakeSlice(slice, n, n)
	if n > 0 {
		copy(unsafe.Slice((*byte)(s.UnsafePointer()), len(a.data)), a.data)
		if a.kind == 'b' {
			for i, x := range a.data { // a bool of Go is 0 or 1; other bytes may have been sent
				s.Index(i).SetBool(x != 0)
			}
		}
	}
	return s
}

// expand writes the array as nested lists. An array without items may have a shape of many lists: for example, the shape [1000000 0] is a million
// empty lists in a few bytes, which is an error.
func (a arrayValue) expand(b []byte) ([]byte, error) {
	lists := 1
	for _, n := range a.shape {
		if len(a.data) > 0 || n == 0 {
			break
		}
		if lists *= n; lists > arrayEmpty {
			return b, fmt.Errorf("an array of shape %v has more than %d empty lists", a.shape, arrayEmpty)
		}
	}
	b, _ = a.expandFrom(b, a.shape, a.data)
	return b, nil
}

func (a arrayValue) expandFrom(b []byte, shape []int, data []byte) (out, rest []byte) {
	if len(shape) == 0 {
		return a.appendItem(b, data), data[a.size:]
	}
	b = msgp.AppendArrayHeader(b, uint32(shape[0]))
	for range shape[0] {
		b, data = a.expandFrom(b, shape[1:], data)
	}
	return b, data
}

// appendItem writes the first item of data.
func (a arrayValue) appendItem(b, data []byte) []byte {
	var bits uint64
	for i := range a.size {
		bits |= uint64(data[i]) << (8 * i)
	}
	switch {
	case a.kind == 'b':
		return msgp.AppendBool(b, bits != 0)
	case a.kind == 'u':
		return msgp.AppendUint64(b, bits)
	case a.kind == 'i':
		shift := 64 - 8*a.size
		return appendInt(b, int64(bits<<shift)>>shift)
	case a.size == 8:
		return msgp.AppendFloat64(b, math.Float64frombits(bits))
	case a.size == 4:
		return msgp.AppendFloat32(b, math.Float32frombits(uint32(bits)))
	}
	return msgp.AppendFloat32(b, half(uint16(bits)))
}

// half is a float16 of IEEE 754, which Go does not have.
func half(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp == 0:
		v := float32(frac) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// single is the array with items of float32 in place of float16.
func (a arrayValue) single() arrayValue {
	if a.size != 2 || a.kind != 'f' {
		return a
	}
	data := make([]byte, 0, 2*len(a.data))
	for i := 0; i < len(a.data); i += 2 {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(half(binary.LittleEndian.Uint16(a.data[i:]))))
	}
	return arrayValue{'f', 4, a.shape, data}
}

// decodeArray reads an array into a slice or an array of Go; ok is false if the value is no array. Items of the same type in one dimension are
// copied; all others are read as lists, with the rules of lists: integers fit floats, and no float fits an integer.
func decodeArray(c *Codec, b []byte, v reflect.Value, m mode, p *plan) (rest []byte, ok bool, err error) {
	a, rest, ok, err := readArray(b)
	if !ok || err != nil {
		return b, ok, err
	}
	t := v.Type()
	if t.Kind() == reflect.Slice && len(a.shape) == 1 && a.fits(t.Elem()) && !HasMarshaler(t.Elem()) {
		v.Set(a.copyTo(t))
		return rest, true, nil
	}
	if len(a.shape) == 0 {
		return b, true, fmt.Errorf("an array without dimensions does not fit %s", t)
	}
	lists, err := a.expand(nil)
	if err == nil {
		_, err = p.dec(c, lists, v, m)
	}
	return rest, true, err
}

// anyArray is an array as the value of an any.
func anyArray(a arrayValue) any {
	a = a.single()
	for _, t := range arrayTypes {
		if data, _ := t.FieldByName("Data"); a.fits(data.Type.Elem()) {
			v := reflect.New(t).Elem()
			v.Field(0).Set(reflect.ValueOf(append([]int{}, a.shape...)))
			v.Field(1).Set(a.copyTo(data.Type))
			return v.Interface()
		}
	}
	return nil // every kind and size has a type
}

var arrayTypes = []reflect.Type{
	reflect.TypeFor[helvetype.Array[float32]](), reflect.TypeFor[helvetype.Array[float64]](), reflect.TypeFor[helvetype.Array[int64]](),
	reflect.TypeFor[helvetype.Array[int32]](), reflect.TypeFor[helvetype.Array[int16]](), reflect.TypeFor[helvetype.Array[int8]](),
	reflect.TypeFor[helvetype.Array[uint64]](), reflect.TypeFor[helvetype.Array[uint32]](), reflect.TypeFor[helvetype.Array[uint16]](),
	reflect.TypeFor[helvetype.Array[uint8]](), reflect.TypeFor[helvetype.Array[bool]](),
}

// isArray says that a type is a [helvetype.Array].
func isArray(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.Name(), "Array[") && t.PkgPath() == arrayTypes[0].PkgPath()
}

// numbersPlan is the plan of a [helvetype.Array]. In JSON and in pickles it is nested lists. The zero value is nil, None in Python.
func numbersPlan(t reflect.Type) *plan {
	slice := t.Field(1).Type
	elem := slice.Elem()
	return &plan{
		enc: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			a := arrayValue{kind: kindOf(elem), size: int(elem.Size()), shape: v.Field(0).Interface().([]int)}
			if a.shape == nil && v.Field(1).IsNil() { // no array, as a slice that is nil is no list
				return msgp.AppendNil(b), nil
			}
			n := 1
			for _, d := range a.shape {
				if d < 0 || d > 0 && n > math.MaxInt/d {
					return b, fmt.Errorf("an array of shape %v", a.shape)
				}
				n *= d
			}
			if n != v.Field(1).Len() || len(a.shape) > arrayDims {
				return b, fmt.Errorf("an array of shape %v has %d items", a.shape, v.Field(1).Len())
			}
			if n > 0 {
				a.data = unsafe.Slice((*byte)(v.Field(1).UnsafePointer()), n*a.size)
			}
			if m.json || m.pickle {
				return a.expand(b)
			}
			return a.append(b), nil
		},
		dec: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			if typeOf(b) == msgp.NilType {
				v.SetZero()
				return b[1:], nil
			}
			a, rest, ok, err := readArray(b)
			switch {
			case err != nil:
				return b, err
			case !ok:
				return decodeNested(c, b, v, m)
			case a.fits(elem):
				v.Field(1).Set(a.copyTo(slice))
			default:
				flat := arrayValue{a.kind, a.size, []int{a.items()}, a.data}
				lists, err := flat.expand(nil)
				if err != nil {
					return b, err
				}
				if _, err := c.planOf(slice).dec(c, lists, v.Field(1), m); err != nil {
					return b, err
				}
			}
			v.Field(0).Set(reflect.ValueOf(append([]int{}, a.shape...)))
			return rest, nil
		},
	}
}

// append writes the array as the extension.
func (a arrayValue) append(b []byte) []byte {
	head := align(4 + 8*len(a.shape))
	size := head + len(a.data)
	b = binary.BigEndian.AppendUint32(append(b, 0xc9), uint32(size))
	b = append(b, arrayExt, a.kind, byte(a.size), byte(len(a.shape)), 0)
	for _, n := range a.shape {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, make([]byte, head-4-8*len(a.shape))...)
	return append(b, a.data...)
}

// decodeNested reads nested lists, such as those of JSON, as an array. Lists of one level have one length.
func decodeNested(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	var shape []int
	for at := b; typeOf(at) == msgp.ArrayType; {
		n, rest, err := listHeader(at, v.Type())
		if err != nil {
			return b, err
		}
		shape = append(shape, n)
		if len(shape) > arrayDims {
			return b, fmt.Errorf("lists of more than %d levels do not fit %s", arrayDims, v.Type())
		}
		if n == 0 {
			break
		}
		at = rest
	}
	if shape == nil {
		return b, mismatch(b, v.Type())
	}
	data := reflect.New(v.Field(1).Type()).Elem()
	rest, err := flatten(c, b, data, shape, c.planOf(data.Type().Elem()), m)
	if err != nil {
		return b, err
	}
	v.Field(0).Set(reflect.ValueOf(shape))
	v.Field(1).Set(data)
	return rest, nil
}

func flatten(c *Codec, b []byte, into reflect.Value, shape []int, p *plan, m mode) (rest []byte, err error) {
	if len(shape) == 0 {
		item := reflect.New(into.Type().Elem()).Elem()
		if rest, err = p.dec(c, b, item, m); err == nil {
			into.Set(reflect.Append(into, item))
		}
		return rest, err
	}
	n, rest, err := listHeader(b, into.Type())
	if err == nil && n != shape[0] {
		err = fmt.Errorf("lists of %d and of %d items are no array", shape[0], n)
	}
	for range n {
		if err != nil {
			break
		}
		rest, err = flatten(c, rest, into, shape[1:], p, m)
	}
	return rest, err
}

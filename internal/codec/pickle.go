package codec

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/codec/pickle"
)

// Pickle goes through MessagePack in both directions, as JSON does, for the same reason. MessagePack has no form for
// an int of more than 64 bits. In this walk such an int is an extension, which is never sent to a peer.

// bigExt is the type of the extension for large integers. Its bytes are 1 for a negative number or 0, then the number
// in big-endian order.
const bigExt = 66

// A pickle can refer to one value many times, for a few bytes each. The written-out form may be this much larger than
// the pickle.
const (
	sharedTimes = 16
	sharedRoom  = 16 << 20
)

func (c *Codec) appendPickle(dst []byte, v any) ([]byte, error) {
	mp, err := c.appendValue(nil, v, mode{pickle: true})
	if err != nil {
		return dst, err
	}
	w := pickle.Begin(dst)
	if _, err := writePickle(w, mp, mode{}); err != nil {
		return dst, err
	}
	return w.End(), nil
}

// writePickle writes the first value of mp as a pickle and returns the rest of mp.
func writePickle(w *pickle.Writer, mp []byte, m mode) (rest []byte, err error) {
	m, err = m.down()
	if err != nil {
		return mp, err
	}
	switch typeOf(mp) {
	case msgp.NilType:
		w.Nil()
		return mp[1:], nil
	case msgp.BoolType:
		v, rest, err := msgp.ReadBoolBytes(mp)
		w.Bool(v)
		return rest, err
	case msgp.IntType:
		v, rest, err := msgp.ReadInt64Bytes(mp)
		w.Int(v)
		return rest, err
	case msgp.UintType:
		v, rest, err := msgp.ReadUint64Bytes(mp)
		w.Uint(v)
		return rest, err
	case msgp.Float32Type, msgp.Float64Type:
		v, rest, err := msgp.ReadFloat64Bytes(mp)
		w.Float(v)
		return rest, err
	case msgp.StrType:
		v, rest, err := msgp.ReadStringZC(mp)
		if err != nil {
			return mp, err
		}
		return rest, w.String(v)
	case msgp.BinType:
		v, rest, err := msgp.ReadBytesZC(mp)
		w.Bytes(v)
		return rest, err
	case msgp.TimeType:
		v, rest, err := msgp.ReadTimeUTCBytes(mp)
		if err != nil {
			return mp, err
		}
		return rest, w.Time(v)
	case msgp.ArrayType:
		n, rest, err := msgp.ReadArrayHeaderBytes(mp)
		w.List(int(n))
		for i := uint32(0); i < n && err == nil; i++ {
			if rest, err = writePickle(w, rest, m); err != nil {
				return mp, addPath("["+strconv.Itoa(int(i))+"]", err)
			}
		}
		w.EndList(int(n))
		return rest, err
	case msgp.MapType:
		n, rest, err := msgp.ReadMapHeaderBytes(mp)
		w.Dict(int(n))
		for i := uint32(0); i < n && err == nil; i++ {
			key := rest
			if rest, err = writePickledKey(w, rest); err != nil {
				return mp, err
			}
			if rest, err = writePickle(w, rest, m); err != nil {
				name, _, _ := decodeName(key)
				return mp, addPath(name, err)
			}
		}
		w.EndDict(int(n))
		return rest, err
	case msgp.ExtensionType:
		if v, rest, ok := readBig(mp); ok {
			return rest, w.Big(v)
		}
		if a, rest, ok, err := readArray(mp); ok && err == nil {
			lists, err := a.expand(nil)
			if err == nil {
				_, err = writePickle(w, lists, m)
			}
			return rest, err
		}
	case msgp.InvalidType:
		return mp, errors.New("the value is cut short or malformed")
	}
	return mp, fmt.Errorf("pickle has no form for %s", kindName(mp))
}

// writePickledKey writes a key of a map: text, or an integer. A type's own MessagePack may have other keys, which are
// an error.
func writePickledKey(w *pickle.Writer, mp []byte) (rest []byte, err error) {
	switch typeOf(mp) {
	case msgp.StrType:
		v, rest, err := msgp.ReadStringZC(mp)
		if err != nil {
			return mp, err
		}
		return rest, w.Key(v)
	case msgp.IntType, msgp.UintType:
		return writePickle(w, mp, mode{})
	}
	return mp, fmt.Errorf("cannot use %s as the key of a map", kindName(mp))
}

// appendPickled writes the value of a pickle as MessagePack.
func appendPickled(b, data []byte, buffers [][]byte) ([]byte, error) {
	v, err := pickle.Read(data, buffers, maxDepth)
	if err != nil {
		return b, err
	}
	return appendTree(b, v, len(b)+sharedTimes*len(data)+sharedRoom, mode{})
}

// appendTree writes a value that [pickle.Read] returned as MessagePack. An output longer than limit is an error.
func appendTree(b []byte, v any, limit int, m mode) ([]byte, error) {
	m, err := m.down()
	if err != nil {
		return b, err
	}
	if len(b) > limit {
		return b, errors.New("pickle refers to its values so often that it is too large without the references")
	}
	switch v := v.(type) {
	case nil:
		return msgp.AppendNil(b), nil
	case bool:
		return msgp.AppendBool(b, v), nil
	case int64:
		return appendInt(b, v), nil
	case *big.Int:
		return appendBig(b, v), nil
	case float64:
		return msgp.AppendFloat64(b, v), nil
	case string:
		return msgp.AppendString(b, v), nil
	case []byte:
		return msgp.AppendBytes(b, v), nil
	case time.Time:
		return msgp.AppendTimeExt(b, v), nil
	case time.Duration:
		return appendInt(b, int64(v)), nil
	case *pickle.List:
		b = msgp.AppendArrayHeader(b, uint32(len(v.Items)))
		for i, item := range v.Items {
			if b, err = appendTree(b, item, limit, m); err != nil {
				return b, addPath("["+strconv.Itoa(i)+"]", err)
			}
		}
		return b, nil
	case *pickle.Dict:
		b = msgp.AppendMapHeader(b, uint32(len(v.Entries)))
		for _, e := range v.Entries {
			if b, err = appendTree(b, e.Key, limit, m); err != nil {
				return b, fmt.Errorf("a key: %w", err)
			}
			if b, err = appendTree(b, e.Value, limit, m); err != nil {
				return b, addPath(fmt.Sprint(e.Key), err)
			}
		}
		return b, nil
	case *pickle.Object:
		return b, v.Refused()
	}
	return b, fmt.Errorf("pickle holds a %T", v)
}

// ---- integers of more than 64 bits

var bigType = reflect.TypeFor[big.Int]()

func appendBig(b []byte, v *big.Int) []byte {
	switch {
	case v.IsInt64():
		return appendInt(b, v.Int64())
	case v.IsUint64():
		return msgp.AppendUint64(b, v.Uint64())
	}
	data := make([]byte, 1, 1+(v.BitLen()+7)/8)
	if v.Sign() < 0 {
		data[0] = 1
	}
	data = append(data, v.Bytes()...)
	b, _ = msgp.AppendExtension(b, &msgp.RawExtension{Type: bigExt, Data: data}) // the error belongs to a method of another type
	return b
}

// readBig reads an integer of more than 64 bits. The result ok is false if the first value of b is something else.
func readBig(b []byte) (v *big.Int, rest []byte, ok bool) {
	if typeOf(b) != msgp.ExtensionType {
		return nil, b, false
	}
	ext := msgp.RawExtension{Type: bigExt}
	rest, err := msgp.ReadExtensionBytes(b, &ext)
	if err != nil || len(ext.Data) == 0 {
		return nil, b, false
	}
	v = new(big.Int).SetBytes(ext.Data[1:])
	if ext.Data[0] == 1 {
		v.Neg(v)
	}
	return v, rest, true
}

// readBigFloat reads an integer of more than 64 bits as a float of type t. Any other value is a mismatch.
func readBigFloat(b []byte, t reflect.Type, m mode) (float64, []byte, error) {
	x, rest, ok := readBig(b)
	if !ok || !m.pickle && !m.json {
		return 0, b, mismatch(b, t)
	}
	f, _ := new(big.Float).SetInt(x).Float64()
	if math.IsInf(f, 0) {
		return 0, b, fmt.Errorf("the number is out of range of %s", t)
	}
	return f, rest, nil
}

// bigPlan is the plan of big.Int: text, as big.Int writes itself, but an int in pickles, where an int has no limit.
// Integers are read in all forms, in JSON also those of more than 64 bits.
var bigPlan = &plan{
	enc: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		x := pointerTo(v).(*big.Int)
		if m.pickle {
			return appendBig(b, x), nil
		}
		s, err := x.MarshalText()
		return msgp.AppendStringFromBytes(b, s), err
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		into := v.Addr().Interface().(*big.Int)
		switch typeOf(b) {
		case msgp.StrType:
			s, rest, err := msgp.ReadStringBytes(b)
			if err != nil {
				return b, err
			}
			return rest, into.UnmarshalText([]byte(s))
		case msgp.IntType:
			x, rest, err := msgp.ReadInt64Bytes(b)
			into.SetInt64(x)
			return rest, err
		case msgp.UintType:
			x, rest, err := msgp.ReadUint64Bytes(b)
			into.SetUint64(x)
			return rest, err
		}
		if x, rest, ok := readBig(b); ok && (m.pickle || m.json) {
			into.Set(x)
			return rest, nil
		}
		return b, mismatch(b, v.Type())
	},
}

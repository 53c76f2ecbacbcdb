package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"
	"unicode/utf8"
)

// Opcodes, by the names of pickletools.
const (
	opMark           = '('
	opStop           = '.'
	opPop            = '0'
	opPopMark        = '1'
	opDup            = '2'
	opFloat          = 'F'
	opInt            = 'I'
	opBinInt         = 'J'
	opBinInt1        = 'K'
	opLong           = 'L'
	opBinInt2        = 'M'
	opNone           = 'N'
	opPersID         = 'P'
	opBinPersID      = 'Q'
	opReduce         = 'R'
	opString         = 'S'
	opBinString      = 'T'
	opShortBinString = 'U'
	opUnicode        = 'V'
	opBinUnicode     = 'X'
	opAppend         = 'a'
	opBuild          = 'b'
	opGlobal         = 'c'
	opDict           = 'd'
	opEmptyDict      = '}'
	opAppends        = 'e'
	opGet            = 'g'
	opBinGet         = 'h'
	opInst           = 'i'
	opLongBinGet     = 'j'
	opList           = 'l'
	opEmptyList      = ']'
	opObj            = 'o'
	opPut            = 'p'
	opBinPut         = 'q'
	opLongBinPut     = 'r'
	opSetItem        = 's'
	opTuple          = 't'
	opEmptyTuple     = ')'
	opSetItems       = 'u'
	opBinFloat       = 'G'
	// protocol 2
	opProto    = 0x80
	opNewObj   = 0x81
	opExt1     = 0x82
	opExt2     = 0x83
	opExt4     = 0x84
	opTuple1   = 0x85
	opTuple2   = 0x86
	opTuple3   = 0x87
	opNewTrue  = 0x88
	opNewFalse = 0x89
	opLong1    = 0x8a
	opLong4    = 0x8b
	// protocol 3
	opBinBytes      = 'B'
	opShortBinBytes = 'C'
	// protocol 4
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opBinBytes8       = 0x8e
	opEmptySet        = 0x8f
	opAddItems        = 0x90
	opFrozenSet       = 0x91
	opNewObjEx        = 0x92
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
	// protocol 5
	opByteArray8     = 0x96
	opNextBuffer     = 0x97
	opReadOnlyBuffer = 0x98
)

// Writer writes one value as a pickle of protocol 4, without frames, which are optional. [Begin] makes a Writer, and
// [Writer.End] returns its pickle. A list is written as [Writer.List], its items, and [Writer.EndList], a dict
// likewise; the Writer does not check that they match. It is not safe for concurrent use.
type Writer struct {
	b        []byte
	memo     int            // number of entries in the reader's memo so far
	keys     map[string]int // positions of keys in the memo
	datetime int            // position of the class in the memo plus 1, or 0
	utc      int
}

// Begin starts a pickle behind dst.
func Begin(dst []byte) *Writer { return &Writer{b: append(dst, opProto, 4)} }

// End returns dst with the pickle behind it.
func (w *Writer) End() []byte { return append(w.b, opStop) }

// Nil writes None.
func (w *Writer) Nil() { w.b = append(w.b, opNone) }

// Bool writes a bool.
func (w *Writer) Bool(v bool) {
	if v {
		w.b = append(w.b, opNewTrue)
	} else {
		w.b = append(w.b, opNewFalse)
	}
}

// Int writes an int.
func (w *Writer) Int(v int64) {
	switch {
	case v >= 0 && v <= math.MaxUint8:
		w.b = append(w.b, opBinInt1, byte(v))
	case v >= 0 && v <= math.MaxUint16:
		w.b = binary.LittleEndian.AppendUint16(append(w.b, opBinInt2), uint16(v))
	case v >= math.MinInt32 && v <= math.MaxInt32:
		w.b = binary.LittleEndian.AppendUint32(append(w.b, opBinInt), uint32(v))
	default:
		w.b = binary.LittleEndian.AppendUint64(append(w.b, opLong1, 8), uint64(v))
	}
}

// Uint writes an int.
func (w *Writer) Uint(v uint64) {
	if v <= math.MaxInt64 {
		w.Int(int64(v))
		return
	}
	w.b = append(binary.LittleEndian.AppendUint64(append(w.b, opLong1, 9), v), 0)
}

// Big writes an int. It does not keep v.
func (w *Writer) Big(v *big.Int) error {
	if v.IsInt64() {
		w.Int(v.Int64())
		return nil
	}
	le := twos(v)
	switch {
	case len(le) <= math.MaxUint8:
		w.b = append(w.b, opLong1, byte(len(le)))
	case len(le) <= math.MaxInt32:
		w.b = binary.LittleEndian.AppendUint32(append(w.b, opLong4), uint32(len(le)))
	default:
		return fmt.Errorf("an int of %d bytes is too large for a pickle", len(le))
	}
	w.b = append(w.b, le...)
	return nil
}

// twos is v in two's complement, little-endian.
func twos(v *big.Int) []byte {
	n := v.BitLen()/8 + 1 // one more byte has room for the sign
	le := make([]byte, n)
	if v.Sign() < 0 {
		v = new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(n)*8))
	}
	v.FillBytes(le)
	slices.Reverse(le)
	return le
}

// Float writes a float, NaN and the infinities too.
func (w *Writer) Float(v float64) {
	w.b = binary.BigEndian.AppendUint64(append(w.b, opBinFloat), math.Float64bits(v))
}

var errNotUTF8 = errors.New("the text is not UTF-8, which a str of Python cannot hold")

// String writes a str. Text that is not UTF-8 is an error.
func (w *Writer) String(v []byte) error {
	if !utf8.Valid(v) {
		return errNotUTF8
	}
	switch n := len(v); {
	case n <= math.MaxUint8:
		w.b = append(w.b, opShortBinUnicode, byte(n))
	case uint64(n) <= math.MaxUint32:
		w.b = binary.LittleEndian.AppendUint32(append(w.b, opBinUnicode), uint32(n))
	default:
		w.b = binary.LittleEndian.AppendUint64(append(w.b, opBinUnicode8), uint64(n))
	}
	w.b = append(w.b, v...)
	return nil
}

const (
	keysMax = 1024 // number of keys that a Writer remembers: enough for structs, not for a large dictionary
	keyMin  = 2    // a shorter key costs as much as a reference to it
)

// Key writes a str that is likely to come again, as the keys of records do. From the second time on it is a
// reference.
func (w *Writer) Key(v []byte) error {
	if len(v) < keyMin {
		return w.String(v)
	}
	if at, ok := w.keys[string(v)]; ok {
		w.get(at)
		return nil
	}
	if err := w.String(v); err != nil || len(w.keys) == keysMax {
		return err
	}
	if w.keys == nil {
		w.keys = map[string]int{}
	}
	w.keys[string(v)] = w.put()
	return nil
}

func (w *Writer) put() (at int) {
	w.b = append(w.b, opMemoize)
	w.memo++
	return w.memo - 1
}

func (w *Writer) get(at int) {
	if at <= math.MaxUint8 {
		w.b = append(w.b, opBinGet, byte(at))
		return
	}
	w.b = binary.LittleEndian.AppendUint32(append(w.b, opLongBinGet), uint32(at))
}

// Bytes writes bytes.
func (w *Writer) Bytes(v []byte) {
	switch n := len(v); {
	case n <= math.MaxUint8:
		w.b = append(w.b, opShortBinBytes, byte(n))
	case uint64(n) <= math.MaxUint32:
		w.b = binary.LittleEndian.AppendUint32(append(w.b, opBinBytes), uint32(n))
	default:
		w.b = binary.LittleEndian.AppendUint64(append(w.b, opBinBytes8), uint64(n))
	}
	w.b = append(w.b, v...)
}

// Time writes a datetime in UTC. The part below a microsecond is cut off; a year that Python does not have is an
// error.
func (w *Writer) Time(t time.Time) error {
	t = t.UTC()
	y := t.Year()
	if y < 1 || y > 9999 {
		return fmt.Errorf("the year %d has no datetime in Python", y)
	}
	if w.datetime == 0 {
		w.global("datetime", "datetime")
		w.datetime = w.put() + 1
	} else {
		w.get(w.datetime - 1)
	}
	us := t.Nanosecond() / 1000
	w.Bytes([]byte{
		byte(y >> 8), byte(y), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()),
		byte(us >> 16), byte(us >> 8), byte(us),
	})
	if w.utc == 0 {
		w.global("datetime", "timezone")
		w.global("datetime", "timedelta")
		w.b = append(w.b, opBinInt1, 0, opBinInt1, 0, opBinInt1, 0, opTuple3, opReduce, opTuple1, opReduce)
		w.utc = w.put() + 1
	} else {
		w.get(w.utc - 1)
	}
	w.b = append(w.b, opTuple2, opReduce)
	return nil
}

func (w *Writer) global(module, class string) {
	w.b = append(append(w.b, opShortBinUnicode, byte(len(module))), module...)
	w.b = append(append(w.b, opShortBinUnicode, byte(len(class))), class...)
	w.b = append(w.b, opStackGlobal)
}

// List begins a list of n items.
func (w *Writer) List(n int) { w.begin(opEmptyList, n) }

// EndList ends a list of n items.
func (w *Writer) EndList(n int) { w.end(opAppends, n) }

// Dict begins a dict of n keys, each followed by its value.
func (w *Writer) Dict(n int) { w.begin(opEmptyDict, n) }

// EndDict ends a dict of n keys.
func (w *Writer) EndDict(n int) { w.end(opSetItems, n) }

func (w *Writer) begin(op byte, n int) {
	w.b = append(w.b, op)
	if n > 0 {
		w.b = append(w.b, opMark)
	}
}

func (w *Writer) end(op byte, n int) {
	if n > 0 {
		w.b = append(w.b, op)
	}
}

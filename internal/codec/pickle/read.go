package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Protocol is the newest protocol that [Read] reads.
const Protocol = 5

// maxDigits is the largest number of digits of an int in text, because the time to read one grows faster than its length.
// CPython has the same limit.
const maxDigits = 4300

var (
	errShort  = errors.New("it ends too early")
	errStack  = errors.New("an operation finds too little on the stack")
	errText   = errors.New("a str is not UTF-8; a surrogate stands for no character and cannot be read")
	errPython = errors.New("a str of Python 2 is not ASCII")
)

// Read reads one pickle of any protocol, which must be all of data. The parameter buffers has the buffers that were
// sent out of band, in order. The value has at most depth levels and does not contain itself, but may refer to a
// container several times, so code that writes it out has to limit the output. The value's bytes share memory with
// data and with the buffers; nothing else of it does.
//
// Read allocates at most a multiple of len(data), whatever lengths data claims.
func Read(data []byte, buffers [][]byte, depth int) (any, error) {
	r := &reader{in: data, buffers: buffers, spare: len(data)}
	v, err := r.run()
	if err != nil {
		if w, ok := errors.AsType[*whole](err); ok {
			return nil, w.error
		}
		return nil, fmt.Errorf("invalid pickle near byte %d: %w", r.at, err)
	}
	if err := acyclic(v, depth); err != nil {
		return nil, err
	}
	return v, nil
}

// Read reads one pickle of any protocol, which must be all of data. The parameter buffers has the buffers that were
// sent out of band, in order. The value has at most depth levels and does not contain itself, but may refer to a
// container several times, so code that writes it out has to limit the output. The value's bytes share memory with
// data and with the buffers; its other parts share none.
//
// Read allocates at most a multiple of len(data), even if data claims larger lengths.
type whole struct{ error }

type reader struct {
	in      []byte
	at      int
	stack   []any
	marks   []int // positions in stack, the innermost last
	memo    []any
	buffers [][]byte
	spare   int // number of bytes that may still be made of text, to which the memo may refer any number of times
}

func (r *reader) run() (any, error) {
	for {
		op, err := r.byte()
		if err != nil {
			return nil, err
		}
		if op == opStop {
			break
		}
		if err := r.step(op); err != nil {
			return nil, err
		}
	}
	if r.at < len(r.in) {
		return nil, fmt.Errorf("%d bytes follow the value", len(r.in)-r.at)
	}
	if len(r.stack) != 1 || len(r.marks) > 0 {
		return nil, errors.New("it does not end with one value")
	}
	return r.stack[0], nil
}

// ---- input

func (r *reader) byte() (byte, error) {
	if r.at == len(r.in) {
		return 0, errShort
	}
	r.at++
	return r.in[r.at-1], nil
}

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.in)-r.at) {
		return nil, errShort
	}
	b := r.in[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return b, nil
}

// uint reads a number of 1, 2, 4 or 8 bytes.
func (r *reader) uint(size int) (uint64, error) {
	b, err := r.take(uint64(size))
	if err != nil {
		return 0, err
	}
	var n [8]byte
	copy(n[:], b)
	return binary.LittleEndian.Uint64(n[:]), nil
}

// sized reads a length, whose size depends on op, and as many bytes. Some lengths are signed in pickletools; read as
// unsigned, a negative one is longer than the input.
func (r *reader) sized(op byte) ([]byte, error) {
	size := 1
	switch op {
	case opBinBytes, opBinUnicode, opBinString, opLong4:
		size = 4
	case opBinBytes8, opBinUnicode8, opByteArray8:
		size = 8
	}
	n, err := r.uint(size)
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

func (r *reader) line() (string, error) {
	rest := r.in[r.at:]
	end := slices.Index(rest, '\n')
	if end < 0 {
		return "", errShort
	}
	r.at += end + 1
	return string(rest[:end]), nil
}

// ---- stack

func (r *reader) push(v any) error {
	r.stack = append(r.stack, v)
	return nil
}

// floor is the position in the stack below which an operation may not take values.
func (r *reader) floor() int {
	if n := len(r.marks); n > 0 {
		return r.marks[n-1]
	}
	return 0
}

func (r *reader) pop() (any, error) {
	n := len(r.stack) - 1
	if n < r.floor() {
		return nil, errStack
	}
	v := r.stack[n]
	r.stack[n] = nil
	r.stack = r.stack[:n]
	return v, nil
}

func (r *reader) top() (any, error) {
	if len(r.stack) <= r.floor() {
		return nil, errStack
	}
	return r.stack[len(r.stack)-1], nil
}

// popMark removes the innermost mark and returns the values above it, which are valid until the next push.
func (r *reader) popMark() ([]any, error) {
	n := len(r.marks) - 1
	if n < 0 {
		return nil, errors.New("a mark is missing")
	}
	from := r.marks[n]
	r.marks = r.marks[:n]
	items := r.stack[from:]
	r.stack = r.stack[:from]
	return items, nil
}

func (r *reader) popN(n int) ([]any, error) {
	from := len(r.stack) - n
	if from < r.floor() {
		return nil, errStack
	}
	items := r.stack[from:]
	r.stack = r.stack[:from]
	return items, nil
}

// ---- memo

// put stores the top of the stack in the memo. An index beyond the length of the pickle is refused: real writers
// number their entries from 0, and the memo is a slice.
func (r *reader) put(at uint64) error {
	v, err := r.top()
	if err != nil {
		return err
	}
	if at >= uint64(len(r.in)) {
		return fmt.Errorf("memo index %d is out of range", at)
	}
	for uint64(len(r.memo)) <= at {
		r.memo = append(r.memo, missing)
	}
	r.memo[at] = v
	return nil
}

// missing is the value of memo entries that were never written.
var missing = new(Object) //nolint:gochecknoglobals // a constant

func (r *reader) get(at uint64) error {
	if at >= uint64(len(r.memo)) || r.memo[at] == any(missing) {
		return fmt.Errorf("memo index %d was never stored", at)
	}
	return r.push(r.memo[at])
}

// ---- operations

func (r *reader) step(op byte) error {
	switch op {
	case opProto:
		v, err := r.byte()
		if err == nil && v > Protocol {
			err = &whole{fmt.Errorf("pickle protocol %d is newer than %d", v, Protocol)}
		}
		return err
	case opFrame: // a hint for readers of files
		n, err := r.uint(8)
		if err == nil && n > uint64(len(r.in)-r.at) {
			err = errShort
		}
		return err
	case opMark:
		r.marks = append(r.marks, len(r.stack))
		return nil
	case opPop:
		if n := len(r.marks); n > 0 && r.marks[n-1] == len(r.stack) {
			r.marks = r.marks[:n-1]
			return nil
		}
		_, err := r.pop()
		return err
	case opPopMark:
		_, err := r.popMark()
		return err
	case opDup:
		v, err := r.top()
		if err != nil {
			return err
		}
		return r.push(v)
	case opNone:
		return r.push(nil)
	case opNewTrue:
		return r.push(true)
	case opNewFalse:
		return r.push(false)
	case opInt, opLong, opFloat, opBinInt, opBinInt1, opBinInt2, opLong1, opLong4, opBinFloat:
		return r.number(op)
	case opString, opBinString, opShortBinString, opUnicode, opBinUnicode, opShortBinUnicode, opBinUnicode8:
		return r.text(op)
	case opBinBytes, opShortBinBytes, opBinBytes8, opByteArray8:
		b, err := r.sized(op)
		if err != nil {
			return err
		}
		return r.push(b)
	case opNextBuffer:
		if len(r.buffers) == 0 {
			return &whole{errors.New("pickle refers to a buffer out of band that was not sent")}
		}
		b := r.buffers[0]
		r.buffers = r.buffers[1:]
		return r.push(b[:len(b):len(b)])
	case opReadOnlyBuffer:
		v, err := r.top()
		if _, ok := v.([]byte); err == nil && !ok {
			err = fmt.Errorf("%s is no buffer", name(v))
		}
		return err
	case opPut, opBinPut, opLongBinPut, opMemoize, opGet, opBinGet, opLongBinGet:
		return r.memory(op)
	case opPersID, opBinPersID:
		return &whole{errors.New("pickle refers to an object outside of it (a persistent id), which Go does not read")}
	case opExt1, opExt2, opExt4:
		n, err := r.uint(1 << (op - opExt1))
		if err == nil {
			err = &whole{fmt.Errorf("pickle holds an instance of class %d of copyreg's extensions, which Go does not read", n)}
		}
		return err
	case opGlobal, opStackGlobal, opReduce, opNewObj, opNewObjEx, opInst, opObj, opBuild:
		return r.object(op)
	}
	return r.container(op)
}

func (r *reader) container(op byte) error {
	switch op {
	case opEmptyList:
		return r.push(&List{})
	case opEmptyTuple:
		return r.push(&List{kind: tuple})
	case opEmptySet:
		return r.push(&List{kind: set})
	case opEmptyDict:
		return r.push(&Dict{})
	case opTuple1, opTuple2, opTuple3:
		items, err := r.popN(int(op-opTuple1) + 1)
		if err != nil {
			return err
		}
		return r.push(&List{Items: slices.Clone(items), kind: tuple})
	case opList, opTuple, opFrozenSet:
		items, err := r.popMark()
		if err != nil {
			return err
		}
		l := &List{Items: slices.Clone(items)}
		switch op {
		case opTuple:
			l.kind = tuple
		case opFrozenSet:
			l.kind = set
		}
		return r.push(l)
	case opDict:
		items, err := r.popMark()
		if err != nil {
			return err
		}
		d := &Dict{}
		if err := extend(d, items); err != nil {
			return err
		}
		return r.push(d)
	case opAppend, opSetItem:
		n := 1
		if op == opSetItem {
			n = 2
		}
		items, err := r.popN(n)
		if err != nil {
			return err
		}
		return r.fill(op, items)
	case opAppends, opAddItems, opSetItems:
		items, err := r.popMark()
		if err != nil {
			return err
		}
		return r.fill(op, items)
	}
	return fmt.Errorf("unknown operation %#x", op)
}

// fill adds items to the container on the stack. The items of an [Object] are dropped.
func (r *reader) fill(op byte, items []any) error {
	into, err := r.top()
	if err != nil {
		return err
	}
	pairs := op == opSetItem || op == opSetItems
	switch into := into.(type) {
	case *Object:
		return nil
	case *Dict:
		if pairs && !into.sealed {
			return extend(into, items)
		}
	case *List:
		if !pairs && !into.sealed && into.kind != tuple && (into.kind == set) == (op == opAddItems) {
			into.Items = append(into.Items, items...)
			return nil
		}
	}
	return fmt.Errorf("%s takes no items", name(into))
}

func extend(d *Dict, items []any) error {
	if len(items)%2 != 0 {
		return errors.New("a key of a dict has no value")
	}
	for i := 0; i < len(items); i += 2 {
		d.Entries = append(d.Entries, Entry{items[i], items[i+1]})
	}
	return nil
}

func (r *reader) memory(op byte) error {
	if op == opMemoize {
		return r.put(uint64(len(r.memo)))
	}
	var at uint64
	var err error
	switch op {
	case opBinPut, opBinGet:
		at, err = r.uint(1)
	case opLongBinPut, opLongBinGet:
		at, err = r.uint(4)
	default:
		var s string
		if s, err = r.line(); err == nil {
			if at, err = strconv.ParseUint(s, 10, 32); err != nil {
				err = errors.New("a memo index is no number")
			}
		}
	}
	switch {
	case err != nil:
		return err
	case op == opPut || op == opBinPut || op == opLongBinPut:
		return r.put(at)
	}
	return r.get(at)
}

func (r *reader) number(op byte) error {
	switch op {
	case opBinInt1, opBinInt2:
		n, err := r.uint(int(op-opBinInt1)/2 + 1)
		if err != nil {
			return err
		}
		return r.push(int64(n))
	case opBinInt:
		n, err := r.uint(4)
		if err != nil {
			return err
		}
		return r.push(int64(int32(n)))
	case opLong1, opLong4:
		le, err := r.sized(op)
		if err != nil {
			return err
		}
		return r.push(fromTwos(le))
	case opBinFloat:
		b, err := r.take(8)
		if err != nil {
			return err
		}
		return r.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	s, err := r.line()
	if err != nil {
		return err
	}
	switch op {
	case opFloat:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return errors.New("a float is no number")
		}
		return r.push(f)
	case opInt:
		if s == "00" || s == "01" {
			return r.push(s == "01")
		}
	}
	digits := strings.TrimSuffix(s, "L")
	if len(digits) > maxDigits {
		return fmt.Errorf("an int has more than %d digits", maxDigits)
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return r.push(n)
	}
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return errors.New("an int is no number")
	}
	return r.push(n)
}

// fromTwos reads an integer in two's complement, little-endian. The result is an int64 if it fits.
func fromTwos(le []byte) any {
	be := slices.Clone(le)
	slices.Reverse(be)
	n := new(big.Int).SetBytes(be)
	if len(be) > 0 && be[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(be))*8))
	}
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

func (r *reader) text(op byte) error {
	switch op {
	case opString, opUnicode:
		s, err := r.line()
		if err != nil {
			return err
		}
		if op == opString {
			s, err = unquote(s)
		} else {
			s, err = rawUnicode(s)
		}
		if err != nil {
			return err
		}
		return r.push(s)
	case opBinString, opShortBinString:
		b, err := r.sized(op)
		if err != nil {
			return err
		}
		if !ascii(b) {
			return &whole{errPython}
		}
		return r.push(string(b))
	}
	b, err := r.sized(op)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return &whole{errText}
	}
	return r.push(string(b))
}

func ascii[S string | []byte](s S) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// rawUnicode reads raw-unicode-escape: Latin-1 with \uXXXX and \UXXXXXXXX.
func rawUnicode(s string) (string, error) {
	out := make([]byte, 0, len(s)+len(s)/8)
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = utf8.AppendRune(out, rune(s[i]))
			continue
		}
		i++
		n := map[byte]int{'u': 4, 'U': 8}[s[i]]
		if n == 0 {
			out = utf8.AppendRune(append(out, '\\'), rune(s[i]))
			continue
		}
		if len(s) < i+1+n {
			return "", errors.New("an escape in a str is cut short")
		}
		c, err := strconv.ParseUint(s[i+1:i+1+n], 16, 32)
		if err != nil || c > utf8.MaxRune {
			return "", errors.New("an escape in a str is no character")
		}
		if !utf8.ValidRune(rune(c)) {
			return "", &whole{errText}
		}
		out = utf8.AppendRune(out, rune(c))
		i += n
	}
	return string(out), nil
}

// unquote reads a string literal of Python 2.
func unquote(s string) (string, error) {
	s = strings.TrimRight(s, " \t\r")
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '\'' && s[0] != '"' {
		return "", errors.New("a str is not quoted")
	}
	s = s[1 : len(s)-1]
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			switch s[i] {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case '\\', '\'', '"':
				c = s[i]
			case 'x':
				if len(s) < i+3 {
					return "", errors.New("an escape in a str is cut short")
				}
				x, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
				if err != nil {
					return "", errors.New("an escape in a str is no character")
				}
				c, i = byte(x), i+2
			default:
				return "", fmt.Errorf("a str has the unknown escape \\%c", s[i])
			}
		}
		if c >= utf8.RuneSelf {
			return "", &whole{errPython}
		}
		out = append(out, c)
	}
	return string(out), nil
}

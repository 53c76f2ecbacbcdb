package codec

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// JSON goes through MessagePack in both directions, so that one walk over Go types serves both. The alternative,
// encoding/json, has other rules for the names of fields at every depth.

var (
	errJSONShort = errors.New("invalid JSON: it ends too early")
	errJSONMore  = errors.New("invalid JSON: more follows the value")
	errJSONText  = errors.New("invalid JSON: it is not UTF-8")
	errJSONPair  = errors.New("invalid JSON: half of a surrogate pair stands in a text")
	errNotText   = errors.New("the text is not UTF-8, which JSON needs; send it as bytes")
)

// jsonError says where a text that is not JSON breaks the rules.
func jsonError(text []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(text, &raw)
	switch {
	case err == nil:
		return nil
	case err.Error() == "unexpected end of JSON input":
		return errJSONShort
	case strings.HasSuffix(err.Error(), "after top-level value"):
		return errJSONMore
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

// maxJSONDigits is the largest number of digits of an integer in JSON, because the time to read one grows with the
// square of its digits. Python has the same limit.
const maxJSONDigits = 4300

// appendJSONText writes a JSON text as MessagePack. Members keep their order, and integers that fit 64 bits stay
// integers.
func appendJSONText(b, text []byte) ([]byte, error) {
	if !json.Valid(text) {
		if err := jsonError(text); err != nil {
			return b, err
		}
	}
	b, _, err := transcode(b, text, mode{})
	return b, err
}

// transcode writes the first value of s as MessagePack and returns the rest of s. The text must be valid JSON.
func transcode(b, s []byte, m mode) (out, rest []byte, err error) {
	m, err = m.down()
	if err != nil {
		return b, s, err
	}
	s = space(s)
	switch s[0] {
	case '{':
		head, n := len(b), 0
		b = append(b, 0xdf, 0, 0, 0, 0) // map 32; the number of members is filled in at the end
		for s = space(s[1:]); s[0] != '}'; n++ {
			if s[0] == ',' {
				s = space(s[1:])
			}
			if b, s, err = transcodeString(b, s); err != nil {
				return b, s, err
			}
			if b, s, err = transcode(b, space(s)[1:], m); err != nil { // skip the colon
				return b, s, err
			}
			s = space(s)
		}
		binary.BigEndian.PutUint32(b[head+1:], uint32(n))
		return b, s[1:], nil
	case '[':
		head, n := len(b), 0
		b = append(b, 0xdd, 0, 0, 0, 0) // array 32
		for s = space(s[1:]); s[0] != ']'; n++ {
			if s[0] == ',' {
				s = s[1:]
			}
			if b, s, err = transcode(b, s, m); err != nil {
				return b, s, err
			}
			s = space(s)
		}
		binary.BigEndian.PutUint32(b[head+1:], uint32(n))
		return b, s[1:], nil
	case '"':
		return transcodeString(b, s)
	case 't':
		return msgp.AppendBool(b, true), s[4:], nil
	case 'f':
		return msgp.AppendBool(b, false), s[5:], nil
	case 'n':
		return msgp.AppendNil(b), s[4:], nil
	}
	return transcodeNumber(b, s)
}

func space(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\n' || s[0] == '\t' || s[0] == '\r') {
		s = s[1:]
	}
	return s
}

func transcodeString(b, s []byte) (out, rest []byte, err error) {
	end, plain := 1, true
	for ; s[end] != '"'; end++ {
		if s[end] == '\\' {
			plain = false
			end++
		}
	}
	in := s[1:end]
	switch {
	case !utf8.Valid(in):
		return b, s, errJSONText // encoding/json would read U+FFFD, which makes one key of two different ones
	case plain:
		return msgp.AppendStringFromBytes(b, in), s[end+1:], nil
	case halfPair(in):
		return b, s, errJSONPair
	}
	var text string // a string with escapes
	if err := json.Unmarshal(s[:end+1], &text); err != nil {
		return b, s, fmt.Errorf("invalid JSON: %w", err)
	}
	return msgp.AppendString(b, text), s[end+1:], nil
}

// halfPair reports whether a valid string with escapes has a \u escape of a surrogate without its other half. Such an
// escape stands for no character.
func halfPair(s []byte) bool {
	unit := func(i int) (uint64, bool) {
		if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
			return 0, false
		}
		u, err := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
		return u, err == nil
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		u, ok := unit(i)
		if !ok || u&0xf800 != 0xd800 { // an escape of another kind, or no surrogate
			i++
			continue
		}
		if low, ok := unit(i + 6); u >= 0xdc00 || !ok || low&0xfc00 != 0xdc00 {
			return true
		}
		i += 11
	}
	return false
}

func transcodeNumber(b, s []byte) (out, rest []byte, err error) {
	end, whole := 0, true
scan:
	for ; end < len(s); end++ {
		switch c := s[end]; {
		case c >= '0' && c <= '9' || c == '-' || c == '+':
		case c == '.' || c == 'e' || c == 'E':
			whole = false
		default:
			break scan
		}
	}
	if whole {
		if i, err := strconv.ParseInt(string(s[:end]), 10, 64); err == nil {
			return appendInt(b, i), s[end:], nil
		}
		if u, err := strconv.ParseUint(string(s[:end]), 10, 64); err == nil {
			return msgp.AppendUint64(b, u), s[end:], nil
		}
		if end > maxJSONDigits {
			return b, s, fmt.Errorf("a number of %d digits is out of range", end)
		}
		if x, ok := new(big.Int).SetString(string(s[:end]), 10); ok {
			return appendBig(b, x), s[end:], nil
		}
	}
	f, err := strconv.ParseFloat(string(s[:end]), 64)
	if err != nil {
		return b, s, fmt.Errorf("number %s is out of range", s[:end])
	}
	return msgp.AppendFloat64(b, f), s[end:], nil
}

// appendAsJSON writes the first value of mp as JSON and returns the rest of mp. (msgp.UnmarshalAsJSON was tried: it
// writes NaN unchanged, and 1e-300 with three hundred zeros.)
func appendAsJSON(b, mp []byte, m mode) (out, rest []byte, err error) {
	m, err = m.down()
	if err != nil {
		return b, mp, err
	}
	switch t := typeOf(mp); t {
	case msgp.NilType:
		return append(b, "null"...), mp[1:], nil
	case msgp.BoolType:
		v, rest, err := msgp.ReadBoolBytes(mp)
		return strconv.AppendBool(b, v), rest, err
	case msgp.IntType:
		v, rest, err := msgp.ReadInt64Bytes(mp)
		return strconv.AppendInt(b, v, 10), rest, err
	case msgp.UintType:
		v, rest, err := msgp.ReadUint64Bytes(mp)
		return strconv.AppendUint(b, v, 10), rest, err
	case msgp.Float32Type:
		v, rest, err := msgp.ReadFloat32Bytes(mp)
		if err == nil {
			b, err = appendJSONFloat(b, float64(v), 32)
		}
		return b, rest, err
	case msgp.Float64Type:
		v, rest, err := msgp.ReadFloat64Bytes(mp)
		if err == nil {
			b, err = appendJSONFloat(b, v, 64)
		}
		return b, rest, err
	case msgp.StrType:
		v, rest, err := msgp.ReadStringZC(mp)
		if err == nil {
			b, err = appendQuoted(b, v)
		}
		return b, rest, err
	case msgp.BinType:
		v, rest, err := msgp.ReadBytesZC(mp)
		return append(base64.StdEncoding.AppendEncode(append(b, '"'), v), '"'), rest, err
	case msgp.TimeType:
		v, rest, err := msgp.ReadTimeUTCBytes(mp)
		if err != nil {
			return b, mp, err
		}
		s, err := v.MarshalText()
		if err == nil {
			b, err = appendQuoted(b, s)
		}
		return b, rest, err
	case msgp.ArrayType:
		n, rest, err := msgp.ReadArrayHeaderBytes(mp)
		b = append(b, '[')
		for i := uint32(0); i < n && err == nil; i++ {
			if i > 0 {
				b = append(b, ',')
			}
			if b, rest, err = appendAsJSON(b, rest, m); err != nil {
				err = addPath("["+strconv.Itoa(int(i))+"]", err)
			}
		}
		return append(b, ']'), rest, err
	case msgp.MapType:
		n, rest, err := msgp.ReadMapHeaderBytes(mp)
		b = append(b, '{')
		for i := uint32(0); i < n && err == nil; i++ {
			if i > 0 {
				b = append(b, ',')
			}
			key := rest
			if typeOf(rest) == msgp.StrType {
				b, rest, err = appendAsJSON(b, rest, m)
			} else { // a type with a MessagePack marshaller of its own may use integers as keys
				var name string
				if name, rest, err = decodeName(rest); err == nil {
					b, err = appendQuoted(b, name)
				}
			}
			if err != nil {
				// The error ends the loop.
				continue
			}
			if b, rest, err = appendAsJSON(append(b, ':'), rest, m); err != nil {
				name, _, _ := decodeName(key)
				err = addPath(name, err)
			}
		}
		return append(b, '}'), rest, err
	}
	if x, rest, ok := readBig(mp); ok {
		return x.Append(b, 10), rest, nil
	}
	if a, rest, ok, err := readArray(mp); ok && err == nil {
		lists, err := a.expand(nil)
		if err == nil {
			b, _, err = appendAsJSON(b, lists, m)
		}
		return b, rest, err
	}
	return b, mp, fmt.Errorf("JSON has no form for %s", kindName(mp))
}

// appendJSONFloat writes the shortest text that reads as f again, in the notation of encoding/json (ECMAScript's).
func appendJSONFloat(b []byte, f float64, bits int) ([]byte, error) {
	if err := finite(f); err != nil {
		return b, err
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, bits)
	if n := len(b); format == 'e' && n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' { // e-09 is e-9
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b, nil
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes s as a JSON string. Bytes that are not UTF-8 are an error. encoding/json writes U+FFFD for
// them, which makes one key of the two keys "\xff" and "\xfe" of a map.
func appendQuoted[S string | []byte](b []byte, s S) ([]byte, error) {
	b = append(b, '"')
	done := 0 // number of bytes of s that are written
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				return b, errNotText
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		done = i
	}
	return append(append(b, s[done:]...), '"'), nil
}

var numberType = reflect.TypeFor[json.Number]()

// numberPlan is the plan of json.Number. It is written as a number in JSON and as text in other forms, and read from
// both.
var numberPlan = &plan{
	enc: func(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		s := v.String()
		if !m.json {
			return msgp.AppendString(b, s), nil
		}
		if s == "" { // encoding/json does the same
			s = "0"
		}
		out, err := appendJSONText(b, []byte(s))
		if k := len(b); err != nil || len(out) == k || !isNumber(out[k:]) {
			return b, fmt.Errorf("%q is no number", s)
		}
		return out, nil
	},
	dec: func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
		switch {
		case typeOf(b) == msgp.StrType:
			s, rest, err := msgp.ReadStringBytes(b)
			v.SetString(s)
			return rest, err
		case isNumber(b):
			text, rest, err := appendAsJSON(nil, b, m)
			v.SetString(string(text))
			return rest, err
		case typeOf(b) == msgp.NilType:
			return b[1:], nil
		}
		return b, mismatch(b, v.Type())
	},
}

func isNumber(mp []byte) bool {
	switch typeOf(mp) {
	case msgp.IntType, msgp.UintType, msgp.Float32Type, msgp.Float64Type:
		return true
	}
	_, _, big := readBig(mp)
	return big
}

package codec

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

// form is one pair of methods with which values of a type write and read themselves, such as MarshalText and
// UnmarshalText.
type form struct {
	marshal, unmarshal reflect.Type // the interfaces of the two methods
	method             string       // the name of the marshalling method
	enc                func(b []byte, v any) ([]byte, error)
	dec                func(b []byte, v any, t reflect.Type, m mode) ([]byte, error)
	pair               bool // the form counts only if a type has both methods
}

// forms are in the order of preference. For example, a type with methods for MessagePack and for text is written as
// MessagePack. Bytes come last, because only Go reads them.
var forms = []form{
	{
		marshal: reflect.TypeFor[msgp.Marshaler](), unmarshal: reflect.TypeFor[msgp.Unmarshaler](), method: "MarshalMsg",
		enc: func(b []byte, v any) ([]byte, error) { return v.(msgp.Marshaler).MarshalMsg(b) },
		dec: func(b []byte, v any, _ reflect.Type, _ mode) ([]byte, error) {
			return v.(msgp.Unmarshaler).UnmarshalMsg(b)
		},
	},
	{
		marshal: textMarshaler, unmarshal: textUnmarsh, method: "MarshalText",
		enc: func(b []byte, v any) ([]byte, error) {
			s, err := v.(encoding.TextMarshaler).MarshalText()
			return msgp.AppendStringFromBytes(b, s), err
		},
		dec: func(b []byte, v any, t reflect.Type, _ mode) ([]byte, error) {
			if typeOf(b) != msgp.StrType {
				return b, mismatch(b, t)
			}
			s, rest, err := msgp.ReadStringBytes(b)
			if err != nil {
				return b, err
			}
			return rest, v.(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
		},
	},
	{
		marshal: reflect.TypeFor[json.Marshaler](), unmarshal: reflect.TypeFor[json.Unmarshaler](), method: "MarshalJSON",
		enc: func(b []byte, v any) ([]byte, error) {
			s, err := v.(json.Marshaler).MarshalJSON()
			if err != nil {
				return b, err
			}
			return appendJSONText(b, s)
		},
		dec: func(b []byte, v any, _ reflect.Type, _ mode) ([]byte, error) {
			s, rest, err := appendAsJSON(nil, b, mode{})
			if err != nil {
				return b, err
			}
			return rest, v.(json.Unmarshaler).UnmarshalJSON(s)
		},
	},
	{
		marshal: reflect.TypeFor[encoding.BinaryMarshaler](), unmarshal: reflect.TypeFor[encoding.BinaryUnmarshaler](), method: "MarshalBinary",
		enc: func(b []byte, v any) ([]byte, error) {
			s, err := v.(encoding.BinaryMarshaler).MarshalBinary()
			return msgp.AppendBytes(b, s), err
		},
		dec: func(b []byte, v any, t reflect.Type, m mode) ([]byte, error) {
			return readOwnBytes(b, t, m, v.(encoding.BinaryUnmarshaler).UnmarshalBinary)
		},
		pair: true,
	},
	{
		marshal: reflect.TypeFor[gobEncoder](), unmarshal: reflect.TypeFor[gobDecoder](), method: "GobEncode",
		enc: func(b []byte, v any) ([]byte, error) {
			s, err := v.(gobEncoder).GobEncode()
			return msgp.AppendBytes(b, s), err
		},
		dec: func(b []byte, v any, t reflect.Type, m mode) ([]byte, error) {
			return readOwnBytes(b, t, m, v.(gobDecoder).GobDecode)
		},
		pair: true,
	},
}

// gobEncoder and gobDecoder are the interfaces of encoding/gob. They are repeated here, so that a user's binary does
// not link that package.
type gobEncoder interface{ GobEncode() ([]byte, error) }
type gobDecoder interface{ GobDecode(data []byte) error }

// readOwnBytes reads the bytes that MarshalBinary or a similar method wrote. In JSON they are base64 text, as []byte
// is.
func readOwnBytes(b []byte, t reflect.Type, m mode, read func([]byte) error) ([]byte, error) {
	switch k := typeOf(b); {
	case k == msgp.BinType:
		data, rest, err := readBytes(b)
		if err != nil {
			return b, err
		}
		return rest, read(data)
	case k == msgp.StrType && m.json:
		s, rest, err := msgp.ReadStringBytes(b)
		if err != nil {
			return b, err
		}
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return b, errors.New("bytes must be base64 in JSON")
		}
		return rest, read(data)
	}
	return b, mismatch(b, t)
}

// ownForms returns the form in which values of t are written, and the form in which they are read; nil where t has no
// such methods. One form serves both directions if t has both of its methods. For example, a type with MarshalText
// (for its log lines), MarshalBinary and UnmarshalBinary is written as bytes.
func ownForms(t reflect.Type) (enc, dec *form) {
	if k := t.Kind(); k == reflect.Interface || k == reflect.Pointer {
		return nil, nil
	}
	p := reflect.PointerTo(t)
	for i := range forms {
		f := &forms[i]
		writes, reads := p.Implements(f.marshal), p.Implements(f.unmarshal)
		if writes && f.hidesFields(t) {
			continue
		}
		if writes && reads {
			return f, f
		}
		if writes && enc == nil && !f.pair {
			enc = f
		}
		if reads && dec == nil && !f.pair && (writes || !f.hidesFields(t)) {
			dec = f
		}
	}
	return enc, dec
}

// hidesFields reports whether t has the form's method only from an embedded field, and has exported fields beside
// that one, which the method does not write. Such a struct is written field by field. For example, struct{ time.Time;
// Place string } would else be written as its time.
func (f *form) hidesFields(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || !hasOtherFields(t, f) {
		return false
	}
	var m reflect.Method
	var ok bool
	switch f.method { // the names are constants, so that the linker keeps these methods and no others
	case "MarshalMsg":
		m, ok = methodOf(t, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("MarshalMsg") })
	case "MarshalText":
		m, ok = methodOf(t, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("MarshalText") })
	case "MarshalJSON":
		m, ok = methodOf(t, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("MarshalJSON") })
	case "MarshalBinary":
		m, ok = methodOf(t, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("MarshalBinary") })
	case "GobEncode":
		m, ok = methodOf(t, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("GobEncode") })
	}
	if !ok {
		return false
	}
	// The method of an embedded field that the compiler writes for the struct is in a file of this name.
	fn := runtime.FuncForPC(m.Func.Pointer())
	if fn == nil {
		return false
	}
	file, _ := fn.FileLine(fn.Entry())
	return file == "<autogenerated>"
}

// methodOf finds a method at the type where the source has it. The compiler writes a copy of each method of T for *T,
// which does not count.
func methodOf(t reflect.Type, find func(reflect.Type) (reflect.Method, bool)) (reflect.Method, bool) {
	if m, ok := find(t); ok {
		return m, true
	}
	return find(reflect.PointerTo(t))
}

// hasOtherFields reports whether t embeds a field with the form's method, and has exported fields beside that one.
func hasOtherFields(t reflect.Type, f *form) bool {
	embedded, others := false, false
	for i := range t.NumField() {
		sf := t.Field(i)
		p := sf.Type
		if p.Kind() != reflect.Pointer && p.Kind() != reflect.Interface {
			p = reflect.PointerTo(p)
		}
		if sf.Anonymous && p.Implements(f.marshal) {
			embedded = true
		} else if _, _, skip := fieldName(sf); !skip && (sf.IsExported() || sf.Anonymous) {
			others = true
		}
	}
	return embedded && others
}

// ownPlan is the plan of a type with marshalling methods.
func ownPlan(t reflect.Type) *plan {
	enc, dec := ownForms(t)
	if enc == nil && dec == nil {
		return nil
	}
	p := &plan{
		enc: func(_ *Codec, b []byte, _ reflect.Value, _ mode) ([]byte, error) {
			return b, fmt.Errorf("%s can be decoded but not encoded", t)
		},
		dec: func(_ *Codec, b []byte, _ reflect.Value, _ mode) ([]byte, error) {
			return b, fmt.Errorf("%s can be encoded but not decoded", t)
		},
	}
	if enc != nil {
		p.enc = func(_ *Codec, b []byte, v reflect.Value, _ mode) ([]byte, error) {
			b, err := enc.enc(b, pointerTo(v))
			return b, call.Guard(err) // the error is a value of user code too
		}
	}
	if dec != nil {
		p.dec = func(_ *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
			rest, err := dec.dec(b, v.Addr().Interface(), t, m)
			return rest, call.Guard(err)
		}
	}
	return p
}

// HasMarshaler reports whether values of t are written or read by methods of t, or are arrays ([helvetype.Array]), whose fields are not written one
// by one either.
func HasMarshaler(t reflect.Type) bool {
	enc, dec := ownForms(t)
	return enc != nil || dec != nil || isArray(t)
}

// pointerTo returns a pointer to v, or to a copy if v has no address, so that methods of either receiver are found.
func pointerTo(v reflect.Value) any {
	if v.CanAddr() {
		return v.Addr().Interface()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface()
}

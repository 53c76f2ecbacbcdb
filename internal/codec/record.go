package codec

import (
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

// record is a struct as it is encoded.
type record struct {
	fields []recordField
	index  map[string]int // position in fields by name
	whole  bool           // every value has all fields: none has omitempty, none is behind a pointer
	lossy  error          // the reason why values would not arrive whole, or nil
	hidden [][]int        // indexes of fields that are not written: values must have zero there
}

type recordField struct {
	field
	plan lazyPlan
}

func newRecord(t reflect.Type) *record {
	fields, _, hidden := walkFields(t)
	r := &record{hidden: hidden, fields: make([]recordField, len(fields)), index: make(map[string]int, len(fields)), whole: true, lossy: lossy(t)}
	for i, f := range fields {
		r.fields[i].field, r.fields[i].plan.t = f, f.typ
		r.index[f.name] = i
		r.whole = r.whole && f.omit == omitNever && len(f.index) == 1
	}
	return r
}

// get returns the field's value in v. The result ok is false if the field is left out.
func (f *field) get(v reflect.Value) (fv reflect.Value, ok bool) {
	if len(f.index) == 1 {
		fv = v.Field(f.index[0])
	} else {
		var err error
		if fv, err = v.FieldByIndexErr(f.index); err != nil { // the field is behind an embedded pointer that is nil
			return fv, false
		}
	}
	return fv, !f.omit.leavesOut(fv)
}

// set returns the field's place in v, to be set. It allocates the embedded pointers on the way.
func (f *field) set(v reflect.Value) reflect.Value {
	for i, x := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v
}

func (r *record) names() []string {
	names := make([]string, len(r.fields))
	for i := range r.fields {
		names[i] = r.fields[i].name
	}
	return names
}

func (r *record) append(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	if r.lossy != nil {
		return b, r.lossy
	}
	if err := r.hides(v); err != nil {
		return b, err
	}
	m, err := m.down()
	if err != nil {
		return b, err
	}
	n := len(r.fields)
	if !r.whole {
		n = 0
		for i := range r.fields {
			if _, ok := r.fields[i].get(v); ok {
				n++
			}
		}
	}
	b = msgp.AppendMapHeader(b, uint32(n))
	for i := range r.fields {
		f := &r.fields[i]
		fv, ok := f.get(v)
		if !ok {
			continue
		}
		b = msgp.AppendString(b, f.name)
		start := len(b)
		if b, err = f.plan.of(c).enc(c, b, fv, m); err == nil && f.quoted && m.json {
			b, err = quote(b, start)
		}
		if err != nil {
			return b, addPath(f.name, err)
		}
	}
	return b, nil
}

// hides is an error if a field of v that another field hides has a value. For example, struct{ Base; ID int } has no
// name for the ID of its Base.
func (r *record) hides(v reflect.Value) error {
	for _, index := range r.hidden {
		if fv, err := v.FieldByIndexErr(index); err == nil && !fv.IsZero() {
			f := v.Type().FieldByIndex(index)
			return fmt.Errorf("the embedded field %s (%s) of %s has a value, and no name of its own on the wire; give it one with the tag helve or json",
				f.Name, f.Type, v.Type())
		}
	}
	return nil
}

func (r *record) read(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	if typeOf(b) == msgp.NilType {
		v.SetZero()
		return b[1:], nil
	}
	n, rest, err := mapHeader(b, v.Type())
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
		i, ok := r.index[string(name)]
		if !ok {
			if m.strict {
				return b, fmt.Errorf("unknown field %q; there are %q", name, r.names())
			}
			if rest, err = msgp.Skip(rest); err != nil {
				return b, err
			}
			continue
		}
		f := &r.fields[i]
		if f.quoted && m.json && typeOf(rest) == msgp.StrType {
			rest, err = f.readQuoted(c, rest, f.set(v), m)
		} else {
			rest, err = f.plan.of(c).dec(c, rest, f.set(v), m)
		}
		if err != nil {
			return b, addPath(f.name, err)
		}
	}
	return rest, nil
}

// quote makes a string of the value at the end of b, which begins at start: 5 becomes "5". Nil stays nil.
func quote(b []byte, start int) ([]byte, error) {
	if typeOf(b[start:]) == msgp.NilType {
		return b, nil
	}
	text, _, err := appendAsJSON(nil, b[start:], mode{})
	if err != nil {
		return b, err
	}
	return msgp.AppendStringFromBytes(b[:start], text), nil
}

// readQuoted reads a value that quote wrote.
func (f *recordField) readQuoted(c *Codec, b []byte, v reflect.Value, m mode) ([]byte, error) {
	text, rest, err := msgp.ReadStringZC(b)
	if err != nil {
		return b, err
	}
	value, err := appendJSONText(nil, text)
	if err != nil || typeOf(value) == msgp.MapType || typeOf(value) == msgp.ArrayType {
		return b, fmt.Errorf("%q is no %s in a text", text, f.typ)
	}
	if _, err := f.plan.of(c).dec(c, value, v, m); err != nil {
		return b, err
	}
	return rest, nil
}

func structPlan(t reflect.Type) *plan {
	r := newRecord(t)
	return &plan{enc: r.append, dec: r.read, record: r}
}

// IsRecord reports whether t is a struct whose fields are arguments of their own for a Python method. A struct with a
// marshaller of its own, such as time.Time, is no record.
func IsRecord(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && !HasMarshaler(t)
}

// Fields returns the fields of a record, or of a pointer to one, by their encoded names, without the fields that
// omitempty leaves out. The result ok is false if v is no record. An IsZero method that omitzero calls may panic,
// which is an error as in [Codec.Append].
func (c *Codec) Fields(v any) (fields iter.Seq2[string, any], ok bool, err error) {
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	if rv.Kind() != reflect.Struct {
		return nil, false, nil
	}
	p := c.planOf(rv.Type())
	r := p.record
	if r == nil {
		return nil, false, nil
	}
	if r.lossy != nil {
		return nil, true, r.lossy
	}
	if err := r.hides(rv); err != nil {
		return nil, true, err
	}
	if !p.userCode {
		return r.all(rv), true, nil
	}
	type argument struct {
		name  string
		value any
	}
	var all []argument
	_, err = isolate(func() ([]byte, error) {
		for name, value := range r.all(rv) {
			all = append(all, argument{name, value})
		}
		return nil, nil
	})
	if err != nil {
		return nil, true, err
	}
	return func(yield func(string, any) bool) {
		for _, a := range all {
			if !yield(a.name, a.value) {
				return
			}
		}
	}, true, nil
}

// FieldAt returns the encoded name of the field of the record t that has the type field and begins at offset, in
// bytes. The result ok is false if there is none, or if it is behind a pointer.
func (c *Codec) FieldAt(t reflect.Type, offset uintptr, field reflect.Type) (name string, ok bool) {
	if t.Kind() != reflect.Struct {
		return "", false
	}
	r := c.planOf(t).record
	if r == nil {
		return "", false
	}
	for i := range r.fields {
		at, in := uintptr(0), t
		for _, x := range r.fields[i].index {
			if in.Kind() != reflect.Struct {
				at = ^uintptr(0)
				break
			}
			at, in = at+in.Field(x).Offset, in.Field(x).Type
		}
		if at == offset && in == field {
			return r.fields[i].name, true
		}
	}
	return "", false
}

func (r *record) all(v reflect.Value) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for i := range r.fields {
			fv, ok := r.fields[i].get(v)
			if ok && !yield(r.fields[i].name, fv.Interface()) {
				return
			}
		}
	}
}

// SetFields decodes named payloads into the fields of the record that into points to. An unknown name is an error
// that lists the known ones. A field without a payload keeps its value.
func (c *Codec) SetFields(into any, named map[string]call.Payload) error {
	rv := reflect.ValueOf(into).Elem()
	r := c.planOf(rv.Type()).record
	if r == nil {
		return fmt.Errorf("%s takes no keyword arguments", rv.Type())
	}
	for name, p := range named {
		i, ok := r.index[name]
		if !ok {
			return fmt.Errorf("unexpected keyword argument %q; there are %q", name, r.names())
		}
		fv := r.fields[i].set(rv)
		if p.Codec == call.Native {
			nv := reflect.ValueOf(p.Value)
			if !nv.IsValid() || !nv.Type().AssignableTo(fv.Type()) {
				return fmt.Errorf("argument %s: cannot use %T as %s", name, p.Value, fv.Type())
			}
			fv.Set(nv)
			continue
		}
		if err := c.DecodePayload(p, fv.Addr().Interface()); err != nil {
			return fmt.Errorf("argument %s: %w", name, err)
		}
	}
	return nil
}

package profile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The fields of the messages of profile.proto, which a file of pprof is, compressed with gzip.
const (
	profileType, profileSample, profileLocation, profileFunction, profileStrings   = 1, 2, 4, 5, 6
	profileTime, profileDuration, profilePeriodType, profilePeriod, profileComment = 9, 10, 11, 12, 13
	profileDefault                                                                 = 14
	typeKind, typeUnit                                                             = 1, 2
	sampleLocation, sampleValue, sampleLabel                                       = 1, 2, 3
	labelName, labelText                                                           = 1, 2
	locationID, locationLine                                                       = 1, 4
	lineFunction, lineNumber                                                       = 1, 2
	functionID, functionName, functionSystem, functionFile, functionLine           = 1, 2, 3, 4, 5
	wireVarint, wireFixed64, wireBytes, wireFixed32                                = 0, 1, 2, 5
	wireBits                                                                       = 3
	decodeMax                                                                      = 256 << 20 // bytes of a profile that is not compressed
)

// message is a message of Protocol Buffers that is written.
type message []byte

func (m message) tag(field, wire int) message {
	return binary.AppendUvarint(m, uint64(field)<<wireBits|uint64(wire)) //nolint:gosec // constants
}

// number leaves zero out, as all writers do.
func (m message) number(field int, v int64) message {
	if v == 0 {
		return m
	}
	return binary.AppendUvarint(m.tag(field, wireVarint), uint64(v)) //nolint:gosec // two's complement
}

func (m message) bytes(field int, b []byte) message {
	m = binary.AppendUvarint(m.tag(field, wireBytes), uint64(len(b)))
	return append(m, b...)
}

func (m message) packed(field int, values []int64) message {
	var b []byte
	for _, v := range values {
		b = binary.AppendUvarint(b, uint64(v)) //nolint:gosec // two's complement
	}
	return m.bytes(field, b)
}

// table gives each text a number, and 0 to "".
type table struct {
	numbers map[string]int64
	texts   []string
}

func (t *table) number(text string) int64 {
	if n, ok := t.numbers[text]; ok {
		return n
	}
	n := int64(len(t.texts))
	t.numbers[text], t.texts = n, append(t.texts, text)
	return n
}

// Encode gives the file that go tool pprof reads.
func (p *Profile) Encode() []byte {
	texts := &table{numbers: map[string]int64{"": 0}, texts: []string{""}}
	typed := func(t Type) message {
		return message(nil).number(typeKind, texts.number(t.Kind)).number(typeUnit, texts.number(t.Unit))
	}
	var m message
	for _, t := range p.Types {
		m = m.bytes(profileType, typed(t))
	}
	locations := map[Frame]int64{}
	var places []Frame
	for _, s := range p.Samples {
		ids := make([]int64, 0, len(s.Stack))
		for _, f := range s.Stack {
			id, known := locations[f]
			if !known {
				places = append(places, f)
				id = int64(len(places))
				locations[f] = id
			}
			ids = append(ids, id)
		}
		sample := message(nil).packed(sampleLocation, ids).packed(sampleValue, s.Values)
		for _, l := range s.Labels {
			sample = sample.bytes(sampleLabel, message(nil).number(labelName, texts.number(l.Name)).number(labelText, texts.number(l.Value)))
		}
		m = m.bytes(profileSample, sample)
	}
	for i, f := range places {
		line := message(nil).number(lineFunction, int64(f.Function)+1).number(lineNumber, f.Line)
		m = m.bytes(profileLocation, message(nil).number(locationID, int64(i)+1).bytes(locationLine, line))
	}
	for i, f := range p.Functions {
		name := texts.number(f.Name)
		m = m.bytes(profileFunction, message(nil).number(functionID, int64(i)+1).number(functionName, name).number(functionSystem, name).
			number(functionFile, texts.number(f.File)).number(functionLine, f.Line))
	}
	if !p.Start.IsZero() {
		m = m.number(profileTime, p.Start.UnixNano())
	}
	m = m.number(profileDuration, int64(p.Duration))
	if p.PeriodType != (Type{}) {
		m = m.bytes(profilePeriodType, typed(p.PeriodType))
	}
	m = m.number(profilePeriod, p.Period)
	for _, c := range p.Comments {
		m = m.number(profileComment, texts.number(c))
	}
	m = m.number(profileDefault, texts.number(p.shown().Kind))
	for _, text := range texts.texts {
		m = m.bytes(profileStrings, []byte(text))
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(m) //nolint:errcheck // a buffer takes all
	z.Close()  //nolint:errcheck
	return out.Bytes()
}

var errMalformed = errors.New("the profile is malformed")

// field is a field of a message that is read.
type field struct {
	number int
	value  uint64 // of a number
	bytes  []byte // of text, packed numbers and messages; nil for a number
}

// each calls f with the fields of a message.
func each(m []byte, f func(field) error) error {
	for len(m) > 0 {
		tag, n := binary.Uvarint(m)
		if n <= 0 || tag>>wireBits > 1<<29 {
			return errMalformed
		}
		m = m[n:]
		at := field{number: int(tag >> wireBits)} //nolint:gosec // bounded above
		switch tag & (1<<wireBits - 1) {
		case wireVarint:
			at.value, n = binary.Uvarint(m)
			if n <= 0 {
				return errMalformed
			}
		case wireBytes:
			size, k := binary.Uvarint(m)
			if k <= 0 || size > uint64(len(m)-k) {
				return errMalformed
			}
			n = k + int(size) //nolint:gosec // within m
			at.bytes = m[k:n:n]
		case wireFixed64, wireFixed32:
			n = 8
			if tag&(1<<wireBits-1) == wireFixed32 {
				n = 4
			}
			if len(m) < n {
				return errMalformed
			}
		default:
			return errMalformed
		}
		m = m[n:]
		if err := f(at); err != nil {
			return err
		}
	}
	return nil
}

// numbers are the numbers of a field that may be packed.
func (f field) numbers(to []int64) ([]int64, error) {
	if f.bytes == nil {
		return append(to, int64(f.value)), nil //nolint:gosec // two's complement
	}
	for b := f.bytes; len(b) > 0; {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errMalformed
		}
		to, b = append(to, int64(v)), b[n:] //nolint:gosec // two's complement
	}
	return to, nil
}

// pair are the first two numbers of a message, by the numbers of their fields.
func pair(m []byte, first, second int) (a, b int64, err error) {
	err = each(m, func(f field) error {
		switch f.number {
		case first:
			a = int64(f.value) //nolint:gosec // two's complement
		case second:
			b = int64(f.value) //nolint:gosec // two's complement
		}
		return nil
	})
	return a, b, err
}

// raw is a profile whose texts, functions and places are numbers still.
type raw struct {
	texts     []string
	functions map[int64][]byte
	places    map[int64][][2]int64 // function and line, the innermost one first
	samples   [][]byte
	types     [][]byte
	period    []byte
	comments  []int64
	shown     int64
}

// Decode reads a file of pprof.
func Decode(file []byte) (*Profile, error) {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("the profile: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, decodeMax))
	if err != nil {
		return nil, fmt.Errorf("the profile: %w", err)
	}
	p, r := &Profile{}, &raw{functions: map[int64][]byte{}, places: map[int64][][2]int64{}}
	if err := each(text, func(f field) error { return r.take(p, f) }); err != nil {
		return nil, err
	}
	return p, r.resolve(p)
}

func (r *raw) take(p *Profile, f field) (err error) {
	switch f.number {
	case profileType:
		r.types = append(r.types, f.bytes)
	case profileSample:
		r.samples = append(r.samples, f.bytes)
	case profileStrings:
		r.texts = append(r.texts, string(f.bytes))
	case profileLocation:
		var id int64
		var lines [][2]int64
		err = each(f.bytes, func(f field) error {
			switch f.number {
			case locationID:
				id = int64(f.value) //nolint:gosec // an id
			case locationLine:
				function, line, err := pair(f.bytes, lineFunction, lineNumber)
				lines = append(lines, [2]int64{function, line})
				return err
			}
			return nil
		})
		r.places[id] = lines
	case profileFunction:
		var id int64
		id, _, err = pair(f.bytes, functionID, 0)
		r.functions[id] = f.bytes
	case profileTime:
		p.Start = time.Unix(0, int64(f.value)) //nolint:gosec // a time
	case profileDuration:
		p.Duration = time.Duration(f.value) //nolint:gosec // a time
	case profilePeriodType:
		r.period = f.bytes
	case profilePeriod:
		p.Period = int64(f.value) //nolint:gosec // a number of units
	case profileComment:
		r.comments, err = f.numbers(r.comments)
	case profileDefault:
		r.shown = int64(f.value) //nolint:gosec // an index
	}
	return err
}

func (r *raw) text(n int64) (string, error) {
	if n < 0 || n >= int64(len(r.texts)) {
		return "", errMalformed
	}
	return r.texts[n], nil
}

func (r *raw) typed(m []byte) (t Type, err error) {
	kind, unit, err := pair(m, typeKind, typeUnit)
	if err != nil {
		return t, err
	}
	if t.Kind, err = r.text(kind); err == nil {
		t.Unit, err = r.text(unit)
	}
	return t, err
}

// resolve puts texts in the place of their numbers.
func (r *raw) resolve(p *Profile) error {
	for _, m := range r.types {
		t, err := r.typed(m)
		if err != nil {
			return err
		}
		p.Types = append(p.Types, t)
	}
	if len(p.Types) == 0 {
		return errMalformed
	}
	p.Shown = len(p.Types) - 1 // as go tool pprof has it
	shown, err := r.text(r.shown)
	if err != nil {
		return err
	}
	for i, t := range p.Types {
		if r.shown != 0 && t.Kind == shown {
			p.Shown = i
		}
	}
	if r.period != nil {
		if p.PeriodType, err = r.typed(r.period); err != nil {
			return err
		}
	}
	for _, n := range r.comments {
		text, err := r.text(n)
		if err != nil {
			return err
		}
		p.Comments = append(p.Comments, text)
	}
	functions := map[int64]int{}
	for _, m := range r.samples {
		s, err := r.sample(p, m, functions)
		if err != nil {
			return err
		}
		p.Samples = append(p.Samples, s)
	}
	return nil
}

func (r *raw) sample(p *Profile, m []byte, functions map[int64]int) (s Sample, err error) {
	var ids []int64
	err = each(m, func(f field) (err error) {
		switch f.number {
		case sampleLocation:
			ids, err = f.numbers(ids)
		case sampleValue:
			s.Values, err = f.numbers(s.Values)
		case sampleLabel:
			name, value, err := pair(f.bytes, labelName, labelText)
			if err != nil || value == 0 { // a label with a number
				return err
			}
			var l Label
			if l.Name, err = r.text(name); err == nil {
				l.Value, err = r.text(value)
			}
			s.Labels = append(s.Labels, l)
			return err
		}
		return err
	})
	if err != nil {
		return s, err
	}
	if len(s.Values) != len(p.Types) {
		return s, errMalformed
	}
	for _, id := range ids {
		for _, line := range r.places[id] {
			n, known := functions[line[0]]
			if !known {
				fn, err := r.function(line[0])
				if err != nil {
					return s, err
				}
				n = len(p.Functions)
				functions[line[0]], p.Functions = n, append(p.Functions, fn)
			}
			s.Stack = append(s.Stack, Frame{n, line[1]})
		}
	}
	return s, nil
}

func (r *raw) function(id int64) (fn Function, err error) {
	name, file, err := pair(r.functions[id], functionName, functionFile)
	if err != nil {
		return fn, err
	}
	if fn.Name, err = r.text(name); err != nil {
		return fn, err
	}
	if fn.File, err = r.text(file); err != nil {
		return fn, err
	}
	fn.Line, _, err = pair(r.functions[id], functionLine, 0)
	return fn, err
}

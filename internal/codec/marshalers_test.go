package codec

import (
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/call"
)

type (
	// sketch keeps its state in a field that is not exported.
	sketch struct{ bits []byte }
	// filter is the same, for encoding/gob.
	filter struct{ bits []byte }
	// labelled writes text for people, which it cannot read.
	labelled struct{ bits []byte }
	// stamped has the methods of time.Time, which know nothing of Place.
	stamped struct {
		time.Time
		Place string
	}
	// located has the methods of url.URL.
	located struct {
		*url.URL
		Weight int
	}
	// only is written as its address.
	only struct{ netip.Addr }
	// overriding embeds a time and writes itself.
	overriding struct {
		time.Time
		Place string
	}
	quotes struct {
		Int   int64    `json:"int,string"`
		Uint  *uint8   `json:"uint,string"`
		Float float64  `json:"float,string"`
		Bool  bool     `json:"bool,string"`
		Text  string   `json:"text,string"`
		List  []int    `json:"list,string"` // the option has no meaning for a slice
		None  *float32 `json:"none,string"`
	}
	numbers struct {
		N json.Number `json:"n"`
		B *big.Int    `json:"b"`
	}
)

func (s sketch) MarshalBinary() ([]byte, error) { return s.bits, nil }
func (s *sketch) UnmarshalBinary(data []byte) error {
	s.bits = append([]byte(nil), data...)
	return nil
}
func (f *filter) GobEncode() ([]byte, error)      { return f.bits, nil }
func (f *filter) GobDecode(data []byte) error     { f.bits = append([]byte(nil), data...); return nil }
func (l labelled) MarshalText() ([]byte, error)   { return []byte("a label"), nil }
func (l labelled) MarshalBinary() ([]byte, error) { return l.bits, nil }
func (l *labelled) UnmarshalBinary(data []byte) error {
	l.bits = append([]byte(nil), data...)
	return nil
}
func (o overriding) MarshalText() ([]byte, error)     { return []byte(o.Place), nil }
func (o *overriding) UnmarshalText(text []byte) error { o.Place = string(text); return nil }
func exporter(reflect.Type) bool                      { return true }
func newOf(v any) any                                 { return reflect.New(reflect.TypeOf(v)).Interface() }
func behind(p any) any                                { return reflect.ValueOf(p).Elem().Interface() }

// TestOwnStateArrivesWhole: the bytes of a marshaller arrive in every codec, for each of the standard library's pairs
// of methods, and no field is lost to the method of an embedded one.
func TestOwnStateArrivesWhole(t *testing.T) {
	t.Parallel()
	at, err := url.Parse("https://me:secret@host.example/x")
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	c := New()
	for _, v := range []any{
		sketch{[]byte{1, 2, 3}}, []sketch{{[]byte{1}}, {[]byte{2}}}, map[string]sketch{"a": {[]byte{0, 255}}},
		struct{ F filter }{filter{[]byte{1, 2}}}, labelled{[]byte{7}}, *at, struct{ At *url.URL }{at},
		stamped{noon, "Graz"}, located{at, 3}, only{netip.MustParseAddr("10.0.0.1")}, overriding{Place: "Graz"},
		quotes{Int: math.MinInt64, Uint: new(uint8(200)), Float: 1.5, Bool: true, Text: `say "5"`, List: []int{1}},
		numbers{"12345678901234567890123", huge}, numbers{N: "1.50"},
	} {
		for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
			data, err := c.Append(nil, as, v)
			if err != nil {
				t.Errorf("%s: %#v: %v", as, v, err)
				continue
			}
			into := newOf(v)
			if err := c.Decode(as, data, into); err != nil {
				t.Errorf("%s: %#v: %v", as, v, err)
				continue
			}
			if n, ok := v.(numbers); ok && as == call.JSON && n.N == "1.50" {
				v = numbers{N: "1.5"} // the same number
			}
			if d := cmp.Diff(v, behind(into), cmp.Exporter(exporter), cmp.Comparer(func(x, y *big.Int) bool {
				return x == y || x != nil && y != nil && x.Cmp(y) == 0
			}), cmp.Comparer(func(x, y netip.Addr) bool { return x == y }), cmp.Comparer(func(x, y time.Time) bool { return x.Equal(y) })); d != "" {
				t.Errorf("%s: %T: %s", as, v, d)
			}
		}
	}
}

// TestQuotedFields: the option "string" of the tag json has the same meaning in JSON as in encoding/json.
func TestQuotedFields(t *testing.T) {
	t.Parallel()
	c := New()
	v := quotes{Int: -5, Uint: new(uint8(7)), Float: 1e21, Bool: true, Text: "é\"", List: []int{1}}
	got, err := c.Append(nil, call.JSON, v)
	want, _ := json.Marshal(v)
	if err != nil || string(got) != string(want) {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	var plain quotes // a client that does not know of the option
	if err := c.Decode(call.JSON, []byte(`{"int":5,"uint":6,"float":1,"bool":false}`), &plain); err != nil || plain.Int != 5 || *plain.Uint != 6 {
		t.Errorf("%+v, %v", plain, err)
	}
	for text, names := range map[string]string{
		`{"int":"x"}`: "int", `{"int":""}`: "int", `{"uint":"256"}`: "uint", `{"bool":"1"}`: "bool", `{"text":"5"}`: "text", `{"float":"[1]"}`: "float",
	} {
		var into quotes
		if err := c.Decode(call.JSON, []byte(text), &into); err == nil || !strings.Contains(err.Error(), "field "+names) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestNothingIsLostSilently: a value that would not arrive whole is an error that names the place.
func TestNothingIsLostSilently(t *testing.T) {
	t.Parallel()
	type hidden struct{ state int }
	type twice struct {
		UserID int
		UserId string //nolint:revive,staticcheck // both are user_id
	}
	type Base struct{ ID int }
	type Other struct{ ID int }
	type both struct {
		Base
		Other
	}
	c := New()
	for what, v := range map[string]any{
		"field text: the text is not UTF-8":           struct{ Text string }{"\xff"},
		"field keys: the text is not UTF-8":           struct{ Keys map[string]int }{map[string]int{"\xff": 1, "\xfe": 2}},
		"field list[1]: the text is not UTF-8":        struct{ List []string }{[]string{"a", "\xff"}},
		"field any.x: the text is not UTF-8":          struct{ Any any }{map[string]any{"x": "\xff"}},
		"the text is not UTF-8":                       "cut \xf0\x9f",
		"field f[0]: JSON has no NaN":                 struct{ F []float32 }{[]float32{float32(math.NaN())}},
		"field n: \"x\" is no number":                 struct{ N json.Number }{"x"},
		"field hidden: codec.hidden has no exported":  struct{ Hidden any }{hidden{1}},
		"several fields that are called \"user_id\"":  twice{1, "a"},
		"several fields that are called \"id\"":       both{Base{1}, Other{2}},
		"two keys of the map are both written as \"a": map[folded]int{{"a"}: 1, {"A"}: 2},
	} {
		if out, err := c.Append(nil, call.JSON, v); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %s, %v", what, out, err)
		}
	}
	for what, typ := range map[string]reflect.Type{
		`.in: codec.twice has several fields that are called "user_id"`: reflect.TypeFor[struct{ In *twice }](),
		`several fields that are called "user_id"`:                      reflect.TypeFor[twice](),
		".m: map[float64]int cannot be encoded":                         reflect.TypeFor[struct{ M map[float64]int }](),
	} {
		if err := Check(typ); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[struct{}](), reflect.TypeFor[struct{ _ [0]func() }](), reflect.TypeFor[sketch](), reflect.TypeFor[map[netip.Addr]int](),
		reflect.TypeFor[struct {
			A int
			b int
		}](), reflect.TypeFor[struct {
			b int `json:"-"`
		}](), reflect.TypeFor[struct{ Any any }](),
	} {
		if err := Check(typ); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

// folded is the same text for "a" and "A".
type folded struct{ s string }

func (f folded) MarshalText() ([]byte, error)     { return []byte(strings.ToLower(f.s)), nil }
func (f *folded) UnmarshalText(text []byte) error { f.s = string(text); return nil }

package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

type Inner struct {
	GetURL string
	Tagged int    `json:"other_name"`
	Ours   int    `json:"no" helve:"yes"`
	Omit   string `json:",omitempty"`
	Never  string `json:"-"`
	hidden int
}

type Embedded struct{ FromEmbedded string }

type everything struct {
	Embedded
	*Inner
	B    bool
	I8   int8
	I64  int64
	U16  uint16
	U64  uint64
	F32  float32
	F64  float64
	S    string
	Raw  []byte
	L    []string
	Arr  [2]int
	M    map[string]int
	MI   map[int]string
	P    *int
	Nil  *int
	T    time.Time
	D    time.Duration
	Big  *big.Int
	Any  any
	Next *everything
	JM   jsonOnly
}

// jsonOnly writes itself as JSON and as nothing else.
type jsonOnly struct{ x int }

func (j jsonOnly) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `{"x":%d}`, j.x), nil }
func (j *jsonOnly) UnmarshalJSON(b []byte) error {
	var v struct{ X int }
	err := json.Unmarshal(b, &v)
	j.x = v.X
	return err
}

func sample() everything {
	return everything{
		Embedded: Embedded{"e"}, Inner: &Inner{GetURL: "u", Tagged: 1, Ours: 2}, B: true, I8: -128, I64: math.MinInt64, U16: 65535,
		U64: math.MaxUint64, F32: 1.5, F64: math.Pi, S: "héllo", Raw: []byte{0, 255}, L: []string{"a", ""}, Arr: [2]int{1, -2},
		M: map[string]int{"a": 1, "b": 2}, MI: map[int]string{-1: "x"}, P: new(5), T: time.Unix(1e9, 123456789).UTC(), D: time.Minute,
		Big: new(big.Int).Lsh(big.NewInt(1), 100), Any: []any{int64(1), "x", nil, true, 2.5, map[string]any{"k": int64(7)}},
		Next: &everything{S: "deeper", Big: new(big.Int)}, JM: jsonOnly{9},
	}
}

func equal(a, b any) string {
	return cmp.Diff(a, b, cmp.AllowUnexported(everything{}, Inner{}, jsonOnly{}), cmp.Comparer(func(a, b *big.Int) bool {
		return a == b || a != nil && b != nil && a.Cmp(b) == 0
	}))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := New()
	for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle, call.Cloudpickle} {
		t.Run(as.String(), func(t *testing.T) {
			t.Parallel()
			in := sample()
			if as == call.Pickle || as == call.Cloudpickle {
				in.T = in.T.Truncate(time.Microsecond) // a datetime has microseconds
			}
			data, err := c.Append([]byte("before"), as, in)
			if err != nil {
				t.Fatal(err)
			}
			data = bytes.TrimPrefix(data, []byte("before"))
			var out everything
			if err := c.Decode(as, data, &out); err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			if d := equal(in, out); d != "" {
				t.Error(d)
			}
			again, err := c.Append(nil, as, out)
			if err != nil || !bytes.Equal(data, again) {
				t.Errorf("equal values have other bytes: %v", err)
			}
			for _, name := range []string{"get_url", "other_name", "yes", "from_embedded", "f64"} {
				if !bytes.Contains(data, []byte(name)) {
					t.Errorf("no field %q in %q", name, data)
				}
			}
			for _, name := range []string{"omit", "never", "hidden", "ours"} {
				if bytes.Contains(bytes.ToLower(data), []byte(name)) {
					t.Errorf("field %q in %q", name, data)
				}
			}
		})
	}
}

// TestJSONIsJSON: encoding/json reads the output, with the fields in order.
func TestJSONIsJSON(t *testing.T) {
	t.Parallel()
	data, err := New().Append(nil, call.JSON, struct {
		B string
		A []byte
		T time.Time
		M map[int]bool
		S string
		X any
	}{"é\"<", []byte{1, 2}, time.Unix(0, 5).UTC(), map[int]bool{3: true}, "\u2028", nil})
	want := `{"b":"é\"<","a":"AQI=","t":"1970-01-01T00:00:00.000000005Z","m":{"3":true},"s":"` + "\u2028" + `","x":null}`
	var a, b any
	if err != nil || json.Unmarshal(data, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || cmp.Diff(a, b) != "" || !strings.HasPrefix(string(data), `{"b"`) {
		t.Errorf("%s, %v\nwant %s", data, err, want)
	}
}

// TestGolden holds bytes that Python's msgspec 0.22.0 and msgpack 1.2.4 wrote for the same values.
func TestGolden(t *testing.T) {
	t.Parallel()
	c := New()
	for _, test := range []struct {
		v    any
		want string
	}{
		{"hi", "a26869"}, {[]byte{1}, "c40101"}, {int64(-1), "ff"}, {int64(300), "cd012c"}, {int64(-129), "d1ff7f"},
		{int64(1) << 31, "ce80000000"}, {uint64(1) << 63, "cf8000000000000000"}, {int64(math.MinInt64), "d38000000000000000"},
		{1.5, "cb3ff8000000000000"}, {true, "c3"}, {nil, "c0"}, {[]any{int64(1), nil}, "9201c0"}, {map[string]any{"a": int64(1)}, "81a16101"},
		{map[string]any{"a": []any{1.0, "é"}, "b": map[string]any{}}, "82a16192cb3ff0000000000000a2c3a9a16280"},
		{strings.Repeat("x", 32), "d920" + strings.Repeat("78", 32)},
		{time.Unix(1, 0).UTC(), "d6ff00000001"},
		{time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), "d7ffa1dcd420695735a5"},
		{time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC), "c70cff00000000ffffffffed300880"},
	} {
		got, err := c.Append(nil, call.Msgpack, test.v)
		if err != nil || hex.EncodeToString(got) != test.want {
			t.Errorf("%v is %x, %v; want %s", test.v, got, err, test.want)
		}
		data, _ := hex.DecodeString(test.want)
		var back any
		if err := c.Decode(call.Msgpack, data, &back); err != nil || cmp.Diff(back, test.v) != "" {
			t.Errorf("%s reads as %#v, %v; want %#v", test.want, back, err, test.v)
		}
	}
	got, err := c.Append(nil, call.Msgpack, struct {
		UserID int
		GetURL string
	}{7, "u"})
	if want := "82a7757365725f696407a76765745f75726ca175"; err != nil || hex.EncodeToString(got) != want { // {"user_id": 7, "get_url": "u"}
		t.Errorf("a struct is %x, %v; want %s", got, err, want)
	}
}

// TestEveryPathWritesTheSame: a value on its own, in an any, in a struct and under a name of its own takes different
// paths through the code.
func TestEveryPathWritesTheSame(t *testing.T) {
	t.Parallel()
	type (
		floats  []float64
		strs    []string
		strMap  map[string]string
		anyMap  map[string]any
		anyList []any
	)
	for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
		for _, same := range [][]any{
			{[]float64{1, -0.5, 1e300}, floats{1, -0.5, 1e300}, [3]float64{1, -0.5, 1e300}},
			{[]float64(nil), floats(nil), (*int)(nil), []byte(nil), []string(nil), map[string]any(nil), nil},
			{[]string{"a", ""}, strs{"a", ""}, []any{"a", ""}, anyList{"a", ""}},
			{map[string]string{"b": "x", "a": "y"}, strMap{"b": "x", "a": "y"}, map[string]any{"a": "y", "b": "x"}, anyMap{"a": "y", "b": "x"}, struct{ A, B string }{"y", "x"}},
			{7, int8(7), uint16(7), int64(7), time.Duration(7), new(7)},
			{[]byte{1, 2}},
		} {
			want, err := New().Append(nil, as, same[0])
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range same {
				if got, err := New().Append(nil, as, v); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %T is %q, %v; %T is %q", as, v, got, err, same[0], want)
				}
				if v == nil {
					continue
				}
				box := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "F", Type: reflect.TypeOf(v)}}))
				box.Elem().Field(0).Set(reflect.ValueOf(v))
				inside, err := New().Append(nil, as, box.Interface())
				core := want
				if as == call.Pickle {
					core = want[2 : len(want)-1] // without the protocol and the stop
				}
				if err != nil || !bytes.Contains(inside, core) {
					t.Errorf("%s: %T inside a struct is %q, %v; outside %q", as, v, inside, err, want)
				}
				back := reflect.New(reflect.TypeOf(v))
				if err := New().Decode(as, want, back.Interface()); err != nil || cmp.Diff(v, back.Elem().Interface()) != "" {
					t.Errorf("%s: %q into %T: %v, %v", as, want, v, back.Elem(), err)
				}
			}
		}
	}
}

// TestRanges: a number that does not fit is an error, never a wrong value.
func TestRanges(t *testing.T) {
	t.Parallel()
	c := New()
	for _, v := range []any{1.0, -1, 300, uint64(math.MaxUint64), "1", true, []byte{1}, nil, []any{}, map[string]any{}, time.Unix(0, 0)} {
		for _, into := range []any{new(bool), new(int), new(int64), new(uint8), new(float32), new(float64), new(string), new([]byte), new([]float64),
			new([]string), new(map[string]string), new(time.Time), new(time.Duration), new([2]int), new(struct{})} {
			data, err := c.Append(nil, call.Msgpack, v)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Decode(call.Msgpack, data, into); err != nil {
				continue
			}
			got := reflect.ValueOf(into).Elem()
			switch {
			case v == nil && got.IsZero(), got.Kind() == reflect.Slice && got.Len() == 0, got.Kind() == reflect.Map, got.Kind() == reflect.Struct && got.NumField() == 0:
			case fmt.Sprint(got) == fmt.Sprint(v), got.CanFloat() && !strings.ContainsAny(fmt.Sprint(v), "tru["):
			case got.Type() == timeType && got.Interface().(time.Time).Equal(time.Unix(0, 0)):
			case got.Type() == reflect.TypeFor[time.Duration]() && fmt.Sprint(got.Int()) == fmt.Sprint(v):
			default:
				t.Errorf("%T %v became %s %v", v, v, got.Type(), got)
			}
		}
	}
	var f float32
	if err := c.Decode(call.JSON, []byte("1e300"), &f); err == nil || !strings.Contains(err.Error(), "out of range of float32") {
		t.Errorf("1e300 is the float32 %v, %v", f, err)
	}
	var fs []float32
	if err := c.Decode(call.JSON, []byte("[1, 1e300]"), &fs); err == nil || !strings.Contains(err.Error(), "field [1]: 1e+300 is out of range of float32") {
		t.Errorf("1e300 is a float32 in %v, %v", fs, err)
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	c := New()
	type in struct {
		User []struct{ Age int }
	}
	for data, text := range map[string]string{
		`{"user":[{"age":1}]}`:        "",
		`{"user":[],"x":[[{}]]}`:      `unknown field "x"; there are ["user"]`,
		`{"user":[{},{"ages":1}]}`:    `field user[1]: unknown field "ages"; there are ["age"]`,
		`{"user":[{"x":{"y":[1]}}]}`:  `field user[0]: unknown field "x"`,
		`{"user":[{"age":1}],"X":""}`: `unknown field "X"`,
	} {
		var v, w in
		if err := c.Decode(call.JSON, []byte(data), &v); err != nil {
			t.Errorf("%s: %v", data, err)
		}
		switch err := c.DecodeStrict(call.JSON, []byte(data), &w); {
		case text == "":
			if err != nil {
				t.Errorf("%s: %v", data, err)
			}
		case err == nil || !strings.Contains(err.Error(), text):
			t.Errorf("%s: %v, want %s", data, err, text)
		}
	}
}

type (
	low    struct{ A, Same, Deep int }
	other  struct{ Same, B int }
	tagged struct {
		X int `json:"b"`
	}
	promoted struct {
		low
		other
		tagged
		*Inner2
		Deep int `json:"deep"`
		Dash int `json:"-,"` //nolint:staticcheck // what it means is tested here
	}
	Inner2 struct {
		*promoted // a circle
		Far       int
	}
)

// TestEmbedding compares with encoding/json, on types whose names are tags or do not depend on the rule.
func TestEmbedding(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range fieldsOf(reflect.TypeFor[promoted]()) {
		names = append(names, f.name)
	}
	if d := cmp.Diff([]string{"a", "b", "far", "deep", "-"}, names); d != "" {
		t.Error(d)
	}
	type tags struct {
		A []int           `json:"a,omitempty"`
		B map[int]int     `json:"b,omitempty"`
		C time.Time       `json:"c,omitempty"`
		D time.Time       `json:"d,omitzero"`
		E *int            `json:"e,omitempty"`
		F [0]int          `json:"f,omitempty"`
		G [1]int          `json:"g,omitempty"`
		H struct{ X int } `json:"h,omitempty"`
		I []int           `json:"i,omitzero"`
		J any             `json:"j,omitempty"`
	}
	for _, v := range []tags{{}, {A: []int{}, B: map[int]int{}, I: []int{}, J: 0, E: new(0)}, {A: []int{0}, D: time.Unix(0, 0).UTC()}} {
		got, err := New().Append(nil, call.JSON, v)
		want, _ := json.Marshal(v)
		if err != nil || strings.ReplaceAll(string(got), `"x"`, `"X"`) != string(want) {
			t.Errorf("%s, %v\nwant %s", got, err, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	c := New()
	want, err := New().Append(nil, call.Msgpack, sample())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var v everything
			if err := c.Decode(call.Msgpack, want, &v); err != nil {
				t.Error(err)
			}
			if got, err := c.Append(nil, call.Msgpack, v); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestErrorsNameTheField(t *testing.T) {
	t.Parallel()
	c := New()
	type user struct{ Age int8 }
	type in struct {
		User  user
		Users []user
		ByID  map[string]user
		C     chan int `json:"c,omitempty"`
	}
	for data, text := range map[string]string{
		`{"user":{"age":"x"}}`:             "field user.age: cannot decode string into int8",
		`{"user":{"age":300}}`:             "field user.age: 300 is out of range of int8",
		`{"user":{"age":1.5}}`:             "field user.age: cannot decode float into int8",
		`{"users":[{"age":1},{"age":""}]}`: "field users[1].age: cannot decode string into int8",
		`{"by_id":{"k":{"age":[]}}}`:       "field by_id.k.age: cannot decode list into int8",
		`{"user":5}`:                       "field user: cannot decode int into codec.user",
		`{"user":{"age":1}`:                "invalid JSON: it ends too early",
		`{} {}`:                            "invalid JSON: more follows",
	} {
		var v in
		if err := c.Decode(call.JSON, []byte(data), &v); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %s", data, err, text)
		}
	}
	if _, err := c.Append(nil, call.Msgpack, in{C: make(chan int)}); err == nil || !strings.Contains(err.Error(), "field c: chan int cannot be encoded") {
		t.Errorf("a channel: %v", err)
	}
	if _, err := c.Append(nil, call.JSON, []float64{1, math.NaN()}); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("NaN in JSON: %v", err)
	}
	if data, err := c.Append(nil, call.Msgpack, []float64{math.NaN(), math.Inf(-1)}); err != nil || len(data) == 0 {
		t.Errorf("NaN in MessagePack: %v", err)
	}
	var u uint8
	if err := c.Decode(call.Msgpack, []byte{0xff}, &u); err == nil {
		t.Error("-1 fits into uint8")
	}
	for _, as := range []call.Codec{call.Plain, call.Native, 77} {
		var v any
		if _, ok := errors.AsType[*UnreadableError](c.Decode(as, nil, &v)); !ok {
			t.Errorf("%s is readable", as)
		}
	}
}

func TestDepthEndsInAnError(t *testing.T) {
	t.Parallel()
	c := New()
	loop := &everything{}
	loop.Next = loop
	if _, err := c.Append(nil, call.Msgpack, loop); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a cycle: %.80v", err)
	}
	var v any
	if err := c.Decode(call.Msgpack, bytes.Repeat([]byte{0x91}, 1<<20), &v); err == nil {
		t.Error("a million nested lists")
	}
	var n everything
	if err := c.Decode(call.Msgpack, bytes.Repeat([]byte("\x81\xa4next"), 1<<16), &n); err == nil {
		t.Error("a deep struct")
	}
}

func TestLyingLengths(t *testing.T) {
	t.Parallel()
	c := New()
	for _, h := range []string{"ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff"} { // list, map, string, bytes of 4 Gi
		data, _ := hex.DecodeString(h + "00")
		for _, into := range []any{new(any), new([]string), new(map[string]int), new(string), new([]byte), new([]everything)} {
			if err := c.Decode(call.Msgpack, data, into); err == nil {
				t.Errorf("%s into %T was accepted", h, into)
			}
		}
	}
}

// TestNestedLies: lists in lists that all claim to fill the rest of the message. A reader that believed them would
// ask for the square of the message.
//
// The test counts the allocations of the process, so it is not parallel.
func TestNestedLies(t *testing.T) {
	data := bytes.Repeat([]byte{0xdd, 0, 1, 0, 0}, 500)
	data = append(data, make([]byte, 1<<16)...)
	for _, into := range []any{new(any), new([]any), new([][][]any)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := New().Decode(call.Msgpack, data, into)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err == nil || grown > 200<<20 { // a reader that believes takes 500 MiB
			t.Errorf("%T: %v, %d MiB", into, err, grown>>20)
		}
	}
}

func TestFieldsAndSetFields(t *testing.T) {
	t.Parallel()
	c := New()
	type args struct {
		X      int
		Labels map[string]string `json:"labels,omitempty"`
	}
	fields, ok, _ := c.Fields(args{X: 4})
	got := map[string]any{}
	for k, v := range fields {
		got[k] = v
	}
	if !ok || cmp.Diff(got, map[string]any{"x": 4}) != "" {
		t.Errorf("%v %v", got, ok)
	}
	for _, v := range []any{time.Now(), 5, "x", new(big.Int), nil, []int{1}} {
		if _, ok, _ := c.Fields(v); ok {
			t.Errorf("%T is a record", v)
		}
	}
	var a args
	err := c.SetFields(&a, map[string]call.Payload{"x": {Codec: call.Msgpack, Data: []byte{7}}, "labels": {Codec: call.JSON, Data: []byte(`{"a":"b"}`)}})
	if err != nil || a.X != 7 || a.Labels["a"] != "b" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := c.SetFields(&a, map[string]call.Payload{"y": {}}); err == nil || !strings.Contains(err.Error(), `"y"; there are ["x" "labels"]`) {
		t.Errorf("%v", err)
	}
	if err := c.SetFields(&a, map[string]call.Payload{"x": {Codec: call.Text, Data: []byte("t")}}); err == nil || !strings.Contains(err.Error(), "argument x") {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"SayHi": "say_hi", "GetURL": "get_url", "HTTPServer": "http_server", "UserID2": "user_id2", "X": "x", "": "", "already_snake": "already_snake",
		"A_B": "a_b", "ÄÖ": "äö",
	} {
		if got := SnakeCase(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	have := []string{"SayHi", "say_hi", "GetURL", "ToID", "ToId", "UseIP", "use_ip", "UseIp"}
	for want, found := range map[string]string{
		"say_hi": "say_hi", "SayHi": "SayHi", "get_url": "GetURL", "GetUrl": "GetURL", "nope": "", // as "to_id", which two methods may be
		"to_id": "", "ToId": "ToId", "ToID": "ToID", "UseIp": "UseIp", "UseIP": "UseIP", "useIP": "use_ip",
	} {
		if got, _ := MatchName(want, have); got != found {
			t.Errorf("%s found %q, want %q", want, got, found)
		}
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	in := &call.Error{
		Code: helvetype.CodeNotFound, Reason: helvetype.ReasonUser, Message: "", App: "a", Deployment: "d", Method: "m", Replica: "r", RequestID: "id",
		Public: "p", Type: "T", Traceback: "tb\nline", Pickle: []byte{0, 1}, Remote: true, HTTP: 429, Retry: 3,
		Known: []call.KnownError{{Name: "*T\x00a", Value: []byte{0x80}}, {Name: "v"}, {Name: "w", Value: []byte{1}}},
	}
	out, err := ParseError(AppendError(nil, in))
	if err != nil || cmp.Diff(in, out) != "" {
		t.Errorf("%v\n%s", err, cmp.Diff(in, out))
	}
	for _, bad := range []string{"", "\x06reason\x04\x00\x00\x00user", "\x06reason\xff\xff\xff\xffuser", "\xff", "\x07message\x00\x00\x00\x00"} {
		if e, err := ParseError([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, e)
		}
	}
}

func FuzzDecode(f *testing.F) {
	c := New()
	for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
		data, err := c.Append(nil, as, sample())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(as), data)
	}
	f.Add(byte(call.Text), []byte("x"))
	f.Fuzz(func(t *testing.T, as byte, data []byte) {
		for _, into := range []any{new(any), new(everything), new(string), new([]everything), new(map[int]any)} {
			if err := c.Decode(call.Codec(as), data, into); err != nil {
				continue
			}
			// A value that was read can be written and read again, and is then the same.
			v := reflect.ValueOf(into).Elem().Interface()
			once, err := c.Append(nil, call.Msgpack, v)
			if err != nil {
				continue // nested close to the limit, or a year that has no text
			}
			back := reflect.New(reflect.TypeOf(into).Elem())
			if err := c.Decode(call.Msgpack, once, back.Interface()); err != nil {
				t.Fatalf("%T read, written, and not readable: %v", into, err)
			}
			twice, err := c.Append(nil, call.Msgpack, back.Elem().Interface())
			if err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%T changes when it is written again: %v\n%x\n%x", into, err, once, twice)
			}
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	c := New()
	f.Add(true, int64(-5), uint64(1<<63), 1.5, "é\x00\"", []byte{0, 255}, int64(1e9), int64(5))
	f.Add(true, int64(-5), uint64(1<<63), 1.5, "\xa9", []byte("0"), int64(1e9), int64(5))
	f.Add(false, int64(300), uint64(0), math.Inf(1), "\xff", []byte(nil), int64(-1), int64(0))
	f.Fuzz(func(t *testing.T, b bool, i int64, u uint64, x float64, s string, raw []byte, sec, nsec int64) {
		in := everything{
			Inner: &Inner{GetURL: s, Tagged: int(i)}, B: b, I64: i, U64: u, F32: float32(x), F64: x, S: s, Raw: raw, L: []string{s, ""},
			M: map[string]int{s: int(i)}, MI: map[int]string{int(i): s}, P: new(int(i)), D: time.Duration(i), T: time.Unix(sec, nsec).UTC(),
			Any: []any{s, i, b, map[string]any{s: raw}}, Next: &everything{S: s},
		}
		for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
			in := in
			if as == call.Pickle {
				in.T = in.T.Truncate(time.Microsecond)
			}
			data, err := c.Append(nil, as, in)
			if err != nil {
				if y := in.T.Year(); as == call.JSON && (math.IsNaN(x) || math.IsInf(float64(float32(x)), 0) || y < 0 || y > 9999 || !utf8.ValidString(s)) {
					continue // JSON has no form for it
				}
				if y := in.T.Year(); as == call.Pickle && (y < 1 || y > 9999 || !utf8.ValidString(s)) {
					continue // nor has Python
				}
				t.Fatalf("%s: %v", as, err)
			}
			if as == call.JSON && (!json.Valid(data) || !utf8.ValidString(s)) {
				t.Fatalf("%q is not JSON, or was not refused", data)
			}
			var out everything
			if err := c.Decode(as, data, &out); err != nil {
				t.Fatalf("%s: %v\n%q", as, err, data)
			}
			if as == call.JSON {
				in.Any, out.Any = nil, nil // bytes are text in JSON
			}
			if as != call.JSON && in.Any.([]any)[3].(map[string]any)[s].([]byte) == nil {
				in.Any.([]any)[3].(map[string]any)[s] = nil // nil bytes come back without a type
			}
			if d := cmp.Diff(in, out, cmp.AllowUnexported(everything{}, Inner{}, jsonOnly{}), cmp.Comparer(func(a, b float64) bool {
				return a == b || a != a && b != b
			}), cmp.Comparer(func(a, b float32) bool { return a == b || a != a && b != b }), cmp.Comparer(func(a, b *big.Int) bool {
				return a == b || a != nil && b != nil && a.Cmp(b) == 0
			})); d != "" {
				t.Fatalf("%s: %s", as, d)
			}
		}
	})
}

func FuzzError(f *testing.F) {
	f.Add(AppendError(nil, call.NewError(helvetype.ReasonUser, "x")))
	known := call.NewError(helvetype.ReasonUser, "x")
	known.Known = []call.KnownError{{Name: "a", Value: []byte{1}}, {Name: "b"}}
	f.Add(AppendError(nil, known))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseError(data)
		if err != nil {
			return
		}
		again, err := ParseError(AppendError(nil, e))
		if err != nil || cmp.Diff(e, again) != "" {
			t.Fatalf("%v\n%s", err, cmp.Diff(e, again))
		}
	})
}

func BenchmarkString(b *testing.B) {
	c, s := New(), strings.Repeat("x", 100)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var out string
		buf, _ = c.Append(buf[:0], call.Msgpack, s)
		c.Decode(call.Msgpack, buf, &out)
	}
}

func BenchmarkStruct(b *testing.B) { benchmarkStruct(b, call.Msgpack) }

func BenchmarkStructPickled(b *testing.B) { benchmarkStruct(b, call.Pickle) }

func benchmarkStruct(b *testing.B, as call.Codec) {
	c, in := New(), struct {
		Name   string
		Age    int
		Scores []float64
	}{"Ada", 36, make([]float64, 16)}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		out := in
		buf, _ = c.Append(buf[:0], as, in)
		c.Decode(as, buf, &out)
	}
}

// unlucky has methods that panic (1), end the goroutine (2), or panic when omitzero calls them (3).
type unlucky int

func (u unlucky) fail() {
	switch u {
	case 1:
		panic(errUnlucky)
	case 2:
		runtime.Goexit()
	}
}

var errUnlucky = errors.New("unlucky")

func (u unlucky) MarshalText() ([]byte, error)     { u.fail(); return []byte{byte('0' + u)}, nil }
func (u *unlucky) UnmarshalText(text []byte) error { unlucky(text[0] - '0').fail(); return nil }

type asked int

func (a asked) IsZero() bool { unlucky(a).fail(); return false }

// TestCodeOfValuesFails: a panic or an end of the goroutine in a method of a value is an error, wherever in a value
// it is.
func TestCodeOfValuesFails(t *testing.T) {
	t.Parallel()
	c := New()
	type inner struct{ U *unlucky }
	type outer struct {
		Zero asked `json:"zero,omitzero"`
		Any  any
	}
	for n, kind := range map[unlucky]string{1: "panic", 2: "goexit"} {
		for _, v := range []any{n, &n, []unlucky{3, n}, map[string]inner{"a": {&n}}, []any{inner{&n}}, outer{Any: n}, outer{Zero: asked(n)}} {
			for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
				_, err := c.Append(nil, as, v)
				if e := Panicked("here", err); e == nil || e.Type != kind || e.Reason != helvetype.ReasonUser || !strings.HasPrefix(e.Message, "here: ") || errors.Is(e, errUnlucky) != (n == 1) {
					t.Errorf("%T as %v: %v", v, as, err)
				}
			}
		}
		if _, ok, err := c.Fields(outer{Zero: asked(n)}); !ok || Panicked("", err) == nil {
			t.Errorf("fields: %v, %v", ok, err)
		}
		text := []byte(`["` + string(rune('0'+n)) + `"]`)
		var into struct{ U []unlucky }
		if err := c.Decode(call.JSON, text, &into.U); Panicked("", err) == nil {
			t.Errorf("%v", err)
		}
		if err := c.SetFields(&into, map[string]call.Payload{"u": {Codec: call.JSON, Data: text}}); Panicked("", err) == nil {
			t.Errorf("%v", err)
		}
	}
	fields, ok, err := c.Fields(outer{Zero: 3, Any: 4})
	if n := len(maps.Collect(fields)); n != 2 || !ok || err != nil || Panicked("", errUnlucky) != nil {
		t.Errorf("%d, %v, %v", n, ok, err)
	}
}

package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec/pickle"
)

// asPython reads pickles, says what they are, and writes them again in every protocol, as it is and within itself twice.
const asPython = `
import datetime, pickle, sys
for line in sys.stdin:
    v = pickle.loads(bytes.fromhex(line))
    print(repr(v))
    print(*(pickle.dumps(v, p).hex() for p in range(6)))
`

// TestPickleInPython: Python reads the pickles of Go, and Go reads the pickles that Python makes of these.
func TestPickleInPython(t *testing.T) {
	t.Parallel()
	python := os.Getenv("HELVE_PYTHON")
	if python == "" {
		python = "python3"
	}
	path, err := exec.LookPath(python)
	if err != nil {
		t.Logf("no Python: %v", err) // pickles that Python wrote are in pickle/testdata
		return
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 3000)
	values := []struct {
		v    any
		repr string
	}{
		{nil, "None"}, {true, "True"}, {7, "7"}, {int8(-7), "-7"}, {300, "300"}, {1 << 31, "2147483648"}, {int64(math.MinInt64), "-9223372036854775808"},
		{uint64(math.MaxUint64), "18446744073709551615"}, {big.NewInt(-5), "-5"}, {huge, huge.String()}, {new(big.Int).Neg(huge), "-" + huge.String()},
		{1.5, "1.5"}, {float32(0.5), "0.5"}, {math.Inf(-1), "-inf"}, {"héllo\x00😀", `'héllo\x00😀'`}, {strings.Repeat("x", 300), "'" + strings.Repeat("x", 300) + "'"},
		{[]byte{0, 255}, `b'\x00\xff'`}, {[]byte{}, "b''"}, {bytes.Repeat([]byte("y"), 300), "b'" + strings.Repeat("y", 300) + "'"},
		{[]int{1, 2}, "[1, 2]"}, {[]string{}, "[]"}, {[2]bool{true, false}, "[True, False]"}, {map[string]int{}, "{}"}, {map[int]string{-1: "a", 5: "b"}, "{-1: 'a', 5: 'b'}"},
		{[]float64{1, 2.5}, "[1.0, 2.5]"}, {map[string]any{"a": []any{int64(1), nil, "x"}}, "{'a': [1, None, 'x']}"},
		{time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), "datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)"},
		{[]time.Time{time.Unix(0, 0).UTC(), time.Unix(1, 0).UTC()}, "[datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), " +
			"datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc)]"},
		{time.Minute, "60000000000"}, {[]struct {
			UserID int
			Name   *string `json:"other"`
		}{{7, new("x")}, {8, nil}}, "[{'user_id': 7, 'other': 'x'}, {'user_id': 8, 'other': None}]"},
	}
	c := New()
	var in bytes.Buffer
	for _, v := range values {
		data, err := c.Append(nil, call.Pickle, v.v)
		if err != nil {
			t.Fatalf("%v: %v", v.v, err)
		}
		cloud, err := c.Append(nil, call.Cloudpickle, v.v)
		if err != nil || !bytes.Equal(data, cloud) {
			t.Errorf("%v: cloudpickle has other bytes: %v", v.v, err)
		}
		in.WriteString(hex.EncodeToString(data) + "\n")
	}
	cmd := exec.CommandContext(t.Context(), path, "-X", "utf8", "-c", asPython)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) != 2*len(values)+1 {
		t.Fatalf("%d lines for %d values", len(lines), len(values))
	}
	for i, v := range values {
		if lines[2*i] != v.repr {
			t.Errorf("%v is %s in Python, want %s", v.v, lines[2*i], v.repr)
		}
		if v.v == nil {
			continue
		}
		for protocol, text := range strings.Fields(lines[2*i+1]) {
			data, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			back := reflect.New(reflect.TypeOf(v.v))
			if err := c.Decode(call.Pickle, data, back.Interface()); err != nil || equal(v.v, back.Elem().Interface()) != "" {
				t.Errorf("protocol %d: %v came back as %v, %v", protocol, v.v, back.Elem(), err)
			}
		}
	}
}

// TestPickleInto reads pickles of Python into Go types.
func TestPickleInto(t *testing.T) {
	t.Parallel()
	type record struct {
		UserID int
		Tags   []string
		Inner  *struct{ X float64 }
		Big    *big.Int
		Wait   time.Duration
		At     time.Time
	}
	c := New()
	const dict = "}(\x8c\x07user_idK\x05\x8c\x04tags(\x8c\x01a\x8c\x01bt\x8c\x05inner}(\x8c\x01xK\x02u\x8c\x03big\x8a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x8c\x04waitcdatetime\ntimedelta\n(K\x00K\x02K\x00tR\x8c\x02atcdatetime\ndatetime\n(C\x0a\x07\xea\x01\x02\x03\x04\x05\x00\x00\x00" +
		"cdatetime\ntimezone\n(cdatetime\ntimedelta\n(K\x00K\x3cK\x00tRtRtR\x8c\x05otherNu."
	var got record
	if err := c.Decode(call.Pickle, []byte(dict), &got); err != nil {
		t.Fatal(err)
	}
	want := record{
		5, []string{"a", "b"}, &struct{ X float64 }{2}, new(big.Int).Lsh(big.NewInt(1), 72), 2 * time.Second,
		time.Date(2026, 1, 2, 3, 3, 5, 0, time.UTC),
	}
	if d := equal(want, got); d != "" {
		t.Error(d)
	}
	if err := c.DecodeStrict(call.Cloudpickle, []byte(dict), &got); err == nil || !strings.Contains(err.Error(), `unknown field "other"`) {
		t.Errorf("strict: %v", err)
	}
	var tree any
	big72 := new(big.Int).Lsh(big.NewInt(1), 72)
	if err := c.Decode(call.Pickle, []byte("(K\x01\x8a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x8fC\x01x}(K\x07NuG?\xf8\x00\x00\x00\x00\x00\x00t."), &tree); err != nil ||
		equal(tree, []any{int64(1), big72, []any{}, []byte("x"), map[string]any{"7": nil}, 1.5}) != "" {
		t.Errorf("%#v, %v", tree, err)
	}
	const long = "\x8a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	var f float64
	var fs []float64
	if err := c.Decode(call.Pickle, []byte(long+"."), &f); err != nil || f != math.Ldexp(1, 72) {
		t.Errorf("an int of 73 bits is the float %v, %v", f, err)
	}
	if err := c.Decode(call.Pickle, []byte("]("+long+"K\x01e."), &fs); err != nil || cmp.Diff(fs, []float64{math.Ldexp(1, 72), 1}) != "" {
		t.Errorf("an int of 73 bits is the float %v, %v", fs, err)
	}
	var b big.Int
	for data, want := range map[string]string{"K\x05.": "5", "J\xff\xff\xff\xff.": "-1", "\x8c\x0212.": "12", "\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00.": "18446744073709551615"} {
		if err := c.Decode(call.Pickle, []byte(data), &b); err != nil || b.String() != want {
			t.Errorf("%q is %v, %v", data, &b, err)
		}
	}
	for _, test := range []struct {
		data string
		into any
		want string
	}{
		{long + ".", new(int), "cannot decode int of more than 64 bits into int"},
		{long + ".", new(uint64), "cannot decode int of more than 64 bits into uint64"},
		{"\x8b\xff\x00\x00\x00" + strings.Repeat("\x7f", 255) + ".", new(float64), "out of range of float64"},
		{"\x8a\x14" + strings.Repeat("\x7f", 20) + ".", new(float32), "out of range of float32"},
		{"}(\x8c\x07user_id\x8c\x01xu.", new(record), "field user_id: cannot decode string into int"},
		{"}(\x8c\x04tags](cmypkg\nModel\n)\x81eu.", new(record), "field tags[0]: pickle holds an instance of mypkg.Model, which Go does not read"},
		{"}(cmypkg\nModel\n)\x81Nu.", new(any), "a key: pickle holds an instance of mypkg.Model"},
		{"}((K\x01tNu.", new(any), "cannot use list as the key of a map"},
		{"]q\x00h\x00a.", new(any), "contains itself"},
		{"not a pickle", new(any), "invalid pickle near byte"},
		{"K\x01.", new(string), "cannot decode int into string"},
	} {
		if err := c.Decode(call.Pickle, []byte(test.data), test.into); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.data, err, test.want)
		}
	}
	err := c.Decode(call.Pickle, []byte("cmypkg\nModel\n)\x81."), new(any))
	if e, ok := errors.AsType[*pickle.RefusedError](err); !ok || e.Object.Class != "mypkg.Model" {
		t.Errorf("%v", err)
	}
}

// TestPickledReferences: a value that is referred to often is written out each time, up to a limit.
func TestPickledReferences(t *testing.T) {
	t.Parallel()
	laughs := "(]q\x00" // a list, a list of two of it, a list of two of that ...
	for i := range byte(40) {
		laughs += "](h" + string([]byte{i}) + "h" + string([]byte{i}) + "eq" + string([]byte{i + 1})
	}
	laughs += "1h\x28."
	if err := New().Decode(call.Pickle, []byte(laughs), new(any)); err == nil || !strings.Contains(err.Error(), "refers to its values so often") {
		t.Errorf("2^40 lists: %.100v", err)
	}
	var v [][]string
	err := New().Decode(call.Pickle, []byte("](](\x8c\x01xe\x94h\x00h\x00e."), &v)
	if err != nil || cmp.Diff(v, [][]string{{"x"}, {"x"}, {"x"}}) != "" {
		t.Errorf("%v, %v", v, err)
	}
	v[0][0] = "changed"
	if v[1][0] != "x" {
		t.Error("two lists share memory")
	}
}

func TestPickleErrorsNameTheField(t *testing.T) {
	t.Parallel()
	c := New()
	for _, test := range []struct {
		v    any
		want string
	}{
		{struct{ A []string }{[]string{"x", "\xff"}}, "field a[1]: the text is not UTF-8"},
		{map[string]int{"x\xff": 1}, "not UTF-8"},
		{struct{ T time.Time }{time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}, "field t: the year 12000"},
		{struct{ C chan int }{}, "field c: chan int cannot be encoded"},
		{struct{ R raw }{msgp.AppendComplex64(nil, 1)}, "field r: pickle has no form for"},
		{raw(msgp.AppendNil(msgp.AppendNil(msgp.AppendMapHeader(nil, 1)))), "cannot use nil as the key of a map"},
		{raw{0x91}, "cut short"},
	} {
		if data, err := c.Append(nil, call.Pickle, test.v); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %q, %v; want %s", test.v, data, err, test.want)
		}
	}
}

// TestRaw: text and bytes pass unchanged, and every other type is refused by its name.
func TestRaw(t *testing.T) {
	t.Parallel()
	c := New()
	type named string
	for _, v := range []any{"x", []byte("x"), named("x"), json.RawMessage("x")} {
		data, err := c.Append(nil, call.Raw, v)
		if err != nil || string(data) != "x" {
			t.Errorf("%T: %q, %v", v, data, err)
		}
		back := reflect.New(reflect.TypeOf(v))
		if err := c.Decode(call.Raw, data, back.Interface()); err != nil || cmp.Diff(back.Elem().Interface(), v) != "" {
			t.Errorf("%T: %v, %v", v, back.Elem(), err)
		}
	}
	for _, v := range []any{5, nil, []string{"x"}, struct{}{}, map[string]int{}} {
		if data, err := c.Append(nil, call.Raw, v); err == nil || !strings.Contains(err.Error(), "cannot be encoded as raw") {
			t.Errorf("%T: %q, %v", v, data, err)
		}
	}
	var n int
	if err := c.Decode(call.Raw, []byte("5"), &n); err == nil || !strings.Contains(err.Error(), "cannot decode raw into int") {
		t.Errorf("%d, %v", n, err)
	}
}

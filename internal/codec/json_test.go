package codec

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

// TestJSONLikeTheStandard: a JSON text has the same meaning as in encoding/json, except for text that is not Unicode,
// which is an error here.
func TestJSONLikeTheStandard(t *testing.T) {
	t.Parallel()
	c := New()
	for _, text := range []string{
		`null`, `true`, ` false `, `0`, `-0.5`, `1e3`, `1E-3`, `"x"`, `""`, `"\u00e9\n\ud83d\ude00\\ud83d\ufffd"`, `[]`, `[ ]`, `{}`, "{\n}",
		`[1 , [2,[ ]] ,{"a" : { } , "b":[null,true,false]}]`, `{"a":1,"a":2}`, `"\\\""`, `["\\","\""]`, `{"":""}`,
	} {
		var got, want any
		if err := c.Decode(call.JSON, []byte(text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		json.Unmarshal([]byte(text), &want)
		again, _ := json.Marshal(got)
		wanted, _ := json.Marshal(want)
		if d := cmp.Diff(string(wanted), string(again)); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for _, text := range []string{``, ` `, `{`, `[1,]`, `{"a"}`, `"`, `"\x"`, `01`, `nul`, `{} {}`, `1 2`, "\"\n\"", `[1e999]`, `NaN`, `'a'`,
		"\"\xff\"", `"\ud83d"`, `"\ud83d "`, `"\ude00\ud83d"`, `"\ud83d\ud83d\ude00"`, "{\"\xff\":1,\"\xfe\":2}"} {
		var v any
		if err := c.Decode(call.JSON, []byte(text), &v); err == nil {
			t.Errorf("%s was read as %v", text, v)
		}
	}
}

// raw writes MessagePack of its own. JSON may have no form for it.
type raw []byte

func (r raw) MarshalMsg(b []byte) ([]byte, error) { return append(b, r...), nil }

func TestOwnMessagePackAsJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   raw
		want string
	}{
		{msgp.AppendInt(msgp.AppendInt(msgp.AppendMapHeader(nil, 1), 5), 6), `{"5":6}`},
		{msgp.AppendBytes(nil, []byte{1}), `"AQ=="`},
		{msgp.AppendFloat64(nil, math.NaN()), ""},
		{msgp.AppendComplex64(nil, 1), ""},
		{raw{0x91}, ""},
		{raw{0xdd, 255, 255, 255, 255}, ""},
		{nil, ""},
	} {
		got, err := New().Append(nil, call.JSON, test.in)
		if test.want == "" && err == nil || test.want != "" && string(got) != test.want {
			t.Errorf("%x: %s, %v", []byte(test.in), got, err)
		}
	}
}

func TestJSONNumbersAndText(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		0.0, 1.5, 1e-7, 1e-6, 1e20, 1e21, math.MaxFloat64, math.SmallestNonzeroFloat64, float32(0.1), float32(1e-20), int64(math.MinInt64),
		"a\x00\x1f\u2028\t\r\n\\\"/é😀", []string{"\b\f", ""},
	} {
		got, err := New().Append([]byte("before"), call.JSON, v)
		var a, b any
		want, _ := json.Marshal(v)
		if err != nil || json.Unmarshal(got[len("before"):], &a) != nil || json.Unmarshal(want, &b) != nil || cmp.Diff(a, b) != "" {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
		if len(got)-len("before") > len(want) {
			t.Errorf("%s is longer than %s", got, want)
		}
	}
}

func TestJSONDepth(t *testing.T) {
	t.Parallel()
	for _, n := range []int{maxDepth / 2, maxDepth * 2, 1 << 20} {
		var v any
		err := New().Decode(call.JSON, []byte(strings.Repeat("[", n)+strings.Repeat("]", n)), &v)
		if (err == nil) != (n < maxDepth) {
			t.Errorf("%d deep: %.80v", n, err)
		}
	}
}

package codec

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// written is the MessagePack of an array.
func written(kind byte, size int, data []byte, shape ...int) []byte {
	return arrayValue{kind, size, shape, data}.append(nil)
}

// TestArrays: an array fits slices of as many levels as it has dimensions, arrays and any, and numbers are converted by the rules of lists.
func TestArrays(t *testing.T) {
	t.Parallel()
	f32, i64 := []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff} // 1, 2; 1, -1
	type named []float32
	for name, x := range map[string]struct {
		data []byte
		into any
		want any
		err  string
	}{
		"float32":                {written('f', 4, f32, 2), new([]float32), []float32{1, 2}, ""},
		"a named slice":          {written('f', 4, f32, 2), new(named), named{1, 2}, ""},
		"float32 as float64":     {written('f', 4, f32, 2), new([]float64), []float64{1, 2}, ""},
		"float16":                {written('f', 2, []byte{0, 0x3c, 1, 0, 0, 0xfc}, 3), new([]float32), []float32{1, 1. / (1 << 24), float32(math.Inf(-1))}, ""},
		"int64 as int":           {written('i', 8, i64, 2), new([]int), []int{1, -1}, ""},
		"int64 as int8":          {written('i', 8, i64, 2), new([]int8), []int8{1, -1}, ""},
		"int64 as uint8":         {written('i', 8, i64, 2), new([]uint16), nil, "out of range"},
		"int64 as float32":       {written('i', 8, i64, 2), new([]float32), []float32{1, -1}, ""},
		"float as int":           {written('f', 4, f32, 2), new([]int), nil, "cannot decode float into int"},
		"two dimensions":         {written('f', 4, f32, 1, 2), new([][]float32), [][]float32{{1, 2}}, ""},
		"two dimensions in one":  {written('f', 4, f32, 1, 2), new([]float32), nil, "cannot decode list into float32"},
		"one dimension in two":   {written('f', 4, f32, 2), new([][]float32), nil, "cannot decode float into []float32"},
		"an array of Go":         {written('f', 4, f32, 2), new([2]float32), [2]float32{1, 2}, ""},
		"another array of Go":    {written('f', 4, f32, 2), new([3]float32), nil, "does not fit [3]float32"},
		"bytes":                  {written('u', 1, []byte("ab"), 2), new([]byte), []byte("ab"), ""},
		"bool":                   {written('b', 1, []byte{1, 0, 7}, 3), new([]bool), []bool{true, false, true}, ""},
		"list of any":            {written('f', 4, f32, 2), new([]any), []any{1.0, 2.0}, ""},
		"any":                    {written('f', 4, f32, 1, 2), new(any), helvetype.Array[float32]{Shape: []int{1, 2}, Data: []float32{1, 2}}, ""},
		"any of float16":         {written('f', 2, []byte{0, 0x3c}, 1), new(any), helvetype.Array[float32]{Shape: []int{1}, Data: []float32{1}}, ""},
		"an Array":               {written('f', 4, f32, 1, 2), new(helvetype.Array[float32]), helvetype.NewArray([]float32{1, 2}, 1, 2), ""},
		"an Array of ints":       {written('i', 8, i64, 2, 1), new(helvetype.Array[int]), helvetype.NewArray([]int{1, -1}, 2, 1), ""},
		"an Array of float64":    {written('f', 4, f32, 1, 2), new(helvetype.Array[float64]), helvetype.NewArray([]float64{1, 2}, 1, 2), ""},
		"an empty one":           {written('f', 4, nil, 3, 0), new(helvetype.Array[float32]), helvetype.Array[float32]{Shape: []int{3, 0}, Data: []float32{}}, ""},
		"a text":                 {written('f', 4, f32, 2), new(string), nil, "cannot decode array of numbers into string"},
		"too few items":          {written('f', 4, f32, 3), new(any), nil, "does not parse"},
		"no such kind":           {written('c', 8, f32, 1), new(any), nil, "does not parse"},
		"many empty rows":        {written('f', 4, nil, 1<<30, 0), new([][]float32), nil, "more than 65536 empty lists"},
		"many in small lists":    {written('f', 4, nil, 1<<15, 1<<10, 0), new([][][]float32), nil, "more than 65536 empty lists"},
		"no rows of many items":  {written('f', 4, nil, 0, 1<<20), new([][]float32), [][]float32{}, ""},
		"an empty Array":         {written('f', 4, nil, 0, 1<<20), new(helvetype.Array[float32]), helvetype.Array[float32]{Shape: []int{0, 1 << 20}, Data: []float32{}}, ""},
		"a shape that overflows": {written('f', 4, f32, math.MaxInt, math.MaxInt), new(any), nil, "does not parse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := New().Decode(call.Msgpack, x.data, x.into)
			got := reflect.ValueOf(x.into).Elem().Interface()
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("%v, error %v, want %q", got, err, x.err)
				}
				return
			}
			if diff := cmp.Diff(x.want, got); err != nil || diff != "" {
				t.Errorf("error %v\n%s", err, diff)
			}
		})
	}
}

// TestArraysInOtherForms: an Array is nested lists in JSON and in pickles, and is read from them.
func TestArraysInOtherForms(t *testing.T) {
	t.Parallel()
	c := New()
	in := map[string]any{"a": helvetype.NewArray([]int32{1, 2, 3, 4, 5, 6}, 2, 3)}
	for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
		data, err := c.Append(nil, as, in)
		if err != nil {
			t.Fatal(err)
		}
		var out struct{ A helvetype.Array[int32] }
		if err := c.Decode(as, data, &out); err != nil || !reflect.DeepEqual(out.A, in["a"]) {
			t.Errorf("%s: %v, %v", as, out, err)
		}
	}
	if b, err := c.Append(nil, call.JSON, in); err != nil || string(b) != `{"a":[[1,2,3],[4,5,6]]}` {
		t.Errorf("%s, %v", b, err)
	}
	zero := struct{ A helvetype.Array[int32] }{}
	for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
		data, err := c.Append(nil, as, zero)
		if err != nil {
			t.Fatal(err)
		}
		out := struct{ A *helvetype.Array[int32] }{new(helvetype.NewArray([]int32{1}, 1))}
		if err := c.Decode(as, data, &out); err != nil || out.A != nil {
			t.Errorf("%s: an Array that is not set becomes %v, error %v", as, out.A, err)
		}
	}
	var ragged helvetype.Array[float64]
	if err := c.Decode(call.JSON, []byte(`[[1,2],[3]]`), &ragged); err == nil || !strings.Contains(err.Error(), "lists of 2 and of 1 items are no array") {
		t.Errorf("%v, %v", ragged, err)
	}
	if _, err := c.Append(nil, call.Msgpack, helvetype.Array[float64]{Shape: []int{2}, Data: []float64{1}}); err == nil {
		t.Error("an array with too few items is written")
	}
	if IsRecord(reflect.TypeFor[helvetype.Array[float64]]()) {
		t.Error("an array as an input is keyword arguments")
	}
}

// FuzzArray: data of an array that is read is written again as it was, and nested lists of it have the same items.
func FuzzArray(f *testing.F) {
	f.Add([]byte{'f', 4, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f})
	f.Add([]byte{'i', 2, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4})
	c := New()
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseArray(data)
		if err != nil {
			return
		}
		var once, lists any
		if err := c.Decode(call.Msgpack, a.append(nil), &once); err != nil {
			t.Fatal(err)
		}
		again, err := c.Append(nil, call.Msgpack, once)
		if err != nil {
			t.Fatal(err)
		}
		b, _, ok, err := readArray(again)
		if !ok || err != nil || fmt.Sprint(b.shape) != fmt.Sprint(a.shape) || a.kind != 'b' && a.size != 2 && string(b.data) != string(a.data) {
			t.Fatalf("%v becomes %v, %v", a, b, err)
		}
		nested, err := a.expand(nil)
		if err != nil {
			return
		}
		if err := c.Decode(call.Msgpack, nested, &lists); err != nil {
			t.Fatal(err)
		}
	})
}

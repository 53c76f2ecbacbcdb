package codec

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

type whole struct{ ID int }
type hiding struct {
	whole
	ID int
}
type hidingTagged struct {
	A int `json:"n"`
	N int
}
type private struct{ ID int }
type embeds struct {
	*private
	N int
}
type chain struct {
	*chain
	N int
}
type pointers struct {
	A **int
	B *[]int
	C *map[string]int
	D *any
}
type keyed struct {
	Months map[time.Month]string
	Times  map[time.Duration]int
	Addrs  map[netip.Addr]int
	Bits   map[uint8]bool
}

// TestValuesArriveWholeOrNotAtAll: in every codec a value is the same at the other side, or there is an error that
// names the lost field.
func TestValuesArriveWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	one, list, table, value := new(1), &[]int{1}, &map[string]int{"a": 1}, any("a")
	var none *int
	c := New()
	for _, x := range []struct {
		name string
		v    any
		err  string // "" for a value that arrives
	}{
		{"a hidden field", hiding{whole{1}, 2}, "the embedded field ID"},
		{"a hidden field without a value", hiding{whole{}, 2}, ""},
		{"a field that a tag hides", struct{ hidingTagged }{hidingTagged{1, 2}}, "the embedded field N"},
		{"an embedded pointer that cannot be set", embeds{&private{1}, 2}, "the embedded field private"},
		{"an embedded pointer that is nil", embeds{nil, 2}, ""},
		{"a struct in itself", chain{&chain{N: 1}, 2}, "the embedded field chain"},
		{"pointers to pointers", pointers{&one, list, table, &value}, ""},
		{"a pointer to a nil pointer", pointers{A: &none}, "field a: a pointer to a nil *int"},
		{"a pointer to a nil slice", pointers{B: new([]int)}, "field b: a pointer to a nil []int"},
		{"a pointer to a nil map", pointers{C: new(map[string]int)}, "field c: a pointer to a nil map"},
		{"a pointer to nil", pointers{D: new(any)}, "field d: a pointer to a nil interface"},
		{"keys with texts of their own", keyed{
			map[time.Month]string{time.May: "May"}, map[time.Duration]int{time.Second: 1, -1: 2},
			map[netip.Addr]int{netip.MustParseAddr("::1"): 1}, map[uint8]bool{200: true},
		}, ""},
		{"a type with parameters", box[map[string][]int]{map[string][]int{"a": nil, "b": {}}}, ""},
		{"JSON in a value", struct{ Raw json.RawMessage }{json.RawMessage(`{"b":1,"a":[123456789012345678901234567890]}`)}, ""},
	} {
		for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle} {
			data, err := c.Append(nil, as, x.v)
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("%s, %s: %v, want %q", x.name, as, err, x.err)
				}
				continue
			}
			back := reflect.New(reflect.TypeOf(x.v))
			if err == nil {
				err = c.Decode(as, data, back.Interface())
			}
			if got := back.Elem().Interface(); err != nil || !reflect.DeepEqual(got, x.v) {
				t.Errorf("%s, %s: %+v, was %+v, %v", x.name, as, got, x.v, err)
			}
		}
	}
}

// TestKeysThatBecomeOneAreAnError: a dict of Python may have 1 and "1".
func TestKeysThatBecomeOneAreAnError(t *testing.T) {
	t.Parallel()
	c := New()
	both := []byte{0x82, 0x01, 0xa1, 'a', 0xa1, '1', 0xa1, 'b'}
	for _, into := range []any{new(any), new(map[string]any), new(map[int]string), new(map[string]string)} {
		if err := c.Decode(call.Msgpack, both, into); err == nil {
			t.Errorf("%T: %v", into, reflect.ValueOf(into).Elem())
		}
	}
	var last map[string]int
	if err := c.Decode(call.JSON, []byte(`{"a":1,"a":2}`), &last); err != nil || last["a"] != 2 {
		t.Errorf("%v %v", last, err)
	}
}

type box[T any] struct{ V T }

type badError struct{ how string }

func (b *badError) Error() string {
	if b.how == "exits" {
		runtime.Goexit()
	}
	panic("Error")
}

type badMarshal struct{ How string }

func (b badMarshal) MarshalText() ([]byte, error) { return nil, &badError{b.How} }
func (b *badMarshal) UnmarshalText([]byte) error  { return (*badError)(nil) }

type badKey struct{ N int }

func (badKey) MarshalText() ([]byte, error) { return nil, (*badError)(nil) }
func (*badKey) UnmarshalText([]byte) error  { return (*badError)(nil) }

// TestErrorsOfMarshallersAreGuarded: the method Error of a marshaller's error may fail.
func TestErrorsOfMarshallersAreGuarded(t *testing.T) {
	t.Parallel()
	c := New()
	for _, v := range []any{badMarshal{"panics"}, badMarshal{"exits"}, []badMarshal{{"exits"}}, map[badKey]int{{1}: 1}} {
		_, err := c.Append(nil, call.JSON, v)
		if err == nil || !strings.Contains(err.Error(), "*codec.badError") || Panicked("", err) != nil {
			t.Errorf("%T: %v", v, err)
		}
	}
	for _, into := range []any{new(badMarshal), new(map[badKey]int)} {
		data := `"x"`
		if reflect.TypeOf(into).Elem().Kind() == reflect.Map {
			data = `{"x":1}`
		}
		if err := c.Decode(call.JSON, []byte(data), into); err == nil || err.Error() == "" {
			t.Errorf("%T: %v", into, err)
		}
	}
}

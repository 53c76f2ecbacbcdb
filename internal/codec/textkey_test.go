package codec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/call"
)

// TestTextKeys: keys that write themselves as text travel as that text, in every codec, sorted.
func TestTextKeys(t *testing.T) {
	t.Parallel()
	c := New()
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.10")
	want := map[netip.Addr]int{a: 2, b: 10}
	for _, as := range []call.Codec{call.Msgpack, call.JSON, call.Pickle, call.Cloudpickle} {
		data, err := c.Append(nil, as, want)
		if err != nil {
			t.Fatal(as, err)
		}
		again, err := c.Append(nil, as, map[netip.Addr]int{b: 10, a: 2})
		if err != nil || string(again) != string(data) {
			t.Errorf("%s: equal values have other bytes: %q, %q, %v", as, data, again, err)
		}
		var got map[netip.Addr]int
		if err := c.Decode(as, data, &got); err != nil || cmp.Diff(got, want, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })) != "" {
			t.Errorf("%s: %v, %v", as, got, err)
		}
		var text map[string]int
		if err := c.Decode(as, data, &text); err != nil || text["10.0.0.10"] != 10 {
			t.Errorf("%s: %v, %v", as, text, err)
		}
		bad, err := c.Append(nil, as, map[string]int{"x": 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Decode(as, bad, &got); err == nil || !strings.Contains(err.Error(), `key "x" is no netip.Addr`) {
			t.Errorf("%s: %v", as, err)
		}
	}
	if _, err := c.Append(nil, call.Msgpack, map[[2]int]int{{1, 2}: 3}); err == nil {
		t.Error("a key without a text was written")
	}
}

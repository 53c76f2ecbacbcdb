package call

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestHTTPRequestTravels(t *testing.T) {
	t.Parallel()
	for _, r := range []HTTPRequest{
		{Method: "GET", Path: "/", Prefix: "/", Header: map[string][]string{}},
		{Method: "X-Y", Path: "/a\x00b%/ü", Prefix: "/a b", RawQuery: "x=1&y=%00", Host: "h:1", Client: "[::1]:5", Header: map[string][]string{"A": {"", "2"}, "B": {"x"}}},
	} {
		b := AppendHTTPRequest(nil, r)
		got, err := ParseHTTPRequest(b)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v came as %+v, %v", r, got, err)
		}
		if p := NewRemoteHTTP(b).Prefix(); p != r.Prefix {
			t.Errorf("prefix %q came as %q", r.Prefix, p)
		}
	}
	for _, bad := range []string{"", "GET\x00/\x00/\x00\x00h", "GET\x00/\x00/\x00\x00h\x00c\x00name", "GET\x00/%zz\x00/\x00\x00h\x00c"} {
		if _, err := ParseHTTPRequest([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a request", bad)
		}
	}
}

func FuzzHTTPRequest(f *testing.F) {
	f.Add([]byte("GET\x00/a%20b\x00/\x00x=1\x00h\x00c\x00A\x00b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseHTTPRequest(b)
		if err != nil {
			return
		}
		again, err := ParseHTTPRequest(AppendHTTPRequest(nil, r))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v came as %+v, %v", r, again, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\xc8\x00X-A\x00b\x00X-A\x00c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again Answer
		if a.Decode(b) != nil {
			return
		}
		var kept Answer
		if err := kept.Decode(b); err != nil {
			t.Fatal(err)
		}
		status, header := a.Take()
		sent := kept.Encode()
		if sent == nil {
			if status != 0 || len(header) > 0 {
				t.Errorf("%d %v is not sent", status, header)
			}
			return
		}
		if err := again.Decode(sent); err != nil {
			t.Fatal(err)
		}
		if s, h := again.Take(); s != status || !maps.EqualFunc(h, header, slices.Equal[[]string]) {
			t.Errorf("%d %v came as %d %v", status, header, s, h)
		}
	})
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	var a Answer
	if err := a.Set("x-own", "1"); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := a.Set("X-Large", strings.Repeat("a", answerHeader-200)); err != nil { // replaces, and does not add up
			t.Error(err)
		}
	}
	if err := a.Add("X-Large", strings.Repeat("a", 200)); err == nil {
		t.Error("the header has no limit")
	}
	if status, h := a.Take(); status != 0 || len(h) != 2 || h["X-Own"][0] != "1" {
		t.Errorf("%d %v", status, h)
	}
	if a.SetStatus(200) == nil || a.Set("X", "1") == nil || a.Encode() != nil {
		t.Error("the answer was changed after it had begun")
	}
}

// TestAnswerBeginsOnce: a field that was set without an error is in the answer, also if the answer begins at the same moment.
func TestAnswerBeginsOnce(t *testing.T) {
	t.Parallel()
	for range 200 {
		var a Answer
		var set error
		var wg sync.WaitGroup
		wg.Go(func() { set = a.Set("X", "1") })
		_, h := a.Take()
		wg.Wait()
		if (set == nil) != (h["X"] != nil) {
			t.Fatalf("Set says %v, the header is %v", set, h)
		}
	}
}

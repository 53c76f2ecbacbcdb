package exchange

import (
	"slices"
	"testing"
)

func TestRequestHead(t *testing.T) {
	t.Parallel()
	const want = "GET\x00http\x001.1\x00/api/a%20b\x00x=1\x00/api\x00127.0.0.1\x005000\x00127.0.0.1\x008000\x00host\x00localhost\x00accept\x00*/*"
	h, err := ParseRequestHead([]byte(want))
	if err != nil || h.Method != "GET" || h.Root != "/api" || h.ServerPort != "8000" || !slices.Equal(h.Fields, []string{"host", "localhost", "accept", "*/*"}) {
		t.Fatalf("got %+v, %v", h, err)
	}
	if b, err := AppendRequestHead(nil, &h); err != nil || string(b) != want {
		t.Errorf("got %q, %v", b, err)
	}
	for name, bad := range map[string]string{
		"too few fields": "GET\x00http\x001.1\x00/\x00\x00\x00\x00\x00", "odd header strings": want + "\x00x", "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if h, err := ParseRequestHead([]byte(bad)); err == nil {
				t.Errorf("got %+v", h)
			}
		})
	}
	for _, set := range []func(h *RequestHead){func(h *RequestHead) { h.RawPath = "/\x00" }, func(h *RequestHead) { h.Fields = []string{"a", "b\x00c"} }} {
		bad := h
		set(&bad)
		if b, err := AppendRequestHead(nil, &bad); err == nil {
			t.Errorf("a NUL was taken: %q", b)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	b, start := AppendHead(nil, 200)
	if status, fields, err := ParseHead(Head, b); status != 200 || fields != "" || err != nil {
		t.Errorf("without fields: %d, %q, %v", status, fields, err)
	}
	b = AppendField(b, start, "set-cookie", "a=1")
	b = AppendField(b, start, "set-cookie", "b\x00=2")
	b = AppendField(b, start, "empty", "")
	status, fields, err := ParseHead(Head, b)
	if status != 200 || err != nil {
		t.Fatal(status, err)
	}
	var got []string
	for name, value := range Fields(fields) {
		got = append(got, name, value)
	}
	if want := []string{"set-cookie", "a=1", "set-cookie", "b =2", "empty", ""}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, c := range map[string]struct {
		kind Kind
		data string
	}{
		"short": {Head, "\x00"}, "status 99": {Head, "\x63\x00"}, "status 1000": {Head, "\xe8\x03"}, "1xx as the answer": {Head, "\x67\x00"},
		"inform with 200": {Inform, "\xc8\x00"}, "a name without a value": {Head, "\xc8\x00name"}, "too large": {Head, "\xc8\x00" + string(make([]byte, MaxHead))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if status, fields, err := ParseHead(c.kind, []byte(c.data)); err == nil {
				t.Errorf("got %d, %q", status, fields)
			}
		})
	}
}

func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("GET\x00http\x001.1\x00/\x00\x00\x00h\x001\x00h\x002\x00host\x00x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ParseRequestHead(data)
		if err != nil {
			return
		}
		if b, err := AppendRequestHead(nil, &h); err != nil || string(b) != string(data) {
			t.Errorf("%q becomes %q, %v", data, b, err)
		}
	})
}

func FuzzPart(f *testing.F) {
	f.Add(uint8(Head), []byte("\xc8\x00a\x00b\x00a\x00c"))
	f.Add(uint8(Broken), []byte("\x90\x01gone"))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		switch Kind(kind) {
		case Head, Inform:
			status, fields, err := ParseHead(Kind(kind), data)
			if err != nil {
				return
			}
			b, start := AppendHead(nil, status)
			for name, value := range Fields(fields) {
				b = AppendField(b, start, name, value)
			}
			// An empty field at the end is the one thing that is written in two ways.
			if string(b) != string(data) && string(b)+"\x00" != string(data) {
				t.Errorf("%q becomes %q", data, b)
			}
		case Trailers, Accept:
			if CheckFields(data) == nil {
				for range Fields(string(data)) {
					continue
				}
			}
		default:
			if code, text, err := ParseBroken(data); err == nil {
				AppendBroken(nil, code, text)
			}
		}
	})
}

package coding

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestOf: one encoding is undone within the limit; others, and two of them, are not supported.
func TestOf(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	io.WriteString(w, strings.Repeat("x", 100)) //nolint:errcheck // into memory
	w.Close()
	for name, test := range map[string]struct {
		header    []string
		supported bool
		decodes   bool
	}{
		"none":     {nil, true, false},
		"identity": {[]string{"identity"}, true, false},
		"gzip":     {[]string{" GZip "}, true, true},
		"two":      {[]string{"gzip", "deflate"}, false, false},
		"another":  {[]string{"br"}, false, false},
	} {
		decode, supported := Of(test.header)
		if supported != test.supported || (decode != nil) != test.decodes {
			t.Fatalf("%s: %t, %t", name, decode != nil, supported)
		}
		if decode == nil {
			continue
		}
		for limit, want := range map[int64]error{100: nil, 99: ErrCapped} {
			r, err := decode(bytes.NewReader(zipped.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(Capped(r, limit)); !errors.Is(err, want) {
				t.Errorf("%s to %d bytes: %v, want %v", name, limit, err, want)
			}
		}
	}
}

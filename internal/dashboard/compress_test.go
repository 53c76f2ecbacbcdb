package dashboard

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompressed: a browser that takes gzip gets a large file with it, with a tag of its own, and other clients get the file as it is.
func TestCompressed(t *testing.T) {
	t.Parallel()
	h := New("")
	const large = "/ui/vendor/uplot/uPlot.esm.js"
	read := func(r *http.Response) []byte {
		t.Helper()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := get(h, http.MethodGet, large)
	whole := read(plain)
	for accept, want := range map[string]bool{"gzip, deflate, br": true, "br, gzip;q=0.5": true, "GZIP": true, "gzip;q=0": false, "br": false, "": false, "gzip;q=x": false} {
		for range 2 { // the second one is kept
			r := get(h, http.MethodGet, large, "Accept-Encoding", accept)
			b := read(r)
			if got := r.Header.Get("Content-Encoding") == "gzip"; got != want || r.Header.Get("Vary") != "Accept-Encoding" {
				t.Fatalf("%q: %v", accept, r.Header)
			}
			if !want {
				if !bytes.Equal(b, whole) {
					t.Errorf("%q: %d bytes, want %d", accept, len(b), len(whole))
				}
				continue
			}
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := io.ReadAll(z); err != nil || !bytes.Equal(out, whole) || len(b) > len(whole)/2 {
				t.Errorf("%q: %d bytes of %d, %v", accept, len(b), len(whole), err)
			}
			tag := r.Header.Get("ETag")
			if tag == plain.Header.Get("ETag") || get(h, http.MethodGet, large, "Accept-Encoding", accept, "If-None-Match", tag).StatusCode != http.StatusNotModified {
				t.Errorf("%q: the tag is %s", accept, tag)
			}
		}
	}
	if r := get(h, http.MethodGet, "/ui/", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" { // it differs by the depth of its view
		t.Errorf("the page: %v", r.Header)
	}
	dir := t.TempDir() // whose files may change
	if err := os.WriteFile(filepath.Join(dir, "a.js"), []byte(strings.Repeat("a", 9999)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := get(New(dir), http.MethodGet, "/ui/a.js", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" {
		t.Errorf("a file of a directory: %v", r.Header)
	}
}

package dashboard

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
)

// compressLeast is the size of the smallest file that is compressed, in bytes: below it an answer is one packet anyway.
const compressLeast = 1024

// compressed is a file of the binary with gzip; nil for a file that is small, that does not become smaller, or that is read from a directory and may change. Each file is compressed once.
func (h *Handler) compressed(name string, b []byte) []byte {
	if !h.fixed || name == index || len(b) < compressLeast {
		return nil
	}
	if z, ok := h.zipped.Load(name); ok {
		return z.([]byte) //nolint:forcetypeassert // only these are stored
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b) //nolint:errcheck // to memory
	w.Close()  //nolint:errcheck // as above
	out := z.Bytes()
	if len(out) >= len(b) {
		out = nil
	}
	h.zipped.Store(name, out)
	return out
}

// takesGzip says whether a client takes gzip: "gzip, br" does, "gzip;q=0" and "br" do not.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, rest, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, weighed := strings.CutPrefix(strings.TrimSpace(rest), "q=")
		if !weighed {
			return true
		}
		n, err := strconv.ParseFloat(q, 64)
		return err == nil && n > 0
	}
	return false
}
